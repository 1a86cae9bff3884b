"""``python -m dist4d_env evaluate``: a planner through many episodes, or stored episodes scored again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from dist4d_env import json_output
from dist4d_env.errors import ConfigError, DataError, check_ranges
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.geometry.cameras import optional_size
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT
from dist4d_env.progress import Progress
from dist4d_env.registry import DATASETS, TRAFFIC, WORLDS

if TYPE_CHECKING:
    from gymnasium import Env

    from dist4d_env.data.contract import Dataset
    from dist4d_env.envs.driving import DiST4DDrivingEnv
    from dist4d_env.evaluation.executors import Executor
    from dist4d_env.evaluation.second_opinion import SecondOpinions
    from dist4d_env.evaluation.summary import Summary
    from dist4d_env.metrics.driving.forms import Form
    from dist4d_env.planners.contract import PlannerNeeds

ENV = ("world", "weights", "memory", "traffic", "decision_dt", "horizon", "dataset", "size")
"""Options that are the environment's keywords."""
_DATA = ("dataroot", "dataset", "version", "seed", "out")
_STORED = ("folder", "dataroot", "dataset", "traffic", "allow", "seed", "form", "out")
_PLANNED = (*_DATA, *ENV, "planner", "workers", "plan_limit", "reset_limit", "form")
USED: Mapping[str, tuple[str, ...]] = {
    "with --realism": (*_DATA, "realism", "scenes", "episodes", "traffic"),
    "with --two-stage": (*_PLANNED, "two_stage", "scenes", "episodes"),
    "with a FOLDER of a campaign": (*_STORED, "workers", "ray"),
    "with a FOLDER of episodes": _STORED,
    "with --suite": (*_PLANNED, "allow", "suite", "seeds", "only", "ray", "again", "second_opinions"),
    "without --suite": (*_PLANNED, "scenes", "episodes", "action", "second_opinions", "report"),
}
"""The options that say something, by what is done; others are refused rather than passed over."""


@dataclass(frozen=True)
class Options:
    """Drive planners through episodes and score them, or score stored episodes again.

    Writes every episode (a .json and a .npz) and results.json; prints a table with 95 % confidence intervals. With --suite every
    planner drives every scenario of a YAML suite, over processes, and report.html shows them side by side; stopped, the same
    command goes on where it was. An episode in which the planner fails is counted as such; rankings take it for 0.
    """

    folder: Positional[Path | None] = None
    """Drive nothing: score the episodes stored in this folder again, with this version's metrics."""
    planner: tuple[str, ...] = ("lane",)
    """Names such as lane (follows the route) or idm, folders of learned policies, or your own as module:Class, made without
    arguments; several with --suite."""
    suite: str | None = None
    """Scenarios to drive: town_val, town_test, safety_critical, nuscenes, or a YAML file. Without a suite, episodes start in
    --scenes."""
    seeds: int = 1
    """Of a suite: seeds of every scenario; those beyond the first move the ego's start a little."""
    only: tuple[str, ...] = ()
    """Of a suite: names, families or difficulties (with * and ?) to drive; all if none is given."""
    workers: int = 1
    """Of a suite: processes to drive in, one thread each. Planners live in processes of their own, where they can be stopped;
    with 0 all is done in this one, for debuggers: there a planner that hangs or exits stops all."""
    ray: bool = False
    """Of a suite: the workers are those of Ray, in the cluster of $RAY_ADDRESS or one started here."""
    again: bool = False
    """Of a suite: drive again the episodes in --out that other code, or a planner of other files, has driven."""
    dataroot: Path | None = None
    """Folder of a nuScenes-format data set; else $NUSCENES, else the built-in town."""
    dataset: str | None = None
    """Its reader: a registered name, or your own as module:Class; found by the folder if none is given."""
    version: str | None = None
    """Folder of tables below it; found by itself when there is one."""
    scenes: tuple[str, ...] = ("val",)
    """Splits or scene names."""
    episodes: int = 1
    """Episodes per scene; the first begins at the scene's start, the others where the seed says."""
    world: str = "none"
    """What makes the pictures: dist4d, splat, replay, oracle, or your own as module:Class. none draws nothing and is fastest, for
    planners that need no camera."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset, a folder, or splat for no model at all."""
    size: str | None = None
    """Height x width of the pictures, such as 224x400; else the world's own, 64x112 for the shipped weights."""
    memory: Literal["log", "history"] = "log"
    """What the world may remember."""
    traffic: str = "replay"
    """Traffic as logged (replay), reacting on logged paths (idm) or by rules of lanes (lanes), or your own as module:Class."""
    action: Literal["trajectory", "controls", "discrete"] = "trajectory"
    """What the planner returns; plans are trajectories."""
    decision_dt: float = 0.5
    """Seconds between decisions."""
    horizon: float = 10.0
    """Seconds of an episode."""
    plan_limit: float = PLAN_LIMIT
    """Seconds that a plan may take; a slower one counts as a failure of the planner."""
    reset_limit: float = RESET_LIMIT
    """Seconds that making a planner, and its reset, may take."""
    seed: int = 0
    """Episode k of a scene has seed + k. The same seed makes the same episode."""
    two_stage: bool = False
    """Score plans in NAVSIM v2's two stages instead of driving episodes: of --episodes frames of each scene, then of what the
    world shows where these plans lead. Writes two_stage.json."""
    realism: int = 0
    """Score the --traffic instead of a planner: so many seeded rollouts of each of --episodes windows of 9 s a scene, held to the
    log as the Waymo sim agents challenge does (it takes 32). Writes realism.json."""
    second_opinions: bool = False
    """Ask others of a planner's kind, at every decision, what they would do on the splat of the same state and on the same
    pictures once stored, and report how often they agree (plan_agreement). Of planners that look; takes half as long again."""
    report: bool = False
    """Write an HTML report per episode, too, with a video where the world makes pictures; a suite has one of all anyway."""
    form: Literal["corrected", "faithful"] = "corrected"
    """Of other benchmarks' scores: corrected, or as their original code computes them, known defects included."""
    allow: tuple[str, ...] = ()
    """Readers of data sets, and traffic, as module:Class, that the files read may name. Other files cannot have modules imported,
    but for what --dataset and --traffic name."""
    out: Path = Path("evaluation")
    """Folder for the results. Scoring again writes to the folder itself unless this is given."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """What files may name."""
        return (*self.allow, self.traffic, *(() if self.dataset is None else (self.dataset,)))

    @property
    def _doing(self) -> str:
        """What is done, as USED has it."""
        if self.realism:
            return "with --realism"
        if self.two_stage:
            return "with --two-stage"
        if self.folder is None:
            return "without --suite" if self.suite is None else "with --suite"
        from dist4d_env.evaluation.campaign import is_campaign

        return "with a FOLDER of a campaign" if is_campaign(self.folder) else "with a FOLDER of episodes"

    def check(self) -> None:
        """Raises ConfigError for what cannot work."""
        if self.episodes < 1:
            raise ConfigError(f"episodes={self.episodes} must be at least 1")
        if self.suite is None and len(self.planner) != 1:
            raise ConfigError(f"{len(self.planner)} planners are named: give the --suite that is to compare them, or one planner")
        if self.two_stage and (self.suite is not None or self.folder is not None or self.report or self.action != "trajectory"):
            raise ConfigError("--two-stage scores single plans of --scenes: leave folder, --suite, --report and --action out")
        if self.realism and (self.two_stage or self.suite is not None or self.folder is not None):
            raise ConfigError("--realism scores the traffic of --scenes: leave folder, --suite and --two-stage out")
        if self.second_opinions and (self.realism or self.two_stage or self.folder is not None or self.action != "trajectory"):
            raise ConfigError(
                "--second-opinions are asked for while plans are driven: leave folder, --two-stage, --realism and --action out"
            )
        if self.realism < 0:
            raise ConfigError(f"realism={self.realism} must be a number of rollouts")
        for field in fields(self):
            if field.name not in USED[self._doing] and getattr(self, field.name) != field.default:
                raise ConfigError(f"--{field.name.replace('_', '-')} says nothing {self._doing}: leave it out")
        if self.suite is None and self.folder is None and self.workers > 1:
            raise ConfigError(f"--workers {self.workers}: only a --suite is driven over several processes; leave it out")
        check_ranges(self, workers=(0, math.inf), seed=(0, math.inf))
        WORLDS.check(self.world)
        TRAFFIC.check(self.traffic)
        if self.dataset is not None:
            DATASETS.check(self.dataset)


def run(options: Options) -> int:
    """Evaluates, prints the table and the paths of the results."""
    from dist4d_env.evaluation.campaign import check_results_folder, is_campaign
    from dist4d_env.evaluation.summary import write_summary

    options.check()
    if options.realism:
        return _score_realism(options)
    if options.two_stage:
        return _score_two_stages(options)
    again = options.folder
    if again is not None or options.suite is None:
        check_results_folder(_results_folder(options, again), again)
    if again is not None and is_campaign(again):
        return _score_suite(again, _results_folder(options, again), options, afresh=True)
    if again is None and options.suite is not None:
        _drive_suite(options)
        return _score_suite(options.out, options.out, options, afresh=False)
    settings = _settings(options)
    if again is None:
        summary = drive(options)
    else:
        summary, driven = rescore(again, options.dataroot, options.form, options.allowed, options.seed)
        settings = {**driven, **{name: settings[name] for name in ("folder", "form", "seed")}}
    path = _results_folder(options, again) / "results.json"
    write_summary(path, summary, settings)
    print(summary.table())
    print(f"other benchmarks' scores: {options.form} form\nresults: {path}")
    json_output.result({"results": path, "settings": settings, **summary.as_json()})
    return 0


def _settings(options: Options) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}


def _score_two_stages(options: Options) -> int:
    from dist4d_env.evaluation.two_stage import Judge, TwoStageResult, frames, judge_frame, write_result

    with _opened(options) as (planner, dataset, env):
        judge = Judge(env, planner, options.form, options.plan_limit, options.reset_limit, options.seed)
        scenes = [dataset.load(name, require_map=False) for name in dataset.scene_names(options.scenes)]
        due = [(scene, time) for scene in scenes for time in frames(scene, options.episodes)]
        with Progress("scoring both stages", "frame", len(due)) as progress:
            groups = []
            for scene, time in due:
                groups.append(judge_frame(judge, scene, time))
                progress.update()
    result, path = TwoStageResult.of(groups, options.seed), options.out / "two_stage.json"
    write_result(path, result, _settings(options))
    print(f"{result.table()}\n{options.form} form\nresults: {path}")
    json_output.result({"results": path, "settings": _settings(options), **result.as_json()})
    return 0


def _score_realism(options: Options) -> int:
    from dist4d_env.data.open import open_dataset
    from dist4d_env.evaluation.realism import RealismResult, judge, windows, write_result

    dataset = open_dataset(options.dataroot, options.version, options.scenes, options.dataset)
    scenes = [dataset.load(name, require_map=False) for name in dataset.scene_names(options.scenes)]
    due = [(scene, start) for scene in scenes for start in windows(scene, options.episodes)]
    found = []
    with Progress("scoring traffic", "window", len(due)) as progress:
        for scene, start in due:
            found.append(judge(scene, start, options.traffic, options.realism, options.seed))
            progress.update()
    result, path = RealismResult.of(found, options.seed), options.out / "realism.json"
    write_result(path, result, _settings(options))
    print(f"traffic {options.traffic}, {options.realism} rollouts: {result.table()}\nresults: {path}")
    json_output.result({"results": path, "settings": _settings(options), **result.as_json()})
    return 0


def _results_folder(options: Options, again: Path | None) -> Path:
    """--out if it is given, else the folder of the episodes."""
    return options.out if again is None or options.out != Options.out else again


def _drive_suite(options: Options) -> None:
    from dist4d_env.evaluation.campaign import Campaign, run
    from dist4d_env.scenes.suites import read_suite

    assert options.suite is not None
    names = ("seeds", "only", "plan_limit", "reset_limit", "version", *ENV)
    settings: dict[str, Any] = {name: getattr(options, name) for name in names}
    settings |= {"opinions": options.second_opinions}
    settings |= {"dataroot": None if options.dataroot is None else str(options.dataroot), "apart": options.workers > 0}
    suite = read_suite(options.suite, options.allowed)
    run(Campaign(options.planner, suite, **settings), options.out, _executor(options), options.again)


def _score_suite(folder: Path, out: Path, options: Options, afresh: bool) -> int:
    """Scores a campaign's folder, prints its leaderboard and the paths of the results."""
    from dist4d_env.evaluation.results import REPLAYS, write_results

    dataroot = None if options.dataroot is None else str(options.dataroot)
    executor = _executor(options)
    board = write_results(folder, out, dataroot, executor, options.seed, REPLAYS, options.form, afresh, options.allowed)
    print(board.markdown() + board.told_causes())
    print(f"results: {out / 'results.json'}\nreport:  {out / 'report.html'}")
    json_output.result({"results": out / "results.json", "report": out / "report.html", **board.as_json()})
    return 0


def _executor(options: Options) -> Executor:
    from dist4d_env.evaluation.executors import executor

    return executor(options.workers, options.ray)


def _planner(options: Options, needs: PlannerNeeds | None = None) -> Any:
    """The planner, in a process of its own if there are workers; needs: where they are known."""
    from dist4d_env.evaluation.planner_process import PlannerProcess

    name = options.planner[0]
    return PlannerProcess(name, options.plan_limit, options.reset_limit, needs) if options.workers else make_planner(name)


@contextmanager
def _asked(options: Options, needs: PlannerNeeds) -> Iterator[SecondOpinions | None]:
    """Others of the planner's kind to ask; None where none are wanted. Raises ConfigError for a planner that can't be asked."""
    from dist4d_env.evaluation.second_opinion import OPINIONS, check_asked, opinions_of

    if not options.second_opinions:
        yield None
        return
    check_asked({options.planner[0]: needs})
    planners = [_planner(options, needs) for _ in OPINIONS]
    try:
        yield opinions_of(planners, options.memory)
    finally:
        for planner in planners if options.workers else ():
            planner.close()


@contextmanager
def _opened(options: Options) -> Iterator[tuple[Any, Dataset, Env]]:
    """The planner, in a process of its own if there are workers, the data set, and the environment."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.data.soundness import load_scene
    from dist4d_env.envs.config import check_size
    from dist4d_env.envs.starts import check_length
    from dist4d_env.evaluation.drive import EnvSettings
    from dist4d_env.worlds.contract import world_traits

    with Progress("making the planner"):
        planner = _planner(options)
        name, needs = options.planner[0], planner.requires
    if (needs.cameras or needs.lidar) and not world_traits(options.world).shows_pictures:
        wanted = "cameras" if needs.cameras else "LiDAR"
        raise ConfigError(f"planner {name!r} needs {wanted}: choose a world that makes pictures, such as world=dist4d")
    size = optional_size(options.size)
    check_size(options.world, options.weights, size)
    dataset = open_dataset(options.dataroot, options.version, options.scenes, options.dataset, size)
    scenes = tuple(dataset.scene_names(options.scenes))
    for scene in scenes:
        check_length(load_scene(dataset, scene), options.decision_dt)
    same = {name: getattr(options, name) for name in ENV}
    env = EnvSettings(dataset.dataroot, dataset.version, scenes, **same).make(options.action, needs.lidar)
    try:
        yield planner, dataset, env
    finally:
        env.close()
        if options.workers:
            planner.close()


def drive(options: Options) -> Summary:
    """Drives every episode, storing each as it ends."""
    from dist4d_env.evaluation.episode_log import save_episode
    from dist4d_env.evaluation.fingerprint import code_fingerprint
    from dist4d_env.evaluation.runner import RunOptions, run_episode
    from dist4d_env.evaluation.scores import results_of
    from dist4d_env.evaluation.summary import Summary, score

    limits: dict[str, Any] = {"plan_limit": options.plan_limit, "reset_limit": options.reset_limit}
    fingerprint, scores = {"code": code_fingerprint(options.world, options.weights, options.traffic)}, []
    with _opened(options) as (planner, dataset, env), _asked(options, planner.requires) as opinions:
        names = dataset.scene_names(options.scenes)
        if options.workers:
            fingerprint["planner"] = planner.made().fingerprint
        with Progress("driving", "episode", len(names) * options.episodes) as progress:
            for scene in names:
                for index in range(options.episodes):
                    seed = options.seed + index
                    place = RunOptions(scene, 0.0 if index == 0 else None, opinions=opinions, **limits)
                    film = _Film(options, f"{scene}_{seed}") if options.report else None
                    log = run_episode(env, planner, seed, place, film, options.planner[0])
                    save_episode(replace(log, fingerprint=fingerprint), options.out / "episodes", f"{scene}_seed{seed}")
                    results = results_of(log, options.form)
                    if film is not None:
                        film.finish(log, results)
                    scores.append(score(log, results))
                    progress.update()
    return Summary.of(scores, options.seed)


def rescore(
    folder: Path, dataroot: Path | None, form: Form = "corrected", allow: Collection[Any] = (), seed: int = 0
) -> tuple[Summary, dict[str, Any]]:
    """Scores the episodes of a folder (or of its "episodes") again; allow: as in ``ScoringTask``; seed: of the bootstrap. With
    the summary come the settings that they were driven with. Raises DataError where there are none, and for those of several
    planners, settings or versions of the code."""
    from dist4d_env.evaluation.campaign import stored
    from dist4d_env.evaluation.episode_log import load_episode
    from dist4d_env.evaluation.scores import results_of
    from dist4d_env.evaluation.summary import EpisodeScore, Summary, score

    place = None if dataroot is None else str(dataroot)
    scores: list[EpisodeScore] = []
    drivers: list[dict[str, Any]] = []
    for path in stored(folder):
        log = load_episode(path, place, allow)
        driver = {"planner": log.planner, "decision_dt": log.decision_dt, "version": log.version, **log.settings}
        drivers.append(driver | {f"{part} fingerprint": one for part, one in sorted(log.fingerprint.items()) if part != "data"})
        differs = {key for one in (drivers[0], drivers[-1]) for key in one if drivers[0].get(key) != drivers[-1].get(key)}
        if differs:
            first, last = (", ".join(f"{key}={one.get(key)}" for key in sorted(differs)) for one in (drivers[0], drivers[-1]))
            raise DataError(
                f"{folder} holds episodes of {first:.90} and of {last:.90}: one mean over both would say nothing, give each a "
                "folder of its own with --out"
            )
        scores.append(score(log, results_of(log, form)))
    return Summary.of(scores, seed), drivers[0]


class _Film:
    """The dashboard of an episode as video, where there are pictures, and its report."""

    def __init__(self, options: Options, name: str) -> None:
        self._options, self._name = options, name
        self._frames: list[Any] = []

    def __call__(self, driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
        from dist4d_env.envs.rendering import render_dashboard

        episode = driving.episode
        if episode.frame is not None:
            self._frames.append(render_dashboard(episode.frame, info, episode.state, driving.scene, episode.plan))

    def finish(self, log: Any, results: Any) -> None:
        from dist4d_env.evaluation.report.episode import write_report
        from dist4d_env.evaluation.video import write_video

        folder, video = self._options.out / "reports", None
        if self._frames:
            video = folder / f"{self._name}.mp4"
            write_video(video, self._frames, 1 / self._options.decision_dt)
        write_report(folder / f"{self._name}.html", log, video, results=results)
