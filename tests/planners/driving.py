"""A planner drives a made scene and is shown no more than it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.envs.episodes import first_instant
from dist4d_env.envs.sensors.agents import AGENT_LOW, AGENTS, Agents
from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.evaluation.runner import input_of, to_action, visible_scene
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.metrics.driving.recording import trace_of
from dist4d_env.metrics.driving.running import Running, RunningMetrics
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.planners.contract import Planner, PlannerContext
from dist4d_env.registry import SENSORS
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import EgoState, ego_rows, ego_state
from dist4d_env.simulation.routes import Routes
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.state import EpisodeState, SimState, Ticks

ONE = np.zeros(1, int)
SHAPES = {"ego": (10,), "route": (20, 2), "agents": (AGENTS, len(AGENT_LOW))}


def state_of(scene: Scene, start: Scenario | float = 0.0) -> EpisodeState:
    """The state in which an episode of a scene begins."""
    simulator = Simulator(None, [scene])
    return simulator.single(simulator.reset([0], [start]), 0)


def agent_features(boxes: Boxes, ego: EgoState) -> np.ndarray:
    """The "agents" observation of some boxes."""
    agents = AgentArrays.empty(1, len(boxes))
    agents.valid[:] = True
    agents.values[:3, 0], agents.values[3, 0], agents.values[4:, 0] = boxes.position.T, boxes.yaw, boxes.velocity.T
    state = SimState(ONE, ONE, ONE, ego_rows([ego]), agents, {}, Commands.controls(np.zeros(1)))
    running = Running.before(1, len(boxes))
    out = {"agents": np.zeros((1, *SHAPES["agents"]), np.float32)}
    Agents().observe(_instant(state, running, None, boxes.size[None], boxes.category[None], 0.0, Routes(())), out)
    return out["agents"][0]


def _instant(
    state: SimState, running: Running, scene: Any, size: np.ndarray, category: np.ndarray, end: float, routes: Routes
) -> Instant:
    """One episode without pictures, as sensors see it."""
    pictures: tuple[Any, ...] = ([None], None, [None], ())
    return Instant([0], state, running, [scene], size, category, *pictures, np.array([end]), routes)


class Episode:
    """One episode of a made scene among replayed traffic, decision by decision."""

    def __init__(self, scene: Scene, start: Scenario | float = 0.0, horizon: float = 10.0, **settings: Any) -> None:
        self.scene, self.simulator, self.metrics = scene, Simulator(SimulatorConfig(**settings), [scene]), RunningMetrics()
        self.metrics.add(scene)
        self.now = self.simulator.reset([0], [start])
        self.end_time = float(self.now.time[0]) + horizon
        self.happened: list[Ticks] = [first_instant(self.now, 1)]
        self.running = self.metrics.update(None, np.ones(1, bool), ONE, self.happened[0])

    @property
    def state(self) -> EpisodeState:
        """The present state."""
        return self.simulator.single(self.now, 0)

    def observation(self) -> dict[str, np.ndarray]:
        """What the environment shows without pictures."""
        size, category = self.simulator.bodies(ONE)
        now = _instant(self.now, self.running, self.scene, size, category, self.end_time, self.metrics.routes)
        out = {name: np.zeros((1, *shape), np.float32) for name, shape in SHAPES.items()}
        for name in SHAPES:
            SENSORS.make(name).observe(now, out)
        return {name: array[0] for name, array in out.items()}

    def step(self, action: Any) -> None:
        """One decision."""
        self.now, ticks = self.simulator.step(self.now, np.asarray(action)[None])
        self.running = self.metrics.update(self.running, np.zeros(1, bool), ONE, ticks)
        self.happened.append(ticks)

    def ticks(self) -> Iterable[tuple[EgoState, Boxes]]:
        """Ego and boxes of every tick after the start."""
        tracks = self.scene.tracks
        for ticks in self.happened[1:]:
            for place, ego in enumerate(ticks.ego[0]):
                yield ego_state(ego), ticks.agents[0, place].boxes(tracks.category, tracks.size)

    def trace(self) -> EpisodeTrace:
        """The episode so far."""
        row, ego = (np.concatenate([getattr(ticks, name)[0] for ticks in self.happened]) for name in ("row", "ego"))
        values = np.concatenate([ticks.agents.values[:, 0] for ticks in self.happened], 1)
        valid = np.concatenate([ticks.agents.valid[0] for ticks in self.happened])
        return trace_of(self.scene, self.metrics.vehicle, row, ego, AgentArrays(values, valid))


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
    episode, plans = Episode(scene, start, 0.5 * decisions, action="trajectory"), []
    planner.reset(PlannerContext(visible_scene(scene, planner.requires), 0.5, 0.5 * decisions), seed)
    for _ in range(decisions):
        state = episode.state
        plan = planner.plan(input_of(state, planner.requires, episode.observation()))
        plans.append(np.asarray(plan.trajectory))
        episode.step(to_action(plan, "trajectory"))
    return Driven(plans, episode.trace())
