"""The driving command: what a navigation device would say now, read from the route alone."""

from __future__ import annotations

from typing import Literal

from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.route import Route

Command = Literal["left", "forward", "right"]

LOOK_AHEAD, TURN_OFFSET = 20.0, 2.0
"""Metres along the route, and metres to the side there, from which the command is a turn (NAVSIM's distances)."""


def driving_command(route: Route, position: float) -> Command:
    """Where the route goes from the arc length ``position`` (m): "left" or "right" if 20 m on it lies 2 m or more to that side.

    Seen from the route itself, so that an ego that drives beside it gets no other command. The recorded speed and the recorded
    future of the ego, which data sets make their commands from, are not looked at.
    """
    pose = pose_from_xy_yaw(*route.at(position))
    side = float(route.ahead(pose, 1, LOOK_AHEAD, near=position)[0, 1])
    if abs(side) < TURN_OFFSET:
        return "forward"
    return "left" if side > 0 else "right"
