"""Junctions: setback of the lanes, and the turns that connect them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.town.paths import ArcPath, connect
from dist4d_env.town.plans import Plan, Road

CORNER = 7.0
"""Kerb radius at street corners, metres."""
CROSSING = (0.8, 4.0)
"""A crossing lies this far outside the corner's end, from and to."""
STOP = 5.2
"""Lanes end (stop lines lie) this far outside the corner's end."""


@dataclass(frozen=True)
class Arm:
    """One end of a road at a node. heading: outwards; corner: distance from the node beyond which the kerbs run straight."""

    road: int
    at_begin: bool
    heading: float
    right: float  # kerb distance to the right when looking outwards
    left: float
    corner: float = 0.0


@dataclass(frozen=True)
class RoadLane:
    """A lane of one road, ``order`` counted from the dividing line outwards; path along the driving direction."""

    road: int
    forward: bool
    order: int
    path: ArcPath


def arms_at(plan: Plan, node: int) -> list[Arm]:
    """The arms of a node, counter-clockwise, with their corners worked out from the neighbours' widths and angles."""
    arms = []
    for index, road in enumerate(plan.roads):
        if road.begin == node:
            arms.append(Arm(index, True, road.path.start[2], road.right, road.left))
        if road.end == node:
            arms.append(Arm(index, False, float(wrap_angle(road.path.end[2] + np.pi)), road.left, road.right))
    arms.sort(key=lambda arm: arm.heading)
    finished = []
    for index, arm in enumerate(arms):
        following, previous = arms[(index + 1) % len(arms)], arms[index - 1]
        corner = max(
            _corner_distance(float((following.heading - arm.heading) % (2 * np.pi)), arm.left, following.right),
            _corner_distance(float((arm.heading - previous.heading) % (2 * np.pi)), arm.right, previous.left),
        )
        finished.append(Arm(arm.road, arm.at_begin, arm.heading, arm.right, arm.left, corner))
    return finished


def _corner_distance(angle: float, own: float, other: float) -> float:
    """Along an arm, where the rounded corner with the neighbour (``angle`` away) ends. Kerbs nearly in line have none."""
    if angle > np.deg2rad(150):
        return 0.0
    meeting = (other + own * np.cos(angle)) / np.sin(angle)
    return float(meeting + CORNER / np.tan(angle / 2))


def trims(plan: Plan) -> np.ndarray:
    """(R, 2) distances cut off each road's begin and end by its junctions' corners (0 at open ends)."""
    cut = np.zeros((len(plan.roads), 2))
    for node in range(len(plan.nodes)):
        for arm in arms_at(plan, node):
            cut[arm.road, 0 if arm.at_begin else 1] = arm.corner
    return cut


def road_lanes(road_index: int, road: Road, cut: np.ndarray) -> list[RoadLane]:
    """The lanes of a road between its stop lines, given its two corner distances."""
    begin = cut[0] + STOP if road.begin >= 0 else 0.0
    end = road.path.length - (cut[1] + STOP if road.end >= 0 else 0.0)
    middle = road.path.section(begin, end)
    lanes = [RoadLane(road_index, True, j, middle.offset(-(j + 0.5) * road.lane_width)) for j in range(road.forward)]
    lanes += [RoadLane(road_index, False, j, middle.offset((j + 0.5) * road.lane_width).reverse()) for j in range(road.backward)]
    return lanes


def turns_at(plan: Plan, node: int, lanes: list[RoadLane]) -> list[tuple[int, int, ArcPath]]:
    """Connectors of a node as (incoming lane, outgoing lane, path), lanes as indices into ``lanes``.

    Straight on keeps the lane order; the innermost lane turns left, the outermost right; a lane left without any way out takes
    the nearest one there is.
    """
    arms = arms_at(plan, node)
    found = []
    for arm in arms:
        incoming = [i for i, lane in enumerate(lanes) if lane.road == arm.road and lane.forward != arm.at_begin]
        ways: dict[str, list[int]] = {}
        for other in arms:
            if other is arm:
                continue
            outgoing = [i for i, lane in enumerate(lanes) if lane.road == other.road and lane.forward == other.at_begin]
            turn = float(wrap_angle(other.heading - (arm.heading + np.pi)))
            if outgoing and abs(turn) < np.deg2rad(150):
                ways["straight" if abs(turn) < 0.6 else "left" if turn > 0 else "right"] = outgoing
        for order, lane in enumerate(incoming):
            for way in _ways_of(order, len(incoming), ways):
                outgoing = ways[way]
                outermost = way == "right" and order == len(incoming) - 1
                target = outgoing[-1] if outermost else outgoing[min(order, len(outgoing) - 1)]
                radius = CORNER + 1.5 if way == "right" else 25.0
                begin, end = lanes[lane].path.end, lanes[target].path.start
                found.append((lane, target, connect(begin, end, radius)))
    return found


def _ways_of(order: int, count: int, ways: dict[str, list[int]]) -> list[str]:
    chosen = []
    if "straight" in ways and (order < len(ways["straight"]) or count == 1):
        chosen.append("straight")
    if "left" in ways and order == 0:
        chosen.append("left")
    if "right" in ways and order == count - 1:
        chosen.append("right")
    if not chosen and ways:
        preference = ("left", "straight", "right") if order < count / 2 else ("right", "straight", "left")
        chosen.append(next(way for way in preference if way in ways))
    return chosen
