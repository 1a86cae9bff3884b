"""N running episodes: scenes, simulator, world, metrics and rewards wired together. An environment is a row of it or all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector.utils import create_empty_array

from dist4d_env.data.open import open_dataset
from dist4d_env.data.soundness import load_scene
from dist4d_env.envs.config import EnvConfig, read_reset_options, read_scenario_option
from dist4d_env.envs.ending import intended_end, termination_causes, truncation_cause, whole_horizon
from dist4d_env.envs.rewards import CHOSEN_TERMS, arrival, known, pdms_so_far, reward_terms, weighted_sum
from dist4d_env.envs.sensors.checks import Arrays, NoSuchKey, check_observed, check_space
from dist4d_env.envs.sensors.contract import Instant, Sensor
from dist4d_env.envs.starts import check_length, check_start, draw_start, possible_starts
from dist4d_env.envs.world_checks import checked_answer, one_for_each
from dist4d_env.errors import ConfigError, DataError, shown
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert, yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.recording import logged_progress, trace_of
from dist4d_env.metrics.driving.running import Running, RunningMetrics
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.progress import spending
from dist4d_env.registry import SENSORS
from dist4d_env.scenes.edits import Edit
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.actions import action_space, checked_actions, to_commands
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig, traffic_key
from dist4d_env.simulation.state import EpisodeState, SimState, Ticks, single
from dist4d_env.simulation.tracker import with_rows
from dist4d_env.worlds.contract import World, WorldInfo, WorldStart, WorldState, world_traits
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.stopwatch import Stopwatch

EDITED_SCENES = 64
"""Edited scenes that are kept; the oldest makes room for the next."""
SPARE_SCENES = 256
"""Scenes that the simulator keeps though no episode plays in them; beyond that those not in use are let go."""
FORESIGHT, MOST_FORESEEN = 2.0, 16
"""Seconds that are anticipated, and decisions at most."""

SceneKey = tuple[str, tuple[Edit, ...], float]
_NO_PLAN = np.zeros((0, 3))
_MADE_ANEW = ("_world", "_scenes", "_numbers", "simulator", "metrics", "state", "running", "episodes")
Shown = tuple[int, WorldState, RGBDFrame | None, WorldInfo, np.ndarray]
"""Row, state of the world, frame, info and plan."""


@dataclass(frozen=True)
class Seeds:
    """The streams of one episode. scenario, traffic: generators; noise, policy: whole numbers for the world and the planner."""

    scenario: np.random.Generator
    traffic: np.random.Generator
    noise: int
    policy: int

    @classmethod
    def draw(cls, random: np.random.Generator) -> Seeds:
        """Spawn the four streams from one number of the environment's generator."""
        scenario, traffic, noise, policy = np.random.SeedSequence(int(random.integers(2**63))).spawn(4)
        number = [int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1)) for stream in (noise, policy)]
        return cls(np.random.default_rng(scenario), np.random.default_rng(traffic), *number)


@dataclass
class Episode:
    """What belongs to one running episode apart from the arrays of all.

    scenario: scene, start and what differs from the log; scene: with its edits; end_time: seconds since the scene's first
    keyframe; start: the first state (1); egos, agents: since then, decision by decision, (n, 7) and (n, M), the latter only
    where the traffic looks at the ego; world, frame, world_info: what the world showed last; plan: (K, 3) x, y, heading where
    the ego means to go, in the ego frame; ended_by: what ended the episode, None while it runs; collected: of its score, where
    the reward weighs that.
    """

    scenario: Scenario
    scene: Scene
    end_time: float
    policy_seed: int
    noise_seed: int
    start: SimState
    egos: list[np.ndarray] = field(default_factory=list)
    agents: list[AgentArrays] = field(default_factory=list)
    world: WorldState = None
    frame: RGBDFrame | None = None
    world_info: WorldInfo = field(default_factory=lambda: WorldInfo((), 0.0, 1.0))
    plan: np.ndarray = field(default_factory=lambda: _NO_PLAN)
    ended_by: str | None = None
    collected: float = 0.0

    def kept(self) -> Episode:
        """A copy that goes on by itself."""
        return replace(self, egos=list(self.egos), agents=list(self.agents))


@dataclass(frozen=True)
class EpisodeSnapshot:
    """One episode as a value: what only it has, and its rows (1) of the arrays of all."""

    episode: Episode
    state: SimState
    running: Running


class Episodes:
    """N episodes over the scenes of one data set, in one world. ``reset`` and ``step`` take rows; all arrays are of the N."""

    def __init__(self, config: EnvConfig, count: int) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        self.config, self.count = config, count
        self.most_decisions: int | None = None  # of an episode, apart from its horizon
        scenes = config.scenes if config.scenario is None else config.scenario.scene
        with spending("the data set"):
            self.dataset = open_dataset(config.dataroot, config.version, scenes, config.dataset, config.size)
        self.scene_names = self.dataset.scene_names(scenes)
        if not isinstance(self.scene_names, list | tuple) or not self.scene_names:
            raise DataError(
                f"{type(self.dataset).__name__}.scene_names({shown(scenes)}) gave {shown(self.scene_names)}: no names"
            )
        self._unplayable: set[str] = set()
        self._closed = False
        self._world: World | None = None  # made when it is first needed
        first = self._first_scene()  # before the world, which takes long
        with spending("the world"):
            world = self.open_world()
        self.traits = world_traits(world)
        self.size = config.image_size(self.traits.image_size, self.traits.size_multiple)
        self._sensors: list[Sensor] = [SENSORS.make(name, ("space", "observe")) for name in config.observation or ()]
        self.rig: CameraRig = first.rig
        self._foreign: list[tuple[Any, dict[str, spaces.Space]]] = []  # sensors from elsewhere and what is theirs
        keys: dict[str, spaces.Space] = {}
        for sensor, name in zip(self._sensors, config.observation or (), strict=True):
            if getattr(sensor, "needs_pictures", False) and not self.traits.shows_pictures:
                raise ConfigError(f"sensor {name!r} needs pictures, which world={config.world!r} does not make")
            own = sensor.space(first, self.size)
            if not (isinstance(name, str) and name in SENSORS.built_in):
                check_space(name, own)
                self._foreign.append((name, own))
            if twice := keys.keys() & own.keys():
                raise ConfigError(f"sensor {name!r} has the key {min(twice)!r}, as another sensor of observation= has")
            keys.update(own)
        self.observation_space = spaces.Dict(keys)
        self.action_space = action_space(config.action)
        # Where the ego is heading is for worlds that draw ahead and for pictures of the plan.
        drawn = self.traits.shows_pictures or config.render_mode is not None
        self.foresight = max(1, min(round(FORESIGHT / config.decision_dt), MOST_FORESEEN)) if drawn else 0
        self.weights: Mapping[str, float] = config.reward  # type: ignore[assignment]
        self.random: list[np.random.Generator] = [np.random.default_rng() for _ in range(count)]
        self.episodes: list[Episode] = []
        self.observations = Arrays(create_empty_array(self.observation_space, count))
        self._forget_scenes()
        self.state: SimState | None = None
        self.running: Running | None = None
        self.clipped = np.zeros(count, bool)

    def __getstate__(self) -> dict[str, Any]:
        """Episodes as snapshots, and what cannot be made anew: neither the world nor scenes. They go on in another process."""
        kept = {name: value for name, value in self.__dict__.items() if name not in _MADE_ANEW}
        return {**kept, "_snapshots": [self.snapshot(row) for row in range(len(self.episodes))]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        snapshots = state.pop("_snapshots")
        self.__dict__.update(state)
        self._world, self.episodes, self.state, self.running = None, [], None, None
        self._forget_scenes()
        for row, snapshot in enumerate(snapshots):
            self.restore(row, snapshot)

    def __deepcopy__(self, memo: dict[int, Any]) -> Episodes:
        """Values and worlds, which are pure, are shared; random generators and what is written to are copied."""
        twin = memo[id(self)] = object.__new__(type(self))
        own = {name: deepcopy(getattr(self, name), memo) for name in ("random", "observations", "clipped")}
        twin.__setstate__({**self.__getstate__(), **own})
        twin._world = self._world
        return twin

    # What happens

    def reset(self, rows: np.ndarray, options: Sequence[dict[str, Any]], watch: Stopwatch) -> dict[str, np.ndarray]:
        """Begin an episode at some rows (at all the first time), each with its options; the reward terms (N,), zero there.
        Nothing but the random generators has changed where it raises."""
        initial, new = self._new_episodes(rows, options, watch)
        state = initial if self.state is None else self.state.put(rows, initial)
        shown = self._ask(state, rows, new, watch)
        self.clipped[rows] = False
        with watch("metrics"):
            running = self.metrics.update(None, np.ones(len(rows), bool), initial.scene, first_instant(initial, 1))
            self.running = running if self.running is None else self.running.put(rows, running)
            self._advance(state, new, shown)
            return self._terms(np.isin(np.arange(self.count), rows))

    def step(
        self, actions: Any, begins: np.ndarray, options: Callable[[int], dict[str, Any]], watch: Stopwatch
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """One decision each; where ``begins`` (N,) an episode begins instead, with its row's options, and the action is ignored.

        Returns terms by name, rewards, terminated and truncated (N,). ActionError, before anything has moved, for a bad action.
        """
        before = self.now
        with watch("simulation"):
            values, clipped = checked_actions(self.config.action, actions, self.count)
            commands = to_commands(self.config.action, values, before.ego, before.tick)
        rows, initial = np.flatnonzero(begins), None
        new: dict[int, Episode] = {}
        if len(rows):
            initial, new = self._new_episodes(rows, [options(row) for row in rows.tolist()], watch)
        with watch("simulation"):
            state, ticks = self.simulator.execute(self.now, commands)
            if initial is not None:
                state, ticks = state.put(rows, initial), with_first_instants(ticks, rows, initial)
        shown = self._ask(state, np.arange(self.count), new, watch)
        self.clipped = clipped & ~begins
        with watch("metrics"):
            self.running = self.metrics.update(self.running, begins, state.scene, ticks)
            self._advance(state, new, shown, ticks)
            terms = self._terms(begins)
            rewards = np.where(begins, 0.0, weighted_sum(terms, self.weights, self.count))
            terminated, truncated = self._end(begins)
        return terms, rewards, terminated, truncated

    def observe(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The observations (N, ...) with those of some rows made anew; the arrays are kept and written to again."""
        tracks = self.now.tracks
        size, category = (body[:, :tracks] for body in self.simulator.bodies(self.now.scene))
        some = self.now if len(rows) == self.count else self.now.take(np.array(rows, int))
        now = Instant(
            rows=rows,
            state=self.now,
            running=self.bookkeeping,
            scenes=[episode.scene for episode in self.episodes],
            size=size,
            category=category,
            frames=[episode.frame for episode in self.episodes],
            world=self.open_world(),
            world_states=[episode.world for episode in self.episodes],
            truths=LazyTruths(self.simulator, some),
            end_time=np.array([episode.end_time for episode in self.episodes]),
            routes=self.metrics.routes,
        )
        for sensor, name in zip(self._sensors, self.config.observation or (), strict=True):
            try:
                sensor.observe(now, self.observations)
            except NoSuchKey as error:
                raise ConfigError(
                    f"sensor {shown(name)} writes {shown(error.args[0])}, which the observation does not have: "
                    f"its keys are {', '.join(self.observation_space)}, those of its sensors' spaces"
                ) from error
        for name, own in self._foreign:
            check_observed(name, own, self.observations, rows)
            if self.observations.keys() != self.observation_space.keys():
                raise ConfigError(f"sensor {shown(name)} added or took away keys of the observation: they are those of its space")
        return self.observations

    def snapshot(self, row: int) -> EpisodeSnapshot:
        """One episode as a value."""
        episode, rows = self.episodes[row], np.array([row])
        tracks = len(episode.scene.tracks)
        return EpisodeSnapshot(episode.kept(), self.now.take(rows).fitted(tracks), self.bookkeeping.take(rows).fitted(tracks))

    def restore(self, row: int, snapshot: EpisodeSnapshot) -> None:
        """Put an episode in the place of one of the N, or of the first where none has started."""
        episode = snapshot.episode.kept()
        episode.scene = self.scene(episode.scenario)
        [number] = self._numbers_of([(episode.scenario, episode.scene)])
        rows, tracks = np.array([row]), self.simulator.tracks
        state = replace(snapshot.state.fitted(tracks), scene=np.array([number]))
        running = snapshot.running.fitted(tracks)
        everywhere = np.zeros(self.count, int)  # until the others are restored too
        self.state = state.take(everywhere) if self.state is None else self.state.put(rows, state)
        self.running = running.take(everywhere) if self.running is None else self.running.put(rows, running)
        self._place(row, episode)

    def forget(self, row: int) -> None:
        """Go back to before the first reset, where there is one episode only."""
        if self.count > 1:
            raise ConfigError("this snapshot was taken before the first reset(): take one of an episode")
        self.episodes, self.state, self.running = [], None, None

    @property
    def now(self) -> SimState:
        """The state of the N. Only after the first ``reset``."""
        assert self.state is not None
        return self.state

    @property
    def bookkeeping(self) -> Running:
        """The running metrics of the N. Only after the first ``reset``."""
        assert self.running is not None
        return self.running

    def single(self, row: int) -> EpisodeState:
        """One episode's state for readers."""
        return single(self.now, row, self.episodes[row].scene)

    def trace(self, row: int) -> EpisodeTrace:
        """One episode so far as arrays, for the metrics of whole episodes."""
        return _trace(self.episodes[row], *self._simulated(row))

    def final_metrics(self, row: int) -> Callable[[], dict[str, MetricResult]]:
        """What computes the metrics of an episode as it is now, whatever is played afterwards; progress is relative to the time
        that it was meant to last."""
        return partial(self._evaluate, self.episodes[row].kept(), *self._simulated(row))

    def require_open(self) -> None:
        """Raises ClosedEnvironmentError once the environment has been closed."""
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed: make a new one")

    def open_world(self) -> World:
        """The world, unless the environment has been closed."""
        self.require_open()
        if self._world is None:
            config = self.config
            self._world = make_world(
                config.world, weights=config.weights, memory=config.memory, device=config.device, service=config.service
            )
        return self._world

    def close(self) -> None:
        """Let go of episodes, scenes and models."""
        self._closed, self._world, self.episodes, self.state, self.running = True, None, [], None, None
        self._forget_scenes()

    # Scenes

    def _choose(self, row: int, options: dict[str, Any]) -> tuple[Scenario, Seeds]:
        """What a new episode plays: the scenario if there is one, else what the options say and chance for the rest."""
        options, config, seeds = read_reset_options(options), self.config, Seeds.draw(self.random[row])
        given = read_scenario_option(options["scenario"], config.traffic) if "scenario" in options else config.scenario
        needs_images = self.traits.needs_images
        if given is not None:
            if {"scene", "start"} & set(options):
                raise ConfigError("reset options 'scene' and 'start' are fixed by the scenario: leave the one or the other out")
            scene = self.scene(Scenario(given.scene, 0.0))
            start = check_start(scene, needs_images, given.start, config.decision_dt, "the scenario's start")
            return replace(given, start=start), seeds
        name, asked = options.get("scene"), options.get("start")
        if name is None:
            name = self._draw_scene(seeds.scenario)
        scene = self.scene(Scenario(name, 0.0))
        if asked is None:
            horizon = whole_horizon(config.horizon, config.decision_dt)
            start = draw_start(scene, needs_images, horizon, config.decision_dt, seeds.scenario)
        else:
            start = check_start(scene, needs_images, asked, config.decision_dt, "options['start']")
        return Scenario(name, start), seeds

    def _first_scene(self) -> Scene:
        """The first scene that can be read. Raises DataError where none can."""
        for name in self.scene_names[:-1]:
            try:
                return self._long_enough(name)
            except DataError:
                continue  # ``_playable`` says so when it is drawn
        return self._long_enough(self.scene_names[-1])

    def _long_enough(self, name: str) -> Scene:
        """A scene as it was recorded. Raises DataError, also where no episode fits into it."""
        scene = load_scene(self.dataset, name)
        check_length(scene, self.config.decision_dt)
        return scene

    def _draw_scene(self, random: np.random.Generator) -> str:
        """The name of a scene that can be played. Drawn again where it cannot, so that what is drawn does not depend on what is
        already known of the scenes. Raises DataError where there is none."""
        if self._unplayable.issuperset(self.scene_names):
            self._unplayable.clear()  # they may have been mended since
        while True:
            name = self.scene_names[int(random.integers(len(self.scene_names)))]
            if name not in self._unplayable and self._playable(name):
                return name

    def _playable(self, name: str) -> bool:
        """Whether an episode can begin in a scene and be shown by the world; says so the first time that one cannot. Raises
        DataError if it is the last."""
        try:
            possible_starts(self.scene(Scenario(name, 0.0)), self.traits.needs_images, self.config.decision_dt)
        except DataError as error:
            if not self._unplayable:
                gym.logger.warn(f"{error}. Such scenes are not drawn; `python -m dist4d_env validate` lists them all")
            self._unplayable.add(name)
            if self._unplayable.issuperset(self.scene_names):
                raise
            return False
        return True

    def scene(self, scenario: Scenario) -> Scene:
        """A scenario's scene, its edits included, kept for the next episode in it."""
        key = scenario.scene, scenario.edits, scenario.start if scenario.edits else 0.0
        scene = self._scenes.get(key)
        if scene is None:
            scene = apply_all(scenario.edits, load_scene(self.dataset, scenario.scene), scenario.start)
            if scene.rig.names != self.rig.names:
                raise ConfigError(
                    f"{scene.name} has the cameras {', '.join(scene.rig.names)}, but this environment has "
                    f"{', '.join(self.rig.names)}: one environment has one rig, so name scenes with the "
                    "same cameras"
                )
            edited = [kept for kept in self._scenes if kept[1]]
            if scenario.edits and len(edited) >= EDITED_SCENES:
                del self._scenes[edited[0]]
            self._scenes[key] = scene
        return scene

    def _numbers_of(self, played: Sequence[tuple[Scenario, Scene]]) -> list[int]:
        """Which scenes of simulator and metrics some scenarios play in; new ones are added."""
        wanted = []
        for scenario, scene in played:
            traffic = scenario.traffic or self.config.traffic
            wanted.append(((id(scene), traffic_key(traffic)), scene, traffic))
        new = {key for key, *_ in wanted if key not in self._numbers}
        if new and len(self._numbers) + len(new) > SPARE_SCENES + self.count:
            self._drop_scenes()
        for key, scene, traffic in wanted:
            if key not in self._numbers:
                self._numbers[key] = self.simulator.add(scene, traffic)
                self.metrics.add(scene)
        return [self._numbers[key] for key, *_ in wanted]

    def _forget_scenes(self) -> None:
        config = self.config
        self._scenes: dict[SceneKey, Scene] = {}
        self.simulator = Simulator(SimulatorConfig(config.decision_dt, config.action, config.traffic))
        self.metrics = RunningMetrics()
        self._numbers: dict[tuple[int, Any], int] = {}

    def _drop_scenes(self) -> None:
        """Forget the scenes that no episode plays in."""
        kept = self._scenes
        self._forget_scenes()
        self._scenes = kept
        if self.state is not None and self.running is not None:
            scene = np.array(self._numbers_of([(episode.scenario, episode.scene) for episode in self.episodes]), int)
            tracks = self.simulator.tracks
            self.state, self.running = replace(self.state.fitted(tracks), scene=scene), self.running.fitted(tracks)

    # Parts of a step

    def _new_episodes(
        self, rows: np.ndarray, options: Sequence[dict[str, Any]], watch: Stopwatch
    ) -> tuple[SimState, dict[int, Episode]]:
        """The first states of episodes about to begin at some rows, and what only each of them has."""
        with watch("scene"):
            chosen = [self._choose(row, own) for row, own in zip(rows.tolist(), options, strict=True)]
            scenarios = [scenario for scenario, _ in chosen]
            scenes = [self.scene(scenario) for scenario in scenarios]
            numbers = self._numbers_of(list(zip(scenarios, scenes, strict=True)))
        with watch("simulation"):
            state, new = self.simulator.reset(numbers, scenarios), {}
            for place, (row, (scenario, seeds)) in enumerate(zip(rows.tolist(), chosen, strict=True)):
                scene, time = scenes[place], float(state.time[place])
                horizon, dt = scenario.horizon or self.config.horizon, self.config.decision_dt
                end_time = intended_end(time, horizon, scene.duration, dt, self.most_decisions)
                start = state.take(np.array([place])).fitted(len(scene.tracks))
                new[row] = Episode(scenario, scene, end_time, seeds.policy, seeds.noise, start)
        return state, new

    def _ask(self, state: SimState, rows: np.ndarray, new: Mapping[int, Episode], watch: Stopwatch) -> list[Shown]:
        """One call of the world for some rows: state, frame and info of each, and where each ego means to go (P, 3)."""
        world, some = self.open_world(), state if len(rows) == len(state) else state.take(rows)
        truths: Sequence[SceneAt] = LazyTruths(self.simulator, some)
        plans = [_NO_PLAN] * len(rows)
        if self.foresight:
            with watch("simulation"):
                truths = self.simulator.scenes_at(some, self.foresight)
                plans = [plan_ahead(truth) for truth in truths]
        with watch("world"):
            states: list[WorldState] = [None if row in new else self.episodes[row].world for row in rows.tolist()]
            places = [place for place, row in enumerate(rows.tolist()) if row in new]
            starts = [self._world_start(new[int(rows[place])], float(some.time[place])) for place in places]
            for place, first in zip(places, one_for_each(starts, world.reset(starts) if starts else (), "reset"), strict=True):
                states[place] = first
            answers = one_for_each(rows, world.step(states, truths), "step")
        expected = (len(self.rig.names), *self.size) if self.traits.shows_pictures else None
        shown = [checked_answer(answer, expected) for answer in answers]
        return [(row, *answer, plan) for row, answer, plan in zip(rows.tolist(), shown, plans, strict=True)]

    def _world_start(self, episode: Episode, time: float) -> WorldStart:
        scene = episode.scene
        return WorldStart(scene, scene.rig.at_size(*self.size), time, episode.noise_seed)

    def _advance(self, state: SimState, new: Mapping[int, Episode], shown: Sequence[Shown], ticks: Ticks | None = None) -> None:
        """The episodes after a decision, or at their first instant where they have started."""
        self.state = state
        for row in sorted(new):
            self._place(row, new[row])
        for row, world, frame, info, plan in shown:
            episode = self.episodes[row]
            episode.world, episode.frame, episode.world_info, episode.plan = world, frame, info, plan
            if ticks is not None and row not in new:
                episode.egos.append(ticks.ego[row])
                if not self.simulator.is_open_loop(int(state.scene[row])):
                    episode.agents.append(ticks.agents[row].fitted(len(episode.scene.tracks)))

    def _place(self, row: int, episode: Episode) -> None:
        self.episodes[row : row + 1] = [episode]

    def _terms(self, begins: np.ndarray) -> dict[str, np.ndarray]:
        """(N,) the reward terms after a decision; those of whole episodes are 0 where one begins."""
        values, time = self.bookkeeping.values, self.now.time
        terms = reward_terms(values, self.config.decision_dt)
        for name in CHOSEN_TERMS:
            if not self.weights.get(name):
                continue
            if name == "red_light":
                terms[name] = known(values[name])
                continue
            term = terms[name] = np.zeros(self.count)
            for row in np.flatnonzero(~begins).tolist():
                episode = self.episodes[row]
                if name == "arrival":
                    own = {value: float(array[row]) for value, array in values.items()}
                    term[row] = arrival(float(time[row]), episode.end_time, own, self._reference(episode))
                else:
                    so_far = pdms_so_far(self.trace(row), episode.end_time, self._reference(episode))
                    term[row] = 0.0 if np.isnan(so_far - episode.collected) else so_far - episode.collected
                    episode.collected = so_far
        return terms

    def _end(self, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends what has to end; (N,) which episodes have been terminated and which truncated. Those that begin are neither."""
        config, values, time = self.config, self.bookkeeping.values, self.now.time
        causes, terminated, truncated = termination_causes(values, config.termination), *np.zeros((2, self.count), bool)
        for row in np.flatnonzero(~begins).tolist():
            episode = self.episodes[row]
            episode.ended_by = causes[row]
            if episode.ended_by is not None:
                terminated[row] = True
                continue
            episode.ended_by = truncation_cause(float(time[row]), episode.end_time, episode.world_info, config.trust_floor)
            truncated[row] = episode.ended_by is not None
        return terminated, truncated

    def _simulated(self, row: int) -> tuple[Simulator, int, VehicleParameters]:
        """The simulator that an episode plays in, its scene's number there, and the vehicle."""
        return self.simulator, int(self.now.scene[row]), self.metrics.vehicle

    def _evaluate(self, episode: Episode, *simulated: Any) -> dict[str, MetricResult]:
        return evaluate(_trace(episode, *simulated), self._reference(episode))

    def _reference(self, episode: Episode) -> float:
        """Metres that the logged ego makes in the time that an episode is meant to last."""
        return logged_progress(episode.scene, self.metrics.vehicle, float(episode.start.time[0]), episode.end_time)


def _trace(episode: Episode, simulator: Simulator, number: int, vehicle: VehicleParameters) -> EpisodeTrace:
    """An episode so far as arrays. number: of its scene in the simulator."""
    start, scene = episode.start, episode.scene
    count, tracks = sum(map(len, episode.egos)), len(scene.tracks)
    egos, agents = np.concatenate([start.ego, *episode.egos]), [start.agents, *episode.agents]
    if simulator.is_open_loop(number) and count:
        here = replace(start, scene=np.array([number])).fitted(simulator.tracks)
        agents = [start.agents, simulator.foreknown(here, count)[0].fitted(tracks)]
    joined = AgentArrays(np.concatenate([a.values for a in agents], 1), np.concatenate([a.valid for a in agents]))
    return trace_of(scene, vehicle, int(start.row[0]) + np.arange(count + 1), egos, joined)


class LazyTruths(Sequence[SceneAt]):
    """What is true in some episodes, put together where a world looks at it; to another process it goes as a list."""

    def __init__(self, simulator: Simulator, state: SimState) -> None:
        self._simulator, self._state = simulator, state

    @cached_property
    def _truths(self) -> list[SceneAt]:
        return self._simulator.scenes_at(self._state, 0)

    def __len__(self) -> int:
        return len(self._state)

    def __getitem__(self, index: Any) -> Any:
        return self._truths[index]

    def __reduce__(self) -> Any:
        return list, (self._truths,)


def plan_ahead(truth: SceneAt) -> np.ndarray:
    """(K, 3) x, y, heading of the anticipated ego in the present ego frame."""
    ahead = invert(truth.global_from_ego) @ truth.anticipated_pose
    return np.concatenate([ahead[:, :2, 3], yaw_of(ahead)[:, None]], 1)


def first_instant(state: SimState, count: int) -> Ticks:
    """A state (B,) as ``count`` ticks that are all the same: how an episode begins for its running metrics."""
    still = np.zeros(count, int)
    agents = state.agents[:, None][:, still]
    return Ticks(np.repeat(state.row[:, None], count, 1), np.repeat(state.ego[:, None], count, 1), agents)


def with_first_instants(ticks: Ticks, rows: np.ndarray, state: SimState) -> Ticks:
    """The ticks (N, n) with those of some rows replaced by the first instants of episodes that begin there."""
    began = first_instant(state, ticks.row.shape[1])
    agents = ticks.agents.put(rows, began.agents)
    return Ticks(with_rows(ticks.row, rows, began.row), with_rows(ticks.ego, rows, began.ego), agents)
