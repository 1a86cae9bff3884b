"""What a world is: given what the simulator says is true now, six-camera RGB-D frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt


@dataclass(frozen=True)
class WorldStart:
    """An episode's beginning. ``rig`` is at the size to render; ``start_time`` bounds what ``memory="history"`` may know."""

    scene: Scene
    rig: CameraRig
    start_time: float
    seed: int


@dataclass(frozen=True)
class WorldInfo:
    """How a frame came about.

    source: per camera "log" | "dist_t" | "dist_s" | "oracle" | "replay" | "splat"; deviation_m: distance of the ego from the
    path the frame was generated on; trust: [0, 1]; timing_ms: per stage.
    """

    source: tuple[str, ...]
    deviation_m: float
    trust: float
    timing_ms: dict[str, float] = field(default_factory=dict)


WorldState = Any
"""An immutable value private to the world; snapshots keep it, restores hand it back."""


class World(Protocol):
    """Batched by nature: the single environment passes lists of one. Both methods are pure in their arguments."""

    def reset(self, starts: Sequence[WorldStart]) -> list[WorldState]: ...

    def step(
        self, states: Sequence[WorldState], scenes: Sequence[SceneAt]
    ) -> Sequence[tuple[WorldState, RGBDFrame | None, WorldInfo]]:
        """The frame at each scene's time and ego pose; the first call after reset shows the episode's first instant."""
        ...
