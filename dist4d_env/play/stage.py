"""The stage: the world of a played environment. It draws nothing and keeps what worlds are told, so that any may draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart


@dataclass(frozen=True)
class Seen:
    """One instant of an episode as worlds are told of it. scene: None before the first."""

    start: WorldStart
    scene: SceneAt | None = None


class Stage:
    """A world whose state is the present instant, ``Seen``."""

    shows_pictures = False

    def __init__(self, needs_images: bool) -> None:
        self.needs_images = needs_images

    def reset(self, starts: Sequence[WorldStart]) -> list[Seen]:
        return [Seen(start) for start in starts]

    def step(self, states: Sequence[Seen], scenes: Sequence[SceneAt]) -> list[tuple[Seen, None, WorldInfo]]:
        """The instants, and no frames."""
        return [(Seen(state.start, now), None, WorldInfo((), 0.0, 1.0)) for state, now in zip(states, scenes, strict=True)]
