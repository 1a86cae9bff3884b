"""Makes docs/pictures/fidelity_gallery.jpg: ``python -m docs.make_fidelity_gallery runs/fidelity``.

The decisions in which plans differ most between a world's pictures and the true ones of the same states, one per scenario: the
front camera's picture and its depth in both, with the plan on that world's pictures (orange) and the one on the true pictures
(green).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tyro.conf import Positional

from benchmarks.common import run
from benchmarks.fidelity import PATIENCE, SHADOWS
from benchmarks.fidelity_drives import Drive
from benchmarks.fidelity_episodes import read_drives
from dist4d_env.envs.drawing import colour_depth, draw_text
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import DataError
from dist4d_env.evaluation.campaign import read_settings
from dist4d_env.evaluation.drive import EnvSettings, episode_name
from dist4d_env.evaluation.episode_log import forward_cameras, load_episode
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import OtherPictures
from dist4d_env.geometry.cameras import project
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.scenes.files import Document
from dist4d_env.scenes.scenario import scenario_from
from dist4d_env.worlds.oracle import OracleWorld

PICTURE = Path(__file__).parent / "pictures" / "fidelity_gallery.jpg"
HERE, TRUE = (255, 140, 0), (0, 230, 80)
TALL, LINE = 168, 18


@dataclass(frozen=True)
class Options:
    """Pictures that mislead: where plans differ most from those on the true pictures."""

    out: Positional[Path]
    """Folder of the study."""
    world: str = "dist4d"
    """World to look at."""
    rows: int = 6
    """Decisions to show, each of another scenario."""
    picture: Path = PICTURE
    """File to write."""
    planner: tuple[str, ...] = ()
    """Planners to look at; else all. The worst plans of one that is made noisy are chance."""


def main(options: Options) -> None:
    folder = options.out / options.world
    worst: dict[str, tuple[float, int, Drive]] = {}
    for drive in read_drives(folder):
        if options.planner and drive.planner not in options.planner:
            continue
        for decision, apart in enumerate(drive.apart):
            if apart is not None and apart > worst.get(drive.scenario, (0.0, 0, drive))[0]:
                worst[drive.scenario] = apart, decision, drive
    chosen = sorted(worst.values(), key=lambda found: -found[0])[: options.rows]
    if not chosen:
        raise DataError(f"{folder} holds no plans beside those on the true pictures: run python -m benchmarks.fidelity first")
    rows = [row(folder, drive, decision, apart) for apart, decision, drive in chosen]
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.picture), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def row(folder: Path, drive: Drive, decision: int, apart: float) -> np.ndarray:
    """One decision: the episode is driven again up to it."""
    name = episode_name(drive.planner, drive.scenario, drive.seed)
    log = load_episode(folder / "episodes" / f"{name}.json")
    with np.load(folder / SHADOWS / f"{name}.npz") as arrays:
        true_plan = arrays["poses"][decision]
    common = {key: value for key, value in read_settings(folder)["common"].items() if key in EnvSettings.__dataclass_fields__}
    env = EnvSettings(**common | {"scenes": (log.scene,)}).make()
    scenario = scenario_from(Document(name, log.scenario, {}))
    shown: list[np.ndarray] = []

    def watch(driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
        if len(shown) == decision:
            shown.append(_pair(driving, np.asarray(log.plans.poses[decision]), true_plan))
        elif len(shown) < decision:
            shown.append(np.zeros(0))

    options = RunOptions(plan_limit=PATIENCE, reset_limit=PATIENCE, scenario=scenario)
    run_episode(env, make_planner(drive.planner), drive.seed, options, watch, drive.planner)
    env.close()
    picture = shown[decision]
    line = np.zeros((LINE, picture.shape[1], 3), np.uint8)
    where = f"{drive.planner}, {drive.scenario}, {0.5 * decision:g} s: {apart:.1f} m apart after 2 s, "
    draw_text(line, 4, 2, where + f"source {drive.source[decision]}, trust {drive.trust[decision]:.2f}", 12, (235, 235, 235))
    return np.concatenate([line, picture])


def _pair(driving: DiST4DDrivingEnv, plan: np.ndarray, true_plan: np.ndarray) -> np.ndarray:
    frame, scene = driving.episode.frame, driving.scene
    assert frame is not None
    height, width = frame.depth.shape[1:]
    rig, true = scene.rig.at_size(height, width), OtherPictures(OracleWorld())
    true.begin(driving)
    truth = true.pictures({})
    ahead = forward_cameras(scene.rig)
    view = max(ahead, key=lambda index: float(rig.ego_from_camera[index, 0, 2]))
    name = rig.names[view]
    depths = colour_depth(frame.depth[view]), colour_depth(truth[f"{name}/depth"][..., 0])
    tiles = []
    for image in (frame.rgb[view], truth[name], *depths):
        large = cv2.resize(image, (TALL * width // height, TALL), interpolation=cv2.INTER_CUBIC)
        for poses, colour in ((plan, HERE), (true_plan, TRUE)):
            points = apply(invert(rig.ego_from_camera[view]), np.column_stack([poses[:, :2], np.zeros(len(poses))]))
            pixels, depth = project(points, rig.intrinsics[view])
            for (x, y), far in zip(pixels * TALL / height, depth, strict=True):
                if far > 0.5 and np.isfinite((x, y)).all():
                    cv2.circle(large, (int(np.clip(x, -999, 9999)), int(np.clip(y, -999, 9999))), 4, colour, -1, cv2.LINE_AA)
        tiles.append(large)
    return np.concatenate(tiles, 1)


if __name__ == "__main__":
    run(main, Options)
