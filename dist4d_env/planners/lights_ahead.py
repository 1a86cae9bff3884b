"""Traffic lights on a planner's route: how far it may go as they are now."""

from __future__ import annotations

import numpy as np

from dist4d_env.scenes.lights import must_stop
from dist4d_env.scenes.scene import Scene


class LightsAhead:
    """The stop lines with traffic lights that a scene's route goes over."""

    def __init__(self, scene: Scene) -> None:
        self._at, self._light = scene.lights.met(scene.route.points)

    def free(self, lights: np.ndarray, front: float, speed: float, braking: float, hardest: float) -> float:
        """Metres from a front bumper at arc length ``front`` to the nearest line that it has to stop at by what the lights (G,)
        show now, infinite without one. braking, hardest: as in ``must_stop``."""
        if not len(self._at) or not len(lights):
            return np.inf
        ahead = self._at - front
        return float(ahead[must_stop(lights[self._light], ahead, speed, braking, hardest)].min(initial=np.inf))
