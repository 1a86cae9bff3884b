"""Policies trained from cameras: does a policy that learned in the generated world drive where everything is true, and back?

    python -m benchmarks.rl_cameras --runs runs/dist4d-0 runs/dist4d-1 runs/oracle-0 runs/oracle-1 --out benchmarks/results/rl_cameras.json

Runs are folders of ``agents/train_sb3.py --cameras --action route``, several seeds in each world of training. Their last policies
drive the same validation episodes in every world, beside what they all were at their start: the route at constant speed, which no
picture changes, so that it is driven once, without any.
"""  # noqa: E501 (a command)

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.rl import curve_of, episode_row, fingerprint, summarise
from benchmarks.rl_cameras_picture import draw
from benchmarks.rl_cameras_scans import Start, make, scans_compared
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.learning.policy_planner import SB3Planner
from dist4d_env.models.pretrained import WEIGHTS_FILE, resolve_weights

PictureWorld = Literal["dist4d", "oracle", "replay"]
START = "start"


@dataclass(frozen=True)
class Options:
    """Drive camera policies in the world they learned in and in the others."""

    runs: tuple[Path, ...] = ()
    """Folders of training runs."""
    worlds: tuple[PictureWorld, ...] = ("dist4d", "oracle")
    """Worlds to drive in; the last is the truth that the scans of the others are compared with."""
    episodes: int = 3
    """Episodes per scene: the first from its start, the others from where the seed says."""
    dataroot: Path | None = None
    """Data set; else $NUSCENES, else the built-in town."""
    scenes: str = "val"
    """Split or scene."""
    horizon: float = 10.0
    """Seconds per episode."""
    weights: str = "tiny"
    """Of the world dist4d."""
    seed: int = 0
    """Of the episodes."""
    quick: bool = False
    """One episode per scene."""
    out: Path | None = None
    """Result file (JSON)."""
    picture: Path | None = None
    """Draw scores and training curves there (PNG)."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("no runs to drive: name folders of agents/train_sb3.py with --runs")
        if self.episodes < 1 or not self.worlds:
            raise ConfigError("episodes must be at least 1, and there must be a world to drive in")


def main(options: Options) -> dict[str, Any]:
    episodes = 1 if options.quick else options.episodes
    weights = digests(options.weights)
    key = {"seed": options.seed, "episodes": episodes, "scenes": options.scenes, "horizon": options.horizon, "weights": weights}
    journal = Journal(options.out, {"benchmark": "rl_cameras", **key, "dataroot": options.dataroot})
    trained = {folder.name: read_run(folder) for folder in options.runs}
    policies = {folder.name: folder / "last" for folder in options.runs}
    decision_dt = next(iter(trained.values()))["options"]["decision_dt"]
    rows: dict[str, dict[str, Any]] = {name: {} for name in (START, *policies)}
    bar = tqdm([(START, "none")] + [(name, world) for name in policies for world in options.worlds], disable=None)
    for name, world in bar:
        bar.set_description(f"{name} in {world}")
        unit = f"{name}/{world}/{fingerprint(str(policies.get(name, START)))}"
        if unit not in journal.done:
            planner = SB3Planner(policies[name]) if name in policies else Start(decision_dt)
            journal.add(unit, drive(planner, world, episodes, options))
        rows[name][world] = journal.done[unit]
    views = [SB3Planner(folder).policy.config.view for folder in policies.values()]
    scanning = next((view for view in views if view.scan), None)
    unit = f"scans/{'/'.join(options.worlds)}"
    if scanning and len(options.worlds) > 1 and unit not in journal.done:
        journal.add(unit, scans_compared(scanning, decision_dt, options))
    result = header("rl_cameras", options) | {
        "scores": {name: {world: summarise(row) for world, row in named.items()} for name, named in rows.items()},
        "trained_in": {name: about["options"]["world"] for name, about in trained.items()},
        "weights": weights,
        **compared(rows, trained, options.worlds),
        "scans": journal.done.get(unit, {}),
        "runs": trained,
        "episodes": rows,
    }
    result["options"] |= {"runs": [folder.name for folder in options.runs]}
    if options.out:
        write_json(options.out, result)
        journal.finish()
    if options.picture:
        draw(options.picture, result)
    report(result)
    return result


def digests(weights: str) -> dict[str, str]:
    """Which weights exactly: per network the first 16 hexadecimal digits of its file's SHA-256; empty for "splat"."""
    files = [] if weights == "splat" else sorted(resolve_weights(weights).glob(f"*/{WEIGHTS_FILE}"))
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


def read_run(folder: Path) -> dict[str, Any]:
    """Options, curve and cost of a run, and what its training episodes earned. Raises ConfigError for one without cameras, or
    that begins other than with the route at constant speed."""
    about = curve_of(folder)
    options = about["options"]
    if not options["cameras"] or options["algorithm"] != "ppo" or options["action"] != "route":
        raise ConfigError(f"{folder} is no PPO run with --cameras and --action route: benchmarks.rl scores other policies")
    about["training"] = training_curve(folder)
    about["options"] = {key: value for key, value in options.items() if key not in ("out", "dataroot", "val_dataroot")}
    return about


def training_curve(folder: Path) -> list[dict[str, float]]:
    """Decisions, and the mean reward and length of the training episodes that ended lately, out of TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: dict[int, dict[str, float]] = {}
    for place in sorted({path.parent for path in (folder / "tensorboard").rglob("events*")}):
        events = EventAccumulator(str(place))
        events.Reload()
        for name, tag in (("reward", "rollout/ep_rew_mean"), ("decisions", "rollout/ep_len_mean")):
            for event in events.Scalars(tag) if tag in events.Tags()["scalars"] else ():
                rows.setdefault(event.step, {"steps": float(event.step)})[name] = float(event.value)
    return [rows[step] for step in sorted(rows)]


def drive(planner: SB3Planner | Start, world: str, episodes: int, options: Options) -> list[dict[str, Any]]:
    """One driver through all episodes, scene by scene: their scores."""
    groups = planner.policy.config.view.groups if isinstance(planner, SB3Planner) else ("ego", "route")
    env = make(world, groups, 1 / planner.requires.rate_hz, options)
    rows = []
    for scene in env.unwrapped.scene_names:  # type: ignore[attr-defined]
        for index in range(episodes):
            place = RunOptions(scene, 0.0 if index == 0 else None)
            rows.append(episode_row(run_episode(env, planner, options.seed + index, place)))
    env.close()
    return rows


def compared(rows: Mapping[str, Mapping[str, list[Any]]], trained: Mapping[str, Any], worlds: Iterable[str]) -> dict[str, Any]:
    """By world of training and of driving the mean PDMS of each seed, how far above the start, and the gap between training in
    each world and in the truth (the last world), seed by seed."""
    pdms = lambda name, world: float(np.mean([row["pdms_v1"] for row in rows[name][world]]))  # noqa: E731
    start = pdms(START, "none")
    homes = sorted({about["options"]["world"] for about in trained.values()})
    worlds = list(worlds)
    seeds = {home: {a["options"]["seed"]: name for name, a in trained.items() if a["options"]["world"] == home} for home in homes}
    gained = {
        home: {world: _with_spread({seed: pdms(name, world) - start for seed, name in seeds[home].items()}) for world in worlds}
        for home in homes
    }
    truth, gaps = worlds[-1], {}
    for home in homes:
        both = sorted(set(seeds[home]) & set(seeds.get(truth, {})))
        if home != truth and both:
            gaps[home] = {
                world: _with_spread({seed: pdms(seeds[home][seed], world) - pdms(seeds[truth][seed], world) for seed in both})
                for world in worlds
            }
    return {"start_pdms": start, "gained": gained, "gap": gaps}


def _with_spread(by_seed: Mapping[int, float]) -> dict[str, Any]:
    return {**mean_and_spread(list(by_seed.values())), "by_seed": {str(seed): value for seed, value in by_seed.items()}}


def report(result: Mapping[str, Any]) -> None:
    """The tables."""
    print(f"\n{'policy':<14}{'driven in':<12}{'PDMS':>22}{'collision':>11}{'off road':>10}{'progress':>10}{'comfort':>9}")
    for name, by_world in result["scores"].items():
        for world, row in by_world.items():
            pdms, ends = row["pdms_v1"], row["outcomes"]
            interval = f"{pdms['mean']:.3f} [{pdms['low']:.3f}, {pdms['high']:.3f}]"
            print(f"{name:<14}{world:<12}{interval:>22}{ends.get('collision', 0):>11.1%}{ends.get('off_road', 0):>10.1%}"
                  f"{row['ego_progress']['mean']:>10.3f}{row['comfort']['mean']:>9.3f}")  # fmt: skip
    for home, by_world in result["gained"].items():
        for world, gain in by_world.items():
            print(
                f"trained in {home}, driven in {world}: {gain['mean']:+.3f} over the start, "
                f"sd of {gain['n']} seeds {gain['std']:.3f}"
            )
    for home, by_world in result["gap"].items():
        for world, gap in by_world.items():
            print(f"{home} less truth-trained, driven in {world}: {gap['mean']:+.3f}, sd of {gap['n']} seeds {gap['std']:.3f}")
    for world, row in result["scans"].items():
        print(f"scan in {world}: {row['near']:.0%} of {row['instants']:.0f} instants near, there {row['missed']:.0%} missed, "
              f"median error {row['error_m']:.2f} m; {row['invented']:.1%} invented")  # fmt: skip


if __name__ == "__main__":
    run(main, Options)
