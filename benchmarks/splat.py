"""Milliseconds of the splat, six cameras to six, at three sizes.

    python -m benchmarks.splat --against 00cdabe --out benchmarks/results/splat.json

With ``--against`` the splat of three frames with its holes filled is compared with that of another commit, in turn, on one thread
and on as many as there are cores.
Sources are keyframes of the first val scene, seen from a pose beside the logged path. ``cpu_ms`` is the processor time of the
process (what the splat itself needs, whatever else the machine does), ``wall_ms`` what a clock on the wall shows; medians.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine, result_file, run
from benchmarks.golden.speed import Measured
from benchmarks.golden.trees import ROOT, hash_of, tree_of
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.progress import each

SPLAT_DRIVER = Path(__file__).parent / "golden" / "splat_driver.py"
SIZES = (64, 112), (128, 224), (224, 400)
KEYFRAMES = 4, 6, 8
TIME, ASIDE = 3.2, pose_from_xy_yaw(0.8, 0.5, 0.03)


@dataclass(frozen=True)
class Options:
    """Milliseconds of the splat."""

    repeats: int = 40
    """Calls per row, after one that does not count."""
    against: str | None = None
    """A commit whose splat is measured in turn with this one."""
    dataroot: Path | None = None
    """A data set with a val split; the default one is made when there is none."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    dataset = open_dataset(options.dataroot, size=SIZES[-1])
    scene = dataset.load(dataset.scene_names("val")[0])
    rows: dict[str, Any] = {}
    for size in each(SIZES, "measuring", "size"):
        rows[f"{size[0]} x {size[1]}"] = measure_all(scene, size, options.repeats)
    content: dict[str, Any] = {"results": rows}
    if options.against:
        content["against"] = against(options.against, scene, max(3, options.repeats // 8))
    result = result_file("splat", options, content)
    for name, row in rows.items():
        print(f"{name:<18}" + ", ".join(f"{what} {ms['cpu_ms']:.1f}" for what, ms in row.items()) + " ms")
    return result


def measure_all(scene: Any, size: tuple[int, int], repeats: int) -> dict[str, dict[str, float]]:
    """Each part at one size."""
    rig = scene.rig.at_size(*size)
    frames = [scene.sensors.rgbd(k, *size) for k in KEYFRAMES]
    boxes = [[scene.boxes(max(float(t), 0.0)) for t in frame.time] for frame in frames]
    sources = [SplatSource.from_frame(*pair) for pair in zip(frames, boxes, strict=True)]
    cameras, now = scene.ego_pose(TIME) @ ASIDE @ rig.ego_from_camera, scene.boxes(TIME)

    def rendered() -> Splat:
        return splat(sources, rig.intrinsics, cameras, size, now, TIME)

    shown = rendered()
    parts: dict[str, Callable[[], Any]] = {
        "three frames": rendered,
        "fill from behind": shown.background,
        "fill Telea": shown.filled,
        "preparing a frame": lambda: SplatSource.from_frame(frames[0], boxes[0]),
    }
    return {name: measure(call, repeats) for name, call in parts.items()}


def against(commit: str, scene: Any, passes: int) -> dict[str, Any]:
    """How many times as fast as at a commit it splats and fills: medians over passes in turn, by size and threads."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, tree_of(hash_of(commit)) as tree:
        inputs = Path(scratch, "inputs.pickle")
        inputs.write_bytes(pickle.dumps({f"{h} x {w}": plain_inputs(scene, (h, w)) for h, w in SIZES}))
        for threads in sorted({1, machine()["cores"]}):
            places = {"before": tree, "now": ROOT}
            both = {side: Measured(at, inputs, Path(scratch, side), SPLAT_DRIVER, threads) for side, at in places.items()}
            for height, width in each(SIZES, f"against {commit}, threads: {threads}", "size"):
                turns = [{side: one(f"{height} x {width}") for side, one in both.items()} for _ in range(passes)]
                for of in ("process", "clock"):
                    milliseconds = {side: [1e3 * turn[side][of] / turn[side]["count"] for turn in turns] for side in both}
                    times = float(np.median([old / new for old, new in zip(*milliseconds.values(), strict=True)]))
                    found = {f"{side}_ms": float(np.median(all_of)) for side, all_of in milliseconds.items()} | {"times": times}
                    rows.setdefault(f"{height} x {width}, threads: {threads}", {})[of] = found
                    print(f"{height} x {width}, threads {threads}, {of}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
            for one in both.values():
                one.close()
    return rows


def plain_inputs(scene: Any, size: tuple[int, int]) -> dict[str, Any]:
    """What ``measure_all`` splats, as dicts of arrays that any version can read."""
    rig, frames = scene.rig.at_size(*size), [scene.sensors.rgbd(k, *size) for k in KEYFRAMES]
    fields = ("rgb", "depth", "intrinsics", "global_from_camera", "time")
    return {
        "frames": [
            ({name: getattr(frame, name) for name in fields}, [vars(scene.boxes(max(float(t), 0.0))) for t in frame.time])
            for frame in frames
        ],
        "intrinsics": rig.intrinsics,
        "cameras": scene.ego_pose(TIME) @ ASIDE @ rig.ego_from_camera,
        "size": size,
        "boxes": vars(scene.boxes(TIME)),
        "time": TIME,
    }


def measure(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median processor and wall milliseconds of a call."""
    call()
    cpu, wall = [], []
    for _ in range(repeats):
        began, began_wall = time.process_time(), time.perf_counter()
        call()
        cpu.append(1e3 * (time.process_time() - began))
        wall.append(1e3 * (time.perf_counter() - began_wall))
    return {"cpu_ms": float(np.median(cpu)), "wall_ms": float(np.median(wall))}


if __name__ == "__main__":
    run(main, Options)
