"""Learned policies: how they score beside plain planners, how they learned, and what every reward term weighs.

    python -m benchmarks.rl --policies dist4d_env/learning/policies/ppo_vector --out benchmarks/results/rl.json
    python -m benchmarks.rl --runs runs/ppo-0 runs/ppo-1 runs/ppo-2 --out benchmarks/results/rl.json

Validation scenes of the town, several starts each, world "none". Runs are folders of ``agents/train_sb3.py``: their last policies
are scored, their curves stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from benchmarks.common import FinishedUnits, header, run, told_apart, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.rewards import PRESETS, TERMS
from dist4d_env.evaluation.episode_log import EpisodeLog
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.scores import results_of
from dist4d_env.evaluation.statistics import Resampler
from dist4d_env.learning.policy_planner import SHIPPED
from dist4d_env.planners.contract import Planner
from dist4d_env.progress import each
from dist4d_env.registry import PLANNERS
from dist4d_env.scenes.files import replacing

BASELINES = ("constant_velocity", "lane_keeping", "idm", "lane", "log")
SHOWN = ("pdms_v1", "ego_progress", "time_to_collision", "comfort", "no_at_fault_collision", "drivable_area_compliance")
FULL = {term: 1.0 for term in TERMS}
"""Every term weighed, so that infos hold them all."""
CHECKOUT = SHIPPED.parents[2]
"""Paths below it are stored relative to it."""


@dataclass(frozen=True)
class Options:
    """Score learned policies beside plain planners on the town's validation scenes, and measure the reward's terms."""

    policies: tuple[Path, ...] = (SHIPPED,)
    """Folders of policies."""
    runs: tuple[Path, ...] = ()
    """Folders of training runs: their last policies are scored (the best was picked on these scenes), their curves stored."""
    planners: tuple[str, ...] = BASELINES
    """Planners to compare with."""
    traffic: tuple[str, ...] = ("replay", "idm")
    """Traffic as logged, reacting, or both one after the other."""
    episodes: int = 6
    """Episodes per scene: the first from its start, the others from a start drawn with the seed."""
    dataroot: Path | None = None
    """Data set; else $NUSCENES, else the built-in town."""
    scenes: str = "val"
    """Split or scene."""
    horizon: float = 10.0
    """Seconds per episode."""
    seed: int = 0
    """Of the episodes."""
    quick: bool = False
    """One start per scene, traffic as logged."""
    out: Path | None = None
    """Result file (JSON)."""
    picture: Path | None = None
    """Draw the runs' curves there (PNG)."""

    def __post_init__(self) -> None:
        for name in self.planners:
            PLANNERS.check(name)


def main(options: Options) -> dict[str, Any]:
    episodes, traffics = (1, options.traffic[:1]) if options.quick else (options.episodes, options.traffic)
    key = {"seed": options.seed, "episodes": episodes, "scenes": options.scenes, "horizon": options.horizon}
    dataset = open_dataset(options.dataroot, scenes=options.scenes)
    finished = FinishedUnits(options.out, {"benchmark": "rl", **key, "dataroot": dataset.dataroot})
    drivers = told_apart([
        *((name, name) for name in options.planners),
        *((folder.name, folder) for folder in options.policies),
        *((f"{folder.name}/last", folder / "last") for folder in options.runs),
    ])  # fmt: skip
    for traffic, name in each([(traffic, name) for traffic in traffics for name in drivers], "driving", "planner", ", ".join):
        unit = f"{traffic}/{name}/{fingerprint(drivers[name])}"
        if unit not in finished.done:
            finished.add(unit, drive(make_planner(drivers[name]), traffic, episodes, options))
    rows = {t: {n: finished.done[f"{t}/{n}/{fingerprint(drivers[n])}"] for n in drivers} for t in traffics}
    result = header("rl", options) | {
        "planners": {t: {n: summarise(row["episodes"]) for n, row in named.items()} for t, named in rows.items()},
        "reward_terms": {t: {n: row["reward_terms"] for n, row in named.items()} for t, named in rows.items()},
        "weights": {name: dict(weights) for name, weights in PRESETS.items()},
        "runs": {folder.name: curve_of(folder) for folder in options.runs},
    }
    policies = [path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path for path in options.policies]
    result["options"] |= {"policies": [str(path) for path in policies], "runs": [str(path) for path in options.runs]}
    if options.out:
        write_json(options.out, result)
        finished.finish()
    if options.picture and options.runs:
        draw(options.picture, result)
    report(result)
    return result


def fingerprint(driver: str) -> str:
    """Changes with a policy's weights, so that a stopped benchmark never goes on with another one's."""
    weights = Path(driver) / "policy.safetensors"
    return f"{weights.stat().st_mtime_ns:x}" if weights.exists() else "-"


def drive(planner: Planner, traffic: str, episodes: int, options: Options) -> dict[str, Any]:
    """One driver through all episodes: their scores, and what the reward's terms were."""
    policy = getattr(planner, "policy", None)
    action = policy.config.view.environment_action if policy else "trajectory"
    env = gym.make(
        "DiST4D-nuScenes-v0", dataroot=options.dataroot, scenes=options.scenes, world="none", traffic=traffic, action=action,
        observation=("ego", "route", "agents"), horizon=options.horizon, reward=FULL,
        decision_dt=policy.config.decision_dt if policy else 0.5,
    )  # fmt: skip
    logs = []
    for scene in env.unwrapped.scene_names:  # type: ignore[attr-defined]
        for index in range(episodes):
            place = RunOptions(scene, 0.0 if index == 0 else None)
            logs.append(run_episode(env, planner, options.seed + index, place))
    env.close()
    return {"episodes": [episode_row(log) for log in logs], "reward_terms": term_scales(logs)}


def episode_row(log: EpisodeLog) -> dict[str, Any]:
    """Row of an episode."""
    results = results_of(log)
    values = {name: results[name].value if name in results and results[name].valid else None for name in SHOWN}
    return {"scene": log.scene, "seed": log.seed, "outcome": log.outcome, **values}


def term_scales(logs: list[EpisodeLog]) -> dict[str, dict[str, float]]:
    """Per term: its mean size where it is not zero, the share of decisions with it, and its sum over an episode, unweighted."""
    decisions = [step.reward_terms for log in logs for step in log.steps[1:]]
    scales = {}
    for term in TERMS:
        values = np.array([terms[term] for terms in decisions])
        there = np.abs(values) > 1e-9
        scales[term] = {
            "size": float(np.abs(values[there]).mean()) if there.any() else 0.0,
            "share": float(there.mean()),
            "per_episode": float(values.sum() / len(logs)),
        }
    return scales


def summarise(episodes: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals over scenes and the seeds within; shares of outcomes."""
    resampler = Resampler([(episode["scene"], episode["seed"]) for episode in episodes])
    estimates = {name: resampler.mean([episode[name] for episode in episodes]) for name in SHOWN}
    outcomes = sorted({episode["outcome"] for episode in episodes})
    return {
        **{name: {"mean": e.mean, "low": e.low, "high": e.high, "n": e.count} for name, e in estimates.items()},
        "outcomes": {name: sum(episode["outcome"] == name for episode in episodes) / len(episodes) for name in outcomes},
    }


def curve_of(folder: Path) -> dict[str, Any]:
    """A run's curve, options, and what it took: seconds, and MiB per hour after its first fifth (a leak's slope)."""
    machine = [json.loads(line) for line in (folder / "machine.jsonl").read_text().splitlines()]
    later = [line for line in machine[len(machine) // 5 :] if line["memory_mib"] is not None]
    slope = float("nan")
    if len(later) > 2 and later[-1]["cpu_seconds"] > later[0]["cpu_seconds"]:
        slope = 3600 * float(np.polyfit([x["cpu_seconds"] for x in later], [x["memory_mib"] for x in later], 1)[0])
    return {
        "options": json.loads((folder / "options.json").read_text()),
        "curve": json.loads((folder / "curve.json").read_text()),
        "cpu_seconds": machine[-1]["cpu_seconds"],
        "mib_per_cpu_hour": slope,
    }


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Validation PDMS and collisions of every run over decisions; dashed: plain planners on the benchmark's episodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = next(iter(result["planners"].values()))
    figure, (score, crash) = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for name, trained in result["runs"].items():
        steps = [point["steps"] / 1e3 for point in trained["curve"]]
        score.plot(steps, [point["pdms"] for point in trained["curve"]], label=name)
        crash.plot(steps, [100 * point["collision"] for point in trained["curve"]], label=name)
    for index, name in enumerate(result["options"]["planners"]):
        score.axhline(rows[name]["pdms_v1"]["mean"], color=f"C{5 + index}", ls="--", lw=0.8, label=name)
    score.set(xlabel="thousand decisions", ylabel="PDMS on validation scenes", ylim=(0.4, 1.0))
    crash.set(xlabel="thousand decisions", ylabel="episodes ended by a collision, %", ylim=(0, None))
    score.legend(fontsize=7, ncols=2)
    for panel in (score, crash):
        panel.grid(alpha=0.3)
    with replacing(path) as part:
        figure.savefig(part, dpi=110, format="png")


def report(result: Mapping[str, Any]) -> None:
    """The tables."""
    for traffic, rows in result["planners"].items():
        print(f"\ntraffic {traffic:<18}{'PDMS':>24}{'collision':>11}{'off road':>10}{'progress':>10}{'comfort':>9}")
        for name, row in rows.items():
            pdms, ends = row["pdms_v1"], row["outcomes"]
            interval = f"{pdms['mean']:.3f} [{pdms['low']:.3f}, {pdms['high']:.3f}]"
            print(f"{name:<26}{interval:>24}{ends.get('collision', 0):>11.1%}{ends.get('off_road', 0):>10.1%}"
                  f"{row['ego_progress']['mean']:>10.3f}{row['comfort']['mean']:>9.3f}")  # fmt: skip
    traffic = next(iter(result["reward_terms"]))
    drivers = result["reward_terms"][traffic]
    print(f"\nsum of a term over an episode, unweighted (traffic {traffic})")
    print(" " * 20 + "".join(f"{name[:17]:>18}" for name in drivers))
    for term in TERMS:
        print(f"{term:<20}" + "".join(f"{scales[term]['per_episode']:>18.3f}" for scales in drivers.values()))
    for name, trained in result["runs"].items():
        last = trained["curve"][-1]
        took = f"{trained['cpu_seconds'] / 60:.0f} CPU minutes, {trained['mib_per_cpu_hour']:+.1f} MiB per CPU hour"
        print(f"\n{name}: PDMS {last['pdms']:.3f} after {last['steps']:.0f} decisions; {took}")


if __name__ == "__main__":
    run(main, Options)
