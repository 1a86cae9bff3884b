"""The client of a world service: a world like any other, whose models run in Ray actors."""

from __future__ import annotations

import itertools
import os
import pickle
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.geometry.lidar import LidarPattern
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart
from dist4d_env.worlds.service.actors import (
    NAMESPACE,
    Description,
    LidarReply,
    Rejected,
    Served,
    StateUnknown,
    StepReply,
    StepRequest,
    actor_name,
)
from dist4d_env.worlds.service.state_parts import Packed, pack

PAUSE = 0.05
"""Seconds before a request that was rejected, or whose actor is gone, is sent again."""


class ServiceError(DiST4DError):
    """A world service does not answer, or not in time."""


def service_timeout() -> float:
    """Seconds to wait for a service's answer: ``$DIST4D_SERVICE_TIMEOUT``, default 120. Raises ConfigError."""
    text = os.environ.get("DIST4D_SERVICE_TIMEOUT", "120")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"DIST4D_SERVICE_TIMEOUT must be a positive number of seconds, not {text!r}")
    return seconds


@dataclass(frozen=True, eq=False)
class RemoteState:
    """A world's state as its environment holds it: complete, so that any actor of the service can go on from it.

    key: the name under which the actor ``home`` may still know it; begun: whether it was ever there.
    """

    key: str
    home: int
    packed: Packed
    begun: bool = True


class RemoteWorld:
    """A world that a service shows (``worlds.service.actors``); frames and states are those of the world in this process.

    Actors that die and come back, or that are busy, only cost time: requests under way are sent again, with the states in full
    where the actor has forgotten them. Worlds are pure, so that a request sent twice changes nothing.
    """

    def __init__(self, name: str, served: Served, timeout: float | None = None) -> None:
        """Connect to a service. timeout: seconds for a call of ``step``, None: ``service_timeout()``.

        Raises ConfigError without Ray, where there is none of this name or it serves another world, ServiceError where it does
        not answer.
        """
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"service={name!r} needs Ray: pip install 'dist4d_env[rllib]', or leave service out") from error

        timeout = service_timeout() if timeout is None else timeout
        if not ray.is_initialized():
            try:
                ray.init(address="auto", namespace=NAMESPACE, log_to_driver=False)
            except ConnectionError as error:
                raise ConfigError(f"service={name!r}: no Ray cluster is running; start one and serve_world({name!r})") from error
        self.name, self.timeout = name, timeout
        first = self._actor(0)
        try:
            about: Description = ray.get(first.describe.remote(), timeout=timeout)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            raise ServiceError(f"the world service {name!r} does not answer ({type(error).__name__}): look at its log") from error
        for keyword in ("world", "weights", "memory"):
            asked, there = getattr(served, keyword), getattr(about.served, keyword)
            if asked != there:
                raise ConfigError(f"service={name!r} serves {keyword}={there!r}, not {asked!r}: ask for what it serves")
        traits = about.traits
        self.shows_pictures, self.needs_images = traits.shows_pictures, traits.needs_images
        self.image_size, self.size_multiple = traits.image_size, traits.size_multiple
        if traits.measures_lidar:
            self.lidar = self._lidar
        self._actors = [first, *(self._actor(index) for index in range(1, about.actors))]
        mine, numbers = uuid.uuid4().hex[:12], itertools.count()
        self._new_key = lambda: f"{mine}-{next(numbers)}"
        self._next_home = int(mine, 16) % about.actors

    def reset(self, starts: Sequence[WorldStart]) -> list[RemoteState]:
        """States that have not begun: the service begins them with the first step, which raises what ``reset`` would."""
        states = []
        for start in starts:
            states.append(RemoteState(self._new_key(), self._next_home, pack(start, self._new_key)[0], begun=False))
            self._next_home = (self._next_home + 1) % len(self._actors)
        return states

    def step(
        self, states: Sequence[RemoteState], scenes: Sequence[SceneAt]
    ) -> list[tuple[RemoteState, RGBDFrame | None, WorldInfo]]:
        """One frame per state. Raises ServiceError where the service is gone or does not answer in time."""
        answers = self._answers(states, scenes)
        return [_taken(state, *answers[row]) for row, state in enumerate(states)]

    def _lidar(self, states: Sequence[RemoteState], scenes: Sequence[SceneAt], pattern: LidarPattern) -> list[np.ndarray]:
        """The points that the served world measures, see ``worlds.contract.MeasuresLidar``."""
        answers = self._answers(states, scenes, pattern)
        return [answers[row][1].values for row in range(len(states))]

    def _answers(
        self, states: Sequence[RemoteState], scenes: Sequence[SceneAt], pattern: LidarPattern | None = None
    ) -> dict[int, tuple[int, Any]]:
        """By row the actor that answered, and its answer."""
        deadline = time.monotonic() + self.timeout
        pending = _PendingRequests(self._actors, states, scenes, pattern)
        while not pending.ask(deadline):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"the world service {self.name!r} did not answer within {self.timeout:g} s: {pending.obstacle}; serve it "
                    "with more actors, or allow more time"
                )
            if pending.obstacle:
                time.sleep(PAUSE)
        return pending.answers

    def _actor(self, index: int) -> Any:
        import ray

        try:
            return ray.get_actor(actor_name(self.name, index), namespace=NAMESPACE)
        except ValueError as error:
            raise ConfigError(f"there is no world service {self.name!r} on this Ray cluster: start it by serve_world") from error


class _PendingRequests:
    """Requests about some states until all are answered. homes: the actor that each is put to; in_full: rows whose state is sent
    whole; answers: by row, with the actor that gave it; obstacle: why some are open, empty for no reason."""

    def __init__(
        self, actors: Sequence[Any], states: Sequence[RemoteState], scenes: Sequence[SceneAt], pattern: LidarPattern | None
    ) -> None:
        self.actors, self.states, self.scenes, self.pattern = actors, states, scenes, pattern
        self.homes = [state.home for state in states]
        self.in_full = {row for row, state in enumerate(states) if not state.begun}
        self.answers: dict[int, tuple[int, StepReply | LidarReply]] = {}
        self.obstacle = ""

    def ask(self, deadline: float) -> bool:
        """Puts what is open to all actors at once and waits for them; whether everything is answered now.

        Raises what the world raised.
        """
        self.obstacle, calls = "", []
        for home in dict.fromkeys(self.homes):
            rows = [row for row, at in enumerate(self.homes) if at == home and row not in self.answers]
            if rows:
                timeout = max(deadline - time.monotonic(), 0.001)
                calls.append((rows, self.actors[home].step.remote([self._request(row) for row in rows], timeout)))
        for rows, reference in calls:
            for row, reply in zip(rows, self._replies(rows, reference, deadline), strict=True):
                if isinstance(reply, StepReply | LidarReply):
                    self.answers[row] = self.homes[row], reply
                elif isinstance(reply, StateUnknown):
                    self.in_full.add(row)
                elif isinstance(reply, Rejected):
                    self.obstacle = self.obstacle or "it is busy"
                else:
                    raise reply
        return len(self.answers) == len(self.states)

    def _request(self, row: int) -> StepRequest:
        state = self.states[row]
        return StepRequest(state.key, state.packed if row in self.in_full else None, self.scenes[row], self.pattern)

    def _replies(
        self, rows: list[int], reference: Any, deadline: float
    ) -> Sequence[StepReply | LidarReply | StateUnknown | Rejected | Exception]:
        """One for each row. Where an actor has died, the others of the service are asked next if it does not come back."""
        import ray

        try:
            replies = ray.get(reference, timeout=max(deadline - time.monotonic(), 0.001))
        except ray.exceptions.GetTimeoutError:
            replies = Rejected()
        except ray.exceptions.RayActorError as error:
            self.obstacle, replies = f"an actor has died ({type(error).__name__})", Rejected()
            self.in_full.update(rows)
            if isinstance(error, ray.exceptions.ActorDiedError):
                for row in rows:
                    self.homes[row] = (self.homes[row] + 1) % len(self.actors)
        return [replies] * len(rows) if isinstance(replies, Rejected) else replies


def _taken(before: RemoteState, home: int, reply: StepReply) -> tuple[RemoteState, RGBDFrame | None, WorldInfo]:
    """The state that follows, whole, and the frame, which leads to nothing: it can be read without the rest."""
    packed = reply.state.completed(before.packed.parts)
    frame: RGBDFrame | None = None if reply.shown is None else pickle.loads(packed.parts[reply.shown].content)
    return RemoteState(reply.key, home, packed), frame, reply.info
