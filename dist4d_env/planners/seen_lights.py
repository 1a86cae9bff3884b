"""Traffic lights as far as pictures show them: the colour at the places where the map has heads of lamps."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.cameras import project
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN, TrafficLights

REACH = 60.0
"""Metres within which heads are looked at."""
_FACING = 0.4  # cosine of the angle between a head's direction and that to the camera
_HALF_WIDTH, _HALF_HEIGHT = 0.17, 0.56  # m of a head's housing
_NEARER = 1.5  # m by which what the depth image shows must be nearer to hide a head
_VIVID = 40.0  # levels of 255 by which a lit lamp's colour stands out
_AMBER = 0.35  # of its red that a lamp's green has, less its blue, from which on it is amber
_MEMORY = 2.0  # s for which what a light showed is believed where it is out of sight


class SeenLights:
    """The states of a scene's lights, (G,) as ``scenes.lights`` has them, from colour and depth images.

    The map says where heads are and which way they face, pictures alone what they show. A light that none of them shows keeps
    what it showed for ``_MEMORY`` s, then it is unknown.
    """

    def __init__(self, lights: TrafficLights) -> None:
        self._lights = lights
        self._state = np.full(len(lights), UNKNOWN, np.int8)
        self._seen = np.full(len(lights), -np.inf)

    def look(
        self, rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray, time: float
    ) -> np.ndarray:
        """(G,) int8 states. rgb: (V, H, W, 3) uint8; depth: (V, H, W) m; intrinsics: (V, 3, 3); global_from_camera: (V, 4, 4)."""
        found: dict[int, tuple[float, int]] = {}  # the most vivid lamp of each light
        for view in range(len(rgb)):
            for head, vivid, state in self._in_view(rgb[view], depth[view], intrinsics[view], global_from_camera[view]):
                light = int(self._lights.head_light[head])
                found[light] = max(found.get(light, (0.0, UNKNOWN)), (vivid, state))
        for light, (_, state) in found.items():
            self._state[light], self._seen[light] = state, time
        self._state[time - self._seen > _MEMORY] = UNKNOWN
        return self._state.copy()

    def _in_view(
        self, rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray
    ) -> list[tuple[int, float, int]]:
        """Heads that a camera shows lit: their number, how vividly, and the state."""
        heads = self._lights.heads
        middle = apply(invert(pose), heads[:, :3])
        pixel, away = project(middle, intrinsics)
        towards = pose[:2, 3] - heads[:, :2]
        facing = (towards * np.stack([np.cos(heads[:, 3]), np.sin(heads[:, 3])], -1)).sum(1) / np.maximum(
            np.hypot(*towards.T), 1e-3
        )
        result = []
        for head in np.flatnonzero((away > 1.0) & (away < REACH) & (facing > _FACING)):
            focal = intrinsics[0, 0] / away[head]
            (left, top), (right, bottom) = (
                pixel[head] + sign * focal * np.array([_HALF_WIDTH, _HALF_HEIGHT]) for sign in (-1, 1)
            )
            columns, rows = slice(max(int(left), 0), int(right) + 1), slice(max(int(top), 0), int(bottom) + 1)
            colours, shown = rgb[rows, columns].reshape(-1, 3).astype(float), depth[rows, columns].reshape(-1)
            if pixel[head].min() < 0 or not colours.size:
                continue
            colours = colours[np.abs(shown - away[head]) < _NEARER]
            if len(colours):
                vivid, state = lamp_colour(colours)
                if state != UNKNOWN:
                    result.append((int(head), vivid, state))
        return result


def lamp_colour(colours: np.ndarray) -> tuple[float, int]:
    """How vivid the most vivid of colours (P, 3) is, in levels of 255, and the state that it means."""
    red, green, blue = colours.T
    warm, cold = red - blue, green - red
    best_warm, best_cold = int(np.argmax(warm)), int(np.argmax(cold))
    if max(warm[best_warm], cold[best_cold]) < _VIVID:
        return 0.0, UNKNOWN
    if cold[best_cold] >= warm[best_warm]:
        return float(cold[best_cold]), GREEN
    share = (green[best_warm] - blue[best_warm]) / warm[best_warm]
    return float(warm[best_warm]), AMBER if share > _AMBER else RED
