"""Scenes to training samples: splats of hidden keyframes, made in parallel, one scene at a time, resumable."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.models.by_camera import one_thread
from dist4d_env.models.conditions import frame_controls, splat_images
from dist4d_env.processes import alone, follow_parent
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.samples import BETWEEN, NEXT, SOURCE, SPACE, SampleSettings, write_scene, write_settings
from dist4d_env.training.source_errors import SourceErrors, annotated_tokens, flawed_sources, with_box_noise

Maker = Callable[[Scene, SampleSettings], dict[str, np.ndarray]]
"""Makes the arrays of one scene's samples, as ``SceneSamples`` reads them; can be pickled."""
LEAST = 3
"""Keyframes of a scene with images and depth that samples are made of: one hidden and its neighbours."""


def prepare(
    dataset: Dataset,
    names: Sequence[str],
    folder: Path,
    settings: SampleSettings,
    workers: int = 2,
    make: Maker | None = None,
) -> None:
    """Make the samples of the named scenes that ``folder`` does not hold yet, or holds of files that have changed since; a
    progress bar counts scenes.

    Of runs that share a folder one makes what is missing, the others wait for it.

    make: ``scene_samples`` (None), or of ``rollouts``. Raises ``DataError`` where the folder holds samples of other
    settings, or a scene has fewer than three keyframes with images and depth.
    """
    write_settings(folder, settings)
    old = outdated(dataset, names, folder)
    if all((folder / name).is_dir() for name in names) and not old:  # which may be read-only
        return
    with alone(folder / ".lock", f"making samples in {folder}"):
        for name in outdated(dataset, old, folder) if old else ():  # those that no other run has made anew meanwhile
            (folder / name).rename(folder / f".{name}-outdated")
        for torn in folder.glob(".*-*"):
            shutil.rmtree(torn)  # of a run that was killed
        work = partial(prepare_scene, dataset.dataroot, dataset.version, folder, settings, make or scene_samples)
        missing = [name for name in names if not (folder / name).is_dir()]
        done = len(names) - len(missing)
        with Progress(f"samples in {folder}", "scene", len(names), done) as bar:
            for _ in _each(work, missing, workers):
                bar.update()


def outdated(dataset: Dataset, names: Sequence[str], folder: Path) -> list[str]:
    """The scenes whose images, depth or masks of the car's body are not those that the samples in ``folder`` were made of."""
    with Progress(f"looking for changes since {folder}", "scene", len(names)) as bar:
        found = []
        for name in names:
            made_of = folder / name / SOURCE
            if made_of.is_file() and (text := made_of.read_text()) and text != source_of(dataset.load(name)):
                found.append(name)
            bar.update()
    return found


def source_of(scene: Scene) -> str:
    """A digest of sizes and dates of a scene's sensor files, where its sensors tell them (``FileSensorLog.stamps``)."""
    return hashlib.sha256(repr(list(getattr(scene.sensors, "stamps", tuple)())).encode()).hexdigest()


def _each(work: Callable[[str], None], names: list[str], workers: int) -> Iterator[None]:
    """Work on every name, in processes where there are several; they are ended at once where it fails or is stopped."""
    if workers <= 1:
        yield from map(work, names)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), follow_parent) as pool:
        try:
            yield from pool.map(work, names)
        except BaseException:
            for process in list(pool._processes.values()):
                process.kill()
            raise


def prepare_scene(dataroot: str, version: str, folder: Path, settings: SampleSettings, make: Maker, name: str) -> None:
    """Make and write one scene's samples."""
    with one_thread():
        scene = open_dataset(dataroot, version).load(name)
        source = source_of(scene)  # first: what changes meanwhile is found then
        write_scene(folder, name, make(scene, settings), source)


@dataclass(frozen=True)
class SplatPlan:
    """One splat to make: ``target`` seen from ``sources`` (keyframes), after ``reference``."""

    kind: int
    reference: int
    target: int
    sources: tuple[int, ...]


def plan(keyframes: int, settings: SampleSettings, generator: np.random.Generator) -> list[SplatPlan]:
    """The splats to make of a scene of K keyframes."""

    def stride() -> int:
        return int(generator.choice(settings.strides)) if len(settings.strides) > 1 else settings.strides[0]

    plans = []
    for reference in range(keyframes - 1):
        by = stride()
        length = settings.chunk if reference % settings.chunk_every == 0 else 1
        past = tuple(k for k in range(reference - by * (settings.count - 1), reference + 1, by) if k >= 0)
        ahead = range(reference + by, reference + by * length + 1, by)
        plans += [SplatPlan(NEXT, reference, target, past) for target in ahead if target < keyframes]
    for target in range(1, keyframes):
        if generator.random() < settings.between:
            by = stride()
            near = [k for k in (target - by, target + by, target - 2 * by, target + 2 * by) if 0 <= k < keyframes]
            if near:
                plans.append(SplatPlan(BETWEEN, max(target - by, 0), target, tuple(near[: settings.count])))
    for target in range(keyframes):
        options = [(-1,), (1,), (-2,), (2,), (-1, 1), (-1, -2), (-2, 2)]
        wanted = int(settings.space) + (generator.random() < settings.space % 1)
        by = stride()
        allowed = [o for o in options if all(0 <= target + by * k < keyframes for k in o)]
        for choice in generator.permutation(len(allowed))[:wanted]:
            sources = tuple(target + by * k for k in allowed[choice])
            plans.append(SplatPlan(SPACE, max(target - by, 0), target, sources))
    return plans


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a scene that have images and depth.

    frames: RGB-D; times: seconds; at_exposure: per frame, the boxes when each camera exposed; at_keyframe: the boxes at the
    keyframe's own time; poses: global_from_ego (4, 4) then.
    """

    frames: list[RGBDFrame]
    times: list[float]
    at_exposure: list[list[Boxes]]
    at_keyframe: list[Boxes]
    poses: list[np.ndarray]

    @classmethod
    def read(cls, scene: Scene, settings: SampleSettings) -> Keyframes:
        """All of a scene that samples may use, at their size; ``DataError`` where there are fewer than ``LEAST``."""
        sensors, size = scene.sensors, (settings.height, settings.width)
        known = range(len(sensors.keyframe_time))[: dict(settings.held_out).get(scene.name)]
        usable = [k for k in known if sensors.has_images(k) and sensors.has_depth(k)]
        if len(usable) < LEAST:
            pictured = sum(map(sensors.has_images, known))
            remedy = (
                "choose longer scenes, or fetch more of its camera files" if pictured < LEAST
                else f"make depth with: python -m dist4d_env prepare --dataroot {scene.dataroot} --scenes {scene.name}"
            )  # fmt: skip
            raise DataError(
                f"scene {scene.name} has {pictured} keyframes with images, {len(usable)} of them with depth; training needs "
                f"{LEAST} or more with both: {remedy}"
            )
        frames = [sensors.rgbd(k, *size) for k in usable]
        times = [float(sensors.keyframe_time[k]) for k in usable]
        inside = [min(max(t, 0.0), scene.duration) for t in times]
        exposed = [[scene.boxes(min(max(float(t), 0.0), scene.duration)) for t in frame.time] for frame in frames]
        return cls(frames, times, exposed, [scene.boxes(t) for t in inside], [scene.ego_pose(t) for t in inside])

    def sources(self) -> list[SplatSource]:
        """The frames prepared for splatting."""
        return [SplatSource.from_frame(frame, boxes) for frame, boxes in zip(self.frames, self.at_exposure, strict=True)]

    def arrays(self) -> dict[str, np.ndarray]:
        """The frames as ``SceneSamples`` reads them, without controls."""
        return {
            "frame_rgb": np.stack([frame.rgb for frame in self.frames]),
            "frame_depth": np.stack([frame.depth for frame in self.frames]).astype(np.float16),
            "intrinsics": self.frames[0].intrinsics,
            "global_from_camera": np.stack([frame.global_from_camera for frame in self.frames]),
            "global_from_ego": np.stack(self.poses),
            "time": np.array(self.times),
        }

    def control_arrays(self, scene: Scene) -> dict[str, np.ndarray]:
        """The controls of every keyframe as ``SceneSamples`` reads them."""
        _, height, width = self.frames[0].depth.shape
        controls = [
            frame_controls(frame.intrinsics, frame.global_from_camera, (height, width), pose, boxes, scene.map, scene.description)
            for frame, pose, boxes in zip(self.frames, self.poses, self.at_keyframe, strict=True)
        ]
        lights, heads = scene.lights, {}
        if len(lights.heads):  # empty arrays can't be mapped from disk
            states = np.stack([scene.light_states(time) for time in self.times])
            heads = {"heads": lights.heads, "head_state": states[:, lights.head_light]}
        return heads | {
            "layout": np.stack([c.layout for c in controls]),
            "bev": np.stack([np.packbits(c.bev) for c in controls]),
            "box_corners": np.stack([c.box_corners for c in controls]),
            "box_class": np.stack([c.box_class for c in controls]).astype(np.int8),
            "box_instance": np.stack([c.box_instance for c in controls]).astype(np.int8),
            "attributes": controls[0].attributes,
        }


def scene_samples(scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    """All arrays of one scene, as ``SceneSamples`` reads them."""
    size = (settings.height, settings.width)
    known = Keyframes.read(scene, settings)
    frames, at_keyframe = known.frames, known.at_keyframe
    sources = known.sources()

    generator = np.random.default_rng([settings.seed, *scene.name.encode()])
    arrays: dict[str, list[int]] = {name: [] for name in ("kind", "reference", "target")}
    images: dict[str, list[np.ndarray]] = {}
    for one in plan(len(frames), settings, generator):
        frame, boxes, time = frames[one.target], at_keyframe[one.target], known.times[one.target]
        chosen = [sources[k] for k in one.sources]
        if generator.random() < settings.flawed:
            errors = SourceErrors.draw(generator)
            annotated = annotated_tokens(scene, errors, generator)
            chosen = flawed_sources(scene, [frames[k] for k in one.sources], annotated, errors, generator)
            boxes = with_box_noise(boxes, annotated, errors, generator)
        last = max((k for k in one.sources if k < one.target), default=one.sources[0])
        rendered = splat(chosen, frame.intrinsics, frame.global_from_camera, size, boxes, time).with_body(frames[last])
        for name, array in vars(splat_images(rendered)).items():
            images.setdefault(f"splat_{name}", []).append(array)
        for name, values in arrays.items():
            values.append(getattr(one, name))

    return {
        **known.arrays(),
        **known.control_arrays(scene),
        **{name: np.stack(stack) for name, stack in images.items()},
        **{name: np.array(values, np.int16) for name, values in arrays.items()},
    }
