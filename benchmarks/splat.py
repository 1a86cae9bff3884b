"""Milliseconds of the splat, six cameras to six, at three sizes.

    python -m benchmarks.splat --out benchmarks/results/splat.json

Sources are keyframes of the first val scene, seen from a pose beside the logged path. ``cpu_ms`` is the processor time of the
process (what the splat itself needs, whatever else the machine does), ``wall_ms`` what a clock on the wall shows; medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import header, run, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw

SIZES = (64, 112), (128, 224), (224, 400)
KEYFRAMES = 4, 6, 8
TIME, ASIDE = 3.2, pose_from_xy_yaw(0.8, 0.5, 0.03)


@dataclass(frozen=True)
class Options:
    """Milliseconds of the splat."""

    repeats: int = 40
    """Calls per row, after one that does not count."""
    dataroot: Path | None = None
    """A data set with a val split; the default one is made when there is none."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    dataset = open_dataset(options.dataroot)
    scene = dataset.load(dataset.scene_names("val")[0])
    rows: dict[str, Any] = {}
    for size in tqdm(SIZES, disable=None):
        rows[f"{size[0]} x {size[1]}"] = measure_all(scene, size, options.repeats)
    result = header("splat", options) | {"results": rows}
    if options.out:
        write_json(options.out, result)
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
