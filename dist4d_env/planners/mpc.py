"""Model-predictive control by sampling: the cross-entropy method over controls, rolled through the vector simulator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.plans.scene import FUTURE, PlanScene
from dist4d_env.planners.contract import (
    PLAN_DT,
    PLAN_TICKS,
    POSE_TICKS,
    Plan,
    PlannerContext,
    PlannerInput,
    PlannerNeeds,
    in_ego_frame,
)
from dist4d_env.planners.lights_ahead import LightsAhead
from dist4d_env.planners.mpc_costs import CostWeights, plan_costs
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.route_profile import RoutePosition, RouteProfile, posted_limit
from dist4d_env.scenes.scene import TICK, EgoLog, Scene, Tracks
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState, ego_rows
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.vehicle import VehicleDynamics

_FINALISTS = 4
_BEFORE_LINE = 1.0  # m, where guides come to stand before a stop line
_LEAST_PROGRESS = 5.0  # m in 4 s that count as all there is to make, at least: standing still is never perfect


@dataclass(frozen=True)
class MpcConfig:
    """samples, elites, iterations: of the cross-entropy method; knots: of the linear splines that are added to the controls it
    starts from; step: s that a control stands for; acceleration_spread: m/s^2; lateral_spread: m/s^2 that a spread of the wheels
    makes at the present speed, up to steering_spread in rad; persistence: share of the old spread that an iteration keeps;
    speeds: shares of the speed limit that guides along the route wish for (0 brakes); dodges: of those that go ``dodge`` metres
    to either side; guide_pull, guide_braking: m/s^2; one more guide brakes with ``emergency`` m/s^2; free_speed: m/s where the
    map has no limit."""

    samples: int = 64
    elites: int = 8
    iterations: int = 4
    knots: int = 5
    step: float = 0.2
    acceleration_spread: float = 1.2
    lateral_spread: float = 0.8
    steering_spread: float = 0.15
    persistence: float = 0.2
    speeds: tuple[float, ...] = (0.0, 0.3, 0.6, 0.8, 1.0)
    dodges: tuple[float, ...] = (0.5, 0.9)
    dodge: float = 1.5
    guide_pull: float = 1.5
    guide_braking: float = 3.5
    emergency: float = 7.0
    free_speed: float = 13.0
    weights: CostWeights = field(default_factory=CostWeights)

    def __post_init__(self) -> None:
        if not 1 < self.elites <= self.samples or self.iterations < 1 or self.knots < 2 or not self.speeds:
            raise ConfigError("sampling needs 2 or more elites among its samples, an iteration, two knots and a guide's speed")
        if abs(4.0 / self.step - round(4.0 / self.step)) > 1e-6 or abs(self.step / TICK - round(self.step / TICK)) > 1e-6:
            raise ConfigError(f"step={self.step} must be a multiple of {TICK} s that divides the 4 s of a plan")


class SamplingMPC:
    """Samples controls around the best it knows, rolls them all, keeps the elites, narrows down, and does so again.

    It starts from the rest of its last plan and from guides: drives along the route at several speeds, turned into controls.
    Costs are those of ``mpc_costs``; agents are forecast at constant velocity, and lights stay what they are. In the end the
    best samples and the guides are followed by the tracker that will really follow them, and the best of these is the plan. Same
    seed, same plans.
    """

    requires = PlannerNeeds(map=True)

    def __init__(self, config: MpcConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or MpcConfig(), vehicle or VehicleParameters()
        self._dynamics = VehicleDynamics()
        count = round(4.0 / self.config.step)
        knots = np.linspace(0, count - 1, self.config.knots)
        self._spline = np.stack([np.interp(np.arange(count), knots, row) for row in np.eye(self.config.knots)])  # (knots, K)

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._scene, self._dt = context.scene, context.decision_dt
        self._limit = posted_limit(context.scene, self.config.free_speed)
        self._profile = RouteProfile(context.scene.route, self._limit)
        self._lights = LightsAhead(context.scene)
        self._random = np.random.default_rng(seed)
        self._s: float | None = None
        self._controls: np.ndarray | None = None  # (2, K) accelerations and wheel angles of the last plan

    def plan(self, observation: PlannerInput) -> Plan:
        ego = observation.ego
        start = self._profile.locate(ego, self._s)
        self._s = start.s
        front, c = start.s + self.vehicle.rear_axle_to_center + self.vehicle.length / 2, self.config
        free = self._lights.free(observation.lights, front, ego.speed, c.guide_braking, c.emergency)
        self._stop = front + free
        forecast = Forecast(self._scene, ego, Agents.of(observation), start.s, self.vehicle, self.config.step)
        guides = self._guides(ego, start, free)
        starts = self._as_controls(simulate_plans(ego, guides, PLAN_DT, PLAN_TICKS, self.vehicle))
        if self._controls is not None:
            starts = np.concatenate([starts, self._shifted(self._controls)[None]])
        found = self._search(forecast, starts, ego.speed)
        rows = forecast.rollout(found[:, 0], found[:, 1])
        plans = np.stack([in_ego_frame(row[POSE_TICKS::POSE_TICKS, :3], ego) for row in rows])
        # The tracker will drive the plan: samples and guides are compared as tracked.
        plans, controls = np.concatenate([plans, guides]), np.concatenate([found, starts[: len(guides)]])
        chosen = int(np.argmin(self._costs(simulate_plans(ego, plans, PLAN_DT, PLAN_TICKS, self.vehicle), forecast)))
        self._controls = controls[chosen]
        return Plan(plans[chosen], PLAN_DT)

    def _search(self, forecast: Forecast, starts: np.ndarray, speed: float) -> np.ndarray:
        """The best controls (finalists, 2, K) found from some (S, 2, K), best first."""
        c = self.config
        known, costs = starts, self._costs(forecast.rollout(starts[:, 0], starts[:, 1]), forecast)
        base = known[np.argmin(costs)]
        wheels = min(c.lateral_spread * self.vehicle.wheelbase / max(speed, 1.0) ** 2, c.steering_spread)
        mean, spread = np.zeros((2, c.knots)), np.array([[c.acceleration_spread], [wheels]]) * np.ones(c.knots)
        for _ in range(c.iterations):
            weights = mean + spread * self._random.normal(size=(c.samples, 2, c.knots))
            samples = self._limited(base + weights @ self._spline)
            sampled = self._costs(forecast.rollout(samples[:, 0], samples[:, 1]), forecast)
            elite = np.argsort(sampled, kind="stable")[: c.elites]
            mean = weights[elite].mean(0)
            spread = c.persistence * spread + (1 - c.persistence) * weights[elite].std(0)
            known, costs = np.concatenate([known, samples[elite]]), np.concatenate([costs, sampled[elite]])
        return known[np.argsort(costs, kind="stable")[:_FINALISTS]]

    def _costs(self, rows: np.ndarray, forecast: Forecast) -> np.ndarray:
        return plan_costs(rows, forecast.expected, self._limit, self._reachable, self.config.weights, self._stop)

    def _guides(self, ego: EgoState, start: RoutePosition, free: float) -> np.ndarray:
        """(G, 8, 3) plans in the ego frame along the route, at the configured speeds, at most ``free`` metres; sets the reachable
        progress."""
        c = self.config
        dodges = [(share, side) for share in c.dodges for side in (-c.dodge, c.dodge)]
        shares, beside = np.array([*((share, 0.0) for share in c.speeds), *dodges, (0.0, 0.0)]).T
        braking = np.array([c.guide_braking] * (len(shares) - 1) + [c.emergency])
        driven = self._profile.drive(start, ego.speed, shares, c.guide_pull, braking, free - _BEFORE_LINE)
        self._reachable = max(float(driven[:, -1].max()), _LEAST_PROGRESS)
        poses = self._profile.poses(start, driven[:, POSE_TICKS::POSE_TICKS], beside[:, None])
        return np.stack([in_ego_frame(pose, ego) for pose in poses])

    def _as_controls(self, rows: np.ndarray) -> np.ndarray:
        """(B, 2, K) controls that lead actuators with lag through what rows (B, 41, 7) show."""
        each, lags = round(self.config.step / TICK), (self._dynamics.acceleration_lag, self._dynamics.steering_lag)
        moved = np.stack([rows[..., 4], rows[..., 5]], 1)  # (B, 2, 41)
        led = moved[..., 1:] + np.array(lags)[:, None] / TICK * np.diff(moved, axis=-1)
        return self._limited(led.reshape(len(rows), 2, -1, each).mean(-1))

    def _shifted(self, controls: np.ndarray) -> np.ndarray:
        """Controls (2, K) as they go on from the next decision; past their end the last ones stand."""
        times = self.config.step * (np.arange(controls.shape[1]) + 0.5)
        return np.stack([np.interp(times + self._dt, times, row) for row in controls])

    def _limited(self, controls: np.ndarray) -> np.ndarray:
        d = self._dynamics
        low, high = np.array([[d.min_acceleration], [-d.max_steering]]), np.array([[d.max_acceleration], [d.max_steering]])
        return np.clip(controls, low, high)


class Forecast:
    """A simulation of the next seconds in which all agents keep velocity and heading; nothing recorded is looked at.

    expected: the scene that plans are scored against.
    """

    def __init__(self, scene: Scene, ego: EgoState, agents: Agents, near: float, vehicle: VehicleParameters, step: float) -> None:
        pose = pose_from_xy_yaw(ego.x, ego.y, ego.yaw)[None]
        log = EgoLog(np.zeros(1), pose, *np.array([[ego.speed], [ego.acceleration], [ego.yaw_rate]]))
        forecast = replace(scene, ego=log, tracks=forecast_tracks(agents))
        self._simulator = Simulator(SimulatorConfig(step, "controls", vehicle=vehicle), [forecast])
        self._now = replace(self._simulator.reset([0], [0.0]), ego=ego_rows([ego]))
        self.expected = replace(PlanScene.forecast(self._simulator.single(self._now, 0), forecast, vehicle), near=near)

    def rollout(self, acceleration: np.ndarray, steering: np.ndarray) -> np.ndarray:
        """Ego rows (B, T + 1, 7) at 10 Hz, now included, under controls (B, K) in m/s^2 and rad that stand for a step each."""
        state = self._now.take(np.zeros(len(acceleration), int))
        rows = [state.ego[:, None]]
        for pull, wheel in zip(acceleration.T, steering.T, strict=True):
            state, ticks = self._simulator.execute(state, Commands.controls(pull, steering=wheel))
            rows.append(ticks.ego)
        return np.concatenate(rows, 1)


def forecast_tracks(agents: Agents) -> Tracks:
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
