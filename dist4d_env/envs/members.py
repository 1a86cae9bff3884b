"""One of N environments: an environment of its own whose episode is kept in arrays with the others'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from dist4d_env.envs.driving import DiST4DDrivingEnv, Room
from dist4d_env.envs.episode import Episode, Seeds
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.state import SimState


@dataclass(frozen=True)
class Beginning:
    """An episode about to begin: what is played, where, from which state and streams, until when (seconds)."""

    scenario: Scenario
    room: Room
    seeds: Seeds
    state: SimState
    end_time: float


class Member(DiST4DDrivingEnv):
    """``DiST4DDrivingEnv`` whose episode is only put together when someone asks for it: to render, to take a snapshot.

    It can be restored, reset and stepped by itself as well; ``changed`` then tells that the arrays are behind. ``starts`` draws
    the options of episodes that begin without any, as those do that begin by themselves.
    """

    starts: Callable[[], dict[str, Any]] | None = None

    _own: Episode | None = None
    _look: Callable[[], Episode] | None = None
    changed: bool = False

    @property
    def _episode(self) -> Episode | None:
        if self._own is None and self._look is not None:
            self._own = self._look()
        return self._own

    @_episode.setter
    def _episode(self, episode: Episode | None) -> None:
        self._own, self._look, self.changed = episode, None, True

    def follow(self, look: Callable[[], Episode]) -> None:
        """The episode is now what ``look`` puts together."""
        self._own, self._look, self.changed = None, look, False

    def begin(self, seed: int | None, options: dict[str, Any] | None) -> Beginning:
        """What ``reset`` does before anything is seen: nothing but the random generator has changed yet."""
        gym.Env.reset(self, seed=seed)
        seeds = Seeds.draw(self.np_random)
        if not options and self.starts is not None:
            options = self.starts()
        scenario = self._choose(options or {}, seeds.scenario)
        room = self.room(scenario)
        state = room[1].reset(scenario, seeds.traffic)
        end_time = min(state.time + (scenario.horizon or self.config.horizon), room[0].duration)
        return Beginning(scenario, room, seeds, state, end_time)

    def room(self, scenario: Scenario) -> Room:
        """A scenario's scene with its simulator and metrics."""
        return self._room(scenario)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each reward term."""
        return self._weights

    @property
    def foresight(self) -> int:
        """How many decisions ahead a world or a picture of the plan wants to know."""
        return self._foresight

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the camera images."""
        return self._size
