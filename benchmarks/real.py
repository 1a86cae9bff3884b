"""The models on real pixels: frames of a real camera, remembered and predicted.

On ``kitti_real`` (consecutive real frames with LiDAR), where frames 0 to 53 move, by steps of 0.1, 0.2 and 0.5 s:

- ``next_frame``: from the frames up to one (history) to the camera of a later one;
- ``between``: a hidden frame seen from all that are at least so much earlier or later (log).

Truth are the real picture and the LiDAR points of that instant that its camera sees. Rows: copy of the last frame known, the
parameter-free splat with its best fill on the same memory, DiST-T and DiST-S as the world shows them and unchecked (before
``hidden.judged`` has looked at remembered frames), and the codec applied to the truth (ceiling) of each of the weights. Regions:
all, what the splat reaches (valid) and not (holes), within 3 pixels of an outline of depth (silhouettes).

On the one real keyframe of ``nuscenes_real`` (scene-0061) the ego drives on, and what was generated after 1, 2 and 4 s is
compared with the same camera's real picture under the same mask: distance of colours and of gradient spectra, as a ratio to what
the real pictures of two cameras of that keyframe differ by there. Generated is what a model says it made (share above one half),
and of the splat what it filled.

Depth is what ``prepare`` makes, in ``--work`` or a temporary folder; it knows later sweeps, too.

    python -m benchmarks.real --size 224x400 --out benchmarks/results/real_224x400.json
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import FinishedUnits, mean_and_spread, result_file, run, told_apart
from benchmarks.image_statistics import chroma_distance, spectrum_distance
from benchmarks.pixels import silhouettes
from benchmarks.protocols import STEP, Scores, average, summarise
from benchmarks.rollouts import logged, real_frames, scene_at, through_codec
from benchmarks.tables import print_table
from dist4d_env.curation.camera import Completion, CurationConfig
from dist4d_env.curation.prepare import depth_root, lidar_depth, prepare_scenes
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.metrics.images.regional import score
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, noise_of
from dist4d_env.progress import each
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.contract import World, WorldStart
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.hidden import HiddenFrame, held_back, judged
from dist4d_env.worlds.memory import Memory, MemoryPolicy
from dist4d_env.worlds.replay import SplatWorld

STEPS = (1, 2, 5)
"""Frames (of 0.1 s) to what is predicted."""
MOVING = 54
"""Frames of the clip in which the ego moves; it stands afterwards."""
TIMES = (1.0, 2.0, 4.0)
"""Seconds after the one keyframe at which generated pixels are measured."""
LEAST_SHARE = 0.01
"""Share of a picture below which what was generated in it is too little to have statistics."""
SPLAT, UNCHECKED = "splat", " unchecked"


@dataclass(frozen=True)
class Options:
    """Scores on real frames, and statistics of what is generated from one real keyframe."""

    size: str = "64x112"
    """Height x width of the images."""
    weights: tuple[str, ...] = ("tiny",)
    """Presets or folders of weights."""
    completion: Completion = "flow"
    """How prepare makes depth dense."""
    stereo: bool = False
    """Whether depth from several images joins the LiDAR's; KITTI alone has them."""
    stride: int = 3
    """Every how many frames one is predicted."""
    seeds: int = 3
    """How many noise seeds."""
    work: Path | None = None
    """Folder that keeps the depth for another run."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


@dataclass(frozen=True)
class Case:
    """One frame to predict, judged by depth of the LiDAR; reference, target: numbers of frames."""

    protocol: str
    mark: str
    frame: HiddenFrame
    reference: int
    target: int


def main(options: Options) -> dict[str, Any]:
    size = parse_size(options.size)
    names = {weights: name for name, weights in told_apart((Path(w).name, w) for w in (SPLAT, *options.weights)).items()}
    place = nullcontext(str(options.work)) if options.work else TemporaryDirectory()
    with place as work:
        os.environ["DIST4D_DEPTH"] = str(Path(work).resolve())
        depth = CurationConfig(completion=options.completion, stereo=options.stereo)
        clip = Clip(prepared("kitti_real", "scene-9100", Path(work), depth), size, options.stride)
        keyframe = OneKeyframe(prepared("nuscenes_real", "scene-0061", Path(work), replace(depth, stereo=False)), size)
        key = {"size": size, "stride": options.stride, "completion": options.completion, "stereo": options.stereo, "format": 4}
        finished = FinishedUnits(options.out, key)
        units = [(SPLAT, 0), *((weights, seed) for seed in range(options.seeds) for weights in options.weights)]
        for weights, seed in each(units, "measuring", "run"):
            if f"{weights}/{seed}" not in finished.done:
                rows = clip.baselines() if weights == SPLAT else clip.model(weights, names[weights], seed)
                value = {"frames": rows, "statistics": keyframe.statistics(weights, seed)}
                finished.add(f"{weights}/{seed}", value)
    done = [(names[weights], finished.done[f"{weights}/{seed}"]) for weights, seed in units]
    results = summarise([value["frames"] for _, value in done])
    statistics = summarised_statistics([(name, value["statistics"]) for name, value in done])
    content = {"seeds": options.seeds, "results": results, "scene-0061": statistics}
    result = result_file("real", options, content, finished)
    print_table(results)
    print_statistics(statistics)
    return result


def prepared(dataset: str, scene: str, work: Path, depth: CurationConfig) -> Scene:
    """A scene of the shared data with the depth that ``prepare`` makes, in ``work``. Raises DataError where it is absent."""
    place = Path(os.environ.get("DIST4D_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / dataset
    if not place.is_dir():
        raise DataError(f"no real frames at {place}: set DIST4D_SHARED to the folder that holds data/{dataset}")
    opened = open_dataset(place, scenes=scene)
    prepare_scenes(opened, [scene], depth_root(opened.dataroot, work), depth, workers=os.cpu_count() or 1)
    return opened.load(scene)


class Clip:
    """Consecutive real frames at one size, and what the LiDAR saw at each."""

    def __init__(self, scene: Scene, size: tuple[int, int], stride: int) -> None:
        self.scene, self.stride, self.rig = scene, stride, scene.rig.at_size(*size)
        self.frames = [frame for _, frame in real_frames(scene, *size)]
        self.time = np.asarray(scene.sensors.keyframe_time, float)
        self.memory = Memory.from_log(scene, self.rig, 0.0, "log")

    def cases(self) -> Iterator[Case]:
        """All frames to predict, by protocol and step."""
        for step in STEPS:
            mark, every = f"{step / 10:g}s", range(len(self.frames))
            for known in range(2, MOVING - step, self.stride):
                yield self.case("next_frame", mark, known, known + step, list(range(known + 1)))
            for hidden in range(step, MOVING, self.stride):
                yield self.case("between", mark, hidden - step, hidden, [k for k in every if abs(k - hidden) >= step])

    def case(self, protocol: str, mark: str, reference: int, target: int, remembered: list[int]) -> Case:
        """The memory of the frames ``remembered``, seen from the target's camera at its time."""
        memory = replace(self.memory, frames=tuple(self.memory.frames[k] for k in remembered))
        policy: MemoryPolicy = "history" if protocol == "next_frame" else "log"
        truth = replace(self.frames[target], depth=lidar_depth(self.scene, self.rig, target))
        start = self.memory.frames[reference]
        frame = HiddenFrame.of(self.scene, self.rig, float(self.time[target]), truth, memory, start, policy)
        return Case(protocol, mark, frame, reference, target)

    def baselines(self) -> dict[str, Any]:
        """The rows that need no weights."""

        def rows(case: Case) -> dict[str, RGBDFrame]:
            return {"copy": self.frames[case.reference], SPLAT: case.frame.showing(*case.frame.splat.filled())}

        return self.scored((case, rows(case)) for case in self.cases())

    def model(self, weights: str, name: str, seed: int) -> dict[str, Any]:
        """The rows of weights under one seed."""
        dist_t, dist_s = DiSTTPipeline.from_pretrained(weights), DiSTSPipeline.from_pretrained(weights)
        steps = dist_t.transformer.config.steps
        use = PolicyConfig(steps_t=steps, steps_s=steps)

        def rows(case: Case) -> dict[str, RGBDFrame]:
            policy = case.frame.policy
            rest = held_back(self.scene, self.rig, case.frame.memory, policy, use)
            noise, made = partial(noise_of, seed, case.reference, case.target), dict[str, RGBDFrame]()
            for suffix, gains in (("", judged(rest, policy, dist_t, dist_s, use)), (UNCHECKED, (None, None))):
                made[f"dist_t {name}{suffix}"] = case.frame.by_dist_t(dist_t, steps, noise(0), gains[0])
                made[f"dist_s {name}{suffix}"] = case.frame.by_dist_s(dist_s, steps, noise(1), gains[1])
            return made if seed else made | {f"codec {name}": through_codec(dist_t.codec, self.frames[case.target])}

        return self.scored((case, rows(case)) for case in self.cases())

    def scored(self, shown: Iterator[tuple[Case, dict[str, RGBDFrame]]]) -> dict[str, Any]:
        """protocol -> mark -> method -> region -> mean score over the frames."""
        found: dict[str, dict[str, list[Scores]]] = {}
        for case, methods in shown:
            valid, street = case.frame.splat.valid, case.frame.street
            masks = {
                "all": street,
                "silhouettes": silhouettes(self.frames[case.target].depth) & street,
                "valid": valid & street,
                "holes": ~valid & street,
            }
            scores = {method: score(frame, case.frame.truth, masks) for method, frame in methods.items()}
            found.setdefault(case.protocol, {}).setdefault(case.mark, []).append(scores)
        return {protocol: {mark: average(steps) for mark, steps in marks.items()} for protocol, marks in found.items()}


class Watched(GenerativeWorld):
    """The generated world, which keeps how much of each pixel of its last frame was generated, (V, H, W) in [0, 1]."""

    share: np.ndarray

    def _image(self, *of: Any, **how: Any) -> tuple[RGBDFrame, np.ndarray]:
        frame, self.share = super()._image(*of, **how)
        return frame, self.share

    def _view(self, *of: Any) -> tuple[RGBDFrame, Splat, np.ndarray]:
        frame, splat, self.share = super()._view(*of)
        return frame, splat, self.share


class OneKeyframe:
    """A scene whose first keyframe alone has images, driven on from there as recorded."""

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.scene, self.rig = scene, scene.rig.at_size(*size)
        self.real = scene.sensors.rgbd(0, *size)

    def statistics(self, weights: str, seed: int) -> dict[str, Any]:
        """time -> ratio of each distance and share of generated pixels; see the module."""
        world: World = SplatWorld("history") if weights == SPLAT else Watched.from_pretrained(weights, "history")
        (state,) = world.reset([WorldStart(self.scene, self.rig, 0.0, seed)])
        memory, found = Memory.from_log(self.scene, self.rig, 0.0, "history"), {}
        for time in np.arange(0.0, max(TIMES) + STEP / 2, STEP).tolist():
            drive = logged(self.scene)
            now = scene_at(self.scene, time, drive, drive, STEP, ahead=4)
            ((state, frame, _),) = world.step([state], [now])
            assert frame is not None
            if time in TIMES:
                splat = memory.render(self.rig, frame.global_from_camera, now.boxes, time)
                generated = world.share > 0.5 if isinstance(world, Watched) else ~splat.valid
                if frame.body is not None:  # as it was recorded, whatever a model drew below it
                    generated = generated & ~frame.body
                found[f"{time:g}s"] = self.ratios(frame.rgb, generated)
        return found

    def ratios(self, rgb: np.ndarray, generated: np.ndarray) -> dict[str, float]:
        """How pictures (V, H, W, 3) differ from the real ones where ``generated`` (V, H, W), against how these differ there."""
        result, weight = {"share": float(generated.mean())}, generated.mean((1, 2))
        views = [view for view in range(len(rgb)) if weight[view] > LEAST_SHARE]
        for name, distance in (("chroma", chroma_distance), ("spectrum", spectrum_distance)):
            made = [distance(rgb[v], self.real.rgb[v], generated[v]) for v in views]
            between = [
                np.mean([distance(other, self.real.rgb[v], generated[v]) for w, other in enumerate(self.real.rgb) if w != v])
                for v in views
            ]
            ratio = np.average(made, weights=weight[views]) / np.average(between, weights=weight[views]) if views else np.nan
            result[name] = float(ratio)
        return result


def summarised_statistics(units: list[tuple[str, dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """time -> method -> measure -> mean and spread over seeds."""
    table: dict[str, Any] = {}
    for time in units[0][1]:
        for method in dict.fromkeys(name for name, _ in units):
            rows = [found[time] for name, found in units if name == method]
            table.setdefault(time, {})[method] = {key: mean_and_spread([row[key] for row in rows]) for key in rows[0]}
    return table


def print_statistics(table: dict[str, Any]) -> None:
    """One line per time and method."""
    print("\nscene-0061: generated pixels, distance as a ratio to that of two real cameras")
    for time, methods in table.items():
        for method, cell in methods.items():
            cells = "".join(f"{key:>10} {value['mean']:.3f} ±{value['std']:.3f}" for key, value in cell.items())
            print(f"  {time:>6} {method:<28}{cells}")


if __name__ == "__main__":
    run(main, Options)
