"""The observations of N episodes, written into arrays of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dist4d_env.envs.observations import (
    EGO_HIGH,
    EGO_LOW,
    ROUTE_REACH,
    TURN,
    agent_features_batch,
    bev_raster,
)
from dist4d_env.envs.vector_episodes import Episodes
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.cameras import RING
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.simulation.ego import ACCELERATION, SPEED, STEERING, YAW, YAW_RATE, X, Y

Observations = dict[str, np.ndarray]


def write_vectors(out: Observations, episodes: Episodes, end_time: np.ndarray) -> np.ndarray:
    """Fills in "ego" (N, 10), "route" (N, 20, 2) and "agents" (N, 64, 9), as far as ``out`` has them, as ``Observer`` makes each.

    Returns the route ahead of each (N, 20, 2) in metres. end_time: (N,) seconds, when each episode is over.
    """
    state, running, metrics = episodes.now, episodes.bookkept, episodes.metrics
    ego, scene = state.ego, state.scene
    route_ahead = metrics.routes.ahead(scene, ego[:, X], ego[:, Y], ego[:, YAW], running.route_position)
    if "ego" in out:
        heading, limit = metrics.routes.heading(scene, running.route_position), running.values["speed_limit"]
        features = [
            ego[:, SPEED],
            ego[:, ACCELERATION],
            ego[:, SPEED] * ego[:, YAW_RATE],
            ego[:, YAW_RATE],
            ego[:, STEERING],
            running.values["route_offset"],
            wrap_angle(ego[:, YAW] - heading),
            np.where(np.isnan(limit), 0.0, limit),
            _commands(route_ahead),
            end_time - state.time,
        ]
        out["ego"][...] = np.clip(np.stack(features, 1).astype(np.float32), EGO_LOW, EGO_HIGH)
    if "route" in out:
        out["route"][...] = np.clip(route_ahead, -ROUTE_REACH, ROUTE_REACH)
    if "agents" in out:
        size, category = episodes.simulator.bodies(scene)
        tracks = state.agents.valid.shape[1]
        agent_features_batch(out["agents"], state.agents, size[:, :tracks], category[:, :tracks], ego)
    return route_ahead


def write_pictures(out: Observations, rows: Sequence[int], episodes: Episodes, route_ahead: np.ndarray) -> None:
    """Fills in images, depth and "bev" of some episodes, as far as ``out`` has them. route_ahead: from ``write_vectors``."""
    for row in rows:
        frame = episodes.played[row].frame
        for index, name in enumerate(RING):
            if name in out and frame is not None:
                out[name][row] = frame.rgb[index]
            if f"{name}/depth" in out and frame is not None:
                out[f"{name}/depth"][row] = np.clip(frame.depth[index, ..., None], 0, FAR)
        if "bev" in out:
            out["bev"][row] = bev_raster(episodes.played[row].room[0], episodes.single(row), route_ahead[row])


def _commands(route_ahead: np.ndarray) -> np.ndarray:
    """(N,) -1 right, 0 straight on, 1 left: how the routes (N, 20, 2) turn over the next 25 m."""
    step = np.diff(route_ahead[:, [0, 1, 9, 10]], axis=1)
    turn = wrap_angle(deterministic.arctan2(step[:, 2, 1], step[:, 2, 0]) - deterministic.arctan2(step[:, 0, 1], step[:, 0, 0]))
    return np.sign(turn) * (np.abs(turn) > TURN)
