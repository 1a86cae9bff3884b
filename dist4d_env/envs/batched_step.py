"""Turns: what an episode does between two observations, paused where it needs the world's frame, so that many share one call."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from dist4d_env.envs.timing import Stopwatch
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import World, WorldInfo, WorldStart, WorldState


@dataclass(frozen=True)
class Request:
    """What a turn asks of the world. world: a ``WorldStart`` where an episode begins, else the episode's world state."""

    world: WorldStart | WorldState
    truth: SceneAt
    watch: Stopwatch


Answer = tuple[WorldState, RGBDFrame | None, WorldInfo]
"""What the world says to one request: its next state, the frame and how it came about."""

Turn = Generator[Request, Answer, Any]
"""Yields one request, is sent the world's answer and returns what ``reset`` or ``step`` return."""


def play(world: World, turns: Sequence[Turn]) -> list[Any]:
    """Plays N turns with one call of the world for all of them; their results in order.

    What a turn raises before its request is raised before the world is asked and before any episode has changed.
    """
    requests = [next(turn) for turn in turns]
    watch = Stopwatch()
    with watch("world"):
        answers = ask(world, [request.world for request in requests], [request.truth for request in requests])
    for request in requests:
        request.watch.milliseconds["world"] = watch.milliseconds["world"] / len(requests)
    return [_finish(turn, answer) for turn, answer in zip(turns, answers, strict=True)]


def ask(world: World, states: Sequence[WorldStart | WorldState], truths: Sequence[SceneAt]) -> Sequence[Answer]:
    """One step of the world for many episodes; those that begin have a ``WorldStart`` for a state."""
    states = list(states)
    beginning = [index for index, state in enumerate(states) if isinstance(state, WorldStart)]
    if beginning:
        for index, state in zip(beginning, world.reset([states[index] for index in beginning]), strict=True):
            states[index] = state
    return world.step(states, truths)


def _finish(turn: Turn, answer: Answer) -> Any:
    try:
        turn.send(answer)
    except StopIteration as finished:
        return finished.value
    raise RuntimeError("a turn asked the world twice")
