"""The worlds that drives are shown by: each is made once, when it is first asked for, and shared by all who drive."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dist4d_env.envs.config import EnvConfig
from dist4d_env.errors import ConfigError
from dist4d_env.registry import WORLDS
from dist4d_env.worlds.contract import World, WorldTraits, world_traits
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import MemoryPolicy

OFFERED = ("dist4d", "splat", "oracle", "replay")
"""What the page offers beside the world that was asked for."""
TRUTH = "oracle"


@dataclass(frozen=True)
class Look:
    """Which world shows a drive, and what it may remember."""

    world: str
    memory: MemoryPolicy = "log"


class Worlds:
    """weights, device: of the generated world."""

    def __init__(self, weights: str = "tiny", device: str = "auto") -> None:
        self.weights, self.device = weights, device
        self._made: dict[Look, World] = {}
        self._lock = threading.Lock()

    def open(self, look: Look) -> World:
        """Raises ConfigError or WeightsError."""
        with self._lock:
            if look not in self._made:
                if not world_traits(WORLDS.check(look.world)).shows_pictures:
                    raise ConfigError(f"world={look.world!r} makes no pictures: choose one of {', '.join(OFFERED)}")
                self._made[look] = make_world(look.world, weights=self.weights, memory=look.memory, device=self.device)
            return self._made[look]

    def size(self, look: Look, size: tuple[int, int] | None) -> tuple[int, int]:
        """Height and width of the pictures where ``size`` is asked for. Raises ConfigError for one that the world cannot draw."""
        traits = self.traits(look)
        config = EnvConfig(world=look.world, weights=self.weights, size=size)
        return config.image_size(traits.image_size, traits.size_multiple)

    def traits(self, look: Look) -> WorldTraits:
        """Those of an open world."""
        return world_traits(self.open(look))

    @property
    def open_looks(self) -> tuple[Look, ...]:
        """What has been opened."""
        return tuple(self._made)

    def forget(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._made.clear()
