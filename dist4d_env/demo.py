"""``python -m dist4d_env demo``: ten seconds of closed loop in a generated world, as a video and a report."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist4d_env import json_output
from dist4d_env.errors import check_ranges

if TYPE_CHECKING:
    from dist4d_env.data.contract import Dataset
    from dist4d_env.envs.driving import DiST4DDrivingEnv
    from dist4d_env.evaluation.runner import RunOptions


@dataclass(frozen=True)
class Options:
    """Drive ten seconds through a generated world, among traffic that reacts, and write a video and a report of it.

    A lane follower swerves about its lane, so that both models are seen at work: DiST-T on the path it foresaw, DiST-S beside it.
    """

    dataroot: Path | None = None
    """Folder of a nuScenes-format data set; else $NUSCENES, else the built-in town."""
    version: str | None = None
    """Folder of tables below it; found by itself when there is one."""
    scene: str | None = None
    """A scene's name; else the first one of the val split (of the data set, where it has no val split)."""
    start: float = 0.0
    """Seconds since the scene's first keyframe."""
    world: str = "dist4d"
    """A world's name, such as dist4d, replay or oracle (town only), or module:Class."""
    weights: str = "tiny"
    """A shipped preset, a folder, or "splat" for no model at all."""
    size: str = "224x400"
    """Height x width of the camera images; 64x112 is four times as fast."""
    memory: str = "log"
    """What the world may remember: "log", every recorded frame, or "history", those before the start."""
    seconds: float = 10.0
    """Length of the episode."""
    decision_dt: float = 0.1
    """Seconds between decisions, which is also the time between frames of the video."""
    swerve: float = 1.0
    """Metres by which the planner swerves to either side, where there is room for it; 0 keeps it in its lane."""
    out: Path = Path("demo")
    """Folder for episode.mp4, report.html and the episode's log."""
    seed: int = 0
    """The same seed makes the same episode, bit for bit."""


def run(options: Options) -> int:
    """Runs the demo and prints where its files are."""
    import gymnasium as gym

    import dist4d_env  # noqa: F401 (registers the environment)
    from dist4d_env.envs.rendering import render_dashboard
    from dist4d_env.envs.starts import check_start
    from dist4d_env.evaluation.episode_log import save_episode
    from dist4d_env.evaluation.report.episode import write_report
    from dist4d_env.evaluation.runner import RunOptions, run_episode
    from dist4d_env.evaluation.video import VideoWriter
    from dist4d_env.geometry.cameras import parse_size
    from dist4d_env.planners.lane_follower import LaneFollower, LaneFollowerConfig
    from dist4d_env.progress import Progress
    from dist4d_env.worlds.contract import world_traits

    check_ranges(options, seed=(0, math.inf))
    check_weights(options.world, options.weights)
    size = parse_size(options.size)
    dataset = open_data(options)
    scene = options.scene or first_scene(dataset)
    needs_images = world_traits(options.world).needs_images
    if needs_images:
        ensure_depth(dataset, scene)
    check_start(dataset.load(scene), needs_images, options.start, options.decision_dt)  # before rehearsing, which takes long
    settings: dict[str, Any] = {
        "dataroot": dataset.dataroot,
        "version": dataset.version,
        "scenes": scene,
        "action": "trajectory",
        "traffic": "idm",  # replayed vehicles would drive through an ego that is not where the recorded one was
        "decision_dt": options.decision_dt,
        "horizon": options.seconds,
    }
    env = gym.make(
        "DiST4D-nuScenes-v0", world=options.world, weights=options.weights, memory=options.memory, size=size, **settings
    )
    planner = LaneFollower(LaneFollowerConfig(swerve_amplitude=rehearse(settings, RunOptions(scene, options.start), options)))
    video_path, report_path = options.out / "episode.mp4", options.out / "report.html"
    total = round(options.seconds / options.decision_dt) + 1
    progress = Progress(scene, "frame", total)
    with VideoWriter(video_path, 1 / options.decision_dt) as video, progress:

        def film(driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
            episode = driving.episode
            video.add(render_dashboard(episode.frame, info, episode.state, driving.scene, episode.plan))
            progress.update()

        log = run_episode(env, planner, options.seed, RunOptions(scene, options.start), film)
    env.close()
    save_episode(log, options.out, "episode")
    write_report(report_path, log, video_path)
    seconds, shares = float(log.trace.time[-1] - log.trace.time[0]), frame_shares(log)
    made = "; ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    print(f"{scene}: drove {seconds:.1f} s until {log.outcome}; frames by {made}")
    print(f"video:  {video_path}\nreport: {report_path}")
    values = {"scene": scene, "seconds": seconds, "outcome": log.outcome, "frames": shares}
    json_output.result(values | {"video": video_path, "report": report_path, "episode": options.out / "episode.json"})
    return 0


def check_weights(world: str, weights: str) -> None:
    """Raises ConfigError or WeightsError for a world or weights that are not there, before anything that takes time."""
    from dist4d_env.registry import WORLDS

    WORLDS.check(world)
    if world == "dist4d" and weights != "splat":
        from dist4d_env.models.pretrained import resolve_weights

        resolve_weights(weights)


def open_data(options: Options) -> Dataset:
    """The data set asked for. Raises ConfigError for a size that the world cannot draw."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.envs.config import check_size
    from dist4d_env.geometry.cameras import parse_size

    size = parse_size(options.size)
    check_size(options.world, options.weights, size)
    return open_dataset(options.dataroot, options.version, options.scene or "val", size=size)


def rehearse(settings: Mapping[str, Any], start: RunOptions, options: Options) -> float:
    """The swerve, in metres to the left at first (negative: to the right), that the street has room for.

    Drives the candidates, wide ones first, to the end in a world without pictures, which takes a few seconds, and keeps the
    first that arrives untouched without losing more than a fifth of the way; of its two directions the one that gets farther.
    """
    if options.swerve == 0:
        return 0.0

    import gymnasium as gym

    from dist4d_env.evaluation.runner import run_episode
    from dist4d_env.planners.lane_follower import LaneFollower, LaneFollowerConfig

    env = gym.make("DiST4D-nuScenes-v0", world="none", observation=("ego",), **settings)

    def progress(swerve: float) -> float:
        log = run_episode(env, LaneFollower(LaneFollowerConfig(swerve_amplitude=swerve)), options.seed, start)
        touched = any(step.metrics["collision"] for step in log.steps)
        return -1.0 if touched or log.outcome != "horizon" else log.steps[-1].metrics["route_progress"]

    enough = 0.8 * progress(0.0)
    for share in (1.0, 0.75, 0.5):
        farthest, swerve = max((progress(side * share * options.swerve), side * share * options.swerve) for side in (1, -1))
        if farthest >= max(enough, 0.0):
            return swerve
    return 0.0


def first_scene(dataset: Dataset) -> str:
    """The first scene of val, else of the data set."""
    splits = dataset.splits()
    return next((splits[name][0] for name in ("val", "mini_val") if splits.get(name)), dataset.names()[0])


def ensure_depth(dataset: Dataset, scene: str) -> None:
    """Makes depth, and masks of the car's own body, for a scene whose images have no depth yet: below $DIST4D_DEPTH, else in the
    user's cache, never beside the data, which may be shared."""
    from dist4d_env.curation.body import prepare_bodies
    from dist4d_env.curation.camera import CurationConfig
    from dist4d_env.curation.prepare import forecast, prepare_scenes
    from dist4d_env.data.depth_files import depth_roots
    from dist4d_env.progress import noun

    sensors = dataset.load(scene).sensors
    missing = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k) and not sensors.has_depth(k)]
    if missing:
        roots = depth_roots(dataset.dataroot)
        root = roots[0] if os.environ.get("DIST4D_DEPTH") else roots[-1]
        config, workers = CurationConfig(), os.cpu_count() or 1
        print(f"{scene}: {len(missing)} {noun(len(missing), 'keyframe')} with images but no depth yet; making it in {root}")
        if ahead := forecast(dataset, [scene], root, config, False, workers):
            print(ahead, flush=True)
        prepare_bodies(dataset, [scene], root)  # first: where depth is, this is not come back to
        prepare_scenes(dataset, [scene], root, config, workers=workers)


def frame_shares(log: Any) -> dict[str, float]:
    """Share of the camera frames by what made them."""
    sources = [source for step in log.steps for source in step.source]
    return {source: sources.count(source) / len(sources) for source in dict.fromkeys(sources)}
