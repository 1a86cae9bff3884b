"""One sheet of a closed loop: truth, splat and weights at 0.5, 2, 4 and 8 seconds, RGB above depth.

python -m benchmarks.pictures --memory history --out docs/pictures/closed_loop_history.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from benchmarks.common import run
from benchmarks.layout_agreement import TrueStreet
from benchmarks.protocols import HISTORY_START, STEP, SWERVE, SWERVE_PERIOD
from benchmarks.rollouts import logged, roll_out, scene_at, swerving
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.drawing import colour_depth, draw_text
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.episode_log import forward_cameras
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.files import replacing
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import MemoryPolicy

INK, PAPER, GAP = (40, 44, 53), 255, 6
TITLE = 26


@dataclass(frozen=True)
class Options:
    """A picture sheet of one town val scene."""

    out: Path
    """PNG to write."""
    weights: str = "tiny"
    """Preset or directory to show."""
    memory: MemoryPolicy = "history"
    """Memory policy: with "history" on the recorded drive, with "log" on a swerve beside it, between keyframes."""
    scene: int = 0
    """Which val scene."""
    seed: int = 0
    """Noise seed."""
    cameras: Literal["front", "all"] = "front"
    """Cameras that look ahead, or all of the rig."""
    times: tuple[float, ...] = (0.5, 2.0, 4.0, 8.0)
    """Seconds in closed loop that are shown."""
    scale: int = 1
    """Enlargement of the images."""
    size: str = "64x112"
    """Height x width of the images."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""


def main(options: Options) -> None:
    size = parse_size(options.size)
    dataset = open_dataset(options.dataroot, size=size)
    names = dataset.scene_names("val")
    if not 0 <= options.scene < len(names):
        raise ConfigError(f"--scene must be 0 to {len(names) - 1}, not {options.scene}")
    scene = dataset.load(names[options.scene])
    shown = closed_loops(scene, size, options.weights, options.memory, options.seed, options.times)
    cameras = forward_cameras(scene.rig) if options.cameras == "front" else range(len(scene.rig.names))
    picture = sheet(shown, options.times, cameras, options.scale)
    with replacing(options.out) as temporary:
        cv2.imwrite(str(temporary), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(options.out)


def closed_loops(
    scene: Scene, size: tuple[int, int], weights: str, memory: MemoryPolicy, seed: int, times: Sequence[float]
) -> dict[str, list[RGBDFrame]]:
    """Row's title -> frames at the given times (seconds in closed loop, multiples of STEP) of truth, splat and weights."""
    rig = scene.rig.at_size(*size)
    steps = [round(time / STEP) for time in times]
    off = [time for time, step in zip(times, steps, strict=True) if step < 1 or abs(step * STEP - time) > 1e-6]
    if off or HISTORY_START + max(times) > scene.duration + 1e-6:
        raise ConfigError(
            f"--times must be multiples of {STEP:g} s up to {scene.duration - HISTORY_START:g} s, not {tuple(times)}"
        )
    swerve = memory == "log"
    path = swerving(scene, SWERVE, SWERVE_PERIOD, HISTORY_START) if swerve else logged(scene)
    instants = [HISTORY_START + STEP * (k + 1) - (STEP / 2 if swerve else 0) for k in range(max(steps))]
    street = TrueStreet(scene, rig)
    rows = {"truth": [street.show(scene_at(scene, time, path, path, STEP, 0))[0] for time in instants]}
    for title, name in (("splat", "splat"), (f"weights {Path(weights).name}", weights)):
        if title == "splat" or weights != "splat":
            world = make_world("dist4d", weights=name, memory=memory)
            rows[title] = list(roll_out(world, scene, rig, HISTORY_START, seed, instants, path, not swerve, STEP).frames)
    return {title: [frames[step - 1] for step in steps] for title, frames in rows.items()}


def sheet(rows: Mapping[str, Sequence[RGBDFrame]], times: Sequence[float], cameras: Sequence[int], scale: int = 1) -> np.ndarray:
    """A labelled picture (H, W, 3) uint8: a column per time, for every row cameras side by side, RGB above depth."""
    columns = [f"{time:g} s" for time in times]
    blocks = []
    for title, frames in rows.items():
        cells = [_cell(frame, cameras, scale) for frame in frames]
        gap = np.full((cells[0].shape[0], GAP, 3), PAPER, np.uint8)
        band = np.hstack([part for cell in cells for part in (cell, gap)][:-1])
        heading = np.full((TITLE, band.shape[1], 3), PAPER, np.uint8)
        for k, column in enumerate(columns):
            draw_text(heading, 4 + k * (cells[0].shape[1] + GAP), 3, f"{title}, {column}", 15, INK)
        blocks += [heading, band]
    return np.vstack(blocks)


def _cell(frame: RGBDFrame, cameras: Sequence[int], scale: int) -> np.ndarray:
    lines = ([frame.rgb[camera] for camera in cameras], [colour_depth(frame.depth[camera]) for camera in cameras])
    cell = np.vstack([np.hstack(line) for line in lines])
    return cell if scale == 1 else cv2.resize(cell, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    run(main, Options)
