"""Which lanes the ego counts as being in, as nuPlan decides it: its centre's lane in time, and whether its corners share one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from dist4d_env.scenes.maps import Lane, SceneMap

_NEAR = 5.0  # m; a connector just left is kept this far away where only another connector, or none, is found


def driven_lanes(scene_map: SceneMap, points: np.ndarray) -> list[Lane | None]:
    """The lane of every point (T, 2) of a path, None where it is in none.

    A point stays in its predecessor's lane while that holds it, else goes on into a lane that follows; only then the map is
    asked, where a lane goes before connectors. Where several connectors lie over each other, the one that leads to where the path
    goes on is taken, found backwards in time.
    """
    routes: list[list[Lane]] = []
    here: list[Lane] = []
    for found, (x, y) in zip(scene_map.lanes_along(points), points.tolist(), strict=True):
        here = _next(scene_map, here, found)
        if not here:
            here = _looked_up(scene_map, routes, found, x, y)
        routes.append(here)
    for i in range(len(routes) - 2, -1, -1):
        routes[i] = _narrowed(routes[i], routes[i + 1])
    return [lanes[0] if lanes else None for lanes in routes]


def _next(scene_map: SceneMap, before: list[Lane], found: Sequence[Lane]) -> list[Lane]:
    """Which of the lanes so far, or of the successors of the only one, hold the point."""
    tokens = {lane.token for lane in found}
    kept = [lane for lane in before if lane.token in tokens]
    if not kept and len(before) == 1:
        kept = [scene_map.lanes[token] for token in before[0].successors if token in tokens and token in scene_map.lanes]
    return kept


def _looked_up(scene_map: SceneMap, routes: list[list[Lane]], found: Sequence[Lane], x: float, y: float) -> list[Lane]:
    here = [lane for lane in found if not lane.is_connector][:1] or list(found)
    last = routes[-1] if routes else []
    if last and last[0].is_connector and (here[0].is_connector if here else scene_map.in_intersection(np.array([x, y]))):
        point = shapely.points(x, y)
        here = [lane for lane in last if lane.polygon.distance(point) < _NEAR] or here
    return here


def _narrowed(lanes: list[Lane], after: list[Lane]) -> list[Lane]:
    """Of several lanes those that the path is in, or leads to, at the next step."""
    if len(lanes) < 2 or not after:
        return lanes
    tokens = {lane.token for lane in after}
    kept = [lane for lane in lanes if lane.token in tokens]
    if not kept and not after[0].is_connector:
        kept = [lane for lane in lanes if after[0].token in lane.successors]
    return kept or lanes


def within_lanes(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(T,) whether all corners of footprints (T, 4, 2), in the order of ``ego_corners``, are in one lane or in lanes of which one
    leads to the next: neither across lanes nor beside them."""
    held = scene_map.lanes_along(corners.reshape(-1, 2))
    tokens = [frozenset(lane.token for lane in lanes) for lanes in held]
    return np.array([_connected(scene_map, tokens[i : i + 4]) for i in range(0, len(tokens), 4)], bool)


def _connected(scene_map: SceneMap, held: Sequence[frozenset[str]]) -> bool:
    front_left, rear_left, rear_right, front_right = held
    if not all(held):
        return False
    if front_left & rear_left & rear_right & front_right:
        return True
    left_on, right_on = (rear | _linked(scene_map, rear, "successors") for rear in (rear_left, rear_right))
    if not (rear_left & right_on or rear_right & left_on):
        return False
    left, right = (front | _linked(scene_map, front, "predecessors") for front in (front_left, front_right))
    return bool(left & right_on & right & left_on)


def _linked(scene_map: SceneMap, tokens: frozenset[str], side: str) -> frozenset[str]:
    return frozenset(other for token in tokens for other in getattr(scene_map.lanes[token], side))
