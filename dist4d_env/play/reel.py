"""A world along one drive: its state at any instant is as if it had been stepped from the episode's start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist4d_env.envs.world_checks import checked_answer, one_for_each
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.play.stage import Seen
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import World, WorldInfo, WorldState, world_traits

KEPT_EVERY, KEPT = 8, 24
"""Of the states that a world has gone through every so manieth is kept, at most so many, and the last."""

_one_at_a_time = threading.Lock()
"""A world uses all cores; several at once would only wait for each other."""


@dataclass(frozen=True)
class Frame:
    """What a world shows of one instant."""

    rgbd: RGBDFrame
    info: WorldInfo


class Reel:
    """``at(instants)`` is the frame of the last of the instants that a world has been asked for, in order. Only what is not known
    from the call before is stepped again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._recalls, self._edited = world_traits(world).recalls, getattr(world, "edited", None)
        self._seen: list[Seen] = []
        self._states: dict[int, WorldState] = {}  # by how many instants the world has seen
        self._last: Frame | None = None

    def copy(self) -> Reel:
        """Another one that knows as much and goes on by itself."""
        twin = Reel(self.world)
        twin._seen, twin._states, twin._last = list(self._seen), dict(self._states), self._last
        return twin

    def at(self, instants: Sequence[Seen], progress: Callable[[int, int], None] = lambda done, total: None) -> Frame:
        """progress: called with how many of how many steps are done, before each; what it raises stops the work."""
        instants = list(instants) if self._recalls else [instants[-1]]
        if self._edited is None:  # what has been edited is stepped from the start again
            instants = [replace(each, start=instants[-1].start) for each in instants]
        same = 0
        while same < min(len(instants), len(self._seen)) and _same(instants[same], self._seen[same]):
            same += 1
        if same == len(self._seen) == len(instants) and self._last is not None:
            return self._last
        known = max((count for count in self._states if count <= min(same, len(instants) - 1)), default=0)
        started = {0} if self._seen and self._seen[0].start is instants[0].start else set()
        self._states = {count: state for count, state in self._states.items() if 0 < count <= known or count in started}
        self._seen, self._last = self._seen[:known], None
        for count in range(known, len(instants)):
            progress(count - known, len(instants) - known)
            self._last = self._step(count, instants)
        assert self._last is not None
        return self._last

    def look(self, offset: np.ndarray) -> Frame:
        """The instant of the last call seen from elsewhere, which changes nothing. offset: (4, 4) ego_from_viewer."""
        now = self._seen[-1].scene
        assert now is not None
        nothing: dict[str, Any] = {
            "anticipated_time": np.zeros(0),
            "anticipated_pose": np.zeros((0, 4, 4)),
            "anticipated_boxes": (),
        }
        elsewhere = replace(now, global_from_ego=now.global_from_ego @ offset, anticipated_lights=None, **nothing)
        return self._ask(self._states[len(self._seen)], elsewhere, self._seen[-1])[1]

    def _step(self, count: int, instants: Sequence[Seen]) -> Frame:
        """From the state after ``count`` instants to the next."""
        now = instants[count]
        assert now.scene is not None
        if count not in self._states:
            with _one_at_a_time:
                [self._states[count]] = one_for_each([now], self.world.reset([now.start]), "reset")
        state = self._states[count]
        if count and now.start is not instants[count - 1].start and self._edited is not None:
            state = self._edited(state, now.start)
        after, frame = self._ask(state, now.scene, now)
        self._seen.append(now)
        self._states[count + 1] = after
        if count % KEPT_EVERY:
            del self._states[count]
        for old in sorted(self._states)[1:-KEPT]:
            del self._states[old]
        return frame

    def _ask(self, state: WorldState, scene: SceneAt, now: Seen) -> tuple[WorldState, Frame]:
        rig = now.start.rig
        expected = len(rig.names), rig.height, rig.width
        with _one_at_a_time:
            [answer] = one_for_each([scene], self.world.step([state], [scene]), "step")
        after, rgbd, info = checked_answer(answer, expected)
        assert rgbd is not None
        return after, Frame(rgbd, info)


def _same(one: Seen, other: Seen) -> bool:
    return one.scene is other.scene and one.start is other.start
