"""Depth that needs no network: where the splat has one, and the road that goes on under what hid it.

A network that draws a hole between a car's wheel and the road beside it gives some of its pixels a depth in between, or nearer
than both, and now and then it draws something in front of what the memory shows. Such a point floats over the road, and a planner
that measures stops for it. Outside agents' boxes there is nothing that the memory of a whole drive would not show.
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
ROUNDING = 1e-3
"""Share of a depth that is lost where networks are given it."""


def known_depth(frame: RGBDFrame, splat: Splat, boxes: Boxes, global_from_ego: np.ndarray) -> RGBDFrame:
    """The frame with the splat's depth where it has one and, in holes behind which road lies, with the road's.

    Behind a hole is the farther side of its row (``Splat.background``). What the frame shows within an agent's box, or within
    ``BOX_MARGIN`` of it, stays. boxes: global, at the frame's time; global_from_ego: (4, 4), z = 0 where the wheels stand.
    """
    other = np.abs(frame.depth - splat.depth) > ROUNDING * splat.depth  # all of the holes, where the splat's is 0
    view, row, column = np.nonzero(other)
    if not len(view):
        return frame
    camera, origin = frame.global_from_camera[view, :3, :3], frame.global_from_camera[view, :3, 3]
    pixels = np.stack([column + 0.5, row + 0.5, np.ones(len(row))], -1)
    rays = np.einsum("nij,njk,nk->ni", camera, invert_intrinsics(frame.intrinsics)[view], pixels)
    behind = splat.background()[1][other]
    up, above = invert(global_from_ego)[2, :3], invert(global_from_ego)[2, 3]
    known = splat.valid[other] | (np.abs((origin + rays * behind[:, None]) @ up + above) < LEVEL)
    known[known] = ~_in_a_box((origin + rays * frame.depth[other][:, None])[known], boxes)
    depth = frame.depth.copy()
    depth[view[known], row[known], column[known]] = behind[known]
    return replace(frame, depth=depth)


def _in_a_box(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Which points (N, 3) lie in one of the boxes or near it, (N,) bool."""
    inside = np.zeros(len(points), bool)
    for box_from_global, size in zip(invert(boxes.poses), boxes.size, strict=True):
        local = points @ box_from_global[:3, :3].T + box_from_global[:3, 3]
        inside |= (np.abs(local) <= size / 2 + BOX_MARGIN).all(1)
    return inside
