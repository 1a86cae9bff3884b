"""The contract of worlds: RGB-D frames of the rig's cameras for the state of the simulator."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import LidarPattern
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.registry import WORLDS
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

    source: per camera what made it, such as "log", "dist_t", "dist_s" or "replay"; deviation_m: distance of the ego from the
    path the frame was generated on; trust: [0, 1]; timing_ms: per stage; held_back: share in [0, 1] of what its networks would
    change that they don't, since they didn't help on the scene's own frames.
    """

    source: tuple[str, ...]
    deviation_m: float
    trust: float
    timing_ms: dict[str, float] = field(default_factory=dict)
    held_back: float = 0.0


WorldState = Any
"""An immutable value private to the world; snapshots keep it, restores hand it back."""


class World(Protocol):
    """Batched: the single environment passes lists of one. Both methods are pure in their arguments.

    A world may have the attributes of ``WorldTraits``; ``world_traits`` reads them, with their defaults where they are missing.
    """

    def reset(self, starts: Sequence[WorldStart]) -> list[WorldState]: ...

    def step(
        self, states: Sequence[WorldState], scenes: Sequence[SceneAt]
    ) -> Sequence[tuple[WorldState, RGBDFrame | None, WorldInfo]]:
        """The frame at each scene's time and ego pose; the first call after reset shows the episode's first instant."""
        ...


class MeasuresLidar(Protocol):
    """What a world may offer besides: LiDAR points that are better than those that its RGB-D yields. Pure, like the rest."""

    def lidar(self, states: Sequence[WorldState], scenes: Sequence[SceneAt], pattern: LidarPattern) -> Sequence[np.ndarray]:
        """For each state and what is true at that instant (P, 4): x, y, z in the ego frame in metres, intensity 0 to 255. At most
        one point per beam of the pattern, in firing order."""
        ...


class FollowsEdits(Protocol):
    """What a world may offer, for those who edit a scene while an episode runs; others are stepped from its start again."""

    def edited(self, state: WorldState, start: WorldStart) -> WorldState:
        """The state in which the episode goes on in the edited scene of ``start``, which is its start otherwise. Pure."""
        ...


@dataclass(frozen=True)
class WorldTraits:
    """Capabilities of a world, declared as attributes of the same names on the world.

    shows_pictures: it returns frames, not None; needs_images: a scene can be played only where keyframes have images and depth;
    image_size: the (height, width) it draws unless asked otherwise, None if it has no preference and draws any; size_multiple:
    what the sides of the other sizes that a world with an ``image_size`` draws are divisible by, None if it draws that one alone;
    measures_lidar: it has the method of ``MeasuresLidar``; recalls: its frames depend on those before, through its state; where
    they do not, ``step`` hands back the state that it was given.
    """

    shows_pictures: bool = True
    needs_images: bool = False
    image_size: tuple[int, int] | None = None
    size_multiple: int | None = None
    measures_lidar: bool = False
    recalls: bool = True


def world_traits(world: Any) -> WorldTraits:
    """The traits of a world or, before it is made, of a name or ``"module:Class"`` (``image_size`` is known of worlds alone)."""
    declared = WORLDS.find(world)
    size, multiple = getattr(declared, "image_size", None), getattr(declared, "size_multiple", None)
    if inspect.isclass(declared):  # not made yet: these may be properties
        size, multiple = (None if hasattr(value, "__get__") else value for value in (size, multiple))
    sides = size if isinstance(size, tuple | list) else (size,)
    given = [side for side in (*sides, multiple) if side is not None]
    if any(not isinstance(side, int | np.integer) or side < 1 for side in given) or len(sides) != (1 if size is None else 2):
        raise ConfigError(
            f"world {shown(world)} has image_size={shown(size)} and size_multiple={shown(multiple)}: (height, width) and one "
            "whole number of pixels, or None"
        )
    return WorldTraits(
        bool(getattr(declared, "shows_pictures", True)),
        bool(getattr(declared, "needs_images", False)),
        None if size is None else (int(sides[0]), int(sides[1])),
        multiple,
        callable(getattr(declared, "lidar", None)),
        bool(getattr(declared, "recalls", True)),
    )
