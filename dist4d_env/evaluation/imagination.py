"""Imagination: a planner tries plans in copies of the running episode, seen through the same world, before it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.planners.contract import ImaginedInstant, Plan, in_ego_frame
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import PLAN_DT, PLAN_POSES, follow
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.state import EpisodeState
from dist4d_env.simulation.traffic import TrafficState


class ConstantVelocityTraffic:
    """Everybody who is there at one instant keeps velocity and heading: what can be foreseen without the recording.

    agents: (1, M) at ``row`` of the log.
    """

    def __init__(self, agents: AgentArrays, row: int) -> None:
        self._agents, self._row = agents, row

    def add(self, scene: Scene) -> int:
        """There is one scene."""
        return 0

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """The agents at rows (B,)."""
        return self._at(row[:, None])[:, 0].fitted(tracks), {}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """The agents one tick later."""
        return self._at(row[:, None] + 1)[:, 0].fitted(agents.valid.shape[1]), {}

    def advance(self, scene: np.ndarray, row: np.ndarray, ticks: int, tracks: int) -> AgentArrays:
        """The agents (B, ticks, tracks) of the rows after ``row``."""
        return self._at(row[:, None] + np.arange(1, ticks + 1)).fitted(tracks)

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """The agents at later rows (B, K)."""
        return self._at(rows).fitted(agents.valid.shape[1])

    def _at(self, rows: np.ndarray) -> AgentArrays:
        values = np.repeat(self._agents.values[:, 0, None, None], rows.shape[1], 2).repeat(rows.shape[0], 1)
        values[:2] += ((rows - self._row) * TICK)[..., None] * values[4:]
        return AgentArrays(values, np.broadcast_to(self._agents.valid[0], values.shape[1:]).copy())


class BranchingImagination:
    """``Imagination`` for one running environment. Branches cannot touch it: they begin from its snapshot.

    Each imagined instant costs what a step of the environment costs. Raises ConfigError in a world without pictures.
    """

    def __init__(self, running: DiST4DDrivingEnv) -> None:
        if not running.shows_pictures:
            raise ConfigError("imagination needs pictures: choose world='dist4d', 'replay' or 'oracle', not 'none'")
        self._running = running

    def try_plans(self, plans: Sequence[Plan], times: Sequence[float]) -> list[tuple[ImaginedInstant, ...]]:
        """For each plan, followed from now on, the present instant and those after ``times`` seconds.

        Raises ConfigError for times that are not increasing multiples of 0.1 s.
        """
        waits = np.diff([0.0, *times])
        if not len(times) or (waits < TICK - 1e-6).any() or (np.abs(waits / TICK - np.round(waits / TICK)) > 1e-6).any():
            raise ConfigError(f"imagined times {tuple(times)} must be increasing multiples of {TICK} s")
        running, snapshot, episode = self._running, self._running.snapshot().episode, self._running.episode
        assert snapshot is not None and episode.frame is not None
        state, issued, info = snapshot.state, episode.state, episode.world_info
        simulator = Simulator(SimulatorConfig(action="trajectory"))
        simulator.add(running.scene, ConstantVelocityTraffic(state.agents, int(state.row[0])))
        state = replace(state, scene=np.zeros(1, int), traffic={}).take(np.zeros(len(plans), int))
        now = ImaginedInstant(issued.time, issued.ego, episode.frame, info.trust, tuple(info.source))
        instants, worlds = [[now] for _ in plans], [episode.world] * len(plans)
        for wait in waits.tolist():
            simulator.config = replace(simulator.config, decision_dt=wait)
            singles = [simulator.single(state, row) for row in range(len(plans))]
            rest = np.stack([rest_of(plan, issued, single) for plan, single in zip(plans, singles, strict=True)])
            state, _ = simulator.execute(state, follow(rest, PLAN_DT, state.ego, state.tick))
            answers = running.open_world().step(worlds, simulator.scenes_at(state, running.foresight))
            worlds = [world for world, _, _ in answers]
            for row, (_, frame, info) in enumerate(answers):
                assert frame is not None
                single = simulator.single(state, row)
                instants[row].append(ImaginedInstant(single.time, single.ego, frame, info.trust, tuple(info.source)))
        return [tuple(each) for each in instants]


def resampled(trajectory: np.ndarray, dt: float, times: np.ndarray) -> np.ndarray:
    """Poses (M, 3) of a plan (N, 3) at times (M,) after it was issued: linear between its poses, beyond its end at its last
    velocity; headings are unwrapped."""
    poses = np.vstack([np.zeros(3), trajectory])
    poses[:, 2] = np.unwrap(poses[:, 2])
    given = np.arange(len(poses)) * dt
    found = np.stack([np.interp(times, given, column) for column in poses.T], -1)
    beyond = np.maximum(times - given[-1], 0.0)[:, None]
    found[:, :2] += beyond * (poses[-1, :2] - poses[-2, :2]) / dt
    return found


def rest_of(plan: Plan, issued: EpisodeState, now: EpisodeState) -> np.ndarray:
    """(8, 3) what is left of a plan for the next 4 s, in the present ego frame; past its end its last velocity is kept."""
    rest = resampled(np.asarray(plan.trajectory, float), plan.dt, now.time - issued.time + PLAN_DT * np.arange(1, PLAN_POSES + 1))
    ego, cos, sin = issued.ego, deterministic.cos(issued.ego.yaw), deterministic.sin(issued.ego.yaw)
    x, y = ego.x + cos * rest[:, 0] - sin * rest[:, 1], ego.y + sin * rest[:, 0] + cos * rest[:, 1]
    return in_ego_frame(np.column_stack([x, y, ego.yaw + rest[:, 2]]), now.ego)
