"""Upright boxes: agents and the ego's footprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import poses_from_position_yaw

CATEGORIES = (
    "car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle", "pedestrian", "traffic_cone", "barrier",
    "other",
)  # fmt: skip
"""The simulator's classes of objects, to which data sets map theirs; category arrays hold indices into this tuple."""
VEHICLES, VULNERABLE, ON_WHEELS = CATEGORIES[:5], CATEGORIES[5:8], CATEGORIES[:7]
"""Those with four wheels or more, those whose people are not inside, and what nuScenes calls vehicles: two-wheelers, too."""


@dataclass(frozen=True)
class Boxes:
    """Upright boxes at one instant, in one frame (global unless said otherwise).

    token: (N,) int64, stable identity of the object within its scene (index into ``Scene.tracks``; the ego is never in here);
    category: (N,) int8 into CATEGORIES; position: (N, 3) box centres; size: (N, 3) length, width, height; yaw: (N,);
    velocity: (N, 2). Metres, radians, m/s. Only objects that exist now are listed.
    """

    token: np.ndarray
    category: np.ndarray
    position: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.token)

    @property
    def poses(self) -> np.ndarray:
        """(N, 4, 4) frame-from-box, origin at the box centre."""
        return poses_from_position_yaw(self.position, self.yaw)

    def corners(self) -> np.ndarray:
        """(N, 8, 3): front face then back face, each left-bottom, right-bottom, right-top, left-top."""
        signs = np.array([[1, 1, -1], [1, -1, -1], [1, -1, 1], [1, 1, 1], [-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]])
        local = signs * self.size[:, None] / 2  # (N, 8, 3)
        pose = self.poses
        return np.einsum("nij,nkj->nki", pose[:, :3, :3], local) + self.position[:, None]

    def select(self, mask: np.ndarray) -> Boxes:
        """The boxes that a boolean mask (N,) or an index array chooses."""
        return Boxes(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def rectangle_corners(
    x: np.ndarray | float, y: np.ndarray | float, yaw: np.ndarray | float, length: np.ndarray | float, width: np.ndarray | float
) -> np.ndarray:
    """Footprint corners (..., 4, 2) counter-clockwise from front-left of rectangles given by centre, heading and size."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    local = signs * np.stack(np.broadcast_arrays(length, width), -1)[..., None, :]
    cos, sin = deterministic.cos(yaw)[..., None], deterministic.sin(yaw)[..., None]
    return np.stack(
        [
            np.asarray(x)[..., None] + cos * local[..., 0] - sin * local[..., 1],
            np.asarray(y)[..., None] + sin * local[..., 0] + cos * local[..., 1],
        ],
        -1,
    )
