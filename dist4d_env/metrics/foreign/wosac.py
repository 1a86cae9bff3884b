"""Realism of simulated traffic as the Waymo Open Sim Agents Challenge measures it: how likely the log is under N rollouts.

Features, bins, estimators and weights are those of the challenge's 2025 configuration (Montali et al. 2023; public proto and
textproto of the Waymo Open Dataset).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, ON_WHEELS, VEHICLES, rectangle_corners
from dist4d_env.metrics.driving.rectangles import separations
from dist4d_env.metrics.driving.red_lights import run_at_red
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import TICK

STEPS, HISTORY = 80, 11
"""Ticks that are simulated and scored, and ticks of the log before them, the present included."""


@dataclass(frozen=True)
class Feature:
    """group: the bucket; weight: in the meta-metric; low, high, bins: of the histogram over a track's ticks and rollouts, bins 0
    for one yes or no per rollout; vehicles: whether only they count."""

    group: str
    weight: float
    low: float = 0.0
    high: float = 0.0
    bins: int = 0
    vehicles: bool = False


FEATURES: Mapping[str, Feature] = {
    "linear_speed": Feature("kinematic", 0.05, 0.0, 25.0, 10),
    "linear_acceleration": Feature("kinematic", 0.05, -12.0, 12.0, 11),
    "angular_speed": Feature("kinematic", 0.05, -0.628, 0.628, 11),
    "angular_acceleration": Feature("kinematic", 0.05, -3.14, 3.14, 11),
    "distance_to_nearest_object": Feature("interactive", 0.1, -5.0, 40.0, 10),
    "collision": Feature("interactive", 0.25),
    "time_to_collision": Feature("interactive", 0.1, 0.0, 5.0, 10, vehicles=True),
    "distance_to_road_edge": Feature("map_based", 0.05, -20.0, 40.0, 10),
    "offroad": Feature("map_based", 0.25),
    "traffic_light_violation": Feature("map_based", 0.05, vehicles=True),
}
SMOOTHING, YES_NO_SMOOTHING = 0.1, 0.001
"""Pseudocounts that every bin of a histogram, and yes and no, begin with."""
LONGEST = 5.0  # s, of times to collision
FAR = 1e10
ALIGNED, ALIGNED_AT_LITTLE_OVERLAP, LITTLE_OVERLAP = math.radians(75), math.radians(10), 0.5
_VEHICLE = np.array([name in VEHICLES for name in CATEGORIES])
AGENT = np.array([name in (*ON_WHEELS, "pedestrian") for name in CATEGORIES])
"""Categories that are agents: vehicles, cyclists, pedestrians; the others take no part."""


@dataclass(frozen=True)
class Realism:
    """likelihoods: by feature, nan where there is no data; meta: their weighted mean over those there are, groups: the same in
    each bucket; ade, min_ade: m, mean over rollouts and tracks, and of the best rollout; collisions, offroad: shares of simulated
    tracks; agents: tracks scored."""

    likelihoods: Mapping[str, float]
    meta: float
    groups: Mapping[str, float]
    ade: float
    min_ade: float
    collisions: float
    offroad: float
    agents: int


def realism(log: EpisodeTrace, rollouts: Sequence[EpisodeTrace]) -> Realism:
    """Likelihood of the recorded traffic under simulated rollouts of the same ticks.

    log: HISTORY + STEPS rows at 10 Hz of the recording; rollouts: the same, recorded up to row HISTORY - 1 and simulated after
    it. Scored are the agents that exist at that row. The ego takes part as something to keep clear of and is not scored.
    A tick at which a simulated agent is gone adds nothing to its histogram (in the original none may go). A feature without data
    (no map, no traffic lights, no agent that it looks at) is nan, and its weight is left out. Red lights are asked of all agents,
    as in the original, though only vehicles run them.
    """
    chosen = np.flatnonzero(log.valid[HISTORY - 1] & AGENT[log.category])
    truth = _features(log, chosen)
    made = [_features(rollout, chosen) for rollout in rollouts]
    vehicle, valid = _VEHICLE[log.category[chosen]], log.valid[HISTORY:, chosen].T
    rates = {name: float("nan") for name in ("collision", "offroad")}
    likelihoods = {}
    for name, feature in FEATURES.items():
        own, simulated = truth[name], [values for one in made if (values := one[name]) is not None]
        if own is None or not simulated or not len(chosen):
            likelihoods[name] = float("nan")
            continue
        values = np.stack(simulated)  # (R, A, T)
        counts = valid & (vehicle[:, None] if feature.vehicles else True)
        if feature.bins:
            likelihoods[name] = _histogram(feature, own, values, counts & np.isfinite(own))
        else:
            happened, happens = (own > 0) & counts, (values > 0) & counts
            likelihoods[name] = _yes_or_no(happened.any(1), happens.any(2))
            if name in rates:
                rates[name] = float(happens.any(2).mean())
    away = np.array([_displacement(log, rollout, chosen) for rollout in rollouts])  # (R, A)
    groups = {group: _weighted(likelihoods, group) for group in dict.fromkeys(f.group for f in FEATURES.values())}
    known = np.isfinite(away).any() if len(chosen) else False
    ade, best = (float(np.nanmean(away)), float(np.nanmean(away, 1).min())) if known else (float("nan"), float("nan"))
    meta = _weighted(likelihoods, None)
    return Realism(likelihoods, meta, groups, ade, best, rates["collision"], rates["offroad"], len(chosen))


def _weighted(likelihoods: Mapping[str, float], group: str | None) -> float:
    """Weighted mean over the features, of a group or all, that there is data for; nan for none."""
    names = [n for n, f in FEATURES.items() if group in (None, f.group) and not math.isnan(likelihoods[n])]
    total = sum(FEATURES[name].weight for name in names)
    return sum(FEATURES[name].weight * likelihoods[name] for name in names) / total if names else float("nan")


def _histogram(feature: Feature, truth: np.ndarray, values: np.ndarray, counts: np.ndarray) -> float:
    """exp of the mean log-probability of the log's values (A, T), where they count, under each track's values (R, A, T)."""
    if not counts.any():
        return float("nan")
    width = (feature.high - feature.low) / feature.bins

    def bins(of: np.ndarray) -> np.ndarray:
        place = np.floor((np.clip(of, feature.low, feature.high) - feature.low) / width)
        return np.clip(np.nan_to_num(place), 0, feature.bins - 1).astype(int)

    agents = truth.shape[0]
    row = np.broadcast_to(np.arange(agents)[:, None], values.shape)
    there = np.isfinite(values)
    filled = np.full((agents, feature.bins), SMOOTHING)
    np.add.at(filled, (row[there], bins(values)[there]), 1.0)
    share = filled / filled.sum(1, keepdims=True)
    logs = np.log(share[np.arange(agents)[:, None], bins(truth)])
    return float(np.exp(logs[counts].mean()))


def _yes_or_no(happened: np.ndarray, happens: np.ndarray) -> float:
    """exp of the mean log-probability of what happened (A,) under the rollouts' shares of (R, A)."""
    share = (happens.sum(0) + YES_NO_SMOOTHING) / (len(happens) + 2 * YES_NO_SMOOTHING)
    return float(np.exp(np.log(np.where(happened, share, 1 - share)).mean()))


def _displacement(log: EpisodeTrace, rollout: EpisodeTrace, chosen: np.ndarray) -> np.ndarray:
    """(A,) mean distance in metres from the log over the scored ticks that both have, nan for none."""
    both = (log.valid & rollout.valid)[HISTORY:, chosen]
    away = np.linalg.norm(log.position[HISTORY:, chosen] - rollout.position[HISTORY:, chosen], axis=-1)
    count = both.sum(0)
    return np.where(count > 0, np.where(both, away, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def _features(trace: EpisodeTrace, chosen: np.ndarray) -> dict[str, np.ndarray | None]:
    """(A, STEPS) of the chosen tracks by feature, nan where a track does not exist; yes or no as 1 or 0; None without data."""
    valid = trace.valid[:, chosen].T
    position, yaw = trace.position[:, chosen].transpose(1, 0, 2), trace.yaw[:, chosen].T
    found = dict(zip(tuple(FEATURES)[:4], _kinematic(np.where(valid[..., None], position, np.nan), yaw), strict=True))
    nearest = _nearest(trace, chosen)
    edge = _beyond_edge(trace, chosen)
    every: dict[str, np.ndarray | None] = {
        **found,
        "distance_to_nearest_object": nearest,
        "collision": (nearest < 0) * 1.0,
        "time_to_collision": _time_to_collision(trace, chosen),
        "distance_to_road_edge": edge,
        "offroad": None if edge is None else (edge > 0) * 1.0,
        "traffic_light_violation": _red_lights(trace, chosen),
    }
    return {name: None if one is None else np.where(valid, one, np.nan)[:, HISTORY:] for name, one in every.items()}


def _kinematic(position: np.ndarray, yaw: np.ndarray) -> list[np.ndarray]:
    """Speed, its rate, yaw rate and its rate (A, T) by central differences; nan at the ends. position: (A, T, 3)."""
    speed = np.linalg.norm(_central(position), axis=-1) / TICK
    turn = _wrapped(_central(yaw) * 2) / 2
    return [speed, _central(speed) / TICK, turn / TICK, _wrapped(_central(turn) * 2) / 2 / TICK**2]


def _central(values: np.ndarray) -> np.ndarray:
    """(f(t + 1) - f(t - 1)) / 2 along axis 1, nan at the ends."""
    found = np.full(values.shape, np.nan)
    found[:, 1:-1] = (values[:, 2:] - values[:, :-2]) / 2
    return found


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _bodies(trace: EpisodeTrace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centres (T, N + 1, 2), yaws, sizes (N + 1, 2) and existence (T, N + 1) of all agents and, last, of the ego."""
    place = np.concatenate([trace.position[..., :2], trace.center[:, None]], 1)
    yaw = np.concatenate([trace.yaw, trace.ego[:, 2:3]], 1)
    size = np.vstack([trace.size[:, :2], [[trace.vehicle.length, trace.vehicle.width]]])
    there = np.concatenate([trace.valid & AGENT[trace.category], np.ones((len(trace.time), 1), bool)], 1)
    return place, yaw, size, there


def _pairs(trace: EpisodeTrace, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Existing pairs (A, T, N + 1) of chosen tracks and others, and the distances of their centres in metres."""
    place, _, _, there = _bodies(trace)
    pairs = there[None] & there[:, chosen].T[..., None]
    pairs[np.arange(len(chosen)), :, chosen] = False
    return pairs, np.linalg.norm(place[None] - place[:, chosen].swapaxes(0, 1)[:, :, None], axis=-1)


def _nearest(trace: EpisodeTrace, chosen: np.ndarray) -> np.ndarray:
    """(A, T) signed distance in metres to the nearest other body, negative by how far they overlap; FAR for none."""
    place, yaw, size, _ = _bodies(trace)
    pairs, apart = _pairs(trace, chosen)
    reach = np.hypot(size[:, 0], size[:, 1]) / 2
    least = np.where(pairs, apart, np.inf).min(-1, keepdims=True)  # no farther than its centre: what cannot be nearer is left out
    agent, tick, other = np.nonzero(pairs & (apart - reach - reach[chosen][:, None, None] <= least))
    own = chosen[agent]
    mine, theirs = (place[tick, own], yaw[tick, own], size[own]), (place[tick, other], yaw[tick, other], size[other])
    _, offset, within = separations(*mine, *theirs)
    depth = (within - np.abs(offset)).min(0)
    boxes = [shapely.polygons(rectangle_corners(p[:, 0], p[:, 1], turn, s[:, 0], s[:, 1])) for p, turn, s in (mine, theirs)]
    distance = np.where(depth > 0, -depth, shapely.distance(*boxes))
    nearest = np.full(apart.shape[:2], FAR)
    np.minimum.at(nearest, (agent, tick), distance)
    return nearest


def _time_to_collision(trace: EpisodeTrace, chosen: np.ndarray) -> np.ndarray:
    """(A, T) seconds, at most LONGEST, until a track at its speed meets the one ahead of it at its own speed."""
    place, yaw, size, there = _bodies(trace)
    moving = np.where(there.T[..., None], place.swapaxes(0, 1), np.nan)
    speed = np.linalg.norm(_central(moving), axis=-1) / TICK  # (N + 1, T)
    pairs, _ = _pairs(trace, chosen)
    agent, tick, other = np.nonzero(pairs)
    own = chosen[agent]
    turn = np.abs(_wrapped(yaw[tick, other] - yaw[tick, own]))
    cos, sin = np.abs(deterministic.cos(turn)), np.abs(deterministic.sin(turn))
    length, width = size[other, 0] / 2, size[other, 1] / 2
    dx, dy = (place[tick, other] - place[tick, own]).T
    ahead, left = deterministic.cos(yaw[tick, own]), deterministic.sin(yaw[tick, own])
    gap = ahead * dx + left * dy - size[own, 0] / 2 - length * cos - width * sin
    beside = np.abs(ahead * dy - left * dx) - size[own, 1] / 2 - length * sin - width * cos
    follows = (gap > 0) & (turn <= ALIGNED) & (beside < 0)
    follows &= (beside < -LITTLE_OVERLAP) | (turn <= ALIGNED_AT_LITTLE_OVERLAP)
    near = np.full(pairs.shape, FAR)
    near[agent[follows], tick[follows], other[follows]] = gap[follows]
    leader = near.argmin(-1)  # (A, T)
    distance = near.min(-1)
    closing = speed[chosen] - speed[leader, np.arange(leader.shape[1])]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(closing > 0, np.minimum(distance / closing, LONGEST), LONGEST)


def _beyond_edge(trace: EpisodeTrace, chosen: np.ndarray) -> np.ndarray | None:
    """(A, T) metres that the corner farthest out lies beyond the edge of the drivable area, negative within; None without one."""
    if trace.map is None or "drivable_area" in trace.map.missing or trace.map.drivable.is_empty:
        return None
    x, y = np.moveaxis(trace.position[:, chosen, :2], -1, 0)
    length, width = trace.size[chosen, :2].T
    corners = rectangle_corners(x, y, trace.yaw[:, chosen], length, width)  # (T, A, 4, 2)
    away = np.full(corners.shape[:-1], -FAR)
    there = trace.valid[:, chosen]
    points = corners[there].reshape(-1, 2)
    edge = trace.map.drivable.boundary
    shapely.prepare(edge)
    signed = shapely.distance(edge, shapely.points(points)) * np.where(trace.map.on_drivable(points), -1.0, 1.0)
    away[there] = signed.reshape(-1, 4)
    return np.asarray(away.max(-1).T)


def _red_lights(trace: EpisodeTrace, chosen: np.ndarray) -> np.ndarray | None:
    """(A, T) whether a track's front goes over a stop line at red in the tick before; None without traffic lights."""
    if not len(trace.lights):
        return None
    yaw, half = trace.yaw[:, chosen], trace.size[chosen, 0] / 2
    ahead = np.stack([deterministic.cos(yaw), deterministic.sin(yaw)], -1) * half[:, None]
    front = trace.position[:, chosen, :2] + ahead  # (T, A, 2)
    there = trace.valid[1:, chosen] & trace.valid[:-1, chosen]
    tick, agent = np.nonzero(there)
    move, _ = run_at_red(front[tick, agent], front[tick + 1, agent], tick, trace.lights)
    found = np.zeros((len(chosen), len(trace.time)))
    found[agent[move], tick[move] + 1] = 1.0
    return found
