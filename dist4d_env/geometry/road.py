"""Road goes on under what hid it: depth of holes whose surroundings are road.

A network that draws a hole between a car's wheel and the road beside it gives some of its pixels a depth in between, or nearer
than both. Such a point floats over the road, and a planner that measures stops for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import invert_intrinsics
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.source_kernels import BOX_MARGIN
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import invert

LEVEL = 0.3
"""Metres above or below the plane that the car stands on within which a point is road."""


def road_in_holes(frame: RGBDFrame, splat: Splat, boxes: Boxes, global_from_ego: np.ndarray) -> RGBDFrame:
    """The frame with the depth of the splat's holes that of the road, where what lies behind them is road.

    Behind a hole is the farther side of its row (``Splat.background``). What the frame shows within an agent's box, or within
    ``BOX_MARGIN`` of it, stays. boxes: global, at the frame's time; global_from_ego: (4, 4), z = 0 where the wheels stand.
    """
    view, row, column = np.nonzero(~splat.valid)
    if not len(view):
        return frame
    behind = splat.background()[1][view, row, column]
    rays = np.einsum(
        "nij,nj->ni",
        (frame.global_from_camera[:, :3, :3] @ invert_intrinsics(frame.intrinsics))[view],
        np.stack([column + 0.5, row + 0.5, np.ones(len(row))], -1),
    )
    origin, ego_from_global = frame.global_from_camera[view, :3, 3], invert(global_from_ego)
    height = (origin + rays * behind[:, None]) @ ego_from_global[2, :3] + ego_from_global[2, 3]
    road = np.abs(height) < LEVEL
    view, row, column, behind = view[road], row[road], column[road], behind[road]
    shown = origin[road] + rays[road] * frame.depth[view, row, column, None]
    free = ~_in_a_box(shown, boxes)
    depth = frame.depth.copy()
    depth[view[free], row[free], column[free]] = behind[free]
    return replace(frame, depth=depth)


def _in_a_box(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Which points (N, 3) lie in one of the boxes or near it, (N,) bool."""
    inside = np.zeros(len(points), bool)
    for box_from_global, size in zip(invert(boxes.poses), boxes.size, strict=True):
        local = points @ box_from_global[:3, :3].T + box_from_global[:3, 3]
        inside |= (np.abs(local) <= size / 2 + BOX_MARGIN).all(1)
    return inside
