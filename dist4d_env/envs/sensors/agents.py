"""The sensor "agents": the nearest agents in the ego frame, padded."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.scenes.scene import Scene

AGENTS = 64
AGENT_RADIUS = 100.0
AGENT_LOW = np.array([-AGENT_RADIUS, -AGENT_RADIUS, -np.pi, 0, 0, -70, -70, 0, 0], np.float32)
AGENT_HIGH = np.array([AGENT_RADIUS, AGENT_RADIUS, np.pi, 40, 20, 70, 70, len(CATEGORIES) - 1, 1], np.float32)


class Agents:
    """``"agents"`` (64, 9) float32: the nearest within 100 m, nearest first, padded with zeros; ``DiST4DDrivingEnv`` has the
    table of the columns."""

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """64 rows of bounded numbers."""
        return {"agents": spaces.Box(np.tile(AGENT_LOW, (AGENTS, 1)), np.tile(AGENT_HIGH, (AGENTS, 1)), dtype=np.float32)}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The rows of all episodes."""
        x, y, yaw = now.ego[:, :3].T[..., None]
        values, valid, observed = now.agents.values, now.agents.valid, out["agents"]
        cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
        dx, dy, (vx, vy) = values[0] - x, values[1] - y, values[4:]
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        distance = np.where(valid, np.hypot(ahead, left), np.inf)
        order = np.argsort(distance, axis=1, kind="stable")[:, :AGENTS]
        tracks = valid.shape[1]
        columns = np.empty((*distance.shape, len(AGENT_LOW)))
        columns[..., 0], columns[..., 1], columns[..., 2] = ahead, left, wrap_angle(values[3] - yaw)
        columns[..., 3:5] = now.size[:, :tracks, :2]
        columns[..., 5], columns[..., 6] = cos * vx + sin * vy, cos * vy - sin * vx
        columns[..., 7], columns[..., 8] = now.category[:, :tracks], 1.0
        rows = np.arange(len(valid))[:, None]
        near = distance[rows, order] < AGENT_RADIUS
        count = order.shape[1]
        observed[:, :count] = np.where(near[..., None], np.clip(columns[rows, order], AGENT_LOW, AGENT_HIGH), 0.0)
        observed[:, count:] = 0.0
