"""Campaigns: planners driven through a suite of scenarios, one episode per planner, scenario and seed, in parallel, resumable.

A campaign's folder holds ``settings.json`` (the settings that its episodes share), ``episodes/`` (a .json and a .npz each; those
that are there are not driven again), ``pictures/`` where the world makes any, and the results: ``results.json``,
``leaderboard.md`` and ``report.html``.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dist4d_env import __version__
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.config import check_size
from dist4d_env.envs.starts import check_start
from dist4d_env.errors import ConfigError, DataError, shown
from dist4d_env.evaluation.drive import EnvSettings, EpisodeTask, drive, episode_name, file_name
from dist4d_env.evaluation.episode_log import (
    BROKEN,
    LONGEST,
    check_record,
    read_json,
    read_text,
    scenario_record,
    shown_error,
)
from dist4d_env.evaluation.executors import Executor
from dist4d_env.evaluation.fingerprint import code_fingerprint, scene_fingerprint
from dist4d_env.evaluation.planner_process import Made, PlannerProcess
from dist4d_env.evaluation.runner import check_limits
from dist4d_env.evaluation.second_opinion import check_asked
from dist4d_env.geometry.cameras import optional_size
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT
from dist4d_env.progress import Progress
from dist4d_env.registry import TRAFFIC, WORLDS
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.scenes.suites import Suite
from dist4d_env.worlds.contract import world_traits

SETTINGS = "settings.json"
_JITTERED = ("ego_offset", "ego_yaw", "ego_speed")
"""What seeds beyond the first change of a scenario's record."""
FORMAT = 1


@dataclass(frozen=True)
class Campaign:
    """planners: names or module:Class; seeds: 0 to seeds - 1 of every scenario; only: patterns of scenario names, families or
    difficulties, empty for all; jitter: whether seeds beyond 0 move the ego's start a little; dataroot, version: in place of the
    suite's; dataset: the reader's name; size: of the images, "HEIGHTxWIDTH", None for the world's own; horizon: seconds of an
    episode where the scenario names none; plan_limit, reset_limit: seconds that a plan, and making and resetting a planner, may
    take; apart: whether planners live in processes of their own, where they can be stopped; opinions: whether second opinions are
    asked for, of planners that look."""

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
    plan_limit: float = PLAN_LIMIT
    reset_limit: float = RESET_LIMIT
    dataroot: str | None = None
    version: str | None = None
    dataset: str | None = None
    size: str | None = None
    apart: bool = True
    opinions: bool = False
    scenarios: tuple[Scenario, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds={self.seeds} must be at least 1")
        if not self.planners:
            raise ConfigError("no planner is named: give at least one")
        check_limits(self.plan_limit, self.reset_limit)
        WORLDS.check(self.world)
        TRAFFIC.check(self.traffic)
        check_size(self.world, self.weights, optional_size(self.size))
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
        """The data set that the campaign is driven on: the one of the whole suite, however few of its scenarios are chosen."""
        scenes = tuple(dict.fromkeys(scenario.scene for scenario in self.suite.scenarios))
        root, version = self.dataroot or self.suite.dataroot, self.version or self.suite.version
        return open_dataset(root, version, scenes, self.dataset, optional_size(self.size))

    def env_settings(self, dataset: Dataset) -> EnvSettings:
        """The environment of every episode."""
        scenes = tuple(dict.fromkeys(scenario.scene for scenario in self.scenarios))
        names = ("world", "weights", "memory", "traffic", "decision_dt", "horizon", "dataset", "size")
        return EnvSettings(
            str(Path(dataset.dataroot).resolve()), dataset.version, scenes, **{name: getattr(self, name) for name in names}
        )

    def tasks(self, settings: EnvSettings, folder: Path, made: Mapping[str, Made], data: Mapping[str, str]) -> list[EpisodeTask]:
        """Every episode, grouped by planner, of which a process holds one at a time, then by scene, of which it so loads few.

        data: fingerprints of the scenes by name.
        """
        scenarios = sorted(self.scenarios, key=lambda scenario: (scenario.scene, scenario.name))
        code = code_fingerprint(self.world, self.weights, self.traffic)
        task = partial(EpisodeTask, settings=settings, folder=folder, jitter=self.jitter, apart=self.apart,
                       plan_limit=self.plan_limit, reset_limit=self.reset_limit, opinions=self.opinions)  # fmt: skip
        return [
            task(planner, scenario, seed, needs=made[planner].requires,
                 fingerprint=(("code", code), ("planner", made[planner].fingerprint), ("data", data[scenario.scene])))
            for planner in self.planners
            for scenario in scenarios
            for seed in range(self.seeds)
        ]  # fmt: skip


def run(campaign: Campaign, folder: Path, execute: Executor, again: bool = False) -> int:
    """Drives the episodes that are missing; returns their number. Raises before anything runs where input is bad.

    again: also those that other code or a planner of other files has driven, or on other data; without it ConfigError says that
    there are some.
    """
    with prepared(campaign, folder, "again" if again else "refuse") as due:
        with Progress("driving", "episode", due.total, due.total - len(due.tasks)) as progress:
            for _ in execute(drive, due.tasks):
                progress.update()
    return len(due.tasks)


@dataclass(frozen=True)
class Due:
    """tasks: the episodes of a campaign that are missing; total: how many it has."""

    tasks: list[EpisodeTask]
    total: int


@contextmanager
def prepared(
    campaign: Campaign,
    folder: Path,
    others: Literal["refuse", "again", "keep"] = "refuse",
    made: Mapping[str, Made] | None = None,
) -> Iterator[Due]:
    """Checks a campaign and locks its folder, in which the episodes that are due may then be stored, in any order.

    others: what becomes of episodes that other code, or a planner of other files, has driven: ConfigError, driven again, or kept
    as they are, which is for those who know that the change does not touch them; made: what is known of the planners already.
    """
    dataset = campaign.open_data()
    settings = campaign.env_settings(dataset)
    made, data = check(campaign, dataset, settings, made)
    with _locked(folder):
        content = _agree(campaign, settings, folder)
        tasks = campaign.tasks(settings, folder.resolve(), made, data)  # workers may have another working directory
        logs = _logs(folder / "episodes")
        if logs and not is_campaign(folder):
            raise ConfigError(f"{folder} holds {_counted(logs)} driven without a suite: choose another --out")
        texts = _stored_texts(logs)
        foreign = {} if others == "keep" else _driven_by_others(texts, tasks)
        if foreign and others == "refuse":
            raise ConfigError(_mixed(folder, foreign))
        if is_campaign(folder):
            _check_members(texts, json.loads(content))
        whole = {path.stem for path in texts if path.with_suffix(".npz").is_file()}
        due = [task for task in tasks if task.name in foreign or task.name not in whole]
        left = foreign.keys() - {task.name for task in due}
        if left:
            raise ConfigError(
                f"{_counted(left)} in {folder}, such as {min(left)}, were driven by other code or on other data and "
                "are not of this run: name their planners and scenarios too, or choose another --out"
            )
        write_text(folder / SETTINGS, content)
        for leftover in [*folder.glob("*/.*.npz"), *folder.glob("*/.*.json"), *folder.glob("*/.*.jpg")]:
            leftover.unlink()  # of a run that was killed
        yield Due(due, len(tasks))


def check(
    campaign: Campaign, dataset: Dataset, settings: EnvSettings, made: Mapping[str, Made] | None = None
) -> tuple[Mapping[str, Made], dict[str, str]]:
    """The planners' needs and fingerprints, those in ``made`` taken as known, and the scenes' fingerprints. Raises one clear
    error for what would fail later: a planner, scenario, edit, or a world that cannot draw this data set."""
    traits = world_traits(campaign.world)
    made = made or look_at_planners(campaign)
    for name, planner in made.items():
        needs = planner.requires
        if not traits.shows_pictures and (needs.cameras or needs.lidar or needs.imagination):
            raise ConfigError(f"planner {name!r} needs pictures: choose a world that makes them, such as --world dist4d")
    if campaign.opinions:
        check_asked({name: planner.requires for name, planner in made.items()})
    data: dict[str, str] = {}
    with Progress("checking scenarios", "scenario", len(campaign.scenarios)) as progress:
        for scenario in sorted(campaign.scenarios, key=lambda scenario: scenario.scene):
            scene = _check_scenario(campaign, dataset, scenario, traits.needs_images)
            if scenario.scene not in data:
                data[scenario.scene] = scene_fingerprint(scene, traits.needs_images)
            progress.update()
    if traits.shows_pictures:
        with Progress("opening the world"):
            env = settings.make()  # loads weights, and finds out whether the world can draw this data set
            try:
                env.reset(seed=0, options={"scenario": campaign.scenarios[0]})
            finally:
                env.close()
    return made, data


def look_at_planners(campaign: Campaign) -> dict[str, Made]:
    """Makes each planner once, in a process of its own, as many at a time as there are processors."""
    made: dict[str, Made] = {}
    names, most = campaign.planners, os.cpu_count() or 1
    with Progress("making planners", "planner", len(names)) as progress:
        for first in range(0, len(names), most):
            processes = [PlannerProcess(name, reset_limit=campaign.reset_limit) for name in names[first : first + most]]
            try:
                for process in processes:
                    process.begin()
                for process in processes:
                    made[process.name] = process.made()
                    progress.update()
            finally:
                for process in processes:
                    process.close()
    return made


def _check_scenario(campaign: Campaign, dataset: Dataset, scenario: Scenario, needs_images: bool) -> Scene:
    """The scene of a scenario. Raises ConfigError or DataError where it cannot be played there."""
    if scenario.scene not in dataset.names():
        raise DataError(
            f"the suite {campaign.suite.name} plays {scenario.name} in {scenario.scene}, which {dataset.dataroot} does not "
            "hold: give the suite's data set with --dataroot, or choose scenarios with --only"
        )
    scene = dataset.load(scenario.scene, require_map=False)
    try:
        start = check_start(scene, needs_images, scenario.start, campaign.decision_dt)
        apply_all(scenario.edits, scene, start)
    except (ConfigError, DataError) as error:
        raise type(error)(f"scenario {scenario.name}: {error}") from error
    return scene


def _driven_by_others(texts: Mapping[Path, dict[str, Any]], tasks: Sequence[EpisodeTask]) -> dict[str, set[str]]:
    """Of the stored episodes that something else has driven than would drive them now, or on other data: what has changed, by
    name."""
    now: dict[tuple[str, str], str] = {}
    for task in tasks:
        prints = dict(task.fingerprint)
        now |= {("planner", task.planner): prints["planner"], ("data", task.scenario.scene): prints["data"]}
    code, found = dict(tasks[0].fingerprint)["code"], {}
    for path, text in texts.items():
        planner, scene, then = text["planner"], text["scene"], text["fingerprint"]
        expected = {
            "dist4d_env (or the world's weights)": ("code", code),
            f"the planner {planner}": ("planner", now.get(("planner", planner))),
            f"the data of {scene}": ("data", now.get(("data", scene))),
        }
        different = {what for what, (key, value) in expected.items() if value is not None and then.get(key) != value}
        if different:
            found[path.stem] = different
    return found


def _stored_texts(paths: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """What the .json of stored episodes hold. Raises DataError for the first that is broken."""
    texts = {}
    for path in paths:
        try:
            texts[path] = read_text(path)
        except (*BROKEN, OSError) as error:
            raise DataError(f"{path}: not a whole episode log ({shown_error(error)}); remove it") from error
    return texts


def check_members(paths: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Raises DataError for the first stored episode that is not one of a campaign's with these settings: brought there from
    another one, or under another name, it would change the means unseen."""
    _check_members(_stored_texts(paths), settings)


def _check_members(texts: Mapping[Path, dict[str, Any]], settings: Mapping[str, Any]) -> None:
    common, scenarios = settings["common"], settings["scenarios"]
    for path, text in texts.items():
        why, scenario, had = "", text["scenario"], {**text["settings"], **{key: text[key] for key in ("version", "decision_dt")}}
        differs = [key for key, value in had.items() if key in common and common[key] != value and key != "dataset"]
        if path.stem != episode_name(text["planner"], str(scenario.get("name", text["scene"])), text["seed"]):
            why = "its name is that of another episode"
        elif differs:
            why = f"it was driven with {differs[0]}={had[differs[0]]!r:.60}, the campaign has {common[differs[0]]!r:.60}"
        elif not _plays(text, scenarios.get(scenario.get("name", text["scene"]))):
            why = "it plays another scenario than the campaign's of that name"
        if why:
            raise DataError(f"{path}: {why}; remove it")


def _plays(text: Mapping[str, Any], record: Any) -> bool:
    """Whether an episode's scenario is the campaign's but for what its seed changes (``jittered``) and the start, which is moved
    to what the log has."""
    if not isinstance(record, Mapping):
        return False
    free = ("start", *(_JITTERED if text["seed"] else ()))
    here, there = ({key: value for key, value in each.items() if key not in free} for each in (text["scenario"], record))
    return here == there and abs(text["scenario"].get("start", 0.0) - record.get("start", 0.0)) <= TICK


def _mixed(folder: Path, others: Mapping[str, set[str]]) -> str:
    causes = sorted(set().union(*others.values()))
    named = ", ".join(causes[:3]) + (" and more" if len(causes) > 3 else "")
    return (
        f"{folder} holds {_counted(others)} driven before {named} changed: give --again to drive them anew, or "
        "choose another --out"
    )


def _counted(episodes: Collection[Any]) -> str:
    return f"{len(episodes)} episode{'' if len(episodes) == 1 else 's'}"


def stored(folder: Path) -> list[Path]:
    """The logs of a campaign's or evaluation's episodes. Raises DataError where there are none."""
    place = folder / "episodes" if (folder / "episodes").is_dir() else folder
    logs = _logs(place)
    paths = [path for path in logs if path.with_suffix(".npz").is_file()]
    if place != folder and len(paths) < len(logs):
        halves = min(set(logs) - set(paths))
        raise DataError(f"{halves.with_suffix('.npz')}: no such file, the episode is not whole; run the same command again")
    if not paths:
        raise DataError(f"{folder}: no stored episodes; give a folder that `python -m dist4d_env evaluate` wrote")
    return paths


def _logs(folder: Path) -> list[Path]:
    """The .json files of a folder, without the hidden ones of runs that were killed as they wrote."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def is_campaign(folder: Path) -> bool:
    """Whether a folder is a campaign's."""
    return (folder / SETTINGS).is_file()


def check_results_folder(out: Path, scored: Path | None = None) -> None:
    """Raises ConfigError for a folder whose results are those of other episodes than will be driven without a suite or, of the
    folder ``scored``, scored again."""
    if scored is not None and out.resolve() == scored.resolve():
        return
    if is_campaign(out):
        raise ConfigError(f"{out} holds a campaign, driven with --suite, whose results would be replaced: choose another --out")
    if scored is not None and _logs(out / "episodes"):
        raise ConfigError(f"{out} holds other episodes, whose results would be replaced: choose another --out")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a campaign. Raises DataError for a folder that is none or is broken."""
    path = folder / SETTINGS
    try:
        settings = read_json(path)
        if settings["format"] != FORMAT:
            raise DataError(f"{path}: a campaign of format {settings['format']}, not {FORMAT}: choose another --out")
        for record in settings["scenarios"].values():
            check_record(record)
        for name in ("suite", "world", "weights", "memory", "traffic", "dist4d_env"):
            if not isinstance(settings["common"][name], str):
                raise TypeError(f"{name} is {shown(settings['common'][name])}")
        if not 0 < settings["common"]["decision_dt"] <= LONGEST:
            raise TypeError(f"decision_dt is {shown(settings['common']['decision_dt'])}")
        return dict(settings)
    except (*BROKEN, AttributeError, OSError) as error:
        raise DataError(f"{path}: not a campaign's settings ({shown_error(error)}); choose another --out") from error


def _agree(campaign: Campaign, settings: EnvSettings, folder: Path) -> str:
    """The settings as their file holds them, once compared with those of an earlier run: planners, scenarios and seeds may be
    added, nothing may differ. Raises ConfigError naming what does."""
    records = {scenario.name: scenario_record(scenario) for scenario in campaign.scenarios}
    common = {
        **{name: value for name, value in asdict(settings).items() if name != "scenes"},
        "suite": campaign.suite.name,
        "jitter": campaign.jitter,
        "plan_limit": campaign.plan_limit,
        "reset_limit": campaign.reset_limit,
        "opinions": campaign.opinions,
        "dist4d_env": __version__,
    }
    if is_campaign(folder):
        before = read_settings(folder)
        assumed = {"reset_limit": campaign.reset_limit, "opinions": False}  # of a folder from before there were these
        for name, value in common.items():
            if (driven := before["common"].get(name, assumed.get(name))) != value:
                raise ConfigError(f"{folder} is a campaign with {name}={driven!r}, this run has {value!r}: choose another --out")
        for name, record in records.items():
            if before["scenarios"].get(name, record) != record:
                raise ConfigError(f"{folder} holds episodes of another scenario by the name of {name}: choose another --out")
        records = {**before["scenarios"], **records}
    return json.dumps({"format": FORMAT, "common": common, "scenarios": records}, indent=1)


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
