"""Makes the pictures of README.md and docs/: ``python docs/make_pictures.py [--weights tiny]``.

cameras.png: what the environment shows two seconds into an episode in the built-in town; off_path.png: the same instant from 2 m
beside the recorded path, rendered from the town's geometry, from the memory's splat alone, and by the given weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import tyro

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.demo import Options as DemoOptions
from dist4d_env.demo import open_data
from dist4d_env.envs.drawing import colour_depth, draw_text
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.planners.lane_follower import LaneFollower, LaneFollowerConfig
from dist4d_env.scenes.scenario import Scenario

PICTURES = Path(__file__).parent / "pictures"
SHOWN = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")


@dataclass(frozen=True)
class Options:
    """Make the pictures of the documentation."""

    weights: str = "tiny"
    """Weights of the generated world."""
    dataroot: Path | None = None
    """A town; else the built-in one."""
    offset: float = 2.0
    """Metres to the left of the path in off_path.png."""


def main(options: Options) -> None:
    dataset = open_data(DemoOptions(dataroot=options.dataroot))
    scene = dataset.names()[0]
    place = {"dataroot": dataset.dataroot, "scenes": scene}
    PICTURES.mkdir(exist_ok=True)
    _write("cameras.png", dashboard(place, scene, options.weights))
    _write("off_path.png", beside_the_path(place, scene, options))


def dashboard(place: dict, scene: str, weights: str, seconds: float = 2.0) -> np.ndarray:
    """The dashboard after ``seconds`` of lane following with a swerve."""
    env = gym.make("DiST4D-nuScenes-v0", weights=weights, action="trajectory", decision_dt=0.1, horizon=seconds, **place)
    pictures = []

    def watch(driving, info) -> None:
        episode = driving.episode
        pictures[:] = [render_dashboard(episode.frame, info, episode.state, driving.scene, episode.plan)]

    run_episode(env, LaneFollower(LaneFollowerConfig(swerve_amplitude=-1.0)), 0, RunOptions(scene, 1.0), watch)
    env.close()
    return pictures[0]


def beside_the_path(place: dict, scene: str, options: Options) -> np.ndarray:
    """Front cameras, RGB above depth, one column of rows per world."""
    rows = []
    scenario = Scenario(scene, 3.0, ego_offset=options.offset)
    for name, keywords in (
        ("the town's own geometry", {"world": "oracle"}),
        ("memory splat, holes filled", {"weights": "splat"}),
        (f"DiST-S, weights {Path(options.weights).name}", {"weights": options.weights}),
    ):
        env = gym.make("DiST4D-nuScenes-v0", scenario=scenario, observation=("cameras", "depth"), **keywords, **place)
        observation, _ = env.reset(seed=0)
        env.close()
        cameras = [observation[camera] for camera in SHOWN]
        depths = [colour_depth(observation[f"{camera}/depth"][..., 0]) for camera in SHOWN]
        row = np.hstack([np.hstack(cameras), np.hstack(depths)])
        row = cv2.resize(row, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        title = np.full((26, row.shape[1], 3), 255, np.uint8)
        draw_text(title, 4, 3, name, 15, (40, 44, 53))
        rows += [title, row]
    return np.vstack(rows)


def _write(name: str, picture: np.ndarray) -> None:
    cv2.imwrite(str(PICTURES / name), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(PICTURES / name)


if __name__ == "__main__":
    main(tyro.cli(Options))
