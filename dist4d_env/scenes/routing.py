"""Routes from logged paths: matching lanes, and extending the path along the lane graph."""

from __future__ import annotations

import heapq

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.scenes.route import Route

EXTENSION = 150.0
"""Metres of route beyond the end of the log."""
_MATCH_RADIUS = 3.5
_FORK = 5  # metres (centreline rows) into a branch that leave open which branch it is
_JOIN = 20.0  # metres over which the lateral offset between log and centreline fades out


def route_from_log(path: np.ndarray, yaw: np.ndarray, lane_map: SceneMap | None, extension: float = EXTENSION) -> Route:
    """The logged path (T, 2) with headings (T,), resampled to 1 m and extended by ``extension`` metres.

    The extension follows the lane graph from the last matched lane, straightest first among the paths that lead far enough;
    where the graph ends (or there is no lane), the route goes straight on: ``Route.graph_length`` is where that begins.
    """
    driven = _resampled(path, yaw)
    log_length = Route.through(driven).length if len(driven) > 1 else 0.0
    headings = _headings(driven, yaw[-1])
    matched = match_lanes(driven, headings, lane_map) if lane_map is not None else ()
    tail = np.zeros((0, 2))
    extra_lanes: list[str] = []
    if matched and lane_map is not None:
        matched = _before_fork(matched, driven[-1], lane_map)
        tail, extra_lanes = along_graph(driven[-1], lane_map, matched[-1], extension)
    points = np.concatenate([driven, tail])
    graph_length = Route.through(points).length if len(points) > 1 else 0.0
    heading = deterministic.arctan2(*(points[-1] - points[-2])[::-1]) if len(tail) else headings[-1]
    rest = np.arange(1.0, np.ceil(log_length + extension - graph_length) + 1)
    points = np.concatenate([points, points[-1] + rest[:, None] * (deterministic.cos(heading), deterministic.sin(heading))])
    return Route.through(points, (*matched, *extra_lanes), log_length, graph_length)


def match_lanes(points: np.ndarray, headings: np.ndarray, lane_map: SceneMap) -> tuple[str, ...]:
    """Tokens of the lanes a path (P, 2) with headings (P,) runs over, in order: the cheapest chain through the lane graph.

    Each point costs its distance from a lane's centreline plus the heading difference; changing over to a successor is free, to
    any other lane dear (Viterbi over the candidates within 3.5 m). Stretches without a lane are skipped.
    """
    lane_points, owner, _ = lane_map._lane_points
    lanes = lane_map._lane_list
    successors = [set(lane.successors) for lane in lanes]
    costs: dict[int, float] = {}
    chains: dict[int, tuple[int, ...]] = {}
    for (x, y), heading in zip(points, headings, strict=True):
        distance = np.hypot(lane_points[:, 0] - x, lane_points[:, 1] - y)
        turn = np.abs((lane_points[:, 2] - heading + np.pi) % (2 * np.pi) - np.pi)
        near = np.flatnonzero((distance < _MATCH_RADIUS) & (turn < np.pi / 3))
        best: dict[int, float] = {}
        for lane, cost in zip(owner[near].tolist(), (distance[near] + 3.0 * turn[near]).tolist(), strict=True):
            best[lane] = min(cost, best.get(lane, np.inf))
        if not best:
            continue
        new_costs, new_chains = {}, {}
        for lane, cost in best.items():
            previous, before = None, 0.0 if not costs else np.inf
            for other, so_far in costs.items():
                change = 0.0 if other == lane else 0.1 if lanes[lane].token in successors[other] else 10.0
                if so_far + change < before:
                    previous, before = other, so_far + change
            chain = () if previous is None else chains[previous]
            new_costs[lane] = before + cost
            new_chains[lane] = chain if previous == lane else (*chain, lane)
        costs, chains = new_costs, new_chains
    return tuple(lanes[i].token for i in chains[min(costs, key=costs.__getitem__)]) if costs else ()


def follow_graph(lane_map: SceneMap, lane: Lane, row: int, length: float) -> tuple[np.ndarray, list[str]]:
    """Centreline points (P, 3) from ``row`` of a lane on, ``length`` metres or more where the graph allows, and lanes entered.

    Among all paths that are long enough, the one that turns least in total; if none is, the longest.
    """
    start = lane.centerline[row:]
    # Turned, a tie-breaker, travelled, lanes.
    queue: list[tuple[float, int, float, tuple[str, ...]]] = [(0.0, 0, _length(start), (lane.token,))]
    best, count = queue[0], 0
    queued: set[str] = set()
    while queue:
        here = heapq.heappop(queue)
        turned, _, travelled, path = here
        if travelled > best[2]:
            best = here
        if travelled >= length:
            break
        for token in lane_map.lanes[path[-1]].successors:
            if token in lane_map.lanes and token not in queued:
                queued.add(token)
                count += 1
                next_line = lane_map.lanes[token].centerline
                heapq.heappush(queue, (turned + _turning(next_line), count, travelled + _length(next_line), (*path, token)))
    entered = list(best[3][1:])
    return np.concatenate([start, *(lane_map.lanes[token].centerline[1:] for token in entered)]), entered


def _before_fork(matched: tuple[str, ...], end: np.ndarray, lane_map: SceneMap) -> tuple[str, ...]:
    """The matched lanes without a last one that was only just entered at a fork: the log does not show the branch yet."""
    if len(matched) < 2:
        return matched
    before, last = (lane_map.lanes[token] for token in matched[-2:])
    entered = int(np.argmin(np.hypot(*(last.centerline[:, :2] - end).T)))
    return matched[:-1] if entered < _FORK and len(before.successors) > 1 and last.token in before.successors else matched


def along_graph(end: np.ndarray, lane_map: SceneMap, last: str, extension: float) -> tuple[np.ndarray, list[str]]:
    """Points (P, 2) every metre from an end (2,) on along the lane graph, from the lane ``last``, and lanes entered; none where
    the graph ends. The offset from the centreline fades out."""
    lane = lane_map.lanes[last]
    row = int(np.argmin(np.hypot(*(lane.centerline[:, :2] - end).T)))
    centre, entered = follow_graph(lane_map, lane, row, extension + 5.0)
    step = np.hypot(*np.diff(centre[:, :2], axis=0).T)
    keep = np.concatenate([[True], step > 1e-3])
    centre = centre[keep]
    if len(centre) < 2:
        return np.zeros((0, 2)), entered
    guide = Route.through(centre[:, :2])
    start, lateral, _ = guide.project(float(end[0]), float(end[1]), near=0.0)
    s = np.arange(start + 1.0, guide.length, 1.0)[: int(extension) + 1]
    x, y, yaw = guide.sample(s).T
    fade = np.clip(1 - (s - start) / _JOIN, 0, 1)
    side = lateral * fade * fade * (3 - 2 * fade)
    return np.stack([x - side * deterministic.sin(yaw), y + side * deterministic.cos(yaw)], -1), entered


def _resampled(path: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Points about every metre of the path driven forward, ends included; standing still, its jitter and reversing leave none."""
    forward = np.stack([deterministic.cos(yaw), deterministic.sin(yaw)], -1)
    kept = [0]
    for i in range(1, len(path)):
        if (path[i] - path[kept[-1]]) @ forward[kept[-1]] >= 0.4:
            kept.append(i)
    points = path[kept]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, s[-1], round(s[-1]) + 1)
    return np.stack([np.interp(at, s, points[:, 0]), np.interp(at, s, points[:, 1])], -1)


def _headings(points: np.ndarray, last: float) -> np.ndarray:
    if len(points) < 2:
        return np.array([last])
    step = np.gradient(points, axis=0)
    return deterministic.arctan2(step[:, 1], step[:, 0])


def _length(centerline: np.ndarray) -> float:
    return float(np.hypot(*np.diff(centerline[:, :2], axis=0).T).sum()) if len(centerline) > 1 else 0.0


def _turning(centerline: np.ndarray) -> float:
    """Radians turned in total, left and right alike: a lay-by turns more than the road beside it."""
    return float(np.abs(np.diff(np.unwrap(centerline[:, 2]))).sum())
