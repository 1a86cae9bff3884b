"""The simulator: egos and traffic of B episodes at 10 Hz between decisions, as pure functions of a frozen state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.registry import TRAFFIC
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import ACTIONS, parse_actions
from dist4d_env.simulation.agents import VALUES, AgentArrays, bodies
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.drive import drive
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.state import PER_EPISODE, EpisodeState, SimState, Ticks, single
from dist4d_env.simulation.traffic import OpenLoopTraffic, TrafficModel, TrafficState, row_of
from dist4d_env.simulation.vehicle import VehicleDynamics

_PEDAL_DECAY = 1.0  # s, how fast an anticipated acceleration fades


@dataclass(frozen=True)
class SimulatorConfig:
    """decision_dt: seconds between decisions, a multiple of the 0.1 s tick; action: as in ``actions``; traffic: of scenes that
    ask for no other, as ``registry.TRAFFIC`` finds it."""

    decision_dt: float = 0.5
    action: str = "controls"
    traffic: Any = "replay"
    vehicle: VehicleParameters = field(default_factory=VehicleParameters)
    dynamics: VehicleDynamics = field(default_factory=VehicleDynamics)

    def __post_init__(self) -> None:
        ticks = self.decision_dt / TICK
        if not math.isfinite(ticks) or round(ticks) < 1 or abs(ticks - round(ticks)) > 1e-6:
            raise ConfigError(f"decision_dt={self.decision_dt!r} must be a positive multiple of {TICK} s")
        if self.action not in ACTIONS:
            raise ConfigError(f"action={self.action!r} is unknown; choose one of {', '.join(ACTIONS)}")
        TRAFFIC.check(self.traffic)

    @property
    def ticks_per_decision(self) -> int:
        return round(self.decision_dt / TICK)


class Simulator:
    """The truth of many episodes over time, in any mix of scenes.

    It holds scenes, no episodes: ``reset`` gives a first state, ``step`` the next; neither changes anything, so a state kept is a
    snapshot and ``state.take`` branches. Each episode is the same bit for bit whatever is simulated beside it. Episodes run on
    the log's 10 Hz grid (a start between two ticks is moved to the nearer one) and may run past the log's end: agents end with
    their tracks, the ego drives on.
    """

    def __init__(self, config: SimulatorConfig | None = None, scenes: Iterable[Scene] = ()) -> None:
        self.config = config or SimulatorConfig()
        self.scenes: list[Scene] = []
        self._models: dict[Any, tuple[str, TrafficModel]] = {}  # by what asked for it: prefix of its state, model
        self._model_of: list[Any] = []  # by scene
        self._local = np.zeros(0, int)  # the scene's number in its model
        self._open_loop: list[bool] = []  # by scene: finding out takes long
        self._logs: list[tuple[np.ndarray, np.ndarray]] = []  # x, y (T, 2) and yaw (T,) of the logged ego
        self._bodies: tuple[np.ndarray, np.ndarray] | None = None
        for scene in scenes:
            self.add(scene)

    def add(self, scene: Scene, traffic: Any = None) -> int:
        """One more scene to play in, with its own traffic if that is given; its number. ConfigError for unknown traffic."""
        traffic = self.config.traffic if traffic is None else traffic
        key = traffic_key(traffic)
        if key not in self._models:
            model = TRAFFIC.make(traffic, ("add", "start", "step", "anticipate"), vehicle=self.config.vehicle)
            name = traffic if isinstance(traffic, str) else _numbered(type(model).__qualname__, self._models.values())
            self._models[key] = f"{name}/", model
        number = self._models[key][1].add(scene)
        if not isinstance(number, int | np.integer) or number < 0:
            name = type(self._models[key][1]).__qualname__
            raise ConfigError(f"traffic model {name} numbered a scene {shown(number)}: add returns a number counted from 0")
        self._model_of.append(key)
        self.scenes.append(scene)
        self._local = np.append(self._local, number)
        self._open_loop.append(isinstance(self._models[key][1], OpenLoopTraffic))
        self._logs.append((np.ascontiguousarray(scene.ego.global_from_ego[:, :2, 3]), yaw_of(scene.ego.global_from_ego)))
        self._bodies = None
        return len(self.scenes) - 1

    @property
    def tracks(self) -> int:
        """The most tracks that a scene has."""
        return max((len(scene.tracks) for scene in self.scenes), default=0)

    def bodies(self, scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Size (B, M, 3) and category (B, M) of all tracks of each episode's scene, zero where it has fewer."""
        if self._bodies is None:
            self._bodies = bodies([each.tracks for each in self.scenes])
        return self._bodies[0][scene], self._bodies[1][scene]

    def reset(self, scene: Sequence[int] | np.ndarray, starts: Sequence[Scenario | float]) -> SimState:
        """Episodes that begin: the numbers of their scenes and, for each, a scenario or just a start time in seconds.

        The ego is the logged one, moved as the scenario says. ConfigError if a scenario belongs to another scene or starts
        outside the log.
        """
        scene = np.array(scene, int)
        rows, egos = [], []
        for number, start in zip(scene.tolist(), starts, strict=True):
            scenario = start if isinstance(start, Scenario) else Scenario(self.scenes[number].name, float(start))
            self._check(number, scenario)
            rows.append(row_of(scenario.start))
            egos.append(_moved(self.logged_ego(number, rows[-1]), scenario, self.config.vehicle.wheelbase))
        row, tracks = np.array(rows, int), self.tracks
        agents, traffic = AgentArrays.empty(len(scene), tracks), {}
        for prefix, model, part in self._groups(scene):
            here = self._local[scene[part]]
            there, own = _both(model, model.start(here, _locked(row[part]), tracks), len(here), tracks)
            agents = _placed(agents, part, there)
            traffic.update(_spread(prefix, model, own, part, len(scene)))
        waiting = Commands.controls(np.zeros(len(scene)))
        return SimState(scene, np.zeros(len(scene), int), row, np.array(egos).reshape(-1, 7), agents, traffic, waiting)

    def logged_ego(self, scene: int, row: int) -> np.ndarray:
        """(7,) the recorded ego at a row of a scene's 10 Hz log, clamped to its ends, as a rear-axle state."""
        log, (place, heading) = self.scenes[scene].ego, self._logs[scene]
        row = min(max(row, 0), len(log.time) - 1)
        speed, yaw_rate = max(float(log.speed[row]), 0.0), float(log.yaw_rate[row])
        wheelbase, limit = self.config.vehicle.wheelbase, self.config.dynamics.max_steering
        # Below walking pace the logged yaw rate says more about noise than about the wheels.
        steering = min(max(math.atan(wheelbase * yaw_rate / speed) if speed > 0.5 else 0.0, -limit), limit)
        turning = speed * math.tan(steering) / wheelbase
        return np.array([*place[row], heading[row], speed, log.acceleration[row], steering, turning])

    def step(self, state: SimState, actions: Any) -> tuple[SimState, Ticks]:
        """One decision each: actions (B, ...) of the configured kind. ActionError, naming what is wrong, for a bad one."""
        return self.execute(state, parse_actions(self.config.action, actions, state.ego, state.tick))

    def execute(self, state: SimState, commands: Commands, ticks: int | None = None) -> tuple[SimState, Ticks]:
        """``step`` for commands that are already in physical units; ticks: how many, a decision's by default."""
        ticks, tracks, groups = ticks or self.config.ticks_per_decision, state.tracks, self._groups(state.scene)
        rows = state.row[:, None] + np.arange(1, ticks + 1)
        if len(groups) == 1:
            prefix, model, _ = groups[0]
            egos, agents, own = self._play(model, state, commands, self._own(prefix, state), ticks)
            traffic = _spread(prefix, model, own, slice(None), len(state))
        else:
            egos, agents = np.empty((len(state), ticks, 7)), AgentArrays.empty(len(state), ticks, tracks)
            traffic = {}
            for prefix, model, part in groups:
                some = state.take(part)
                ego, there, own = self._play(model, some, commands.take(part), self._own(prefix, some), ticks)
                egos[part], agents = ego, _placed(agents, part, there)
                traffic.update(_spread(prefix, model, own, part, len(state)))
        after = SimState(state.scene, state.tick + ticks, rows[:, -1], egos[:, -1], agents[:, -1], traffic, commands)
        return after, Ticks(rows, egos, agents)

    def is_open_loop(self, scene: int) -> bool:
        """Whether a scene's traffic never looks at the ego, so that what happened can be had again from the start."""
        return self._open_loop[scene]

    def foreknown(self, state: SimState, ticks: int) -> AgentArrays:
        """The agents (1, ticks, M) after the state of one episode with such traffic."""
        model = self._models[self._model_of[int(state.scene[0])]][1]
        agents = cast(OpenLoopTraffic, model).advance(self._local[state.scene], state.row, ticks, state.tracks)
        return _sound(model, agents, len(state), ticks, state.tracks)

    def single(self, state: SimState, index: int) -> EpisodeState:
        """One episode's state for readers."""
        return single(state, index, self.scenes[int(state.scene[index])])

    def scenes_at(self, state: SimState, decisions: int = 4) -> list[SceneAt]:
        """What is true now in each episode, and what is anticipated at the next ``decisions`` decisions.

        The ego is expected to go on with its last command: a plan is followed to its end; from controls only the present motion
        is kept, the acceleration fading and the wheels held, because the next decision is the policy's. Agents go on as their
        traffic model expects.
        """
        ticks, truths = self.config.ticks_per_decision, []
        fades, config = 1 - TICK / _PEDAL_DECAY, self.config
        ahead = drive(state.ego, state.commands, state.tick, decisions * ticks, config.vehicle, config.dynamics, fades)
        egos = np.concatenate([state.ego[:, None], ahead[:, ticks - 1 :: ticks]], 1)
        later = state.row[:, None] + ticks * np.arange(1, decisions + 1)
        expected = AgentArrays.empty(len(state), decisions, state.tracks)
        for prefix, model, part in self._groups(state.scene):
            some = state.take(part)
            there = model.anticipate(
                self._local[some.scene], _locked(some.row), *_handed(some.agents, self._own(prefix, some)), _locked(later[part])
            )
            expected = _placed(expected, part, _sound(model, there, len(some), decisions, state.tracks))
        for index, number in enumerate(state.scene.tolist()):
            tracks = self.scenes[number].tracks
            poses = self.poses(number, egos[index])
            agents = [state.agents[index], *(expected[index, place] for place in range(decisions))]
            boxes = [each[: len(tracks)].boxes(tracks.category, tracks.size) for each in agents]
            lights = self.scenes[number].lights.rows(np.append(state.row[index], later[index])).T
            ahead_of = later[index] * TICK, poses[1:], tuple(boxes[1:])
            truths.append(SceneAt(int(state.row[index]) * TICK, poses[0], boxes[0], *ahead_of, lights[0], lights[1:]))
        return truths

    def poses(self, scene: int, egos: np.ndarray) -> np.ndarray:
        """global_from_ego (K, 4, 4) of egos (K, 7). The simulator drives in the plane; height, roll and pitch are those of the
        nearest logged pose, so that on the logged path the pose is the logged one."""
        place, heading = self._logs[scene]
        x, y, yaw = egos[:, :3].T
        dx, dy = x[:, None] - place[:, 0], y[:, None] - place[:, 1]
        row = np.argmin(dx * dx + dy * dy, axis=1)
        turn = yaw - heading[row]
        cos, sin = deterministic.cos(turn)[:, None], deterministic.sin(turn)[:, None]
        logged = self.scenes[scene].ego.global_from_ego[row]
        pose = logged.copy()
        pose[:, 0, :3] = cos * logged[:, 0, :3] - sin * logged[:, 1, :3]
        pose[:, 1, :3] = sin * logged[:, 0, :3] + cos * logged[:, 1, :3]
        pose[:, 0, 3], pose[:, 1, 3] = x, y
        return pose

    def _check(self, number: int, scenario: Scenario) -> None:
        scene = self.scenes[number]
        if scenario.scene != scene.name:
            raise ConfigError(f"the scenario plays in {scenario.scene}, but this simulator's scene {number} is {scene.name}")
        if scenario.traffic not in (None, self._model_of[number]):
            raise ConfigError(f"the scenario wants traffic={scenario.traffic!r}, but the scene has {self._model_of[number]!r}")
        if scenario.start > scene.duration:
            raise ConfigError(f"start={scenario.start} s lies outside {scene.name}, which lasts {scene.duration:.1f} s")

    def _groups(self, scene: np.ndarray) -> list[tuple[str, TrafficModel, Any]]:
        """Each traffic model that some episodes have: the prefix of its state, itself, and which rows they are."""
        if len(self._models) == 1 or not len(scene):
            return [(*next(iter(self._models.values())), slice(None))]
        keys = [self._model_of[number] for number in scene.tolist()]
        if all(key == keys[0] for key in keys):
            return [(*self._models[keys[0]], slice(None))]
        present = dict.fromkeys(keys)
        return [(*self._models[key], np.array([row for row, own in enumerate(keys) if own == key])) for key in present]

    @staticmethod
    def _own(prefix: str, state: SimState) -> TrafficState:
        own = ((name[len(prefix) :], array) for name, array in state.traffic.items() if name.startswith(prefix))
        return {name.removeprefix(PER_EPISODE): array for name, array in own}

    def _play(
        self, model: TrafficModel, state: SimState, commands: Commands, own: TrafficState, ticks: int
    ) -> tuple[np.ndarray, AgentArrays, TrafficState]:
        """Egos (B, n, 7), agents (B, n, M) and the traffic's state of episodes with one traffic model."""
        config, scene = self.config, self._local[state.scene]
        egos = drive(state.ego, commands, state.tick, ticks, config.vehicle, config.dynamics)
        if len(state) and self.is_open_loop(int(state.scene[0])):
            agents = cast(OpenLoopTraffic, model).advance(scene, state.row, ticks, state.tracks)
            return egos, _sound(model, agents, len(state), ticks, state.tracks), own
        agents, happened = state.agents, AgentArrays.empty(len(state), ticks, state.tracks)
        for tick in range(ticks):
            ego = egos[:, tick - 1] if tick else state.ego
            given = _locked(ego), *_handed(agents, own)
            agents, own = _both(model, model.step(scene, state.row + tick, *given), len(state), state.tracks)
            happened.values[:, :, tick], happened.valid[:, tick] = agents.values, agents.valid
        return egos, happened, own


def traffic_key(traffic: Any) -> str | int:
    """What tells one answer to ``traffic=`` from another: a name, else which object it is."""
    return traffic if isinstance(traffic, str) else id(traffic)


def _numbered(name: str, models: Iterable[tuple[str, TrafficModel]]) -> str:
    """A name for a model's state that does not depend on models of other classes."""
    return f"{name}#{sum(prefix.startswith(f'{name}#') for prefix, _ in models)}"


def _moved(ego: np.ndarray, scenario: Scenario, wheelbase: float) -> list[float]:
    """An ego (7,) shifted ahead and to its left, turned and, its wheels held, at another speed where the scenario says so."""
    x, y, yaw, speed, acceleration, steering, yaw_rate = ego.tolist()
    ahead, left = scenario.ego_ahead, scenario.ego_offset
    x, y = x + math.cos(yaw) * ahead - math.sin(yaw) * left, y + math.sin(yaw) * ahead + math.cos(yaw) * left
    if scenario.ego_speed is not None:
        speed, acceleration = float(scenario.ego_speed), 0.0
        yaw_rate = speed * math.tan(steering) / wheelbase
    return [x, y, yaw + scenario.ego_yaw, speed, acceleration, steering, yaw_rate]


def _placed(agents: AgentArrays, part: Any, some: AgentArrays) -> AgentArrays:
    """Agents of some episodes in the place of those of all."""
    if isinstance(part, slice):
        return some
    agents.values[:, part], agents.valid[part] = some.values, some.valid
    return agents


def _both(model: TrafficModel, answer: Any, count: int, tracks: int) -> tuple[AgentArrays, TrafficState]:
    """A model's agents (count, tracks) and its own state. ConfigError, naming the model, if they are not that."""
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
        raise ConfigError(f"traffic model {type(model).__qualname__} gave {type(answer).__name__}, not its agents and its state")
    _check_state(model, answer[1], count, tracks)
    return _sound(model, answer[0], count, tracks), answer[1]


def _sound(model: TrafficModel, agents: Any, *shape: int) -> AgentArrays:
    """A model's agents of a shape. ConfigError, naming the model, if they have another one or are not finite."""
    name = f"traffic model {type(model).__qualname__}"
    if not isinstance(agents, AgentArrays):
        raise ConfigError(f"{name} gave {type(agents).__name__}, not simulation.agents.AgentArrays")
    for array in (agents.values, agents.valid):
        if not isinstance(array, np.ndarray):
            raise ConfigError(f"{name} gave agents of {type(array).__name__}, not of arrays")
    found = agents.values.shape, agents.valid.shape
    if found != ((VALUES, *shape), shape):
        raise ConfigError(f"{name} gave values {found[0]} and valid {found[1]}, not {(VALUES, *shape)} and {shape}")
    if agents.valid.dtype != bool or agents.values.dtype.kind != "f":
        kinds = agents.values.dtype, agents.valid.dtype
        raise ConfigError(f"{name} gave values of {kinds[0]} and valid of {kinds[1]}, not of float64 and bool")
    if not np.isfinite(agents.values).all():
        where = tuple(np.argwhere(~np.isfinite(agents.values))[0].tolist())
        raise ConfigError(f"{name} gave a value that is not finite: values[{', '.join(map(str, where))}]")
    return agents


def _check_state(model: TrafficModel, own: TrafficState, count: int, tracks: int) -> None:
    """ConfigError, naming the model, if its own state is not of arrays as the contract of traffic models has them."""
    per_episode, model_name = getattr(model, "per_episode", ()), f"traffic model {type(model).__qualname__}"
    if own and not isinstance(per_episode, tuple | list | set | frozenset):
        raise ConfigError(f"{model_name} has per_episode={shown(per_episode)}: it must be a tuple of names")
    for name, array in own.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise ConfigError(f"the state {shown(name)} of {model_name} is {shown(array)}: names go with arrays of numbers")
        if array.shape[:1] != (count,):
            raise ConfigError(
                f"the state {name!r} of {model_name} has shape {array.shape}: its first axis is the {count} episodes"
            )
        if name not in per_episode and array.ndim > 1 and array.shape[1] != tracks:
            raise ConfigError(
                f"the state {name!r} of {model_name} has shape {array.shape}, but its second axis is "
                f"that of the {tracks} tracks: name it in the model's per_episode if it is not"
            )


def _locked(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to: what is handed to a model from elsewhere may be part of a snapshot."""
    view = array.view()
    view.flags.writeable = False
    return view


def _handed(agents: AgentArrays, own: TrafficState) -> tuple[AgentArrays, TrafficState]:
    """Agents and a model's state as it gets them."""
    return AgentArrays(_locked(agents.values), _locked(agents.valid)), {name: _locked(array) for name, array in own.items()}


def _spread(prefix: str, model: TrafficModel, own: TrafficState, part: Any, count: int) -> dict[str, np.ndarray]:
    """A model's state of some episodes as that of all, zero for the others."""
    spread = {}
    for name, array in own.items():
        whole = array
        if not isinstance(part, slice):
            whole = np.zeros((count, *array.shape[1:]), array.dtype)
            whole[part] = array
        mark = PER_EPISODE if name in getattr(model, "per_episode", ()) else ""
        spread[f"{prefix}{mark}{name}"] = whole
    return spread
