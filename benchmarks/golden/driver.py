"""Drives golden episodes with the ``dist4d_env`` that Python finds, and writes all that they return.

It uses the package's public interface only and imports nothing from beside it, so that it runs in the tree of any commit:

    PYTHONPATH=TREE python driver.py JOBS.json FOLDER --tree TREE

JOBS.json holds ``{"dataroot": ..., "episodes": [...]}``, an ``Episode`` as dict each. For each episode FOLDER gets NAME.npz
(observations by key, rewards, ends, pictures; a row for every reset and step) and NAME.json (infos and the rest).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

ENVIRONMENT = "DiST4D-nuScenes-v0"


@dataclass(frozen=True)
class Episode:
    """What is driven; made of what JSON knows.

    keywords: of the environment; options: of ``reset``; scenario: YAML text, given to ``reset`` as a path, or to the constructor
    if ``fixed``. style: see ``STYLES``. envs: size of the vector environment, 0 for a single one. branch: the step after which a
    snapshot is taken; from it the rest is driven three times: to the end, the same again, and in another style, the last time in
    another environment. In a vector environment it is driven twice, the second time with the first row's snapshot in the first
    two rows. mask: the step after which every other row of a vector environment is reset. render: record pictures. fails:
    an error is what is expected; its text is a stream as well.
    """

    name: str
    keywords: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] | None = None
    scenario: str | None = None
    fixed: bool = False
    seed: int = 0
    style: str = "gentle"
    steps: int = 8
    envs: int = 0
    branch: int | None = None
    mask: int | None = None
    render: bool = False
    fails: bool = False

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Record:
    """Rows of everything that resets and steps return; ``facts`` are single statements about the episode."""

    labels: list[str] = field(default_factory=list)
    observations: list[dict[str, np.ndarray]] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    terminated: list[np.ndarray] = field(default_factory=list)
    truncated: list[np.ndarray] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def add(self, label: str, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> None:
        self.labels.append(label)
        self.observations.append({key: np.array(value) for key, value in observation.items()})
        self.rewards.append(np.array(reward, np.float64))
        self.terminated.append(np.array(terminated, bool))
        self.truncated.append(np.array(truncated, bool))
        self.infos.append(flat(info))

    def arrays(self) -> dict[str, np.ndarray]:
        """Stream name to (rows, ...)."""
        keys = self.observations[0] if self.observations else {}
        named = {f"observations/{key}": np.stack([row[key] for row in self.observations]) for key in keys}
        named |= {name: np.array(getattr(self, name)) for name in ("rewards", "terminated", "truncated")}
        return named | ({"render": np.stack(self.pictures)} if self.pictures else {})


def flat(info: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path. Durations are left out; what a vector environment's mask marks as not there becomes None."""
    leaves: dict[str, Any] = {}
    for key, value in info.items():
        if key == "timing_ms" or (key.startswith("_") and key[1:] in info):
            continue
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            leaves |= flat(value, path + "/") or {path: {}}
        else:
            leaves[path] = plain(value, info.get("_" + key))
    return leaves


def plain(value: Any, mask: Any = None) -> Any:
    """The value as JSON knows it, each number with all its bits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        if mask is not None:
            value = [each if known else None for each, known in zip(value, np.asarray(mask).tolist(), strict=True)]
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else f"{type(value).__name__} {value}"


def controls(style: str, random: np.random.Generator, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    pedals = {
        "gentle": (0.3, random.uniform(-0.2, 0.2)),
        "wild": (random.uniform(-1, 1), random.uniform(-1, 1)),
        "brake": (-1.0, 0.0),
        "throttle": (1.0, random.uniform(-0.05, 0.05)),
        "left": (0.5, 0.6),
        "right": (0.5, -0.6),
    }
    if style != "route":
        return np.array(pedals[style], np.float32)
    wheel, (x, y) = float(observation["ego"][4]), observation["route"][3].astype(float)
    wanted = np.arctan2(2 * 2.7 * y, x**2 + y**2)  # pure pursuit of the point 10 m ahead
    return np.clip(np.array([0.2, 4 * (wanted - wheel)]), -1, 1).astype(np.float32)


def trajectory(style: str, random: np.random.Generator, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """(8, 3): x, y and heading, half a second apart."""
    speed = {"brake": 0.0, "throttle": 14.0, "wild": random.uniform(0, 15)}.get(style, random.uniform(4, 8))
    ahead = speed * 0.5 * np.arange(1, 9)
    drift = {"gentle": 0.03, "wild": 0.4}.get(style, 0.0)
    side = {"left": 0.15, "right": -0.15}.get(style, random.uniform(-drift, drift))
    poses = np.stack([ahead, side * ahead, np.full(8, np.arctan(side))], 1)
    if style == "route":
        way = np.concatenate([np.zeros((1, 2)), observation["route"].astype(float)])
        along = 2.5 * np.arange(len(way))
        poses[:, 0], poses[:, 1] = np.interp(ahead, along, way[:, 0]), np.interp(ahead, along, way[:, 1])
        steps = np.diff(poses[:, :2], axis=0, prepend=np.zeros((1, 2)))
        poses[:, 2] = np.arctan2(steps[:, 1], steps[:, 0])
    return poses.astype(np.float32)


def discrete(style: str, random: np.random.Generator, observation: Mapping[str, np.ndarray]) -> np.int64:
    """Acceleration (index // 7) of six, wheel angle (index % 7) of seven."""
    ahead = {"brake": 0, "throttle": 5, "wild": int(random.integers(6))}.get(style, int(random.integers(2, 5)))
    wheel = {"left": 6, "right": 0, "wild": int(random.integers(7)), "gentle": int(random.integers(2, 5))}.get(style, 3)
    return np.int64(7 * ahead + wheel)


ACTIONS: dict[str, Callable[..., Any]] = {"controls": controls, "trajectory": trajectory, "discrete": discrete}
STYLES = ("gentle", "wild", "brake", "throttle", "left", "right", "route")
"""How an action is chosen from a seeded generator; "route" follows the observed route."""


def settings(episode: Episode, dataroot: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The environment's keywords and the options of ``reset``; writes the scenario's YAML."""
    keywords = {"dataroot": dataroot, "device": "cpu", **episode.keywords}
    if "size" in keywords:
        keywords["size"] = tuple(keywords["size"])
    options = dict(episode.options) if episode.options else None
    if episode.scenario is not None:
        path = folder / f"{episode.name}.yaml"
        path.write_text(episode.scenario)
        if episode.fixed:
            keywords["scenario"] = str(path)
        else:
            options = {"scenario": str(path)}
    return keywords, options


def drive(episode: Episode, dataroot: str, folder: Path) -> Record:
    """Drives an episode; what goes wrong on the way ends it and is part of its record."""
    record = Record()
    keywords, options = settings(episode, dataroot, folder)
    made: list[Any] = []

    def make() -> Any:
        if episode.envs:
            made.append(gym.make_vec(ENVIRONMENT, episode.envs, vectorization_mode="vector_entry_point", **keywords))
        else:
            made.append(gym.make(ENVIRONMENT, **keywords))
        return made[-1]

    try:
        env = make()
        record.facts |= {"observation_space": str(env.observation_space), "action_space": str(env.action_space)}
        if episode.envs:
            drive_vector(episode, env, options, record)
        else:
            drive_single(episode, env, options, record, make)
    except Exception as error:
        record.error = f"{type(error).__name__}: {error}".replace(str(folder), "FOLDER")
        if not episode.fails:
            traceback.print_exc()
    finally:
        for env in made:
            env.close()
    return record


def drive_single(episode: Episode, env: Any, options: dict[str, Any] | None, record: Record, make: Callable[[], Any]) -> None:
    """From reset to the last step; an episode that ends begins anew as the generator wants, with the same options."""
    act, random = ACTIONS[episode.keywords.get("action", "controls")], np.random.default_rng(episode.seed)
    observation: Mapping[str, np.ndarray] = {}
    over = False

    def reset(seed: int | None) -> None:
        nonlocal observation, over
        observation, info = env.reset(seed=seed, options=options)
        over = False
        record.add("reset", observation, np.nan, False, False, info)
        picture()

    def picture() -> None:
        if episode.render:
            record.pictures.append(np.array(env.render()))

    def go(steps: range, style: str, prefix: str = "") -> None:
        nonlocal observation, over
        for step in steps:
            if over:
                reset(None)
                continue
            observation, *outcome = env.step(act(style, random, observation))
            record.add(f"{prefix}{step}", observation, *outcome)
            over = bool(outcome[1] or outcome[2])
            picture()

    reset(episode.seed)
    if episode.branch is None:
        return go(range(1, episode.steps + 1), episode.style)
    go(range(1, episode.branch + 1), episode.style)
    rest, length = range(episode.branch + 1, episode.steps + 1), episode.steps - episode.branch
    value, dice, before = env.unwrapped.snapshot(), random.bit_generator.state, observation
    for prefix, style in (("", episode.style), ("again ", episode.style), ("elsewhere ", "left")):
        if prefix == "elsewhere ":
            env = make()
            env.reset(seed=episode.seed + 1, options=options)
        if prefix:
            env.unwrapped.restore(value)
            random.bit_generator.state, observation, over = dice, before, False
        go(rest, style, prefix)
    first, second = (slice(1 + episode.branch + at, 1 + episode.branch + at + length) for at in (0, length))
    record.facts["branches_agree"] = all(
        np.array_equal(rows[first], rows[second], equal_nan=True) for rows in record.arrays().values()
    ) and (json.dumps(record.infos[first]) == json.dumps(record.infos[second]))


def drive_vector(episode: Episode, envs: Any, options: dict[str, Any] | None, record: Record) -> None:
    """Every row acts for itself; those that end begin anew at their next step."""
    act, random = ACTIONS[episode.keywords.get("action", "controls")], np.random.default_rng(episode.seed)
    count = episode.envs
    observation: dict[str, np.ndarray] = {}

    def reset(**arguments: Any) -> None:
        nonlocal observation
        observation, info = envs.reset(**arguments)
        nobody = np.zeros(count, bool)
        record.add("reset", observation, np.full(count, np.nan), nobody, nobody, info)

    def go(steps: range, prefix: str = "") -> None:
        nonlocal observation
        for step in steps:
            seen = [{key: value[index] for key, value in observation.items()} for index in range(count)]
            observation, *outcome = envs.step(np.stack([act(episode.style, random, each) for each in seen]))
            record.add(f"{prefix}{step}", observation, *outcome)
            if step == episode.mask:
                reset(options={"reset_mask": np.arange(count) % 2 == 0})
            if episode.render:
                record.pictures.append(np.stack(envs.render()))

    reset(seed=episode.seed, options=options)
    middle = episode.steps if episode.branch is None else episode.branch
    go(range(1, middle + 1))
    if episode.branch is not None:
        value = envs.envs[0].snapshot()
        go(range(middle + 1, episode.steps + 1))
        for member in envs.envs[:2]:
            member.restore(value)
        go(range(middle + 1, episode.steps + 1), "again ")


def write(record: Record, episode: Episode, folder: Path, seconds: float) -> None:
    """NAME.npz and, when that is whole, NAME.json."""
    np.savez(folder / f"{episode.name}.npz", **record.arrays())
    content = {
        "fingerprint": episode.fingerprint(),
        "seconds": seconds,
        "labels": record.labels,
        "infos": record.infos,
        "facts": record.facts,
        "error": record.error,
    }
    temporary = folder / f"{episode.name}.json.part"
    temporary.write_text(json.dumps(content))
    temporary.replace(folder / f"{episode.name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tree", type=Path, required=True)
    arguments = parser.parse_args()
    import dist4d_env

    found = Path(dist4d_env.__file__).resolve()
    if not found.is_relative_to(arguments.tree.resolve()):
        raise SystemExit(f"dist4d_env is {found}, not that of {arguments.tree}")
    warnings.simplefilter("ignore")
    jobs = json.loads(arguments.jobs.read_text())
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for each in jobs["episodes"]:
        episode, begin = Episode(**each), time.perf_counter()
        record = drive(episode, jobs["dataroot"], arguments.folder)
        seconds = time.perf_counter() - begin
        write(record, episode, arguments.folder, seconds)
        print(
            json.dumps({"episode": episode.name, "seconds": round(seconds, 2), "error": None if episode.fails else record.error}),
            flush=True,
        )


if __name__ == "__main__":
    main()
