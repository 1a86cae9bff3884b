"""Shared by the training scripts: their common options, the folder of a run, graceful stopping."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.learning.views import View
from dist4d_env.registry import TRAFFIC, WORLDS
from dist4d_env.scenes.files import write_text


@dataclass(frozen=True)
class CommonOptions:
    """Options of every training script."""

    out: Path = Path("runs/ppo")
    """Folder of the run."""
    cameras: bool = False
    """Camera images besides "ego" and "route"; else "ego", "route" and "agents"."""
    action: Literal["route", "controls", "discrete"] = "route"
    """route: acceleration and place beside the route, followed by the tracker; controls: pedals and steering rate; discrete."""
    world: str = "none"
    """World that draws the images, with --cameras: dist4d, replay, oracle, or your own as module:Class."""
    weights: str = "tiny"
    """Of the world dist4d."""
    size: str = "64x112"
    """Height x width of the images, with --cameras."""
    dataroot: Path | None = None
    """Data set of the training scenes: else $NUSCENES, else the built-in town (whose train split is made once)."""
    scenes: tuple[str, ...] = ("train",)
    """Splits or scenes to train on."""
    val_dataroot: Path | None = None
    """Data set of the validation scenes, found like --dataroot."""
    val_scenes: str = "val"
    """Split to validate on."""
    disturb: float = 0.5
    """Share of training episodes that begin at another speed, place and heading than logged; 0: the environment's own starts."""
    traffic: str = "replay"
    """Traffic as logged (replay), reacting (idm), or your own as module:Class."""
    reward: Literal["shaped", "pdms", "sparse"] = "shaped"
    """A preset of weights, see the environment."""
    decision_dt: float = 0.5
    """Seconds per decision."""
    horizon: float = 10.0
    """Seconds per episode."""
    steps: int = 500_000
    """Decisions in all."""
    envs: int = 64
    """Environments in one batch."""
    seed: int = 0
    """The same seed on the same machine gives the same run."""
    learning_rate: float = 3e-4
    """Falls linearly to a tenth (PPO) or stays (SAC)."""
    gamma: float = 0.95
    """Discount per decision."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's layers after the encoder, and of the value's."""
    minibatch: int = 512
    """Samples per gradient step."""
    epochs: int = 8
    """PPO: passes over a batch."""
    entropy: float = 0.0
    """PPO: weight of the entropy bonus."""
    spread: float = -0.5
    """PPO: logarithm of the actions' standard deviation at the start."""
    spread_end: float | None = -2.0
    """PPO: the same at the end, falling linearly, so that the policy is trained as it will be driven: by its most likely action.
    None: the spread is learned."""
    eval_every: int = 50_000
    """Decisions between evaluations on the validation scenes, each with a checkpoint."""
    eval_episodes: int = 32
    """Validation episodes, always the same."""
    threads: int = 1
    """Of torch on the CPU; the same number is needed for the same run."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return parse_size(self.size)

    def __post_init__(self) -> None:
        WORLDS.check(self.world)
        TRAFFIC.check(self.traffic)
        parse_size(self.size)
        if self.cameras and self.world == "none":
            raise ConfigError("--cameras needs a world that makes images: --world dist4d, replay or oracle")
        if not 0 <= self.disturb <= 1:
            raise ConfigError(f"disturb={self.disturb} must be a share from 0 to 1")
        counts = ("steps", "envs", "minibatch", "epochs", "eval_every", "eval_episodes")
        if min(getattr(self, name) for name in counts) < 1:
            raise ConfigError(f"{', '.join(counts)} must be at least 1")


@cache
def camera_names(options: CommonOptions) -> tuple[str, ...]:
    """The cameras of the training scenes, none for a policy on vectors."""
    if not options.cameras:
        return ()
    dataset = open_dataset(options.dataroot, None, options.scenes, size=options.image_size)
    return dataset.load(dataset.scene_names(options.scenes)[0]).rig.names


def env_keywords(options: CommonOptions, view: View, validation: bool = False) -> dict[str, Any]:
    """The environment's keywords in training or validation."""
    dataroot, scenes = (options.val_dataroot, options.val_scenes) if validation else (options.dataroot, options.scenes)
    return {
        "dataroot": None if dataroot is None else str(dataroot.resolve()), "scenes": scenes,
        "world": options.world if options.cameras else "none", "weights": options.weights,
        "size": view.size if options.cameras else None,
        "observation": view.groups, "action": view.environment_action, "traffic": options.traffic, "reward": options.reward,
        "decision_dt": options.decision_dt, "horizon": options.horizon,
    }  # fmt: skip


def make_environments(
    count: int, options: CommonOptions, view: View, validation: bool = False, device: str = "auto"
) -> gym.vector.VectorEnv:
    """``count`` environments in one batch."""
    keywords = env_keywords(options, view, validation)
    return gym.make_vec("DiST4D-nuScenes-v0", count, vectorization_mode="vector_entry_point", device=device, **keywords)


def run_seed(options: CommonOptions, *parts: int) -> int:
    """A seed that depends on where the run is: a run that goes on draws other episodes than it began with."""
    return int(np.random.SeedSequence([options.seed, *parts]).generate_state(1)[0])


def spread_after(options: CommonOptions, done: int) -> float | None:
    """Logarithm of the standard deviation of continuous actions after ``done`` decisions; None where it is learned or absent."""
    if options.action == "discrete" or options.spread_end is None:
        return None
    return options.spread + (options.spread_end - options.spread) * min(done / options.steps, 1.0)


class Stop:
    """Ctrl-C and kill let the current batch finish and the checkpoint be written; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *failure: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def remembered_options(
    options: CommonOptions, free: tuple[str, ...], older: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[None]:
    """In this context data and environments are opened; then options.json of the run is written. Where they cannot be opened it
    is not, so that the corrected command goes ahead. Raises ConfigError where the folder holds a run with other options, ``free``
    ones aside.

    older: what runs did that are older than an option, where that isn't today's default.
    """
    path = options.out / "options.json"
    mine = json.loads(json.dumps(asdict(options), default=str))
    if path.exists():
        new = {field.name: field.default for field in fields(options) if field.default is not MISSING}
        theirs = {**json.loads(json.dumps(new, default=str)), **older, **json.loads(path.read_text())}
        other = sorted(key for key in mine if key not in free and theirs.get(key) != mine[key])
        if other:
            raise ConfigError(f"{options.out} holds a run with other {', '.join(other)}: choose another --out or remove it")
    yield
    write_text(path, json.dumps(mine, indent=1) + "\n")


def append_usage(folder: Path, steps: int, processes: list[tuple[float, float | None]]) -> None:
    """Appends to machine.jsonl: decisions, seconds since some instant, and what ``process_usage`` of all processes adds up to."""
    cpu, memory = zip(*processes, strict=True)
    known = [each for each in memory if each is not None]
    mib = sum(known) if len(known) == len(memory) else None
    line = {"steps": steps, "seconds": time.monotonic(), "cpu_seconds": sum(cpu), "memory_mib": mib}
    with (folder / "machine.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def process_usage() -> tuple[float, float | None]:
    """CPU seconds and MiB in use (on Linux) of this process."""
    if sys.platform != "linux":
        return time.process_time(), None
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20
