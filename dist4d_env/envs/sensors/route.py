"""The sensor "route": points of the route ahead in the ego frame."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.scenes.route import AHEAD_COUNT
from dist4d_env.scenes.scene import Scene

ROUTE_REACH = 200.0


class RouteAhead:
    """``"route"`` (20, 2) float32: x, y in the ego frame of the route 2.5, 5, ... 50 m ahead, in metres."""

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """Twenty points."""
        return {"route": spaces.Box(-ROUTE_REACH, ROUTE_REACH, (AHEAD_COUNT, 2), np.float32)}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The points of all episodes."""
        out["route"][...] = np.clip(now.route_ahead, -ROUTE_REACH, ROUTE_REACH)
