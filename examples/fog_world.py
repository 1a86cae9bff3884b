"""A world from outside the package: the frames of another world in fog.

    gym.make("DiST4D-nuScenes-v0", world="examples.fog_world:FogWorld")
    gym.make("DiST4D-nuScenes-v0", world=FogWorld("oracle", visibility=(20.0, 40.0)))

Fog follows Koschmieder's law: of a surface's colour exp(-3.912 d / visibility) is left at a distance d, 2 % at the visibility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist4d_env.geometry.cameras import unproject
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart, world_traits
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import MemoryPolicy

EXTINCTION = 3.912
"""-ln 0.02: what is seen with 2 % of its contrast counts as just visible."""
COLOUR = np.array([206, 210, 214], np.float32)


@dataclass(frozen=True)
class FogState:
    """The other world's state, and how far one sees in this episode, in metres."""

    clear: Any
    visibility: float


class FogWorld:
    """Another world's frames in fog; its depth, sources and trust stay.

    world: a name, ``"module:Class"`` or an object; visibility: metres, between which each episode's is drawn from its seed;
    weights, memory, device: what environments call worlds with.
    """

    def __init__(
        self,
        world: Any = "replay",
        visibility: tuple[float, float] = (30.0, 90.0),
        weights: str = "tiny",
        memory: MemoryPolicy = "log",
        device: str = "auto",
    ) -> None:
        self._world, self._range = make_world(world, weights=weights, memory=memory, device=device), visibility
        traits = world_traits(self._world)
        self.shows_pictures, self.needs_images = traits.shows_pictures, traits.needs_images
        self.image_size, self.size_multiple = traits.image_size, traits.size_multiple

    def reset(self, starts: Sequence[WorldStart]) -> list[FogState]:
        """States of episodes that begin."""
        drawn = [float(np.random.default_rng(start.seed).uniform(*self._range)) for start in starts]
        return [FogState(clear, far) for clear, far in zip(self._world.reset(starts), drawn, strict=True)]

    def step(self, states: Sequence[FogState], scenes: Sequence[SceneAt]) -> list[tuple[FogState, RGBDFrame | None, WorldInfo]]:
        """The other world's frames, all asked for at once, in fog."""
        shown = self._world.step([state.clear for state in states], scenes)
        return [
            (replace(state, clear=clear), None if frame is None else in_fog(frame, state.visibility), info)
            for state, (clear, frame, info) in zip(states, shown, strict=True)
        ]


def in_fog(frame: RGBDFrame, visibility: float) -> RGBDFrame:
    """A frame as it looks where one sees ``visibility`` metres far."""
    distance = np.linalg.norm(unproject(frame.depth, frame.intrinsics), axis=-1)
    left = np.exp(-EXTINCTION / visibility * distance).astype(np.float32)[..., None]
    rgb = np.rint(frame.rgb * left + COLOUR * (1 - left)).astype(np.uint8)
    return replace(frame, rgb=rgb)
