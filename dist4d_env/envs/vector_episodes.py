"""The running episodes of N environments as arrays, and each of them as the value it is alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from dist4d_env.envs.driving import Room
from dist4d_env.envs.episode import Episode
from dist4d_env.envs.members import Beginning
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.driving.recording import Recording
from dist4d_env.metrics.driving.running import Running
from dist4d_env.metrics.driving.running_batch import RunningBatch, RunningMetricsBatch, trace_of_arrays
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.agents import AgentArrays, AgentTable, agents_of
from dist4d_env.simulation.ego import ego_rows, ego_state
from dist4d_env.simulation.simulator import Simulator
from dist4d_env.simulation.state import SimState, Ticks
from dist4d_env.simulation.traffic import row_of
from dist4d_env.simulation.vector import VectorSimulator
from dist4d_env.simulation.vector_state import VectorState, VectorTicks
from dist4d_env.worlds.contract import WorldInfo, WorldState

SPARE_SCENES = 256
"""Scenes that are kept though nobody plays in them; beyond that those not in use are let go."""


@dataclass
class Played:
    """What one environment is playing, apart from what is in arrays.

    ego, agents: from the start on, decision by decision, rows (n, 7) and agents (n, M); agents stay empty in replayed traffic,
    where the log knows them.
    """

    scenario: Scenario
    room: Room
    end_time: float
    policy_seed: int
    start: SimState
    ego: list[np.ndarray] = field(default_factory=list)
    agents: list[AgentArrays] = field(default_factory=list)
    world: WorldState = None
    frame: RGBDFrame | None = None
    world_info: WorldInfo = field(default_factory=lambda: WorldInfo((), 0.0, 1.0))
    plan: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    ended_by: str | None = None

    @property
    def replayed(self) -> bool:
        """Whether the traffic is the log's."""
        return self.room[1].config.traffic == "replay"


class Episodes:
    """N running episodes. ``state`` and ``running`` are values; ``played`` is changed in place, one entry per environment."""

    def __init__(self) -> None:
        self.simulator, self.metrics = VectorSimulator(), RunningMetricsBatch()
        self._numbers: dict[int, int] = {}
        self.state: VectorState | None = None
        self.running: RunningBatch | None = None
        self.played: list[Played] = []

    @property
    def now(self) -> VectorState:
        """The state of the N. Only after the first ``begin``."""
        assert self.state is not None
        return self.state

    @property
    def bookkept(self) -> RunningBatch:
        """The bookkeeping of the N. Only after the first ``begin``."""
        assert self.running is not None
        return self.running

    @property
    def values(self) -> dict[str, np.ndarray]:
        """(N,) the running values by name. Only after the first ``begin``."""
        return self.bookkept.values

    def single(self, index: int) -> SimState:
        """One episode's simulator state as it is alone."""
        return self.simulator.single(self.now, index)

    def numbers(self, rooms: Sequence[Room]) -> list[int]:
        """Which scenes of ``simulator`` and ``metrics`` some rooms are; new ones are added."""
        new = {id(room[1]): room for room in rooms if id(room[1]) not in self._numbers}
        if new and len(self._numbers) + len(new) > SPARE_SCENES + len(self.played):
            self._let_go(rooms)
        for key, room in new.items():
            self._numbers[key] = self.simulator.add(room[1])
            self.metrics.add(room[2])
        return [self._numbers[id(room[1])] for room in rooms]

    def _let_go(self, rooms: Sequence[Room]) -> None:
        """Forget the scenes that nobody plays in but those of ``rooms``."""
        kept = {id(room[1]): room for room in (*rooms, *(played.room for played in self.played)) if id(room[1]) in self._numbers}
        self.simulator, self.metrics, self._numbers = VectorSimulator(), RunningMetricsBatch(), {}
        for key, room in kept.items():
            self._numbers[key] = self.simulator.add(room[1])
            self.metrics.add(room[2])
        if self.state is not None:
            scene, tracks = [self._numbers[id(played.room[1])] for played in self.played], max(map(len, self.simulator.tables))
            self.state = replace(self.state.narrowed(tracks), scene=np.array(scene, int))
            self.running = self.bookkept.narrowed(tracks)

    def begun(self, beginnings: Sequence[Beginning]) -> VectorState:
        """The first states of episodes about to begin."""
        scene = self.numbers([beginning.room for beginning in beginnings])
        return self.simulator.gather([beginning.state for beginning in beginnings], scene)

    def restored(self, index: int, episode: Episode, room: Room) -> None:
        """Put an episode that came from elsewhere in the place of one of the N."""
        [number], running = self.numbers([room]), episode.running
        tracks, decisions = len(self.simulator.tables[number]), running.recording.decisions
        played = Played(
            episode.scenario,
            room,
            episode.end_time,
            episode.policy_seed,
            running.recording.start,
            [ego_rows(ticks.ego) for ticks in decisions],
            [],
            episode.world,
            episode.frame,
            episode.world_info,
            episode.plan,
            episode.ended_by,
        )
        if not played.replayed:
            played.agents = [agents_of(ticks.boxes, tracks) for ticks in decisions]
        self.state = self.now.put([index], self.simulator.gather([episode.state], [number]))
        touched = np.zeros((1, tracks), bool)
        touched[0, list(running.touched)] = True
        values = {name: np.array([value]) for name, value in running.values.items()}
        batch = RunningBatch(values, ego_rows([running.ego]), touched, np.array([running.route_position]))
        self.running, self.played[index] = self.bookkept.put(np.array([index]), batch), played

    def begin(self, beginnings: Mapping[int, Beginning], state: VectorState, running: RunningBatch) -> None:
        """Episodes have begun at some environments (at all of them the first time): the state and bookkeeping of all N."""
        for index, beginning in beginnings.items():
            if index == len(self.played):
                self.played.append(_played(beginning))
            else:
                self.played[index] = _played(beginning)
        self.state, self.running = state, running

    def go_on(self, beginnings: Mapping[int, Beginning], state: VectorState, running: RunningBatch, ticks: VectorTicks) -> None:
        """One decision has been played, or an episode has begun, at every environment."""
        self.begin(beginnings, state, running)
        for index, played in enumerate(self.played):
            if index not in beginnings:
                played.ego.append(ticks.ego[index])
                if not played.replayed:
                    played.agents.append(ticks.agents[index])

    def later_trace(self, index: int) -> Callable[[], EpisodeTrace]:
        """What makes the trace of one episode as it is now, whatever is played afterwards."""
        played = self.played[index]
        return partial(_trace, played, self.simulator.tables[self.numbers([played.room])[0]])

    def episode(self, index: int) -> Episode:
        """One episode as the value that its environment would hold alone."""
        played = self.played[index]
        return Episode(
            played.scenario,
            played.end_time,
            played.policy_seed,
            self.single(index),
            played.world,
            played.frame,
            played.world_info,
            self.bookkeeping(index),
            played.plan,
            played.ended_by,
        )

    def bookkeeping(self, index: int) -> Running:
        """One episode's running metrics as ``RunningMetrics`` has them."""
        running, played = self.bookkept, self.played[index]
        return Running(
            values={name: float(value[index]) for name, value in running.values.items()},
            recording=Recording(played.start, tuple(self._decisions(played))),
            ego=ego_state(running.ego[index]),
            touched=frozenset(np.flatnonzero(running.touched[index]).tolist()),
            route_position=float(running.route_position[index]),
        )

    def _decisions(self, played: Played) -> list[Ticks]:
        simulator: Simulator = played.room[1]
        tracks, row, decisions = simulator.scene.tracks, row_of(played.start.time), []
        for place, ego in enumerate(played.ego):
            rows = row + 1 + np.arange(len(ego))
            if played.replayed:
                boxes = tuple(simulator.traffic.start(at)[0] for at in rows.tolist())
            else:
                crowd = played.agents[place][:, : len(tracks)]
                boxes = tuple(crowd[tick].boxes(tracks.category, tracks.size) for tick in range(len(ego)))
            decisions.append(Ticks(rows * TICK, tuple(map(ego_state, ego)), boxes))
            row += len(ego)
        return decisions


def _played(beginning: Beginning) -> Played:
    return Played(beginning.scenario, beginning.room, beginning.end_time, beginning.seeds.policy, beginning.state)


def _trace(played: Played, table: AgentTable) -> EpisodeTrace:
    """An episode so far as arrays, as ``RunningMetrics.trace`` has it."""
    scene, _, metrics = played.room
    first, count = row_of(played.start.time), 1 + sum(map(len, played.ego))
    ego = np.concatenate([ego_rows([played.start.ego]), *played.ego])
    if played.replayed:
        agents = table.rows(first, count)
    else:
        tracks = len(table)
        crowds = [agents_of([played.start.boxes], tracks), *(each[:, :tracks] for each in played.agents)]
        agents = AgentArrays(np.concatenate([c.values for c in crowds], 1), np.concatenate([c.valid for c in crowds]))
    return trace_of_arrays(scene, metrics.vehicle, first + np.arange(count), ego, agents)


def first_instant(state: VectorState, count: int) -> VectorTicks:
    """A state (B,) as ``count`` ticks that are all the same: what an episode that begins has to tell."""
    still = np.zeros(count, int)
    agents = state.agents[:, None][:, still]
    return VectorTicks(np.repeat(state.row[:, None], count, 1), np.repeat(state.ego[:, None], count, 1), agents)


def with_first_instants(ticks: VectorTicks, rows: np.ndarray, state: VectorState) -> VectorTicks:
    """The ticks (N, n) with those of some rows replaced by the first instants of episodes that begin there."""
    began = first_instant(state, ticks.row.shape[1])
    tracks = max(ticks.agents.valid.shape[-1], began.agents.valid.shape[-1])
    agents, new = ticks.agents.widened(tracks), began.agents.widened(tracks)
    row, ego, values, valid = ticks.row.copy(), ticks.ego.copy(), agents.values.copy(), agents.valid.copy()
    row[rows], ego[rows], values[:, rows], valid[rows] = began.row, began.ego, new.values, new.valid
    return VectorTicks(row, ego, AgentArrays(values, valid))
