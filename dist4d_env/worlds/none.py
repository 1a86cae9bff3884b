"""The world without pictures, for planners and policies that need only vectors."""

from __future__ import annotations

from collections.abc import Sequence

from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart


class NoneWorld:
    """Returns no frame at all; trust is 1, as nothing is made up."""

    shows_pictures = False

    def reset(self, starts: Sequence[WorldStart]) -> list[None]:
        """No state to keep."""
        return [None for _ in starts]

    def step(self, states: Sequence[None], scenes: Sequence[SceneAt]) -> list[tuple[None, None, WorldInfo]]:
        """(None, None, info) for each state; what is true in the scenes is not looked at."""
        return [(None, None, WorldInfo((), 0.0, 1.0)) for _ in states]
