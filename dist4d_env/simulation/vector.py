"""The simulator of many episodes at once, in any mix of scenes: arrays, each bit for bit as ``Simulator`` steps it alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Tracks
from dist4d_env.simulation.agents import AgentArrays, AgentTable, agents_of, logged_agents
from dist4d_env.simulation.batch import advance_rows, track_rows
from dist4d_env.simulation.commands import Commands, parse_actions
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.simulation.idm_batch import Fleet
from dist4d_env.simulation.rows import STEERING, ego_rows, ego_state
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.state import SimState
from dist4d_env.simulation.traffic import row_of
from dist4d_env.simulation.vector_state import VectorState, VectorTicks
from dist4d_env.simulation.vehicle import VehicleDynamics


class VectorSimulator:
    """Many episodes over the scenes of some simulators, replayed or reactive traffic, all else of their configurations equal.

    Like ``Simulator`` it holds no episode: ``reset``, ``branch`` and ``gather`` make states, ``step`` and ``execute`` give the
    next ones and change nothing, ``single`` gives back one episode's own.
    """

    def __init__(self, simulators: Iterable[Simulator] = ()) -> None:
        self.simulators: list[Simulator] = []
        self.tables: list[AgentTable] = []
        self._reacts = np.zeros(0, bool)
        self._fleet: Fleet | None = None
        self._bodies: tuple[np.ndarray, np.ndarray] | None = None
        for simulator in simulators:
            self.add(simulator)

    def add(self, simulator: Simulator) -> int:
        """One more scene to play in; its number. ConfigError if it is configured differently from the others."""
        if self.simulators and replace(simulator.config, traffic=self.config.traffic) != self.config:
            raise ConfigError("simulators of different configurations cannot be stepped together: make all of them alike")
        self.simulators.append(simulator)
        self.tables.append(AgentTable(simulator.scene.tracks))
        self._reacts = np.append(self._reacts, isinstance(simulator.traffic, IdmTraffic))
        self._fleet = self._bodies = None
        return len(self.simulators) - 1

    @property
    def config(self) -> SimulatorConfig:
        """The configuration that all scenes share but for their traffic."""
        return self.simulators[0].config

    def bodies(self, scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Size (B, M, 3) and category (B, M) of all tracks of each episode's scene, zero where it has fewer."""
        if self._bodies is None:
            tracks = max(map(len, self.tables))
            size, category = np.zeros((len(self.tables), tracks, 3)), np.zeros((len(self.tables), tracks), np.int8)
            for row, table in enumerate(self.tables):
                size[row, : len(table)], category[row, : len(table)] = table.size, table.category
            self._bodies = size, category
        return self._bodies[0][scene], self._bodies[1][scene]

    def reset(self, scene: Sequence[int], starts: Sequence[Any]) -> VectorState:
        """Episodes that begin: the numbers of their scenes and, for each, what ``Simulator.reset`` takes."""
        return self.gather([self.simulators[i].reset(start) for i, start in zip(scene, starts, strict=True)], scene)

    def branch(self, state: SimState, count: int, scene: int = 0) -> VectorState:
        """``count`` copies of one episode's state, to be driven by different actions."""
        return self.gather([state], [scene]).take(np.zeros(count, int))

    def gather(self, states: Sequence[SimState], scene: Sequence[int]) -> VectorState:
        """Episodes from their own states; scene: the number of each one's scene."""
        tracks = max((len(table) for table in self.tables), default=0)
        position, speed = np.zeros((len(states), tracks)), np.zeros((len(states), tracks))
        for row, state in enumerate(states):
            position[row, : len(state.path_position)] = state.path_position
            speed[row, : len(state.path_speed)] = state.path_speed
        return VectorState(
            scene=np.array(scene, int),
            tick=np.array([state.tick for state in states], int),
            row=np.array([row_of(state.time) for state in states], int),
            ego=ego_rows([state.ego for state in states]),
            agents=agents_of([state.boxes for state in states], tracks),
            path_position=position,
            path_speed=speed,
            decided=tuple(None if state.command is None else (Commands.of([state.command]), 0) for state in states),
        )

    def single(self, state: VectorState, index: int) -> SimState:
        """One episode's state by itself, as ``Simulator`` has it."""
        table = self.tables[int(state.scene[index])]
        return SimState(
            tick=int(state.tick[index]),
            time=int(state.row[index]) * TICK,
            ego=ego_state(state.ego[index]),
            boxes=state.agents[index, : len(table)].boxes(table.category, table.size),
            path_position=state.path_position[index, : len(table)],
            path_speed=state.path_speed[index, : len(table)],
            command=state.command(index),
        )

    def step(self, state: VectorState, actions: Any) -> tuple[VectorState, VectorTicks]:
        """One decision each: actions (B, ...) of the configured kind. ActionError, naming what is wrong, for a bad one."""
        return self.execute(state, parse_actions(self.config.action, actions, state.ego, state.tick))

    def execute(self, state: VectorState, commands: Commands) -> tuple[VectorState, VectorTicks]:
        """``step`` for commands that are already in physical units."""
        ticks, config, count = self.config.ticks_per_decision, self.config, len(state)
        rows = state.row[:, None] + np.arange(1, ticks + 1)
        reacts = self._reacts[state.scene]
        if not reacts.any():
            position, speed = state.path_position, state.path_speed
            egos = drive(state.ego, commands, state.tick, ticks, config.vehicle, config.dynamics)
            agents = self._replayed(state.scene, state.row + 1, ticks, position.shape[1])
        elif reacts.all():
            egos, agents, position, speed = self._react(state, commands)
        else:
            egos, agents = np.empty((count, ticks, 7)), AgentArrays.empty(count, ticks, state.path_position.shape[1])
            position, speed = state.path_position.copy(), state.path_speed.copy()
            for chosen in (np.flatnonzero(~reacts), np.flatnonzero(reacts)):
                part, happened = self.execute(state.take(chosen), commands.take(chosen))
                egos[chosen], agents.values[:, chosen], agents.valid[chosen] = (
                    happened.ego,
                    happened.agents.values,
                    happened.agents.valid,
                )
                position[chosen], speed[chosen] = part.path_position, part.path_speed
        after = VectorState(
            scene=state.scene,
            tick=state.tick + ticks,
            row=rows[:, -1],
            ego=egos[:, -1],
            agents=agents[:, -1],
            path_position=position,
            path_speed=speed,
            decided=tuple((commands, index) for index in range(count)),
        )
        return after, VectorTicks(rows, egos, agents)

    def _react(self, state: VectorState, commands: Commands) -> tuple[np.ndarray, AgentArrays, np.ndarray, np.ndarray]:
        """Egos (B, n, 7), agents (B, n, M), path positions and speeds of one decision in reactive traffic."""
        ticks, config, fleet = self.config.ticks_per_decision, self.config, self._reactive()
        now, crowd, position, speed = state.ego, state.agents, state.path_position, state.path_speed
        egos, agents = np.empty((len(state), ticks, 7)), AgentArrays.empty(len(state), ticks, position.shape[1])
        for tick in range(ticks):
            crowd, position, speed = fleet.step(state.scene, state.row + tick, now, crowd, position, speed)
            agents.values[:, :, tick], agents.valid[:, tick] = crowd.values, crowd.valid
            now = egos[:, tick] = drive(now, commands, state.tick + tick, 1, config.vehicle, config.dynamics)[:, 0]
        return egos, agents, position, speed

    def _replayed(self, scene: np.ndarray, first: np.ndarray, count: int, tracks: int) -> AgentArrays:
        if len(scene) and (scene == scene[0]).all() and (first == first[0]).all():  # branches of one state see the same
            one = logged_agents([self.tables[scene[0]]], [int(first[0])], count, tracks)
            shape = (len(scene), count, tracks)
            return AgentArrays(np.broadcast_to(one.values, (len(one.values), *shape)), np.broadcast_to(one.valid, shape))
        return logged_agents([self.tables[i] for i in scene.tolist()], first.tolist(), count, tracks)

    def _reactive(self) -> Fleet:
        if self._fleet is None:
            vehicle = self.config.vehicle
            # A replayed scene has no movers: nobody is asked for them, but scenes keep their numbers.
            traffics = [
                simulator.traffic if isinstance(simulator.traffic, IdmTraffic) else IdmTraffic(_NOBODY, vehicle)
                for simulator in self.simulators
            ]
            self._fleet = Fleet(traffics, self.tables, vehicle)
        return self._fleet


_NOBODY = Tracks(
    (),
    (),
    np.zeros(0, np.int8),
    np.zeros((0, 3)),
    np.zeros(1),
    np.zeros((0, 1, 3)),
    np.zeros((0, 1)),
    np.zeros((0, 1, 2)),
    np.zeros((0, 1), bool),
)


def drive(
    ego: np.ndarray,
    commands: Commands,
    tick: np.ndarray,
    ticks: int,
    vehicle: VehicleParameters | None = None,
    dynamics: VehicleDynamics | None = None,
) -> np.ndarray:
    """Ego rows (B, ticks, 7), the start excluded, of egos (B, 7) that carry out their commands from the ticks (B,) on."""
    vehicle, dynamics = vehicle or VehicleParameters(), dynamics or VehicleDynamics()
    following = np.flatnonzero(commands.follows >= 0)
    references = None
    if commands.references is not None and len(following):
        references = commands.references.take(commands.follows[following])
    rows = np.empty((len(ego), ticks, 7))
    for index in range(ticks):
        turned = ego[:, STEERING] + commands.steering_rate * TICK
        acceleration, steering = commands.acceleration, np.where(np.isnan(commands.steering), turned, commands.steering)
        if references is not None:
            pull, rate = track_rows(ego[following], references, tick[following] + index, vehicle.wheelbase)
            acceleration = acceleration.copy()
            acceleration[following], steering[following] = pull, ego[following, STEERING] + rate * TICK
        ego = rows[:, index] = advance_rows(ego, acceleration, steering, vehicle, dynamics, TICK)
    return rows
