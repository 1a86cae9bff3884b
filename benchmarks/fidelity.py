"""Decision fidelity: the same planners, scenarios, starts and seeds in generated worlds and in the truth.

Every planner drives every episode in the oracle and in each of the other worlds. While it drives in one of those, a second
planner of its kind is shown the oracle's pictures of the very same states: what it would have planned is stored beside what was
planned. Episodes are driven scenario by scenario, over all planners and worlds, the families in turn, so that whatever is there
is balanced; each is stored as it ends, any order gives the same results, and a stopped run goes on where it was. What is stored
becomes a table at any time:

    python -m benchmarks.fidelity --out runs/fidelity --minutes 60
    python -m benchmarks.fidelity_table runs/fidelity --store benchmarks/results/fidelity.json

Episodes are large. ``fidelity_table --drives FILE`` keeps what the tables need of them, some hundred bytes each; with the same
``--drives`` a study goes on on another machine, without their folder.

See docs/fidelity.md.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from benchmarks.common import run
from benchmarks.fidelity_drives import KeptDrives, load_drives, study
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.evaluation.campaign import Campaign, look_at_planners, prepared
from dist4d_env.evaluation.drive import EnvSettings, EpisodeTask, jittered
from dist4d_env.evaluation.episode_log import save_episode
from dist4d_env.evaluation.executors import check_stop, executor
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import OtherPictures, SecondOpinions, asked_of
from dist4d_env.planners.contract import Planner
from dist4d_env.progress import Progress
from dist4d_env.registry import MEASURING
from dist4d_env.scenes.files import replacing
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import read_suite
from dist4d_env.worlds.oracle import OracleWorld

TRUTH = "oracle"
WORLDS: Mapping[str, Mapping[str, Any]] = {
    TRUTH: {"world": "oracle"},
    "dist4d": {"world": "dist4d"},
    "dist4d_history": {"world": "dist4d", "memory": "history"},
    "splat": {"world": "splat"},
    "splat_history": {"world": "splat", "memory": "history"},
    "replay": {"world": "replay"},
    "stored": {"world": "benchmarks.stored_oracle:StoredOracle"},
    "resampled": {"world": "benchmarks.resampled_oracle:ResampledOracle"},
}
"""The environment's keywords of each world. ``splat`` shows what ``replay`` shows, frame by frame; ``stored``, the truth through
the files of a data set, and ``resampled``, with pixel centres half a pixel aside, are true pictures with one known disturbance
each, to measure others by."""
PATIENCE = 3600.0
"""Seconds that a planner may take: a study in the background of other work is judged by plans, not by the clock."""
SHADOWS = "true_plans"
"""Folder beside ``episodes`` of what would have been planned on the true pictures."""


@dataclass(frozen=True)
class Options:
    """Planners that look, in generated worlds and in the truth."""

    out: Path
    """Folder of the study: a campaign in a folder for each world."""
    planner: tuple[str, ...] = ("measuring", *(f"measuring_{variant}" for variant in MEASURING))
    """Planners that look at pictures: built-in names, folders of policies, or your own as module:Class."""
    scale: tuple[str, ...] = ("pdm_closed", "idm", "constant_velocity")
    """Planners that look at none, driven in the truth alone, to place the others by."""
    worlds: tuple[str, ...] = ("dist4d", "dist4d_history", "splat", "splat_history")
    """Worlds to compare with the truth; none drives in the truth alone."""
    suite: str = "town_test"
    """Suite of scenarios in the town: a name or a YAML file."""
    scenarios: int | None = None
    """Only the first so many, in the study's order."""
    seeds: int = 2
    """Seeds of every scenario; those beyond the first move the ego's start a little."""
    beside: int | None = None
    """The plans on the true pictures are looked at in the first so many scenarios only, with the first seed: they take a third of
    the time. By default in all. An episode that is stored without them is not driven again for them."""
    size: str | None = None
    """Height x width of the images; else the worlds' own."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset or a folder."""
    workers: int = 0
    """Processes, one thread each; 0 drives in this one."""
    minutes: float | None = None
    """Stops after the episode in which so many minutes are over."""
    drives: Path | None = None
    """Drives kept by fidelity_table --drives, of the same suite, size and weights: what they hold is not driven again."""
    others: Literal["refuse", "again", "keep"] = "refuse"
    """Episodes that other code has driven: none are allowed, they are driven again, or they are kept as they are."""

    def __post_init__(self) -> None:
        unknown = [world for world in self.worlds if world not in WORLDS or world == TRUTH]
        if unknown:
            raise ConfigError(f"--worlds {' '.join(unknown)}: choose from {', '.join(sorted(set(WORLDS) - {TRUTH}))}")
        doubled = [name for names in (self.worlds, (*self.planner, *self.scale)) for name in set(names) if names.count(name) > 1]
        if doubled:
            raise ConfigError(f"name each planner and world once, not {', '.join(sorted(doubled))} twice")
        if not (*self.planner, *self.scale):
            raise ConfigError("name at least one planner with --planner or --scale")
        if self.workers < 0 or self.seeds < 1 or not (self.minutes or 0.0) >= 0:
            raise ConfigError("--workers and --minutes take 0 or more, --seeds at least 1")
        if self.scenarios is not None and self.scenarios < 1:
            raise ConfigError(f"--scenarios {self.scenarios} must be at least 1")
        if self.beside is not None and self.beside < 0:
            raise ConfigError(f"--beside {self.beside} must be at least 0")


def main(options: Options) -> int:
    """Drives what is missing; returns how many episodes that were."""
    chosen = in_turn(read_suite(options.suite).scenarios)[: options.scenarios]
    began, driven = time.monotonic(), 0
    kept = load_drives(options.drives) if options.drives else KeptDrives({}, {})
    kept.check(study(read_suite(options.suite).name, options.size, options.weights))
    with ExitStack() as stack:
        tasks: list[EpisodeTask] = []
        total = 0
        for campaign in campaigns(options, chosen):
            due = stack.enter_context(prepared(campaign[1], options.out / campaign[0], options.others, _made(campaign[1])))
            missing = [t for t in due.tasks if (campaign[0], t.planner, t.scenario.name, t.seed) not in kept.drives]
            tasks, total = tasks + missing, total + due.total
        names = {scenario.name: place for place, scenario in enumerate(chosen)}
        who = {name: place for place, name in enumerate((*options.planner, *options.scale))}
        tasks.sort(key=lambda task: (task.seed, names[task.scenario.name], who[task.planner]))
        progress = stack.enter_context(Progress("driving", "episode", total, total - len(tasks)))
        beside = None if options.beside is None else frozenset(scenario.name for scenario in chosen[: options.beside])
        for _ in executor(options.workers)(partial(drive_beside_truth, beside=beside), tasks):
            driven += 1
            progress.update()
            if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                break
    return driven


def in_turn(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Scenarios of all families in turn, of each in an order that looks random: a beginning of any length has some of all."""
    families: dict[str, list[Scenario]] = {}
    for scenario in sorted(scenarios, key=lambda scenario: zlib.crc32(scenario.name.encode())):
        families.setdefault(scenario.family, []).append(scenario)
    places = [(place, family) for family, members in families.items() for place in range(len(members))]
    return [families[family][place] for place, family in sorted(places)]


def campaigns(options: Options, chosen: Sequence[Scenario]) -> Iterable[tuple[str, Campaign]]:
    """A campaign for the truth and for every other world."""
    for world in (TRUTH, *options.worlds):
        planners = (*options.planner, *options.scale) if world == TRUTH else options.planner
        keywords: dict[str, Any] = {"weights": options.weights, **WORLDS[world]}
        yield world, Campaign(
            planners, read_suite(options.suite), options.seeds, tuple(scenario.name for scenario in chosen), size=options.size,
            apart=False, plan_limit=PATIENCE, reset_limit=PATIENCE, **keywords,
        )  # fmt: skip


_known: dict[str, Any] = {}


def _made(campaign: Campaign) -> Mapping[str, Any]:
    """What is known of a campaign's planners; each is looked at once. Raises ConfigError for a planner that looks at pictures
    other than by the observation."""
    new = tuple(name for name in campaign.planners if name not in _known)
    if new:
        _known.update(look_at_planners(replace(campaign, planners=new)))
    return {name: _known[name] for name in campaign.planners}


def drive_beside_truth(task: EpisodeTask, beside: frozenset[str] | None = None) -> str:
    """Drives and stores an episode, and beside it the plans on the true pictures, if it is the first of a scenario in ``beside``
    (None: always); returns its name."""
    check_stop()
    env = _environment(task.settings, task.needs.lidar)
    driving: Any = env.unwrapped
    planner, twin = _planners(task.planner, task.driver)
    wanted = beside is None or (task.seed == 0 and task.scenario.name in beside)
    asked = wanted and asked_of(planner.requires) and task.settings.world != TRUTH
    truth = SecondOpinions({TRUTH: (twin, OtherPictures(OracleWorld()))}) if asked else None
    scenario = jittered(task.scenario, driving, task.seed) if task.jitter else task.scenario
    options = RunOptions(plan_limit=task.plan_limit, reset_limit=task.reset_limit, scenario=scenario, opinions=truth)
    try:
        log = run_episode(env, planner, task.seed, options, lambda *_: check_stop(), task.planner)
    except DiST4DError as error:
        raise type(error)(f"scenario {task.scenario.name}: {error}") from error
    if log.error is not None or (truth is not None and truth.failed):
        _planners.cache_clear()  # fresh ones for the next episode
    path = task.folder / SHADOWS / f"{task.name}.npz"
    path.unlink(missing_ok=True)  # those of an earlier drive are of other states
    if truth is not None:
        plans = truth.plans_of(TRUTH)[: len(log.plans.step)]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, poses=plans)
    save_episode(replace(log, fingerprint=dict(task.fingerprint), apart=None), task.folder / "episodes", task.name)
    return task.name


@lru_cache(maxsize=2 * len(WORLDS))
def _environment(settings: EnvSettings, lidar: bool) -> gym.Env:
    """One of each world: scenarios follow each other in all of them."""
    return settings.make(lidar=lidar)


@lru_cache(maxsize=32)
def _planners(name: str, driver: tuple[tuple[str, str], ...]) -> tuple[Planner, Planner]:
    """A planner and another of its kind. driver: another is another planner."""
    return make_planner(name), make_planner(name)


if __name__ == "__main__":
    try:
        run(main, Options)
    except KeyboardInterrupt:
        print("\nfidelity: stopped from the keyboard; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
