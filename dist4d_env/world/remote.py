"""The client of a world service: a world like any other, whose models run in Ray actors."""

from __future__ import annotations

import itertools
import os
import pickle
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.world.contract import SceneAt, WorldInfo, WorldStart
from dist4d_env.world.remote_parts import Packed, Part, pack
from dist4d_env.world.service import NAMESPACE, Description, Question, Refused, Reply, Served, Unknown, actor_name

PAUSE = 0.05
"""Seconds before a question that was refused, or whose actor is gone, is asked again."""


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
    """A world that a service shows (``dist4d_env.world.service``); frames and states are those of the world in this process.

    Actors that die and come back, or that are busy, only cost time: what was under way is asked again, with the states in full
    where the actor has forgotten them. Worlds are pure, so that asking twice changes nothing.
    """

    def __init__(self, name: str, served: Served, timeout: float | None = None) -> None:
        """Connect to a service. timeout: seconds for a call of ``step``, None: ``service_timeout()``.

        Raises ConfigError where there is none of this name or it serves another world, ServiceError where it does not answer.
        """
        import ray

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
        self.image_size = about.image_size
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
        import ray

        deadline = time.monotonic() + self.timeout
        homes = [state.home for state in states]
        in_full = {row for row, state in enumerate(states) if not state.begun}
        answers: dict[int, tuple[RemoteState, RGBDFrame | None, WorldInfo]] = {}
        hurdle = "it is slow"
        while len(answers) < len(states):
            calls: list[tuple[int, list[int], Any]] = []
            for home in dict.fromkeys(homes):
                rows = [row for row, at in enumerate(homes) if at == home and row not in answers]
                if rows:
                    questions = [
                        Question(states[row].key, states[row].packed if row in in_full else None, scenes[row]) for row in rows
                    ]
                    calls.append((home, rows, self._ask(home, questions, deadline)))
            pause = False
            for home, rows, reference in calls:
                try:
                    replies = ray.get(reference, timeout=max(deadline - time.monotonic(), 0.001))
                except ray.exceptions.GetTimeoutError:
                    replies = Refused()
                except ray.exceptions.RayActorError as error:
                    in_full.update(rows)
                    hurdle, pause, replies = f"an actor has died ({type(error).__name__})", True, None
                    if isinstance(error, ray.exceptions.ActorDiedError):  # for good
                        for row in rows:
                            homes[row] = (home + 1) % len(self._actors)
                for row, reply in zip(rows, replies if isinstance(replies, list) else [replies] * len(rows), strict=True):
                    if isinstance(reply, Reply):
                        answers[row] = self._taken(states[row], homes[row], reply)
                    elif isinstance(reply, Unknown):
                        in_full.add(row)
                    elif isinstance(reply, Refused):
                        hurdle, pause = "it is busy", True
                    elif isinstance(reply, Exception):
                        raise reply
            if len(answers) < len(states) and time.monotonic() > deadline:
                raise ServiceError(
                    f"the world service {self.name!r} did not answer within {self.timeout:g} s: {hurdle}; serve it with more "
                    "actors, or allow more time"
                )
            if pause:
                time.sleep(PAUSE)
        return [answers[row] for row in range(len(states))]

    def _ask(self, home: int, questions: list[Question], deadline: float) -> Any:
        return self._actors[home].step.remote(questions, max(deadline - time.monotonic(), 0.001))

    def _taken(self, before: RemoteState, home: int, reply: Reply) -> tuple[RemoteState, RGBDFrame | None, WorldInfo]:
        """The state that follows, whole, and the frame."""
        packed = reply.state.completed(before.packed.parts)
        frame = None if reply.shown is None else _frame(packed.parts, reply.shown)
        return RemoteState(reply.key, home, packed), frame, reply.info

    def _actor(self, index: int) -> Any:
        import ray

        try:
            return ray.get_actor(actor_name(self.name, index), namespace=NAMESPACE)
        except ValueError as error:
            raise ConfigError(f"there is no world service {self.name!r} on this Ray cluster: start it by serve_world") from error


def _frame(parts: Mapping[str, Part], key: str) -> RGBDFrame:
    """A frame leads to nothing: it can be read without the rest of the state."""
    frame: RGBDFrame = pickle.loads(parts[key].content)
    return frame
