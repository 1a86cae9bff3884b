"""Metric depth for the keyframes of whole scenes, written file by file so that it can be stopped and taken up again."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dist4d_env.curation.camera import FEWEST, CurationConfig, TooFewReturns, dense_depth, visible_returns
from dist4d_env.curation.points import SeparatedSweep, boxes_when, separate, vertical_field
from dist4d_env.curation.stereo import StereoMaps
from dist4d_env.curation.views import View
from dist4d_env.curation.visibility import ground_plane
from dist4d_env.data.body_masks import FOLDER as BODY_MASKS
from dist4d_env.data.contract import Dataset
from dist4d_env.data.depth_files import (
    SETTINGS,
    default_depth_root,
    depth_key,
    encode_depth,
    png_bytes,
    read_settings,
    whole_png,
    write_depth,
    write_settings,
)
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import CameraRig, ImageTransform
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import invert
from dist4d_env.processes import follow_parent
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import check_writable
from dist4d_env.scenes.scene import LidarSweep, Scene

RUN = 8
"""Keyframes that one process makes one after the other where stereo needs their neighbours, too."""
ANEW = "anew"
"""The folder, below a root, of depth that is to replace what other settings made there, once there is all of it."""
SAID = {"before": "sweeps before", "after": "sweeps after a keyframe"}
"""Names of ``CurationConfig`` that are no options, in words."""
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prepared:
    """Counts of depth images: written now, kept from before, and without an image or any LiDAR to make them from; and the cameras
    of images into which the LiDAR does not look."""

    written: int = 0
    kept: int = 0
    without_image: int = 0
    without_lidar: int = 0
    without_returns: tuple[str, ...] = ()

    @property
    def skipped(self) -> str:
        """What no depth was made for, in words; empty where there is nothing."""
        parts = []
        if self.without_image:
            parts.append(f"{self.without_image} camera frames without image file")
        if self.without_lidar:
            parts.append(f"{self.without_lidar} without LiDAR near them")
        if self.without_returns:
            blind = ", ".join(f"{name} ({count})" for name, count in sorted(Counter(self.without_returns).items()))
            parts.append(f"{len(self.without_returns)} with fewer than {FEWEST} LiDAR returns in view: {blind}")
        return ", ".join(parts)

    def __add__(self, other: Prepared) -> Prepared:
        return Prepared(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def depth_root(dataroot: str, out: Path | None, past: bool = False) -> Path:
    """The folder that depth of a data set is written to: below ``out`` (found through $DIST4D_DEPTH) or the default place.

    past: the depth is of past sweeps only.
    """
    return default_depth_root(dataroot, past) if out is None else out / depth_key(dataroot)


def prepare_scenes(
    dataset: Dataset,
    scenes: Sequence[str],
    root: Path,
    config: CurationConfig,
    overwrite: bool = False,
    workers: int = 1,
) -> Prepared:
    """Makes the depth of every keyframe of scenes that has images and LiDAR; skips files that exist unless told to overwrite.

    Shows a progress bar. Raises DataError when not one depth image exists afterwards, and where depth made with other settings
    would stay beside it. Depth that other settings made is replaced when all of the new has been made (``destination``).
    """
    folder, anew = destination(dataset, scenes, root, config, overwrite)
    if folder != root and anew:
        shutil.rmtree(folder, ignore_errors=True)
    jobs: list[tuple[str, range]] = []
    for name in scenes:
        keyframes = range(len(sensor_files(dataset.load(name, False)).keyframe_time))
        run = RUN if config.stereo else 1
        jobs += [(name, keyframes[first : first + run]) for first in keyframes[::run]]
    total = Prepared()
    with Progress("depth", "keyframe", sum(len(keyframes) for _, keyframes in jobs)) as bar:
        for made in run_jobs(partial(_job, dataset, root, folder, config, anew), jobs, workers):
            total = sum(made, total)
            bar.update(len(made))
    if total.written + total.kept == 0:
        raise DataError(
            f"{dataset.dataroot}: no depth could be made for {', '.join(scenes)}: {total.skipped}; fetch their sensor files"
        )
    if folder != root:
        _replace(root, folder)
    return total


def forecast(dataset: Dataset, scenes: Sequence[str], root: Path, config: CurationConfig, overwrite: bool, workers: int) -> str:
    """A line that says how many images ``prepare_scenes`` will make, how long that takes and how much it writes, judged by one of
    them; empty where there is nothing to make. Raises OSError where it cannot be written below ``root``, DataError as it does."""
    folder, overwrite = destination(dataset, scenes, root, config, overwrite)
    count, scene, tried = 0, None, list[tuple[int, int]]()
    for name in scenes:
        here = dataset.load(name, False)
        sensors = sensor_files(here)
        missing = {keyframe: _missing(sensors, keyframe, folder, overwrite) for keyframe in range(len(sensors.keyframe_time))}
        count += sum(map(len, missing.values()))
        if not tried:  # a keyframe in the middle: the first one may have no neighbours, and no stereo
            known = [keyframe for keyframe, views in missing.items() if views]
            order = known[len(known) // 2 :] + known[: len(known) // 2]
            first = next((keyframe for keyframe in order if sensors.sweeps(keyframe, config.before, config.after)), None)
            tried = [] if first is None else [(first, view) for view in missing[first]]
            scene = here
    if scene is None or not tried:
        return ""
    check_writable(folder)
    sensors, maps = sensor_files(scene), stereo_maps(scene, config, root)
    (keyframe, view), *others = tried
    for _ in range(2):  # the first time networks are loaded and the neighbours' stereo is made, too
        if maps is not None:
            maps.forget(keyframe)
        began = time.monotonic()
        if maps is not None:
            maps.maps(keyframe)
        compared = time.monotonic()
        sweeps = separated_sweeps(scene, sensors.sweeps(keyframe, config.before, config.after))
        while True:
            gathered = time.monotonic()
            try:
                made = camera_depth(scene, keyframe, view, sweeps, config, maps)
                break
            except TooFewReturns:
                if not others:
                    return ""
                (_, view), *others = others
    views = len(scene.rig.names)
    shared = gathered - compared + (compared - began) * (1 + 2 / RUN)  # each run makes the stereo of its two neighbours again
    seconds = count * (time.monotonic() - gathered + shared / views) / max(1, workers)
    megabytes = count * len(png_bytes(encode_depth(made))) / 1e6
    lasts = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{count} depth images to make in {folder}: about {lasts}, {megabytes:.3g} MB"


def destination(
    dataset: Dataset, scenes: Sequence[str], root: Path, config: CurationConfig, overwrite: bool
) -> tuple[Path, bool]:
    """The folder that depth of scenes is written to, and whether files that are there are made anew: a root, as told to, or where
    other settings made what it holds, its folder ANEW, which a run with the same settings may have begun to fill.

    All depth below a root is made with one set of settings. Raises DataError where others made what is there unless ``overwrite``
    allows to replace it, every file of it is wanted, and has an image and LiDAR to be made from.
    """
    wanted, made = asdict(config), _made_with(root, broken=overwrite)
    stored = {path.relative_to(root) for path in _depth_files(root)}
    if made == wanted or (made is None and not stored):
        return root, overwrite
    differs = f"{root}: {_difference(made, wanted)}"
    if stored and not overwrite:
        raise DataError(f"{differs}; --overwrite makes it anew, --out DIR puts the new depth elsewhere")
    possible = {}
    for name in scenes:
        sensors = sensor_files(dataset.load(name, False))
        for keyframe in range(len(sensors.keyframe_time)):
            swept = bool(sensors.sweep_rows(keyframe, config.before, config.after))
            for view in range(len(sensors.camera_names)):
                possible[sensors.depth_name(keyframe, view)] = swept and sensors.has_image(keyframe, view)
    if others := len(stored - set(possible)):
        raise DataError(
            f"{differs}, {others} images of other scenes too: name these scenes with --overwrite, too, or use --out DIR"
        )
    if lost := sorted(name for name in stored if not possible[name]):
        raise DataError(
            f"{differs}, and {len(lost)} of its images, such as {lost[0]}, cannot be made anew: fetch their camera images and "
            "LiDAR sweeps, delete them, or use --out DIR"
        )
    return root / ANEW, _made_with(root / ANEW, broken=True) != wanted


def _made_with(root: Path, broken: bool) -> dict[str, Any] | None:
    """``read_settings`` with all names of today; empty for a broken file where that is allowed."""
    try:
        made = read_settings(root)
    except DataError:
        if not broken:
            raise
        return {}
    return made and {"stereo": False, **made}  # from before there was any


def _depth_files(root: Path) -> list[Path]:
    return [path for path in root.glob("*/[!.]*.png") if path.parent.name != BODY_MASKS]


def _replace(root: Path, folder: Path) -> None:
    """Puts depth made anew in place of what is there. Until all of it is, no settings claim to have made what lies there."""
    (root / SETTINGS).unlink(missing_ok=True)
    fresh = {path.relative_to(folder) for path in _depth_files(folder)}
    for name in sorted(fresh):
        (root / name).parent.mkdir(exist_ok=True)
        os.replace(folder / name, root / name)
    for path in _depth_files(root):
        if path.relative_to(root) not in fresh:
            path.unlink()
    os.replace(folder / SETTINGS, root / SETTINGS)
    shutil.rmtree(folder)


def _difference(made: dict[str, Any] | None, wanted: dict[str, Any]) -> str:
    if not made:
        return "nothing says how the depth there was made"
    changed = [name for name, value in wanted.items() if made.get(name) != value]
    said = [f"{SAID.get(name, name)} {made.get(name, 'unset')} (now {wanted[name]})" for name in changed]
    return f"the depth there was made with {', '.join(said) or 'settings that are no more'}"


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """``work(job)`` for every job, in processes where there are several, as they are done; ``work`` can be pickled."""
    if workers <= 1 or len(jobs) == 1:
        yield from map(work, jobs)
        return
    # Spawned: a fork of a process that has used a GPU, as forecasting does, cannot use it.
    with ProcessPoolExecutor(workers, get_context("spawn"), follow_parent) as pool:
        waiting = [pool.submit(work, job) for job in jobs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _job(
    dataset: Dataset, root: Path, folder: Path, config: CurationConfig, overwrite: bool, job: tuple[str, range]
) -> list[Prepared]:
    scene = dataset.load(job[0], False)
    stereo = stereo_maps(scene, config, root)
    return [prepare_keyframe(scene, keyframe, folder, config, overwrite, stereo) for keyframe in job[1]]


def stereo_maps(scene: Scene, config: CurationConfig, root: Path | None = None) -> StereoMaps | None:
    """What stereo needs of a scene; None without. Depth of past sweeps alone is of past images alone.

    root: of depth, where masks of the car's own body may be beside the usual places.
    """
    return StereoMaps(scene, sensor_files(scene), config.after == 0, root) if config.stereo else None


def sensor_files(scene: Scene) -> FileSensorLog:
    """The scene's sensor log. Raises DataError where its reader has another than ``FileSensorLog``."""
    if not isinstance(scene.sensors, FileSensorLog):
        raise DataError(
            f"{scene.name}: depth is made of files, which its {type(scene.sensors).__name__} does not name; its reader can use "
            "data.sensors.FileSensorLog, or give depth itself"
        )
    return scene.sensors


def prepare_keyframe(
    scene: Scene, keyframe: int, root: Path, config: CurationConfig, overwrite: bool = False, stereo: StereoMaps | None = None
) -> Prepared:
    """Makes and writes the depth of one keyframe's cameras; stereo: what ``stereo_maps`` gives, to be shared by keyframes."""
    stereo = stereo or stereo_maps(scene, config, root)
    sensors = sensor_files(scene)
    views = range(len(scene.rig.names))
    there = sum(sensors.has_image(keyframe, view) for view in views)
    missing = _missing(sensors, keyframe, root, overwrite)
    count = Prepared(kept=there - len(missing), without_image=len(views) - there)
    if not missing:
        return count
    separated = separated_sweeps(scene, sensors.sweeps(keyframe, config.before, config.after))
    if not separated:
        return replace(count, without_lidar=len(missing))
    for view in missing:
        try:
            depth = camera_depth(scene, keyframe, view, separated, config, stereo)
        except TooFewReturns:
            count += Prepared(without_returns=(sensors.camera_names[view],))
            continue
        count += Prepared(written=1)
        if not os.path.isfile(root / SETTINGS):
            write_settings(root, asdict(config))
        write_depth(root / sensors.depth_name(keyframe, view), depth)
    return count


def _missing(sensors: FileSensorLog, keyframe: int, root: Path, overwrite: bool) -> list[int]:
    """Cameras of a keyframe whose images are there and whose depth is to be made."""
    views = [view for view in range(len(sensors.camera_names)) if sensors.has_image(keyframe, view)]
    return [view for view in views if overwrite or not whole_png(root / sensors.depth_name(keyframe, view))]


def camera_depth(
    scene: Scene,
    keyframe: int,
    view: int,
    sweeps: Sequence[SeparatedSweep],
    config: CurationConfig,
    stereo: StereoMaps | None = None,
) -> np.ndarray:
    """Depth (H, W) float32 of one camera of a keyframe, from sweeps taken apart, and from stereo where it is given. Raises
    ``TooFewReturns``."""
    sensors = sensor_files(scene)
    stored = sensors.image_size[view]
    image = sensors.image(keyframe, view, *config.size(stored))
    points, boxed = points_at(scene, float(sensors.camera_time[keyframe, view]), sweeps)
    seen = replace(camera_view(scene, keyframe, view, points, config), field=vertical_field(sweeps))
    seen_twice = None if stereo is None else stereo.points(keyframe, view)
    return dense_depth(image, points, boxed, seen, config, seen_twice)[0]


def camera_view(scene: Scene, keyframe: int, view: int, points: np.ndarray, config: CurationConfig) -> View:
    """A camera of a keyframe at its own exposure, with the ground plane of global points (N, 3) around it."""
    sensors = sensor_files(scene)
    pose = sensors.global_from_camera[keyframe, view]
    ego = pose @ invert(scene.rig.ego_from_camera[view])  # the ego at this camera's stamp, not at the LiDAR's
    transform = ImageTransform.cover(sensors.image_size[view], config.size(sensors.image_size[view]))
    return View(transform.intrinsics(sensors.intrinsics[keyframe, view]), pose, ego, ground_plane(points, ego))


def lidar_depth(scene: Scene, rig: CameraRig, keyframe: int) -> np.ndarray:
    """(V, H, W) float32 depth of the points of a keyframe's LiDAR that its cameras see at the size of ``rig``, FAR where there is
    none."""
    sensors, config = sensor_files(scene), CurationConfig()
    sweeps = separated_sweeps(scene, sensors.sweeps(keyframe, 0, 0))
    found = []
    for camera in range(len(rig.names)):
        points, boxed = points_at(scene, float(sensors.camera_time[keyframe, camera]), sweeps)
        view = replace(camera_view(scene, keyframe, camera, points, config), intrinsics=rig.intrinsics[camera])
        found.append(visible_returns(points, boxed, view, rig.height, rig.width, config)[0])
    depth = np.stack(found)
    return np.where(depth > 0, depth, np.float32(FAR))


def separated_sweeps(scene: Scene, sweeps: Sequence[LidarSweep]) -> list[SeparatedSweep]:
    """Sweeps taken apart into what stands still and what moves with the scene's annotated objects."""
    return [separate(s, boxes_when(scene, s.time), scene.ego_pose(float(np.clip(s.time, 0.0, scene.duration)))) for s in sweeps]


def points_at(scene: Scene, time: float, sweeps: Sequence[SeparatedSweep]) -> tuple[np.ndarray, np.ndarray]:
    """Everything known at one instant: global points (N, 3) and which belong to annotated objects (N,)."""
    boxes = boxes_when(scene, time)
    parts = [sweep.at(boxes) for sweep in sweeps]
    return np.concatenate([points for points, _ in parts]), np.concatenate([boxed for _, boxed in parts])
