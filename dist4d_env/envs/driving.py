"""The Gymnasium environment: wires scenes, simulator, world, metrics and rendering together, and holds the current episode."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from dist4d_env.data.open import open_dataset
from dist4d_env.envs.batched_step import Request, Turn, play
from dist4d_env.envs.config import read_keywords, read_scenario_option
from dist4d_env.envs.episode import Episode, Seeds, Snapshot
from dist4d_env.envs.info import episode_info, final_info
from dist4d_env.envs.lazy_dict import LazyDict
from dist4d_env.envs.observations import Observer, observation_space
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.envs.rewards import reward_terms, reward_weights, weighted_sum
from dist4d_env.envs.rewards_judged import judged_terms
from dist4d_env.envs.starts import check_start, draw_start
from dist4d_env.envs.termination import termination_cause, truncation_cause
from dist4d_env.envs.timing import Stopwatch
from dist4d_env.envs.window import Window, has_display, require_display
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import invert, yaw_of
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.scenes.edits import Edit
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.actions import action_space
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.worlds.contract import World, WorldStart
from dist4d_env.worlds.factory import make_world

METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 2}
"""What the class can render; an environment says what can be had where it runs, at its own rate."""

Room = tuple[Scene, Simulator, RunningMetrics]
RoomKey = tuple[str, str, tuple[Edit, ...], float]
EDITED_ROOMS = 64
"""Edited scenes that an environment keeps; the oldest makes room for the next."""

FORESIGHT, MOST_FORESEEN = 2.0, 16
"""Seconds that are anticipated, and decisions at most."""


class DiST4DDrivingEnv(gym.Env):
    """Closed-loop driving through a nuScenes-format scene; a world model renders its six cameras from wherever the ego really is.

    ## Description

    The ego starts on the recorded path of a scene and is then driven by the actions alone: a kinematic bicycle at 10 Hz among
    the scene's traffic. After every decision the world shows what its six cameras see: ``"dist4d"`` generates the images (DiST-T
    along the anticipated path, DiST-S off it), ``"replay"`` reprojects logged images, ``"oracle"`` renders the town's true
    geometry and ``"none"`` draws nothing. Units are SI, angles radians; the ego frame is x forward, y left, its origin on the
    ground below the rear axle.

    ## Action Space

    | ``action`` | space | meaning |
    |---|---|---|
    | ``"controls"`` | ``Box(-1, 1, (2,), float32)`` | pedals and steering rate |
    | ``"trajectory"`` | ``Box((8, 3), float32)`` | x, y (m) and heading in the ego frame at 0.5, 1.0, ... 4.0 s |
    | ``"discrete"`` | ``Discrete(42)`` | acceleration (index // 7) and front wheel angle (index % 7) |

    Controls: the first number is acceleration (-1 brakes with 6 m/s², 0 rolls, 1 gives 3 m/s²), the second turns the front wheels
    (±1 is ±0.5 rad/s, positive left). A trajectory is followed by an LQR tracker; x in [-20, 160], y in [-80, 80], heading in
    [-pi, pi]. Discrete: {-6, -3, -1, 0, 1, 3} m/s² x {-0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3} rad.

    ## Observation Space

    A ``Dict`` with the keys of the chosen groups. All bounds are finite; values are clipped to them.

    | group | key | space |
    |---|---|---|
    | ``cameras`` | ``"CAM_FRONT"`` and so on | ``(H, W, 3)`` uint8 RGB |
    | ``depth`` | ``"CAM_FRONT/depth"`` and so on | ``(H, W, 1)`` float32 z-depth in metres, 0 to 100; 100 is sky or beyond |
    | ``ego`` | ``"ego"`` | ``(10,)`` float32 |
    | ``route`` | ``"route"`` | ``(20, 2)`` float32: x, y in the ego frame of the route 2.5, 5, ... 50 m ahead |
    | ``agents`` | ``"agents"`` | ``(64, 9)`` float32: the nearest agents within 100 m, nearest first, padded with zeros |
    | ``bev`` | ``"bev"`` | ``(12, 200, 200)`` uint8, 0 or 255: 0.5 m cells, row 0 is 50 m ahead, column 0 is 50 m to the left |

    The cameras, in ring order: CAM_FRONT_LEFT, CAM_FRONT, CAM_FRONT_RIGHT, CAM_BACK_RIGHT, CAM_BACK, CAM_BACK_LEFT.

    | ``ego`` column | meaning | bounds |
    |---|---|---|
    | 0 | speed, m/s | 0, 70 |
    | 1 | acceleration along the heading, m/s² | -20, 20 |
    | 2 | lateral acceleration (speed x yaw rate), m/s² | -20, 20 |
    | 3 | yaw rate, rad/s | -5, 5 |
    | 4 | front wheel angle, rad, positive left | -2, 2 |
    | 5 | offset of the box centre to the left of the route, m | -50, 50 |
    | 6 | heading relative to the route, rad | -pi, pi |
    | 7 | speed limit here, m/s, 0 where the map tells none | 0, 70 |
    | 8 | command: -1 right, 0 straight on, 1 left: whether the route turns by over 20 degrees in the next 25 m | -1, 1 |
    | 9 | time left until the horizon, s | 0, 1000 |

    | ``agents`` column | meaning | bounds |
    |---|---|---|
    | 0, 1 | centre x, y in the ego frame, m | -100, 100 |
    | 2 | heading relative to the ego's, rad | -pi, pi |
    | 3, 4 | length, width, m | 0, 40 and 0, 20 |
    | 5, 6 | velocity x, y over ground in the ego frame's directions, m/s | -70, 70 |
    | 7 | category, an index into ``geometry.boxes.CATEGORIES`` | 0, 10 |
    | 8 | 1 for an agent, 0 for padding | 0, 1 |

    | ``bev`` channel | drawn |
    |---|---|
    | 0 - 7 | drivable area, crossings, walkways, stop lines, car parks, road dividers, lane dividers, road blocks |
    | 8, 9, 10 | vehicles; motorcycles, bicycles and pedestrians; cones, barriers and other objects |
    | 11 | the route ahead |

    ## Rewards

    The sum of weight x term; the unweighted terms of each decision stand in ``info["reward_terms"]``. ``reward`` is a preset,
    or weights such as ``{"progress": 1}``, which replace all others (what they do not name weighs nothing).

    | term | value of one decision | "shaped", the default | "sparse" | "pdms" |
    |---|---|---|---|---|
    | ``progress`` | metres gained along the route | 0.2 | | |
    | ``collision`` | 1 if the ego began to touch something at its own fault | -20 | -1 | |
    | ``off_road`` | 1 if a corner of its footprint left the drivable area | -10 | -1 | |
    | ``wrong_way`` | 1 if it is in lanes that run against it | -10 | -1 | |
    | ``time_to_collision`` | seconds that it is short of 1 s x seconds | -4 | | |
    | ``comfort`` | share of ticks outside nuPlan's bounds of acceleration, jerk and yaw motion | -2 | | |
    | ``speed_limit`` | m/s above the limit x seconds; 0 where no limit is known | -0.4 | | |
    | ``route_offset`` | metres beside the route x seconds | -0.05 | | |
    | ``arrival`` | at the horizon: 1 without a failure and 90 % as far as the logged ego | | 1 | |
    | ``pdms`` | change of the closed-loop PDMS: an episode driven to its end collects it | | | 1 |

    ``arrival`` and ``pdms`` are worked out, and told, only where they are weighed.

    ## Starting State

    ``reset(options={"scene": "scene-0061", "start": 0.0})`` begins there; what is not given is drawn with ``self.np_random``: a
    scene of ``scenes`` and one of its keyframes from which the horizon fits into the log. Worlds that remember images start at
    keyframes that have images and depth. The ego has its logged pose and speed. Same seed, same episode, bit for bit.
    ``reset(options={"scenario": scenario})`` plays a ``Scenario`` of the data set instead, with its traffic, horizon and edits.

    ## Episode End

    Terminated by an at-fault collision, by leaving the road or by driving the wrong way (``termination`` chooses which of these).
    Truncated at the horizon, at the end of the log if that comes first, or when the world's trust falls below ``trust_floor``.

    ## Info

    | key | value |
    |---|---|
    | ``scene``, ``time`` | scene name; seconds since its first keyframe |
    | ``metrics`` | running values by name, those not known left out; at the end also ``final`` |
    | ``world`` | ``source`` per camera, ``deviation_m`` from the path the frame was generated on, ``trust`` in [0, 1] |
    | ``reward_terms`` | unweighted terms by name |
    | ``timing_ms`` | milliseconds per stage of this call, the world's own stages as ``world/...`` |
    | ``ended_by`` | at the end only: "collision", "off_road", "wrong_way", "horizon" or "trust" |

    The running values are those of ``metrics.driving.running``; ``final`` is ``{name: {"value", "valid"}}`` over the whole
    episode (``metrics.driving.suite``), without a value where not valid. Its progress, also within ``pdms_v1``, is relative to
    the logged ego's in the time that was driven: an episode that ended early is not judged by what it left undone, as reports
    and the planning benchmark do (``evaluation.scores.results_of``). A source is "log", "dist_t", "dist_s", "splat", "replay" or
    "oracle"; the tuple is empty in a world without pictures. How long something took is no part of what happened: ``timing_ms``
    reads like a dict and compares equal to any other timing, so that the infos of equal episodes are equal.

    ## Arguments

    | keyword | default | meaning |
    |---|---|---|
    | ``dataroot`` | None | folder of a nuScenes-format data set; None: ``$NUSCENES``, else the built-in town |
    | ``version`` | None | its version folder; found by itself when there is one |
    | ``dataset`` | None | reader: a registered name, "module:Class" or an open data set; None: by the folder |
    | ``scenes`` | "val" | a split, a scene name, or a list of these |
    | ``scenario`` | None | a ``Scenario`` or the path of a scenario YAML: fixes scene, start and what differs from the log |
    | ``world`` | "dist4d" | "dist4d", "replay", "oracle" (town only) or "none" (no pictures) |
    | ``weights`` | "tiny" | of "dist4d": a shipped preset, a folder written by ``save_pretrained``, or "splat" (no model) |
    | ``size`` | None | camera height and width; None: what the weights were made for, else (64, 112) |
    | ``observation`` | ("cameras", "depth", "ego", "route") | any of "cameras", "depth", "ego", "route", "agents", "bev" |
    | ``action`` | "controls" | "controls", "trajectory" or "discrete" |
    | ``memory`` | "log" | what a world may remember: "log" all of the scene, "history" what was seen before the start |
    | ``traffic`` | "replay" | "replay" of the log or "idm" (reacts along the logged paths) |
    | ``decision_dt`` | 0.5 | seconds per step, a multiple of 0.1 |
    | ``horizon`` | 10.0 | seconds until truncation |
    | ``reward`` | None | "shaped" (None), "sparse", "pdms", or weights by term |
    | ``termination`` | ("collision", "off_road", "wrong_way") | what terminates |
    | ``trust_floor`` | 0.0 | trust below which an episode is truncated |
    | ``device`` | "auto" | torch device of the models |
    | ``service`` | None | name of a world service on a Ray cluster that holds the models; None: this process does |
    | ``render_mode`` | None | "rgb_array" or "human" (needs a display) |

    ## Version History

    - v0: first release.
    """

    metadata = METADATA

    def __init__(self, **keywords: Any) -> None:
        """Keywords as in ``EnvConfig``, documented above. Raises ConfigError, DataError or WeightsError."""
        self.config = config = read_keywords(keywords)
        if config.render_mode == "human":
            require_display()
        modes = ["rgb_array", "human"] if has_display() else ["rgb_array"]  # what can be had here
        self.metadata = {"render_modes": modes, "render_fps": max(1, round(1 / config.decision_dt))}
        self.render_mode = config.render_mode
        scenes = config.scenes if config.scenario is None else config.scenario.scene
        self.dataset = open_dataset(config.dataroot, config.version, scenes, dataset=config.dataset)
        self.scene_names = self.dataset.scene_names(scenes)
        models = {"weights": config.weights, "memory": config.memory, "device": config.device, "service": config.service}
        world = make_world(config.world, **models)  # type: ignore[arg-type]
        self._world: World | None = world
        self._size = config.image_size(getattr(world, "image_size", None))
        self.observation_space = observation_space(config.observation, self._size)
        self.action_space = action_space(config.action)
        # Where the ego is heading is for worlds that draw ahead and for pictures of the plan.
        drawn = config.world != "none" or config.render_mode is not None
        self._foresight = max(1, min(round(FORESIGHT / config.decision_dt), MOST_FORESEEN)) if drawn else 0
        self._weights = reward_weights(config.reward)
        self._simulator_config = SimulatorConfig(config.decision_dt, config.action, config.traffic)
        self._rooms: dict[RoomKey, Room] = {}
        self._episode: Episode | None = None
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode. options: "scene", a name, and "start", seconds since its first keyframe, drawn where not given; or
        "scenario", a ``Scenario`` or the path of its YAML."""
        return play(self.open_world(), [self.beginning(seed, options)])[0]

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One decision of ``decision_dt`` seconds. Raises ActionError for an action outside the action space."""
        return play(self.open_world(), [self.decision(action)])[0]

    def beginning(self, seed: int | None, options: dict[str, Any] | None) -> Turn:
        """``reset``, paused where it needs the world's first frame."""
        super().reset(seed=seed)
        watch, seeds = Stopwatch(), Seeds.draw(self.np_random)
        with watch("scene"):
            scenario = self._choose(options or {}, seeds.scenario)
            scene, simulator, metrics = self._room(scenario)
        with watch("simulation"):
            state = simulator.reset(scenario, seeds.traffic)
            truth = simulator.scene_at(state, decisions=self._foresight)
        start = WorldStart(scene, scene.rig.at_size(*self._size), state.time, seeds.noise)
        world, frame, world_info = yield Request(start, truth, watch)
        with watch("metrics"):
            running = metrics.start(state)
        end_time = min(state.time + (scenario.horizon or self.config.horizon), scene.duration)
        self._episode = Episode(scenario, end_time, seeds.policy, state, world, frame, world_info, running, plan_ahead(truth))
        terms = reward_terms(running.values, self.config.decision_dt)
        return self._tell(watch, terms | judged_terms(self._weights, metrics, None, running, end_time))

    def decision(self, action: Any) -> Turn:
        """``step``, paused where it needs the world's next frame."""
        before, watch, config = self._running_episode(), Stopwatch(), self.config
        _, simulator, metrics = self._room(before.scenario)
        with watch("simulation"):
            state, ticks = simulator.step(before.state, action)
            truth = simulator.scene_at(state, decisions=self._foresight)
        world, frame, world_info = yield Request(before.world, truth, watch)
        with watch("metrics"):
            running = metrics.update(before.running, ticks)
            terms = reward_terms(running.values, config.decision_dt)
            terms |= judged_terms(self._weights, metrics, before.running, running, before.end_time)
            terminated_by = termination_cause(running.values, config.termination)
            truncated_by = truncation_cause(state.time, before.end_time, world_info.trust, config.trust_floor)
        self._episode = replace(
            before,
            state=state,
            world=world,
            frame=frame,
            world_info=world_info,
            running=running,
            plan=plan_ahead(truth),
            ended_by=terminated_by or truncated_by,
        )
        observation, info = self._tell(watch, terms)
        reward = weighted_sum(terms, self._weights)
        return observation, reward, terminated_by is not None, terminated_by is None and truncated_by is not None, info

    def sibling(self) -> DiST4DDrivingEnv:
        """Another environment with the same keywords, not yet reset, that shares this one's data, maps and models."""
        other = copy(self)
        other._np_random = other._np_random_seed = other._episode = other._window = None
        return other

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The dashboard of the current instant (H, W, 3) uint8; None in "human" mode, which shows it in a window."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: choose one when making the environment, render_mode='rgb_array'")
            return None
        episode = self._current_episode("render")
        terms = reward_terms(episode.running.values, self.config.decision_dt)
        info = episode_info(episode, Stopwatch().timing({}), terms)
        picture = render_dashboard(episode.frame, info, episode.state, self.scene, episode.plan)
        if self.render_mode == "rgb_array":
            return picture
        self._window = self._window or Window("DiST-4D")
        self._window.show(picture)
        return None

    def snapshot(self) -> Snapshot:
        """The environment's state as an immutable value, its random generator included; see ``restore``."""
        return Snapshot(self.dataset.dataroot, self._episode, self.np_random.bit_generator.state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this environment or of one made with the same keywords; it continues bit-identically."""
        if not isinstance(snapshot, Snapshot):
            raise ConfigError(f"restore takes what snapshot() returned, not a {type(snapshot).__name__}")
        if snapshot.dataroot != self.dataset.dataroot:
            raise ConfigError(f"the snapshot belongs to {snapshot.dataroot}, this environment to {self.dataset.dataroot}")
        self._episode = snapshot.episode
        self.np_random.bit_generator.state = snapshot.random_state

    def close(self) -> None:
        """Close the window and let go of scenes and models; a closed environment can be closed again, not used."""
        if self._window is not None:
            self._window.close()
            self._window = None
        self._episode = self._world = None
        self._rooms.clear()

    @property
    def episode(self) -> Episode:
        """The current episode as values. Raises ResetNeeded before the first reset."""
        return self._current_episode("look at the episode")

    @property
    def scene(self) -> Scene:
        """The current episode's scene, with the scenario's edits; ``scene.recorded`` is without."""
        return self._room(self.episode.scenario)[0]

    def _choose(self, options: dict[str, Any], random: np.random.Generator) -> Scenario:
        """What to play: the scenario if there is one, else what the options say and chance for the rest."""
        config = self.config
        unknown = set(options) - {"scene", "start", "scenario"}
        if unknown:
            raise ConfigError(f"reset options {sorted(map(str, unknown))} are unknown: 'scene', 'start' and 'scenario' are known")
        given = read_scenario_option(options["scenario"]) if "scenario" in options else config.scenario
        if given is not None:
            if {"scene", "start"} & set(options):
                raise ConfigError("reset options 'scene' and 'start' are fixed by the scenario: leave the one or the other out")
            scene = self._room(Scenario(given.scene, 0.0))[0]
            return replace(given, start=check_start(scene, config.world, given.start, config.decision_dt))
        name, start = options.get("scene"), options.get("start")
        if name is None:
            name = self.scene_names[int(random.integers(len(self.scene_names)))]
        scene = self._room(Scenario(name, 0.0))[0]  # not loaded anew where there are more scenes than the data set keeps
        if start is None:
            start = draw_start(scene, config.world, config.horizon, random)
        return Scenario(name, check_start(scene, config.world, start, config.decision_dt))

    def _room(self, scenario: Scenario) -> Room:
        """A scenario's scene, edits included, with its simulator and metrics, kept for the next episode in it."""
        traffic = scenario.traffic or self.config.traffic
        key = scenario.scene, traffic, scenario.edits, scenario.start if scenario.edits else 0.0
        room = self._rooms.get(key)
        if room is None:
            scene = apply_all(scenario.edits, self.dataset.load(scenario.scene), scenario.start)
            edited = [key for key in self._rooms if key[2]]
            if scenario.edits and len(edited) >= EDITED_ROOMS:
                del self._rooms[edited[0]]
            simulator = Simulator(scene, replace(self._simulator_config, traffic=traffic))
            room = self._rooms[key] = scene, simulator, RunningMetrics(scene)
        return room

    def open_world(self) -> World:
        """The world, unless the environment has been closed."""
        if self._world is None:
            raise ClosedEnvironmentError("the environment is closed: make a new one")
        return self._world

    def _current_episode(self, purpose: str) -> Episode:
        if self._episode is None:
            raise ResetNeeded(f"call reset() first: there is no episode to {purpose}")
        return self._episode

    def _running_episode(self) -> Episode:
        episode = self._current_episode("step")
        if episode.ended_by is not None:
            raise ResetNeeded(f"the episode is over ({episode.ended_by}): call reset() before the next step()")
        return episode

    def _tell(self, watch: Stopwatch, terms: dict[str, float]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Observation and info of the current instant; in "human" mode the window follows."""
        episode = self.episode
        scene, _, metrics = self._room(episode.scenario)
        with watch("observation"):
            observer = Observer(self.config.observation, episode.end_time)
            observation = observer(scene, episode.state, episode.running, episode.frame)
        if self.render_mode == "human":
            with watch("rendering"):
                self.render()
        ended = episode.ended_by is not None
        final = LazyDict(lambda: final_info(evaluate(metrics.trace(episode.running)))) if ended else None
        return observation, episode_info(episode, watch.timing(episode.world_info.timing_ms), terms, final)


def plan_ahead(truth: SceneAt) -> np.ndarray:
    """(K, 3) x, y, heading of the anticipated ego in the present ego frame."""
    ahead = invert(truth.global_from_ego) @ truth.anticipated_pose
    return np.concatenate([ahead[:, :2, 3], yaw_of(ahead)[:, None]], 1)
