"""The simulator: ego and traffic at 10 Hz between decisions, as pure functions of a frozen state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import ACTIONS, parse_action
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.state import Command, EgoState, SimState, Ticks
from dist4d_env.simulation.tracker import track
from dist4d_env.simulation.traffic import ReplayTraffic, Traffic, row_of
from dist4d_env.simulation.vehicle import VehicleDynamics, advance

TRAFFIC = ("replay", "idm")
_PEDAL_DECAY = 1.0  # s, how fast an anticipated acceleration fades


@dataclass(frozen=True)
class SimulatorConfig:
    """decision_dt: seconds between decisions, a multiple of the 0.1 s tick; action: as in ``actions``; traffic: as in TRAFFIC."""

    decision_dt: float = 0.5
    action: str = "controls"
    traffic: str = "replay"
    vehicle: VehicleParameters = field(default_factory=VehicleParameters)
    dynamics: VehicleDynamics = field(default_factory=VehicleDynamics)

    def __post_init__(self) -> None:
        ticks = self.decision_dt / TICK
        if not math.isfinite(ticks) or round(ticks) < 1 or abs(ticks - round(ticks)) > 1e-6:
            raise ConfigError(f"decision_dt={self.decision_dt!r} must be a positive multiple of {TICK} s")
        if self.action not in ACTIONS:
            raise ConfigError(f"action={self.action!r} is unknown; choose one of {', '.join(ACTIONS)}")
        if self.traffic not in TRAFFIC:
            raise ConfigError(f"traffic={self.traffic!r} is unknown; choose one of {', '.join(TRAFFIC)}")

    @property
    def ticks_per_decision(self) -> int:
        return round(self.decision_dt / TICK)


class Simulator:
    """One scene's truth over time.

    ``reset`` gives the first state, ``step`` the next: neither changes anything, so a state kept is a snapshot. Episodes run on
    the log's 10 Hz grid (a start between two ticks is moved to the nearer one) and may run past the log's end: agents end with
    their tracks, the ego drives on.
    """

    def __init__(self, scene: Scene, config: SimulatorConfig | None = None) -> None:
        self.scene = scene
        self.config = config = config or SimulatorConfig()
        self.traffic: Traffic = (
            ReplayTraffic(scene.tracks)
            if config.traffic == "replay"
            else IdmTraffic(scene.tracks, config.vehicle, edited=scene.edited)
        )
        self._log_xy = np.ascontiguousarray(scene.ego.global_from_ego[:, :2, 3])
        self._log_yaw = yaw_of(scene.ego.global_from_ego)

    def reset(self, scenario: Scenario | float, rng: np.random.Generator | None = None) -> SimState:
        """The state at a scenario's start: the logged ego, moved as the scenario says. Or just a start time in seconds.

        rng is what scenarios that leave something to chance draw from; at present none does. ConfigError if the scenario belongs
        to another scene, wants other traffic than this simulator's or starts outside the log.
        """
        if not isinstance(scenario, Scenario):
            scenario = Scenario(self.scene.name, float(scenario), traffic=self.config.traffic)
        if scenario.scene != self.scene.name:
            raise ConfigError(f"the scenario plays in {scenario.scene}, but this simulator holds {self.scene.name}")
        if scenario.traffic not in (None, self.config.traffic):
            raise ConfigError(f"the scenario wants traffic={scenario.traffic!r}, but this simulator has {self.config.traffic!r}")
        if scenario.start > self.scene.duration:
            raise ConfigError(f"start={scenario.start} s lies outside {self.scene.name}, which lasts {self.scene.duration:.1f} s")
        row = row_of(scenario.start)
        boxes, position, speed = self.traffic.start(row)
        return SimState(0, row * TICK, _moved(self.logged_ego(row), scenario), boxes, position, speed)

    def logged_ego(self, row: int) -> EgoState:
        """The recorded ego at a row of the 10 Hz log, clamped to its ends, as a rear-axle state."""
        log = self.scene.ego
        row = min(max(row, 0), len(log.time) - 1)
        speed, yaw_rate = max(float(log.speed[row]), 0.0), float(log.yaw_rate[row])
        limit = self.config.dynamics.max_steering
        # Below walking pace the logged yaw rate says more about noise than about the wheels.
        steering = math.atan(self.config.vehicle.wheelbase * yaw_rate / speed) if speed > 0.5 else 0.0
        steering = min(max(steering, -limit), limit)
        return EgoState(
            x=float(self._log_xy[row, 0]),
            y=float(self._log_xy[row, 1]),
            yaw=float(self._log_yaw[row]),
            speed=speed,
            acceleration=float(log.acceleration[row]),
            steering=steering,
            yaw_rate=speed * math.tan(steering) / self.config.vehicle.wheelbase,
        )

    def step(self, state: SimState, action: Any) -> tuple[SimState, Ticks]:
        """One decision: the state ``decision_dt`` later and every tick on the way. ActionError for a bad action."""
        return self.execute(state, parse_action(self.config.action, action, state.ego, state.tick))

    def execute(self, state: SimState, command: Command) -> tuple[SimState, Ticks]:
        """``step`` for a command that is already in physical units."""
        ego, boxes, position, speed = state.ego, state.boxes, state.path_position, state.path_speed
        row = row_of(state.time)
        egos, all_boxes, times = [], [], []
        for index in range(self.config.ticks_per_decision):
            boxes, position, speed = self.traffic.step(row + index, ego, boxes, position, speed)
            ego = self._drive(ego, command, state.tick + index)
            egos.append(ego)
            all_boxes.append(boxes)
            times.append((row + index + 1) * TICK)
        after = SimState(state.tick + len(egos), times[-1], ego, boxes, position, speed, command)
        return after, Ticks(np.array(times), tuple(egos), tuple(all_boxes))

    def scene_at(self, state: SimState, action: Any = None, decisions: int = 4) -> SceneAt:
        """What is true now and what is anticipated at the next ``decisions`` decisions.

        The ego is expected to go on with ``action`` (as if decided now) or else with the state's last command: a plan is followed
        to its end; from controls only the present motion is kept, the acceleration fading and the wheels held, because the next
        decision is the policy's. Replayed agents follow the log, reactive ones go on along their paths.
        """
        command = state.command if action is None else parse_action(self.config.action, action, state.ego, state.tick)
        ticks = self.config.ticks_per_decision
        row = row_of(state.time)
        ego, ahead = state.ego, []
        for index in range(decisions * ticks):
            ego = self._anticipate(ego, command, state.tick + index)
            if (index + 1) % ticks == 0:
                ahead.append(ego)
        poses = self.poses([state.ego, *ahead])
        rows = [row + (index + 1) * ticks for index in range(decisions)]
        return SceneAt(
            time=state.time,
            global_from_ego=poses[0],
            boxes=state.boxes,
            anticipated_time=np.array(rows) * TICK,
            anticipated_pose=poses[1:],
            anticipated_boxes=self.traffic.anticipate(row, state.path_position, state.path_speed, rows),
        )

    def pose(self, ego: EgoState) -> np.ndarray:
        """global_from_ego (4, 4). The simulator drives in the plane; height, roll and pitch are those of the nearest logged pose,
        so that on the logged path the pose is the logged one."""
        return self.poses([ego])[0]

    def poses(self, egos: Sequence[EgoState]) -> np.ndarray:
        """``pose`` of several (K, 4, 4)."""
        x, y, yaw = np.array([(ego.x, ego.y, ego.yaw) for ego in egos]).T
        dx, dy = x[:, None] - self._log_xy[:, 0], y[:, None] - self._log_xy[:, 1]
        row = np.argmin(dx * dx + dy * dy, axis=1)
        turn = yaw - self._log_yaw[row]
        cos, sin = deterministic.cos(turn)[:, None], deterministic.sin(turn)[:, None]
        logged = self.scene.ego.global_from_ego[row]
        pose = logged.copy()
        pose[:, 0, :3] = cos * logged[:, 0, :3] - sin * logged[:, 1, :3]
        pose[:, 1, :3] = sin * logged[:, 0, :3] + cos * logged[:, 1, :3]
        pose[:, 0, 3], pose[:, 1, 3] = x, y
        return pose

    def _drive(self, ego: EgoState, command: Command, tick: int) -> EgoState:
        vehicle, dynamics = self.config.vehicle, self.config.dynamics
        if command.reference is not None:
            acceleration, rate = track(ego, command.reference, tick, vehicle.wheelbase)
            steering = ego.steering + rate * TICK
        else:
            acceleration = command.acceleration
            steering = ego.steering + command.steering_rate * TICK if command.steering is None else command.steering
        return advance(ego, acceleration, steering, vehicle, dynamics, TICK)

    def _anticipate(self, ego: EgoState, command: Command | None, tick: int) -> EgoState:
        if command is not None and command.reference is not None:
            return self._drive(ego, command, tick)
        lag = self.config.dynamics.acceleration_lag
        # The pedal value whose lagged answer is the present acceleration, faded with the time constant _PEDAL_DECAY.
        faded = ego.acceleration * (1 - TICK / _PEDAL_DECAY)
        pedal = ego.acceleration + (faded - ego.acceleration) * (TICK + lag) / TICK
        return self._drive(ego, Command(pedal, steering=ego.steering), tick)


def _moved(ego: EgoState, scenario: Scenario) -> EgoState:
    """The ego shifted to its left, turned and at another speed where the scenario says so."""
    lateral, turn = scenario.ego_offset, scenario.ego_yaw
    ego = replace(ego, x=ego.x - math.sin(ego.yaw) * lateral, y=ego.y + math.cos(ego.yaw) * lateral, yaw=ego.yaw + turn)
    if scenario.ego_speed is None:
        return ego
    return replace(ego, speed=float(scenario.ego_speed), acceleration=0.0)
