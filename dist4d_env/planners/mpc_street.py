"""The next seconds as the sampling planner foresees them: a vector simulator in which all others keep velocity and heading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.plans.scene import FUTURE, PlanScene
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.scenes.scene import TICK, EgoLog, Scene, Tracks
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.ego import EgoState, ego_rows


class Street:
    """One instant, from which many futures of the ego can be rolled. Nothing recorded is looked at, only what is seen now.

    expected: what plans are scored against.
    """

    def __init__(self, scene: Scene, ego: EgoState, agents: Agents, near: float, vehicle: VehicleParameters, step: float) -> None:
        pose = pose_from_xy_yaw(ego.x, ego.y, ego.yaw)[None]
        log = EgoLog(np.zeros(1), pose, *np.array([[ego.speed], [ego.acceleration], [ego.yaw_rate]]))
        foreseen = replace(scene, ego=log, tracks=foreseen_tracks(agents))
        self._simulator = Simulator(SimulatorConfig(step, "controls", vehicle=vehicle), [foreseen])
        self._now = replace(self._simulator.reset([0], [0.0]), ego=ego_rows([ego]))
        self.expected = replace(PlanScene.forecast(self._simulator.single(self._now, 0), foreseen, vehicle), near=near)

    def roll(self, acceleration: np.ndarray, steering: np.ndarray) -> np.ndarray:
        """Ego rows (B, T + 1, 7) at 10 Hz, now included, under controls (B, K) in m/s^2 and rad that stand for a step each."""
        state = self._now.take(np.zeros(len(acceleration), int))
        rows = [state.ego[:, None]]
        for pull, wheel in zip(acceleration.T, steering.T, strict=True):
            state, ticks = self._simulator.execute(state, Commands.controls(pull, steering=wheel))
            rows.append(ticks.ego)
        return np.concatenate(rows, 1)


def foreseen_tracks(agents: Agents) -> Tracks:
    """The agents from now on, at constant velocity and heading, for as long as plans are scored against them."""
    time = np.arange(FUTURE + 1) * TICK
    count, shape = len(agents), (len(agents), len(time))
    position = np.zeros((*shape, 3))
    position[..., :2] = agents.position[:, None] + time[:, None] * agents.velocity[:, None]
    return Tracks(
        instance=tuple(map(str, range(count))),
        name=("",) * count,
        category=agents.category.astype(np.int8),
        size=np.column_stack([agents.size, np.ones(count)]),
        time=time,
        position=position,
        yaw=np.tile(agents.yaw[:, None], len(time)),
        velocity=np.tile(agents.velocity[:, None], (1, len(time), 1)),
        valid=np.ones(shape, bool),
    )
