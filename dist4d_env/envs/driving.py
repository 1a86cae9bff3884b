"""The Gymnasium environment: one episode in a generated world."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from dist4d_env.envs.config import read_keywords, read_reset_options, read_seed
from dist4d_env.envs.episodes import Episodes
from dist4d_env.envs.info import episode_info
from dist4d_env.envs.row import EpisodeRow
from dist4d_env.envs.window import Window, has_display, require_display
from dist4d_env.progress import FirstTime
from dist4d_env.worlds.stopwatch import Stopwatch

METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 2}
"""What the class can render; an environment says what can be had where it runs, at its own rate."""

_ONE = np.zeros(1, int)
_GOES_ON = np.zeros(1, bool)


class DiST4DDrivingEnv(EpisodeRow, gym.Env):
    """Closed-loop driving through a nuScenes-format scene; a world model renders its cameras from wherever the ego really is.

    ## Description

    The ego starts on the recorded path of a scene and is then driven by the actions alone: a kinematic bicycle at 10 Hz among
    the scene's traffic. After every decision the world shows what its cameras see: ``"dist4d"`` generates the images (DiST-T
    along the anticipated path, DiST-S off it), ``"replay"`` reprojects logged images, ``"oracle"`` renders the town's true
    geometry and ``"none"`` draws nothing. Units are SI, angles radians; the ego frame is x forward, y left, its origin on the
    ground below the rear axle.

    ## Action Space

    | ``action`` | space | meaning |
    |---|---|---|
    | ``"controls"`` | ``Box(-1, 1, (2,), float32)`` | pedals and steering rate |
    | ``"trajectory"`` | ``Box((8, 3), float32)`` | x, y (m) and heading in the ego frame at 0.5, 1.0, ... 4.0 s |
    | ``"discrete"`` | ``Discrete(42)`` | acceleration (index // 7) and front wheel angle (index % 7) |

    Finite controls, and x and y of trajectories, outside these bounds are clipped to them, which ``info["clipped"]`` says;
    headings are taken modulo 2 pi. What is not finite, no number, of another shape or no index of the grid raises ActionError.

    Controls: the first number is acceleration (-1 brakes with 6 m/s², 0 rolls, 1 gives 3 m/s²), the second turns the front wheels
    (±1 is ±0.5 rad/s, positive left). A trajectory is followed by an LQR tracker; x in [-20, 160], y in [-80, 80], heading in
    [-pi, pi]. Discrete: {-6, -3, -1, 0, 1, 3} m/s² x {-0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3} rad.

    ## Observation Space

    A ``Dict`` with the keys of the chosen groups, by default ("cameras", "depth", "ego", "route"), in a world without pictures
    ("ego", "route", "agents"). All bounds are finite; values are clipped to them.

    | group | key | space |
    |---|---|---|
    | ``cameras`` | ``"CAM_FRONT"`` and so on | ``(H, W, 3)`` uint8 RGB |
    | ``depth`` | ``"CAM_FRONT/depth"`` and so on | ``(H, W, 1)`` float32 z-depth in metres, 0 to 100; 100 is sky or beyond |
    | ``ego`` | ``"ego"`` | ``(10,)`` float32 |
    | ``route`` | ``"route"`` | ``(20, 2)`` float32: x, y in the ego frame of the route 2.5, 5, ... 50 m ahead |
    | ``agents`` | ``"agents"`` | ``(64, 9)`` float32: the nearest agents within 100 m, nearest first, padded with zeros |
    | ``bev`` | ``"bev"`` | ``(12, 200, 200)`` uint8: 0.5 m cells, row 0 is 50 m ahead, column 0 is 50 m to the left |
    | ``lidar`` | ``"lidar"`` | ``(N, 5)`` float32: x, y, z in the ego frame, intensity, valid: a row per beam, valid ones first |

    The cameras are those of the data set, under its names; of nuScenes, in ring order: CAM_FRONT_LEFT, CAM_FRONT,
    CAM_FRONT_RIGHT, CAM_BACK_RIGHT, CAM_BACK, CAM_BACK_LEFT.

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

    Drawn is 255; a stop line whose traffic light is amber is 170, one whose light is green 85.

    | ``lidar`` column | meaning | bounds |
    |---|---|---|
    | 0, 1, 2 | x, y, z in the ego frame, m | -(range + 5), range + 5; range is 80 |
    | 3 | intensity, 0 where it is unknown | 0, 255 |
    | 4 | 1 for a return, 0 for padding | 0, 1 |

    N is the number of beams of the scene's LiDAR: 32 x 1080 in nuScenes and the town. ``"oracle"`` casts them against the true
    geometry. In other worlds with pictures they end where they meet the world's own depth images; those that no camera
    sees, about a third, have no return, and intensity is unknown.

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
    | ``red_light`` | 1 if its front went over a stop line at red; 0 in scenes without traffic lights | | | |
    | ``arrival`` | at the horizon: 1 without a failure and 90 % as far as the logged ego | | 1 | |
    | ``pdms`` | change of the closed-loop PDMS: an episode driven to its end collects it | | | 1 |

    ``red_light``, ``arrival`` and ``pdms`` are computed only where they are weighed.

    ## Starting State

    ``reset(options={"scene": "scene-0061", "start": 0.0})`` begins there; what is not given is drawn with ``self.np_random``: a
    scene of ``scenes`` and one of its keyframes from which the horizon fits into the log. Worlds that remember images start at
    keyframes that have images and depth. The ego has its logged pose and speed. Same seed, same episode, bit for bit.
    ``reset(options={"scenario": scenario})`` plays a ``Scenario`` of the data set instead, with its traffic, horizon and edits.

    ## Episode End

    Terminated by an at-fault collision, by leaving the road or by driving the wrong way (``termination`` chooses which of these,
    and ``"red_light"``, running a red one, where asked for).
    Truncated at the horizon, after the last whole decision within the log or after the ``max_episode_steps`` of ``gym.make`` if
    these come first (all three are called "horizon"), when the world's trust falls below ``trust_floor``, or when a frame or the
    trust isn't finite: where the last frame isn't, its depth is 100 m.

    ## Info

    | key | value |
    |---|---|
    | ``scene``, ``time`` | scene name; seconds since its first keyframe |
    | ``metrics`` | running values by name, None where not known; ``final``: {}, at the end of the episode its metrics |
    | ``world`` | ``source`` per camera, ``deviation_m`` from its path, ``trust``, ``held_back`` (``WorldInfo``), ``pixels`` |
    | ``reward_terms`` | unweighted terms by name |
    | ``clipped`` | whether the action lay outside its bounds and was clipped to them |
    | ``timing_ms`` | milliseconds per stage of this call, the world's own stages as ``world/...`` |
    | ``ended_by`` | None; at the end "collision", "off_road", "wrong_way", "red_light", "horizon", "trust", "broken_frame" |

    The keys are the same in every step and every value is JSON-serialisable. The running values are those of
    ``metrics.driving.running``; ``final`` is ``{name: {"value", "valid"}}`` over the whole episode (``metrics.driving.suite``),
    its progress, also within ``pdms_v1``, relative to what the logged ego made in the time that the episode was meant to last:
    the same numbers as in reports and the planning benchmark. It is computed when it is first looked into. A source is "log",
    "dist_t", "dist_s", "splat", "replay" or "oracle", "broken" where a frame or the trust isn't finite; the list is empty in a
    world without pictures.

    ## Memory

    With ``memory="log"`` a world remembers every keyframe of the scene that has images and depth, later ones too. With "history"
    it knows the images of keyframes up to the start, and of what comes later only what the simulator says is true: boxes, map,
    poses. Depth of these images is as it was made: ``prepare`` gathers five LiDAR sweeps before and after a keyframe, so that
    history knows a little of what a car could not have measured yet; ``prepare --past-only`` gathers none after it.

    ## Copies

    ``snapshot()`` and ``restore()`` go on with an episode bit for bit, in this environment or in another one whose keywords agree
    where it matters; others are refused. Environments pickle (also with cloudpickle) and deep-copy, a running episode included:
    the copy goes on as the original does. A deep copy shares the world with the original; a pickle holds no models, the world is
    made anew where it is needed, from the same weights, which have to be there. What was given as an object pickles with it.

    ## Arguments

    | keyword | default | meaning |
    |---|---|---|
    | ``dataroot`` | None | folder of a nuScenes-format data set; None: ``$NUSCENES``, else the built-in town |
    | ``version`` | None | its version folder; found by itself when there is one |
    | ``dataset`` | None | reader: a registered name, "module:Class" or an open data set; None: by the folder |
    | ``scenes`` | "val" | a split, a scene name, or a list of these |
    | ``scenario`` | None | a ``Scenario`` or the path of a scenario YAML: fixes scene, start and what differs from the log |
    | ``world`` | "dist4d" | "dist4d", "splat", "replay", "oracle" (town only), "none" (no pictures), ``"module:Class"``, object |
    | ``weights`` | "tiny" | of "dist4d": a shipped preset, a folder written by ``save_pretrained``, or "splat" (no model) |
    | ``size`` | None | camera height and width, with weights (64, 112) to (448, 800) by 16; None: their own, else (64, 112) |
    | ``observation`` | None | groups of the observation space, ``"module:Class"``, objects; None: the default given there |
    | ``action`` | "controls" | "controls", "trajectory" or "discrete" |
    | ``memory`` | "log" | what a world may remember: "log" all of the scene, "history" what was seen up to the start |
    | ``traffic`` | "replay" | "replay" of the log, "idm" (on logged paths), "lanes" (by rules), ``"module:Class"``, object |
    | ``decision_dt`` | 0.5 | seconds per step, a multiple of 0.1 |
    | ``horizon`` | 10.0 | seconds until truncation, rounded up to whole decisions |
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
        config = read_keywords(keywords)
        if config.render_mode == "human":
            require_display()
        with FirstTime("making the environment"):
            EpisodeRow.__init__(self, Episodes(config, 1), 0)
        self.metadata = rendering_metadata(config.decision_dt)
        self.observation_space = self._episodes.observation_space
        self.action_space = self._episodes.action_space
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode. options: "scene", a name, and "start", seconds since its first keyframe, drawn where not given; or
        "scenario", a ``Scenario`` or the path of its YAML."""
        self._episodes.require_open()
        options, seed = read_reset_options(options), read_seed(seed)
        super().reset(seed=seed)
        watch = Stopwatch()
        self._episodes.random[0], self._episodes.most_decisions = self.np_random, time_limit(self)
        with FirstTime("beginning an episode"):
            terms = self._episodes.reset(_ONE, [options], watch)
            return self._observed(terms, watch)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One decision of ``decision_dt`` seconds. Raises ActionError for an action that is not finite or of another shape."""
        self._require_running()
        watch = Stopwatch()
        with FirstTime("the first decision"):
            terms, rewards, terminated, truncated = self._episodes.step([action], _GOES_ON, lambda row: {}, watch)
            observation, info = self._observed(terms, watch)
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def observation(self) -> dict[str, np.ndarray]:
        """The observation of the current instant, such as after ``restore``. Raises ResetNeeded before the first reset."""
        self._require_episode("observe")
        return {key: value[0].copy() for key, value in self._episodes.observe([0]).items()}

    @property
    def generator(self) -> np.random.Generator:
        """The random generator that draws what begins: Gymnasium's."""
        return self.np_random

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The dashboard of the current instant (H, W, 3) uint8; None in "human" mode, which shows it in a window."""
        picture = EpisodeRow.render(self)
        if picture is None or self.render_mode == "rgb_array":
            return picture
        self._window = self._window or Window("DiST-4D")
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window and let go of scenes and models; a closed environment can be closed again, not used."""
        if self._window is not None:
            self._window.close()
            self._window = None
        self._episodes.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_window": None}

    def _require_running(self) -> None:
        self._require_episode("step")
        ended_by = self._episodes.episodes[0].ended_by
        if ended_by is not None:
            raise ResetNeeded(f"the episode is over ({ended_by}): call reset() before the next step()")

    def _observed(self, terms: dict[str, np.ndarray], watch: Stopwatch) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Observation and info of the current instant; in "human" mode the window follows."""
        with watch("observation"):
            observation = self.observation()
        if self.render_mode == "human":
            with watch("rendering"):
                self.render()
        return observation, episode_info(self._episodes, 0, terms, watch.milliseconds)


def time_limit(env: gym.Env) -> int | None:
    """The ``max_episode_steps`` that ``gym.make`` was given. Gymnasium tells an environment nothing of the ``TimeLimit`` around
    it, which would end an episode without its final metrics: it is looked for among the callers of ``reset``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, TimeLimit):
            inner = caller.env
            while isinstance(inner, OrderEnforcing | PassiveEnvChecker):
                inner = inner.env
            return caller._max_episode_steps if inner is env else None
        frame = frame.f_back
    return None


def rendering_metadata(decision_dt: float) -> dict[str, Any]:
    """The metadata of environments here: a window needs a display, frames come once a decision."""
    modes = ["rgb_array", "human"] if has_display() else ["rgb_array"]
    rate = round(1 / decision_dt, 6)
    return {"render_modes": modes, "render_fps": int(rate) if rate.is_integer() else rate}
