"""Traffic lights of the town: where they stand at four-way junctions, and how they change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.town.junctions import STOP, Arm, RoadLane, arms_at
from dist4d_env.town.model import SPLITS, Head, SceneOutline, Signal
from dist4d_env.town.paths import ArcPath
from dist4d_env.town.plans import Plan

STOP_LINE = STOP - 0.35
"""Stop lines lie this far outside the corner's end, within the connectors that begin at STOP."""
AMBER_TICKS, CLEARING = 35, 10
"""Ticks of 0.1 s of amber, and of red on all sides before the others go."""
_GREEN = (6.0, 10.0)  # s at least and at most
_BEHIND_KERB = 0.65  # m from kerb to pole, where nobody walks
_LOW, _HIGH = 2.9, 5.4  # m, middles of the head beside the stop line and of the one across the junction
_ARM = 2.6  # m that the latter's arm reaches towards the lanes


def signals_of(
    plan: Plan, lanes: Sequence[RoadLane], turns: Sequence[tuple[int, int, object]], drivable: BaseGeometry
) -> tuple[Signal, ...]:
    """The traffic lights of a plan, one for each arm of every node with four. turns: of all nodes, (incoming lane, outgoing lane,
    path), after ``lanes`` in the layout's count."""
    signals, crossing = [], 0
    for node in range(len(plan.nodes)):
        arms = arms_at(plan, node)
        for index, arm in enumerate(arms):
            if len(arms) == 4:
                incoming = {i for i, lane in enumerate(lanes) if lane.road == arm.road and lane.forward != arm.at_begin}
                connectors = tuple(len(lanes) + i for i, (lane, _, _) in enumerate(turns) if lane in incoming)
                heads = (_beside(plan, arm), _across(plan, node, arms, index, drivable))
                signals.append(Signal(_line(plan, arm), connectors, crossing, heads, node, index % 2))
            crossing += 1
    return tuple(signals)


def states_of(scene: SceneOutline, ticks: int) -> np.ndarray:
    """(G, ticks) int8 states of the scene's traffic lights every 0.1 s: opposite arms are green together, then the others, with
    amber, and red on all sides, in between. Times are drawn for each junction of each scene; a longer scene begins as a short
    one.
    """
    rng = np.random.default_rng([scene.seed, SPLITS.index(scene.split), scene.index, 71])
    plans: dict[int, tuple[np.ndarray, int]] = {}
    states = np.full((len(scene.layout.signals), ticks), RED, np.int8)
    for row, signal in enumerate(scene.layout.signals):
        if signal.node not in plans:
            green = np.rint(rng.uniform(*_GREEN, 2) * 10).astype(int)
            plans[signal.node] = green, int(rng.integers(green.sum() + 2 * (AMBER_TICKS + CLEARING)))
        green, offset = plans[signal.node]
        whole = green + AMBER_TICKS + CLEARING
        since = (np.arange(ticks) + offset - signal.phase * whole[0]) % whole.sum()
        states[row, since < green[signal.phase] + AMBER_TICKS] = AMBER
        states[row, since < green[signal.phase]] = GREEN
    return states


def _line(plan: Plan, arm: Arm) -> np.ndarray:
    """(2, 2) the stop line of an arm from the dividing line to the kerb: from left to right as seen by those who come."""
    x, y, yaw = _outwards(plan, arm).at(arm.corner + STOP_LINE)
    left = np.array([-np.sin(yaw), np.cos(yaw)])  # looking outwards, where vehicles come in
    return np.stack([(x, y), (x, y) + left * arm.left])


def _outwards(plan: Plan, arm: Arm) -> ArcPath:
    road = plan.roads[arm.road]
    return road.path if arm.at_begin else road.path.reverse()


def _beside(plan: Plan, arm: Arm) -> Head:
    """At the kerb by the stop line, on the right of those who come."""
    x, y, yaw = _outwards(plan, arm).at(arm.corner + STOP_LINE)
    aside = arm.left + _BEHIND_KERB
    x, y = float(x - np.sin(yaw) * aside), float(y + np.cos(yaw) * aside)
    return Head((x, y, _LOW), float(yaw), (x, y))


def _across(plan: Plan, node: int, arms: Sequence[Arm], index: int, drivable: BaseGeometry) -> Head:
    """At the far corner on the right of those who come in on an arm, on an arm that reaches over the road."""
    beside, ahead = arms[(index + 1) % 4], arms[(index + 2) % 4]  # counter-clockwise
    turn = (ahead.heading - beside.heading) % (2 * np.pi)
    # Where the kerbs would meet if they weren't rounded, and from there away from the node.
    along = (beside.left + ahead.right * np.cos(turn)) / np.sin(turn)
    forward = np.array([np.cos(ahead.heading), np.sin(ahead.heading)])
    kerb = plan.nodes[node] + along * forward + ahead.right * np.array([np.sin(ahead.heading), -np.cos(ahead.heading)])
    middle = beside.heading + turn / 2
    out = np.array([np.cos(middle), np.sin(middle)])
    ray = LineString([kerb - 2.0 * out, kerb + 30.0 * out])
    outside = ray.difference(drivable)
    pole = np.array(getattr(outside, "geoms", [outside])[0].coords[0]) + _BEHIND_KERB * out
    facing = arms[index].heading
    x, y = pole + _ARM * np.array([np.sin(facing), -np.cos(facing)])  # towards the lanes of those who come
    return Head((float(x), float(y), _HIGH), float(facing), (float(pole[0]), float(pole[1])))
