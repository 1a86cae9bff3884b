"""A task of a campaign: one episode, driven and stored by whichever process takes it."""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import DiST4DError
from dist4d_env.evaluation.episode_log import forward_cameras, save_episode
from dist4d_env.evaluation.executors import check_stop
from dist4d_env.evaluation.planner_process import PlannerProcess
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import OPINIONS, asked_of, opinions_of
from dist4d_env.geometry.cameras import optional_size
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT, PlannerNeeds
from dist4d_env.scenes.files import replacing
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.worlds.contract import world_traits
from dist4d_env.worlds.memory import MemoryPolicy

OFFSET, YAW, SPEED = 0.15, np.radians(1.0), 0.1
"""How far seeds beyond the first move the ego's start, evenly either way: metres, radians, share of the speed."""


@dataclass(frozen=True)
class EnvSettings:
    """The environment of a campaign, the same for all its episodes; keywords as those of ``DiST4DDrivingEnv``, but for the size,
    "HEIGHTxWIDTH"."""

    dataroot: str
    version: str
    scenes: tuple[str, ...]
    world: str = "none"
    weights: str = "tiny"
    memory: MemoryPolicy = "log"
    traffic: str = "replay"
    decision_dt: float = 0.5
    horizon: float = 10.0
    dataset: str | None = None
    size: str | None = None

    def make(self, action: str = "trajectory", lidar: bool = False) -> gym.Env:
        """The environment; planners get every observation that the world can make, LiDAR points only where one needs them."""
        pictures = ("cameras", "depth") if world_traits(self.world).shows_pictures else ()
        groups = (*pictures, "ego", "route", "agents", *(["lidar"] if lidar else []))
        keywords = asdict(self) | {"size": optional_size(self.size)}
        return gym.make("DiST4D-nuScenes-v0", action=action, observation=groups, **keywords)


@dataclass(frozen=True)
class EpisodeTask:
    """A planner, a scenario, a seed: one episode. needs: the planner's; folder: of the campaign; plan_limit, reset_limit: seconds
    that a plan, and making and resetting the planner, may take; apart: whether the planner lives in a process of its own;
    fingerprint: of what drives; opinions: whether second opinions are asked for, of planners that look."""

    planner: str
    scenario: Scenario
    seed: int
    settings: EnvSettings
    folder: Path
    needs: PlannerNeeds
    jitter: bool = True
    plan_limit: float = PLAN_LIMIT
    reset_limit: float = RESET_LIMIT
    apart: bool = True
    fingerprint: tuple[tuple[str, str], ...] = ()
    opinions: bool = False

    @property
    def driver(self) -> tuple[tuple[str, str], ...]:
        """The part of the fingerprint that says which planner it is, the same in every scene."""
        return tuple(one for one in self.fingerprint if one[0] != "data")

    @property
    def name(self) -> str:
        """The episode's file name without ending."""
        return episode_name(self.planner, self.scenario.name, self.seed)


def episode_name(planner: str, scenario: str, seed: int) -> str:
    """An episode's file name without ending."""
    return f"{file_name(planner)}__{file_name(scenario)}__seed{seed}"


def file_name(text: str) -> str:
    """A name as part of file names: of characters that they can have, and short; another for every text."""
    plain = re.sub(r"[^\w.+-]+|__+", "-", text).encode()[:80].decode(errors="ignore")
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def drive(task: EpisodeTask) -> str:
    """Drives and stores an episode; returns its name. The log's .json comes last: where it is, the episode is whole.

    Whatever the planner does wrong ends the episode as its failure. Bad input names the scenario. Raises Stopped when the run is
    being stopped.
    """
    count = 1 + len(OPINIONS) if task.opinions and asked_of(task.needs) else 1
    planner, *others = _planners(task.planner, task.needs, task.plan_limit, task.reset_limit, task.apart, task.driver, count)
    env = _environment(task.settings, task.needs.lidar)
    driving: Any = env.unwrapped
    scenario = jittered(task.scenario, driving, task.seed) if task.jitter else task.scenario
    asked = opinions_of(others, task.settings.memory) if others else None
    strip = CameraStrip()
    try:
        options = RunOptions(plan_limit=task.plan_limit, reset_limit=task.reset_limit, scenario=scenario, opinions=asked)
        log = run_episode(env, planner, task.seed, options, strip, task.planner)
    except DiST4DError as error:
        raise type(error)(f"scenario {task.scenario.name}: {error}") from error
    if (log.error is not None or (asked is not None and asked.failed)) and not task.apart:
        _planners.cache_clear()  # fresh ones for the next episode
    strip.save(task.folder / "pictures" / f"{task.name}.jpg")
    save_episode(replace(log, fingerprint=dict(task.fingerprint)), task.folder / "episodes", task.name)
    return task.name


def jittered(scenario: Scenario, driving: DiST4DDrivingEnv, seed: int) -> Scenario:
    """The scenario as seed ``seed`` starts it: seed 0 as written, others a little beside, turned, slower or faster.

    The same for every planner, so that they can be compared in pairs.
    """
    if seed == 0:
        return scenario
    random = np.random.default_rng([seed, zlib.crc32(scenario.name.encode())])
    beside, turned, faster = random.uniform(-1, 1, 3)
    speed = scenario.ego_speed
    if speed is None:
        log = driving.dataset.load(scenario.scene, require_map=False).ego
        speed = max(float(np.interp(scenario.start, log.time, log.speed)), 0.0)
    return replace(
        scenario,
        ego_offset=scenario.ego_offset + OFFSET * float(beside),
        ego_yaw=scenario.ego_yaw + YAW * float(turned),
        ego_speed=speed * (1 + SPEED * float(faster)),
    )


class CameraStrip:
    """The pictures of the front cameras, one row per instant, for the report."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []

    def __call__(self, driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
        check_stop()
        frame = driving.episode.frame
        if frame is not None:
            self._rows.append(np.concatenate([frame.rgb[index] for index in forward_cameras(driving.scene.rig)], axis=1))

    def save(self, path: Path) -> None:
        """Writes the rows below each other as one JPEG; nothing where there were no pictures."""
        if not self._rows:
            return
        content = io.BytesIO()
        Image.fromarray(np.concatenate(self._rows)).save(content, "JPEG", quality=72)
        with replacing(path) as temporary:
            temporary.write_bytes(content.getvalue())


@lru_cache(maxsize=2)
def _environment(settings: EnvSettings, lidar: bool) -> gym.Env:
    """One environment per process serves all its episodes and keeps what it has loaded, and another those with LiDAR."""
    return settings.make(lidar=lidar)


@lru_cache(maxsize=1)
def _planners(
    name: str,
    needs: PlannerNeeds,
    plan_limit: float,
    reset_limit: float,
    apart: bool,
    driver: tuple[tuple[str, str], ...],
    count: int,
) -> tuple[Any, ...]:
    """Some of one kind at a time: the processes of the ones before end. driver: another is another planner."""
    return tuple(PlannerProcess(name, plan_limit, reset_limit, needs) if apart else make_planner(name) for _ in range(count))
