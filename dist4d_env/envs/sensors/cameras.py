"""The sensors "cameras" and "depth": the images of the rig and their metric depth."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.scenes.scene import Scene


class Cameras:
    """One key per camera, by its name: (H, W, 3) uint8 RGB."""

    needs_pictures = True

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """An image for every camera of the rig."""
        self._names = scene.rig.names
        return {name: spaces.Box(0, 255, (*size, 3), np.uint8) for name in scene.rig.names}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The world's frames as they are."""
        for row in now.rows:
            frame = now.frames[row]
            if frame is not None:
                for index, name in enumerate(self._names):
                    out[name][row] = frame.rgb[index]


class Depth:
    """One key per camera, its name and "/depth": (H, W, 1) float32 z-depth in metres, 0 to 100; 100 is sky or beyond."""

    needs_pictures = True

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """A depth image for every camera of the rig."""
        self._keys = [f"{name}/depth" for name in scene.rig.names]
        return {key: spaces.Box(0, FAR, (*size, 1), np.float32) for key in self._keys}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The frames' depth, clipped."""
        for row in now.rows:
            frame = now.frames[row]
            if frame is not None:
                for index, key in enumerate(self._keys):
                    out[key][row] = np.clip(frame.depth[index, ..., None], 0, FAR)
