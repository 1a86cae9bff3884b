"""An end-to-end network that nothing has trained, its cameras, and pictures of boxes on a flat road."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dist4d_env.learning.depth_scan import calibration_of
from dist4d_env.learning.end_to_end_network import EndToEndNetwork, NetworkConfig, save_network
from dist4d_env.learning.route_grid import Pictures
from dist4d_env.simulation.ego import EgoState
from tests.planners.test_measuring import depth_images, ring

FRONT, THREE = ring(0.0), ring(0.0, 0.9, -0.9)
STRAIGHT = np.stack([np.arange(1, 21) * 2.5, np.zeros(20)], -1)
Box = tuple[tuple[float, float], tuple[float, float, float]]


def looking(boxes: Sequence[Box], ego: EgoState, time: float = 0.0) -> Pictures:
    """What the front camera shows of boxes (middle, size; global)."""
    depth = depth_images(FRONT, ego, *boxes).astype(np.float32)
    return Pictures(time, np.full((*depth.shape, 3), 60, np.uint8), depth, ego)


def untrained(folder: Path, depth: bool = True, seed: int = 0) -> Path:
    """Writes a network for the cameras of THREE, with noticeable weights in its last layer."""
    torch.manual_seed(seed)
    config = NetworkConfig(THREE.names, calibration_of(THREE), depth=depth, about={"samples": 0})
    save_network(EndToEndNetwork(), config, folder)
    return folder
