"""A planner drives a made scene and is shown no more than it asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dist4d_env.envs.observations import Observer

from dist4d_env.evaluation.runner import to_action, visible_scene
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.planners.contract import Planner, PlannerContext, PlannerInput
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig


@dataclass(frozen=True)
class Driven:
    """plans: one (N, 3) per decision; trace: what came of them."""

    plans: list[np.ndarray]
    trace: EpisodeTrace

    @property
    def x(self) -> np.ndarray:
        return self.trace.ego[:, 0]

    @property
    def y(self) -> np.ndarray:
        return self.trace.ego[:, 1]

    @property
    def speed(self) -> np.ndarray:
        return self.trace.ego[:, 3]

    @property
    def touched(self) -> bool:
        return bool(self.trace.contact.any())


def drive(scene: Scene, planner: Planner, decisions: int, start: Scenario | float = 0.0, seed: int = 0) -> Driven:
    """Drives ``decisions`` decisions of 0.5 s among replayed traffic."""
    simulator, metrics = Simulator(scene, SimulatorConfig(0.5, "trajectory")), RunningMetrics(scene)
    state = simulator.reset(start)
    running, observer = metrics.start(state), Observer(("ego", "route", "agents"), state.time + 0.5 * decisions)
    planner.reset(PlannerContext(visible_scene(scene, planner.requires), 0.5, 0.5 * decisions), seed)
    plans = []
    for _ in range(decisions):
        truth = state if planner.requires.privileged else None
        plan = planner.plan(PlannerInput(state.time, state.ego, observer(scene, state, running, None), truth))
        plans.append(np.asarray(plan.trajectory))
        state, ticks = simulator.step(state, to_action(plan, "trajectory"))
        running = metrics.update(running, ticks)
    return Driven(plans, metrics.trace(running))
