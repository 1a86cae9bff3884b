"""Second opinions: what planners of the same kind would do on other pictures of the states that one comes to.

A plan that another picture of the same state changes turns on what no generated picture can be trusted with. How often that is so
needs no truth to be known, and foretells plans that differ from those on the true pictures (docs/fidelity.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from dist4d_env.data.depth_files import decode_depth, encode_depth
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.evaluation.runner import copied, planner_input, reset_planner, to_action
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Planner, PlannerFailure, PlannerNeeds, guarded
from dist4d_env.progress import say
from dist4d_env.worlds.contract import World, WorldStart
from dist4d_env.worlds.memory import MemoryPolicy
from dist4d_env.worlds.replay import SplatWorld

AHEAD = 2.0
"""Seconds after which two plans for the same state are compared."""
DIFFERS = 0.5
"""Metres from which on they differ."""
QUALITY = 90
"""Of the JPEG through which pictures are looked at a second time."""


class Shown(Protocol):
    """What a planner is shown in place of an environment's pictures."""

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """The environment has begun an episode."""

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The entries of the present observation that are to be others."""


class OtherPictures:
    """The pictures that another world has of an environment's episode, at the size that its own world shows."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """The environment has begun an episode."""
        episode = driving.episode
        assert episode.frame is not None
        scene, (height, width) = driving.scene, episode.frame.depth.shape[1:]
        self._driving, self._names = driving, scene.rig.names
        start = WorldStart(scene, scene.rig.at_size(height, width), episode.state.time, 0)
        (self._state,) = self._world.reset([start])

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Pictures and depth as an environment observes them."""
        ((self._state, frame, _),) = self._world.step([self._state], [self._driving.scene_at()])
        assert frame is not None  # of a world that shows pictures
        return observed(frame, self._names)


def observed(frame: RGBDFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Pictures and depth of a frame as an environment observes them."""
    pictures = dict(zip(names, frame.rgb, strict=True))
    depth = np.clip(frame.depth[..., None], 0, FAR)
    return {**pictures, **{f"{name}/depth": image for name, image in zip(names, depth, strict=True)}}


class Stored:
    """The shown pictures through JPEG and 16-bit depth: a plan that changes with them turns on nothing."""

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """The environment has begun an episode."""
        self._names = driving.scene.rig.names

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Of all cameras that are observed."""
        stored: dict[str, np.ndarray] = {}
        for name in self._names:
            if name in observation:
                image = np.ascontiguousarray(observation[name][..., ::-1])
                _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                stored[name] = np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])
            if (depth := f"{name}/depth") in observation:
                stored[depth] = decode_depth(encode_depth(observation[depth][..., 0]))[..., None]
        return stored


OPINIONS: Mapping[str, Callable[[MemoryPolicy], Shown]] = {
    "splat": lambda memory: OtherPictures(SplatWorld(memory)),
    "stored": lambda memory: Stored(),
}
"""What evaluation asks about: the splat of the same memory, and the shown pictures once stored."""


def opinions_of(planners: Sequence[Planner], memory: MemoryPolicy) -> SecondOpinions:
    """Those of OPINIONS, by a planner each."""
    return SecondOpinions({name: (one, show(memory)) for (name, show), one in zip(OPINIONS.items(), planners, strict=True)})


def asked_of(needs: PlannerNeeds) -> bool:
    """Whether all that a planner sees of the street are pictures of the observation, which can be exchanged."""
    return needs.cameras and not (needs.imagination or needs.lidar)


def check_asked(needs: Mapping[str, PlannerNeeds]) -> None:
    """Says of which planners no second opinion is asked for. Raises ConfigError where of none one is."""
    passed_over = [name for name, one in needs.items() if not asked_of(one)]
    if len(passed_over) == len(needs):
        raise ConfigError(
            f"no second opinions of {', '.join(passed_over)}: name a planner that looks at pictures, without LiDAR or imagination"
        )
    if passed_over:
        say(f"no second opinions of {', '.join(passed_over)}, which don't look at pictures alone")


@dataclass
class SecondOpinions:
    """others: name -> a planner of the kind of the one that drives, with a memory of its own, and what it is shown.
    ``run_episode`` resets and asks them. One that fails has no more opinions in that episode, and is nobody else's failure."""

    others: Mapping[str, tuple[Planner, Shown]]

    def __post_init__(self) -> None:
        if not self.others:
            raise ConfigError("second opinions: name at least one planner to ask")
        self._plans: dict[str, list[np.ndarray]] = {name: [] for name in self.others}
        self.failed: set[str] = set()

    def reset(self, driving: DiST4DDrivingEnv) -> None:
        """The environment has begun an episode; all planners begin with the seed of the one that drives. Raises ConfigError for
        another action than plans."""
        if driving.config.action != "trajectory":
            raise ConfigError(f"action={driving.config.action!r}: second opinions are on plans; choose action='trajectory'")
        self._plans, self.failed = {name: [] for name in self.others}, set()
        for name, (planner, shown) in self.others.items():
            shown.begin(driving)
            try:
                reset_planner(driving, planner)
            except (PlannerFailure, DiST4DError):
                self.failed.add(name)

    def ask(self, driving: DiST4DDrivingEnv, observation: Mapping[str, Any]) -> None:
        """What each would do in the present state; nan for one that has failed."""
        for name, (planner, shown) in self.others.items():
            plan = np.full((PLAN_POSES, 3), np.nan, np.float32)
            if name not in self.failed:
                seen = copied({**observation, **shown.pictures(observation)})
                try:
                    plan = to_action(guarded(planner.plan, planner_input(driving, planner, seen)), "trajectory")
                except (PlannerFailure, DiST4DError):
                    self.failed.add(name)
            self._plans[name].append(plan)

    def plans_of(self, name: str) -> np.ndarray:
        """(D, 8, 3) float32 of each decision, nan where the planner failed."""
        return np.array(self._plans[name], np.float32).reshape(-1, PLAN_POSES, 3)

    def apart(self, plans: np.ndarray) -> np.ndarray:
        """(D,) metres between plans (D, 8, 3) and the farthest of the opinions on the same states; nan where one is missing."""
        return np.max([between(plans, self.plans_of(name)[: len(plans)]) for name in self.others], axis=0)


def between(plans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(D,) metres between plans (D, 8, 3) and others of the same states after ``AHEAD`` seconds."""
    pose = round(AHEAD / PLAN_DT) - 1
    return np.hypot(*(plans[:, pose, :2] - others[:, pose, :2]).T)
