"""``python -m dist4d_env evaluate``: a planner through many episodes, or stored episodes scored again."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dist4d_env.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dist4d_env.evaluation.summary import Summary
    from dist4d_env.planner import Planner

PLANNERS = {"lane": "dist4d_env.planner:LaneFollower", "log": "dist4d_env.planner:LogFollower"}


@dataclass(frozen=True)
class Options:
    """Drive a planner through episodes and score it, or score stored episodes again.

    Writes every episode (a .json and a .npz), results.json and, on request, a report per episode; prints a table with 95 %
    confidence intervals. An episode in which the planner fails is counted as such and enters no mean.
    """

    planner: str = "lane"
    """lane (follows the route), log (drives as recorded), or your own as module:Class, made without arguments."""
    dataroot: Path | None = None
    """Folder of a nuScenes-format data set; else $NUSCENES, else the built-in town."""
    version: str | None = None
    """Folder of tables below it; found by itself when there is one."""
    scenes: tuple[str, ...] = ("val",)
    """Splits or scene names."""
    episodes: int = 1
    """Episodes per scene; the first begins at the scene's start, the others where the seed says."""
    world: Literal["dist4d", "replay", "oracle", "none"] = "none"
    """What makes the pictures. none draws nothing and is fastest, for planners that need no camera."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset, a folder, or splat for no model at all."""
    memory: Literal["log", "history"] = "log"
    """What the world may remember."""
    traffic: Literal["replay", "idm"] = "replay"
    """Traffic as logged, or reacting."""
    action: Literal["trajectory", "controls", "discrete"] = "trajectory"
    """What the planner returns; plans are trajectories."""
    decision_dt: float = 0.5
    """Seconds between decisions."""
    horizon: float = 10.0
    """Seconds of an episode."""
    plan_limit: float = 5.0
    """Seconds after which a plan is late, which counts as a failure of the planner."""
    seed: int = 0
    """Episode k of a scene has seed + k. The same seed makes the same episode."""
    report: bool = False
    """Write an HTML report per episode, too, with a video where the world makes pictures."""
    rescore: Path | None = None
    """Drive nothing: score the episodes stored in this folder again, with this version's metrics."""
    out: Path = Path("evaluation")
    """Folder for the results."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"episodes={self.episodes} must be at least 1")


def run(options: Options) -> int:
    """Evaluates as the options say, prints the table and where the results are."""
    from dist4d_env.evaluation.summary import write_summary

    summary = drive(options) if options.rescore is None else rescore(options.rescore, options.dataroot)
    path = options.out / "results.json"
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    write_summary(path, summary, settings)
    print(summary.table())
    print(f"results: {path}")
    return 0


def make_planner(name: str) -> Planner:
    """A planner by short name or module:Class. Raises ConfigError."""
    module, _, attribute = PLANNERS.get(name, name).partition(":")
    if not attribute:
        raise ConfigError(f"planner {name!r} is unknown: choose {', '.join(PLANNERS)} or give your own as module:Class")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"planner {name!r} cannot be found ({error}); is its folder on PYTHONPATH?") from error
    except TypeError as error:
        raise ConfigError(f"planner {name!r} cannot be made without arguments ({error})") from error
    missing = [part for part in ("requires", "reset", "plan") if not hasattr(made, part)]
    if missing:
        raise ConfigError(f"planner {name!r} has no {', '.join(missing)}: see dist4d_env.planner.Planner")
    planner: Planner = made
    return planner


def drive(options: Options) -> Summary:
    """Drives every episode, storing each as it ends."""
    import gymnasium as gym
    from tqdm import tqdm

    import dist4d_env  # noqa: F401 (registers the environment)
    from dist4d_env.evaluation.episode_log import save_episode
    from dist4d_env.evaluation.runner import RunOptions, run_episode
    from dist4d_env.evaluation.summary import Summary, score
    from dist4d_env.scenes.nuscenes import open_dataset

    planner = make_planner(options.planner)
    if planner.requires.cameras and options.world == "none":
        raise ConfigError(f"planner {options.planner!r} needs cameras: choose a world that makes pictures, such as world=dist4d")
    dataset = open_dataset(options.dataroot, options.version, options.scenes)
    names = dataset.scene_names(options.scenes)
    pictures = ("cameras", "depth") if options.world != "none" else ()
    env = gym.make(
        "DiST4D-nuScenes-v0",
        dataroot=dataset.dataroot,
        version=dataset.version,
        scenes=tuple(names),
        world=options.world,
        weights=options.weights,
        memory=options.memory,
        traffic=options.traffic,
        action=options.action,
        observation=(*pictures, "ego", "route", "agents"),
        decision_dt=options.decision_dt,
        horizon=options.horizon,
    )
    scores = []
    with tqdm(total=len(names) * options.episodes, unit="episode", disable=None) as progress:
        for name in names:
            progress.set_description(name)
            for index in range(options.episodes):
                seed = options.seed + index
                place = RunOptions(name, 0.0 if index == 0 else None, options.plan_limit)
                film = _Film(options, f"{name}_{seed}") if options.report else None
                log = run_episode(env, planner, seed, place, film)
                save_episode(log, options.out / "episodes", f"{name}_seed{seed}")
                if film is not None:
                    film.finish(log)
                scores.append(score(log))
                progress.update()
    env.close()
    return Summary.of(scores, options.seed)


def rescore(folder: Path, dataroot: Path | None) -> Summary:
    """Scores the episodes of a folder (or of its "episodes") again. Raises DataError where there are none."""
    from dist4d_env.evaluation.episode_log import load_episode
    from dist4d_env.evaluation.summary import Summary, score

    place = folder / "episodes" if (folder / "episodes").is_dir() else folder
    paths = sorted(path for path in place.glob("*.json") if path.with_suffix(".npz").is_file())
    if not paths:
        raise DataError(f"{folder}: no stored episodes; give a folder that `python -m dist4d_env evaluate` wrote")
    return Summary.of([score(load_episode(path, None if dataroot is None else str(dataroot))) for path in paths])


class _Film:
    """Collects an episode's dashboard as video, where there are pictures, and writes its report at the end."""

    def __init__(self, options: Options, name: str) -> None:
        self._options, self._name = options, name
        self._frames: list[Any] = []

    def __call__(self, driving: Any, info: Any) -> None:
        from dist4d_env.envs.rendering import render_dashboard

        episode = driving.episode
        if episode.frame is not None:
            self._frames.append(render_dashboard(episode.frame, info, episode.state, driving.scene, episode.plan))

    def finish(self, log: Any) -> None:
        from dist4d_env.evaluation.report import write_report
        from dist4d_env.evaluation.video import write_video

        folder, video = self._options.out / "reports", None
        if self._frames:
            video = folder / f"{self._name}.mp4"
            write_video(video, self._frames, 1 / self._options.decision_dt)
        write_report(folder / f"{self._name}.html", log, video, f"World {self._options.world}.")
