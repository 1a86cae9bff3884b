"""The sensor "ego": the ego's speed, accelerations, place on its route, and command."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.ego import ACCELERATION, SPEED, STEERING, YAW, YAW_RATE

EGO_LOW = np.array([0, -20, -20, -5, -2, -50, -np.pi, 0, -1, 0], np.float32)
EGO_HIGH = np.array([70, 20, 20, 5, 2, 50, np.pi, 70, 1, 1000], np.float32)
TURN = np.radians(20)
"""Heading change of the route over the next 25 m from which the command reads left or right."""


class Ego:
    """``"ego"`` (10,) float32; ``DiST4DDrivingEnv`` has the table of its columns."""

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """Ten bounded numbers."""
        return {"ego": spaces.Box(EGO_LOW, EGO_HIGH, dtype=np.float32)}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The ten numbers of all episodes."""
        ego, values = now.ego, now.running.values
        heading, limit = now.routes.heading(now.state.scene, now.running.route_position), values["speed_limit"]
        features = [
            ego[:, SPEED],
            ego[:, ACCELERATION],
            ego[:, SPEED] * ego[:, YAW_RATE],
            ego[:, YAW_RATE],
            ego[:, STEERING],
            values["route_offset"],
            wrap_angle(ego[:, YAW] - heading),
            np.where(np.isnan(limit), 0.0, limit),
            commands(now.route_ahead),
            now.end_time - now.state.time,
        ]
        out["ego"][...] = np.clip(np.stack(features, 1).astype(np.float32), EGO_LOW, EGO_HIGH)


def commands(route_ahead: np.ndarray) -> np.ndarray:
    """(N,) -1 right, 0 straight on, 1 left: how the routes (N, 20, 2) turn over the next 25 m."""
    step = np.diff(route_ahead[:, [0, 1, 9, 10]], axis=1)
    turn = wrap_angle(deterministic.arctan2(step[:, 2, 1], step[:, 2, 0]) - deterministic.arctan2(step[:, 0, 1], step[:, 0, 0]))
    return np.sign(turn) * (np.abs(turn) > TURN)
