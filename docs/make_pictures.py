"""Makes the pictures of README.md and docs/worlds/: ``python docs/make_pictures.py [--weights tiny]``.

world_NAME.jpg: one instant of the built-in town from 2 m beside the recorded path in each world, front cameras, colours above
depth; off_path.jpg: the colours of three of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import tyro

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.demo import Options as DemoOptions
from dist4d_env.demo import open_data
from dist4d_env.envs.drawing import colour_depth, draw_text
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.scenes.scenario import Scenario

PICTURES = Path(__file__).parent / "pictures"
WORLDS = ("dist4d", "splat", "replay", "oracle")
SHOWN = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")


@dataclass(frozen=True)
class Options:
    """Make the pictures of the documentation."""

    weights: str = "tiny"
    """Weights of the generated world."""
    dataroot: Path | None = None
    """A town; else the built-in one."""
    offset: float = 2.0
    """Metres to the left of the path."""
    size: str = "224x400"
    """Height x width of the cameras."""


def main(options: Options) -> None:
    dataset = open_data(DemoOptions(dataroot=options.dataroot, size=options.size))
    scene = dataset.names()[0]
    place = {"dataroot": dataset.dataroot, "scenes": scene, "size": parse_size(options.size)}
    PICTURES.mkdir(exist_ok=True)
    worlds = {name: beside_the_path(place, scene, name, options) for name in WORLDS}
    for name, picture in worlds.items():
        _write(f"world_{name}.jpg", picture)
    titles = ("oracle", "the town's own geometry"), ("splat", "memory splat, no network"), ("dist4d", "DiST-S")
    colours = {name: picture[: len(picture) // 2] for name, picture in worlds.items()}
    _write("off_path.jpg", np.vstack([part for name, title in titles for part in (_title(title, colours[name]), colours[name])]))


def beside_the_path(place: dict[str, Any], scene: str, world: str, options: Options) -> np.ndarray:
    """Front cameras, colours above depth, from beside the path in one world."""
    scenario = Scenario(scene, 3.0, ego_offset=options.offset)
    env = gym.make(
        "DiST4D-nuScenes-v0", scenario=scenario, world=world, weights=options.weights, observation=("cameras", "depth"), **place
    )
    observation, _ = env.reset(seed=0)
    env.close()
    colours = [observation[camera] for camera in SHOWN]
    depths = [colour_depth(observation[f"{camera}/depth"][..., 0]) for camera in SHOWN]
    return np.vstack([np.hstack(colours), np.hstack(depths)])


def _title(text: str, picture: np.ndarray) -> np.ndarray:
    title = np.full((30, picture.shape[1], 3), 255, np.uint8)
    draw_text(title, 4, 3, text, 18, (40, 44, 53))
    return title


def _write(name: str, picture: np.ndarray) -> None:
    how = [cv2.IMWRITE_JPEG_QUALITY, 85] if name.endswith("jpg") else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    cv2.imwrite(str(PICTURES / name), picture[..., ::-1], how)
    print(PICTURES / name)


if __name__ == "__main__":
    main(tyro.cli(Options))
