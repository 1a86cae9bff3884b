"""Campaigns: planners driven through a suite of scenarios, one episode per planner, scenario and seed, in parallel, resumable.

A campaign's folder holds ``settings.json`` (the settings that its episodes share), ``episodes/`` (a .json and a .npz each; those
that are there are not driven again), ``pictures/`` where the world makes any, and the results: ``results.json``,
``leaderboard.md`` and ``report.html``.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dist4d_env import __version__
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.starts import check_start
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.drive import EnvSettings, EpisodeTask, drive, file_name
from dist4d_env.evaluation.episode_log import scenario_record
from dist4d_env.evaluation.executors import Executor
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.registry import TRAFFIC, WORLDS
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite
from dist4d_env.worlds.contract import world_traits

SETTINGS = "settings.json"
FORMAT = 1


@dataclass(frozen=True)
class Campaign:
    """planners: names or module:Class; seeds: 0 to seeds - 1 of every scenario; only: patterns of scenario names, families or
    difficulties, empty for all; jitter: whether seeds beyond 0 move the ego's start a little; dataroot, version: in place of the
    suite's; horizon: seconds of an episode where the scenario names none."""

    planners: tuple[str, ...]
    suite: Suite
    seeds: int = 1
    only: tuple[str, ...] = ()
    world: str = "none"
    weights: str = "tiny"
    memory: str = "log"
    traffic: str = "replay"
    decision_dt: float = 0.5
    horizon: float = 10.0
    jitter: bool = True
    plan_limit: float = 30.0
    dataroot: str | None = None
    version: str | None = None
    scenarios: tuple[Scenario, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds={self.seeds} must be at least 1")
        if not self.planners:
            raise ConfigError("no planner is named: give at least one")
        WORLDS.check(self.world)
        TRAFFIC.check(self.traffic)
        _distinct("planners", self.planners)
        _distinct(f"suite {self.suite.name}", [scenario.name for scenario in self.suite.scenarios])
        chosen = tuple(scenario for scenario in self.suite.scenarios if self._chosen(scenario))
        if not chosen:
            families = sorted({scenario.family for scenario in self.suite.scenarios})
            raise ConfigError(
                f"no scenario of {self.suite.name} has a name, family or difficulty like {', '.join(self.only)}: "
                f"its families are {', '.join(families)}"
            )
        object.__setattr__(self, "scenarios", chosen)

    def _chosen(self, scenario: Scenario) -> bool:
        words = (scenario.name, scenario.family, scenario.difficulty)
        return not self.only or any(fnmatch.fnmatchcase(word, pattern) for word in words for pattern in self.only)

    def open_data(self) -> Dataset:
        """The data set that the campaign is driven on."""
        scenes = tuple(dict.fromkeys(scenario.scene for scenario in self.scenarios))
        return open_dataset(self.dataroot or self.suite.dataroot, self.version or self.suite.version, scenes)

    def env_settings(self, dataset: Dataset) -> EnvSettings:
        """The environment of every episode."""
        scenes = tuple(dict.fromkeys(scenario.scene for scenario in self.scenarios))
        names = ("world", "weights", "memory", "traffic", "decision_dt", "horizon")
        return EnvSettings(
            str(Path(dataset.dataroot).resolve()), dataset.version, scenes, **{name: getattr(self, name) for name in names}
        )

    def tasks(self, settings: EnvSettings, folder: Path) -> list[EpisodeTask]:
        """Every episode, grouped by scene, so that a process loads few scenes."""
        scenarios = sorted(self.scenarios, key=lambda scenario: (scenario.scene, scenario.name))
        return [
            EpisodeTask(planner, scenario, seed, settings, folder, self.jitter, self.plan_limit)
            for scenario in scenarios
            for seed in range(self.seeds)
            for planner in self.planners
        ]


def run(campaign: Campaign, folder: Path, execute: Executor) -> int:
    """Drives the episodes that are missing; returns their number. Raises before anything runs where input is bad."""
    from tqdm import tqdm

    dataset = campaign.open_data()
    settings = campaign.env_settings(dataset)
    check(campaign, dataset, settings)
    with _locked(folder):
        _agree(campaign, settings, folder)
        for leftover in [*folder.glob("*/.*.npz"), *folder.glob("*/.*.json"), *folder.glob("*/.*.jpg")]:
            leftover.unlink()  # of a run that was killed
        tasks = campaign.tasks(settings, folder.resolve())  # workers may have another working directory
        due = [task for task in tasks if not (folder / "episodes" / f"{task.name}.json").is_file()]
        with tqdm(total=len(tasks), initial=len(tasks) - len(due), unit="episode", disable=None, smoothing=0.05) as progress:
            for name in execute(drive, due):
                progress.set_postfix_str(name.split("__")[0], refresh=False)
                progress.update()
    return len(due)


def check(campaign: Campaign, dataset: Dataset, settings: EnvSettings) -> None:
    """Raises one clear error for what would fail later: a planner, scene, edit, or a world that cannot draw this data set."""
    traits = world_traits(campaign.world)
    for name in campaign.planners:
        needs = make_planner(name).requires
        if not traits.shows_pictures and (needs.cameras or needs.lidar or needs.imagination):
            raise ConfigError(f"planner {name!r} needs pictures: choose a world that makes them, such as --world dist4d")
    for scenario in campaign.scenarios:
        if scenario.scene not in dataset.names():
            raise DataError(
                f"the suite {campaign.suite.name} plays {scenario.name} in {scenario.scene}, which {dataset.dataroot} does not "
                "hold: give the suite's data set with --dataroot, or choose scenarios with --only"
            )
        scene = dataset.load(scenario.scene, require_map=False)
        try:
            check_start(scene, traits.needs_images, scenario.start, campaign.decision_dt)
            apply_all(scenario.edits, scene, scenario.start)
        except (ConfigError, DataError) as error:
            raise type(error)(f"scenario {scenario.name}: {error}") from error
    if not traits.shows_pictures:
        return
    env = settings.make()  # loads weights, and finds out whether the world can draw this data set
    try:
        env.reset(seed=0, options={"scenario": campaign.scenarios[0]})
    finally:
        env.close()


def stored(folder: Path) -> list[Path]:
    """The logs of a campaign's or evaluation's episodes. Raises DataError where there are none."""
    place = folder / "episodes" if (folder / "episodes").is_dir() else folder
    paths = sorted(path for path in place.glob("*.json") if path.with_suffix(".npz").is_file())
    if not paths:
        raise DataError(f"{folder}: no stored episodes; give a folder that `python -m dist4d_env evaluate` wrote")
    return paths


def is_campaign(folder: Path) -> bool:
    """Whether a folder is a campaign's."""
    return (folder / SETTINGS).is_file()


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a campaign. Raises DataError for a folder that is none or is broken."""
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings["format"] != FORMAT:
            raise DataError(f"{path}: a campaign of format {settings['format']}, not {FORMAT}: choose another --out")
        return dict(settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a campaign's settings ({type(error).__name__}: {error}); choose another --out") from error


def _agree(campaign: Campaign, settings: EnvSettings, folder: Path) -> None:
    """Writes the settings, or compares them with those of an earlier run: planners, scenarios and seeds may be added, nothing may
    differ. Raises ConfigError naming what does."""
    records = {scenario.name: scenario_record(scenario) for scenario in campaign.scenarios}
    common = {
        **{name: value for name, value in asdict(settings).items() if name != "scenes"},
        "suite": campaign.suite.name,
        "jitter": campaign.jitter,
        "plan_limit": campaign.plan_limit,
        "dist4d_env": __version__,
    }
    if is_campaign(folder):
        before = read_settings(folder)
        for name, value in common.items():
            if before["common"].get(name) != value:
                raise ConfigError(
                    f"{folder} holds episodes with {name}={before['common'].get(name)!r}, this run has {value!r}: "
                    "choose another --out"
                )
        for name, record in records.items():
            if before["scenarios"].get(name, record) != record:
                raise ConfigError(f"{folder} holds episodes of another scenario by the name of {name}: choose another --out")
        records = {**before["scenarios"], **records}
    text = json.dumps({"format": FORMAT, "common": common, "scenarios": records}, indent=1)
    write_text(folder / SETTINGS, text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks the folder against a second run. Raises ConfigError if there is one."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"another run is writing to {folder}: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


def _distinct(what: str, names: Sequence[str]) -> None:
    """Raises ConfigError for names that give the same file name."""
    twice = [name for name, count in Counter(map(file_name, names)).items() if count > 1]
    if twice:
        raise ConfigError(f"{what}: {twice[0]} is named twice")
