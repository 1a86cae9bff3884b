"""One call of the world for many episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dist4d_env.envs.batched_step import Answer, ask
from dist4d_env.envs.driving import plan_ahead
from dist4d_env.envs.members import Beginning, Member
from dist4d_env.envs.timing import Stopwatch
from dist4d_env.envs.vector_episodes import Episodes
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.vector import VectorSimulator
from dist4d_env.simulation.vector_state import VectorState
from dist4d_env.worlds.contract import WorldStart

_NO_PLAN = np.zeros((0, 3))


class Truths(Sequence[SceneAt]):
    """What is true in some of N episodes, put together where a world looks at it; to another process it goes as a list."""

    def __init__(self, simulator: VectorSimulator, state: VectorState, rows: np.ndarray, foresight: int) -> None:
        self._simulator, self._state, self._rows, self._foresight = simulator, state, rows.tolist(), foresight
        self._known: dict[int, SceneAt] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        row = self._rows[index]
        if row not in self._known:
            simulator = self._simulator.simulators[int(self._state.scene[row])]
            self._known[row] = simulator.scene_at(self._simulator.single(self._state, row), decisions=self._foresight)
        return self._known[row]


def ask_world(
    member: Member,
    episodes: Episodes,
    state: VectorState,
    rows: np.ndarray,
    beginnings: Mapping[int, Beginning],
    watch: Stopwatch,
) -> list[tuple[Answer, np.ndarray]]:
    """What the world says to each of some episodes (K,), and where each ego means to go (P, 3): x, y, heading in the ego frame.

    member: any of them, for what they have in common; state: of all N; beginnings: those of ``rows`` that begin now.
    """
    truths: Sequence[SceneAt] = Truths(episodes.simulator, state, rows, member.foresight)
    plans = [_NO_PLAN] * len(rows)
    if member.foresight:
        with watch("simulation"):
            truths = list(truths)
            plans = [plan_ahead(truth) for truth in truths]
    asked = []
    for row in rows.tolist():
        if row in beginnings:
            begun = beginnings[row]
            scene = begun.room[0]
            asked.append(WorldStart(scene, scene.rig.at_size(*member.image_size), begun.state.time, begun.seeds.noise))
        else:
            asked.append(episodes.played[row].world)
    with watch("world"):
        answers = ask(member.open_world(), asked, truths)
    return list(zip(answers, plans, strict=True))
