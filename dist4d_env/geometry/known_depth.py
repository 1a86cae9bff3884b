"""Depth that needs no network: where the splat has one, and the road that goes on under what hid it.

A network that draws a hole between a car's wheel and the road beside it gives some of its pixels a depth in between, or nearer
than both, and now and then it draws something in front of what the memory shows. Such a point floats over the road, and a planner
that measures stops for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry.cameras import invert_intrinsics
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import invert

LEVEL = 0.3
"""Metres above or below the plane that the car stands on within which a point is road."""


def known_depth(frame: RGBDFrame, splat: Splat, global_from_ego: np.ndarray) -> RGBDFrame:
    """The frame with the splat's depth where it has one and, in holes behind which road lies, with the road's.

    Behind a hole is the farther side of its row (``Splat.background``). global_from_ego: (4, 4) at the frame's time, z = 0 where
    the wheels stand.
    """
    behind = splat.background()[1]
    view, row, column = np.nonzero(~splat.valid)
    ego_from_camera = invert(global_from_ego) @ frame.global_from_camera
    along = ego_from_camera[:, 2:3, :3] @ invert_intrinsics(frame.intrinsics)  # metres up for each metre of depth, by pixel
    up = along[view, 0, 0] * (column + 0.5) + along[view, 0, 1] * (row + 0.5) + along[view, 0, 2]
    known = splat.valid.copy()
    known[view, row, column] = np.abs(ego_from_camera[view, 2, 3] + up * behind[view, row, column]) < LEVEL
    return replace(frame, depth=np.where(known, behind, frame.depth))
