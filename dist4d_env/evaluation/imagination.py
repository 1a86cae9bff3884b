"""Imagination: a planner tries plans in copies of the running environment, seen through the same world, before it decides."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from dist4d_env.envs.batched_step import Turn, play
from dist4d_env.envs.driving import DiST4DDrivingEnv, Room
from dist4d_env.envs.episode import Episode, Snapshot
from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.planners.contract import ImaginedInstant, Plan, in_ego_frame
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import PLAN_DT, PLAN_POSES
from dist4d_env.simulation.simulator import Simulator
from dist4d_env.simulation.state import EgoState, SimState
from dist4d_env.simulation.traffic import row_of
from dist4d_env.worlds.contract import world_traits


class ForeseenTraffic:
    """Everybody who is there now keeps velocity and heading: what can be foreseen without the recording."""

    def __init__(self, state: SimState) -> None:
        self._row, self._boxes = row_of(state.time), state.boxes

    def start(self, row: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """Nobody follows a path: positions and speeds along it are left empty."""
        return self._at(row), np.zeros(0), np.zeros(0)

    def step(
        self, row: int, ego: EgoState, boxes: Boxes, position: np.ndarray, speed: np.ndarray
    ) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """The boxes one tick after ``row``."""
        return self._at(row + 1), position, speed

    def anticipate(self, row: int, position: np.ndarray, speed: np.ndarray, rows: Sequence[int]) -> tuple[Boxes, ...]:
        """The boxes at later rows."""
        return tuple(self._at(later) for later in rows)

    def _at(self, row: int) -> Boxes:
        position = self._boxes.position.copy()
        position[:, :2] += (row - self._row) * TICK * self._boxes.velocity
        return replace(self._boxes, position=position)


class _Branch(DiST4DDrivingEnv):
    """A copy of a running environment: it shares data, maps and models, follows plans, foresees traffic and never ends."""

    def __init__(self, running: DiST4DDrivingEnv) -> None:
        self.__dict__.update(running.sibling().__dict__)
        self.config = replace(running.config, action="trajectory", termination=(), trust_floor=0.0, reward=None, render_mode=None)
        self.render_mode = None
        self._simulator: Simulator | None = None

    def begin(self, snapshot: Snapshot, episode: Episode) -> None:
        """Continue from a snapshot with an episode that does not end."""
        self._simulator = copy(super()._room(episode.scenario)[1])
        self._simulator.traffic = ForeseenTraffic(episode.state)
        self.restore(replace(snapshot, episode=replace(episode, end_time=np.inf, ended_by=None)))

    def follow(self, plan: Plan, issued: SimState, seconds: float) -> Turn:
        """One long decision: ``decision`` of so many seconds, along what is left of a plan."""
        assert self._simulator is not None
        self._simulator.config = replace(self._simulator.config, action="trajectory", decision_dt=seconds)
        return self.decision(_rest(plan, issued, self.episode.state))

    def _room(self, scenario: Scenario) -> Room:
        scene, simulator, metrics = super()._room(scenario)
        return scene, self._simulator or simulator, metrics


class BranchingImagination:
    """``Imagination`` for one running environment. Branches cannot touch it: they begin from its snapshot.

    Each imagined instant costs what a step of the environment costs. Raises ConfigError in a world without pictures.
    """

    def __init__(self, running: DiST4DDrivingEnv) -> None:
        if not world_traits(running.config.world).shows_pictures:
            raise ConfigError(
                f"imagination needs pictures: world={running.config.world!r} shows none; choose another"
            )
        self._running = running
        self._branches: list[_Branch] = []

    def try_plans(self, plans: Sequence[Plan], times: Sequence[float]) -> list[tuple[ImaginedInstant, ...]]:
        """For each plan, followed from now on, the present instant and those after ``times`` seconds.

        Raises ConfigError for times that are not increasing multiples of 0.1 s.
        """
        waits = np.diff([0.0, *times])
        if not len(times) or (waits < TICK - 1e-6).any() or (np.abs(waits / TICK - np.round(waits / TICK)) > 1e-6).any():
            raise ConfigError(f"imagined times {tuple(times)} must be increasing multiples of {TICK} s")
        snapshot, episode = self._running.snapshot(), self._running.episode
        while len(self._branches) < len(plans):
            self._branches.append(_Branch(self._running))
        branches = self._branches[: len(plans)]
        for branch in branches:
            branch.begin(snapshot, episode)
        seen = [[_instant(branch.episode)] for branch in branches]
        for wait in waits.tolist():
            turns = [branch.follow(plan, episode.state, wait) for plan, branch in zip(plans, branches, strict=True)]
            play(self._running.open_world(), turns)
            for instants, branch in zip(seen, branches, strict=True):
                instants.append(_instant(branch.episode))
        return [tuple(instants) for instants in seen]


def _instant(episode: Episode) -> ImaginedInstant:
    assert episode.frame is not None
    info = episode.world_info
    return ImaginedInstant(episode.state.time, episode.state.ego, episode.frame, info.trust, info.source)


def _rest(plan: Plan, issued: SimState, now: SimState) -> np.ndarray:
    """(8, 3) what is left of a plan for the next 4 s, in the present ego frame; past its end its last velocity is kept."""
    poses = np.vstack([np.zeros(3), np.asarray(plan.trajectory, float)])
    poses[:, 2] = np.unwrap(poses[:, 2])
    given = np.arange(len(poses)) * plan.dt
    wanted = now.time - issued.time + PLAN_DT * np.arange(1, PLAN_POSES + 1)
    rest = np.stack([np.interp(wanted, given, column) for column in poses.T], -1)
    beyond = np.maximum(wanted - given[-1], 0.0)[:, None]
    rest[:, :2] += beyond * (poses[-1, :2] - poses[-2, :2]) / plan.dt
    ego, cos, sin = issued.ego, deterministic.cos(issued.ego.yaw), deterministic.sin(issued.ego.yaw)
    x, y = ego.x + cos * rest[:, 0] - sin * rest[:, 1], ego.y + sin * rest[:, 0] + cos * rest[:, 1]
    return in_ego_frame(np.column_stack([x, y, ego.yaw + rest[:, 2]]), now.ego)
