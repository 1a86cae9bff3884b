"""A small sweep by Ray Tune over what matters most to PPO, each trial the run that ``agents.train_rllib`` would make.

    python -m agents.rllib_tune --out runs/sweep --samples 8 --at-once 2 --steps 100000

Prints the trials, best first. Stopped, the same command goes on with the trials that are left. Ray keeps the sweep as pickles:
go on with folders of your own only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import torch
from ray import tune
from ray.tune.search import BasicVariantGenerator

from agents.train_rllib import Options, make_config, start_ray
from dist4d_env.errors import ConfigError, run_script


@dataclass(frozen=True)
class Sweep:
    """Tries learning rates, discounts and spreads at random."""

    out: Path = Path("runs/sweep")
    """Folder of the sweep."""
    samples: int = 8
    """Trials."""
    at_once: int = 1
    """Trials that run side by side."""
    steps: int = 100_000
    """Decisions of each trial."""
    train: Options = field(default_factory=Options)
    """Options common to all trials; ``out``, ``steps`` and ``seed`` are the sweep's."""
    seed: int = 0
    """Of the choice of trials."""

    def __post_init__(self) -> None:
        if min(self.samples, self.at_once, self.steps) < 1:
            raise ConfigError("samples, at_once and steps must be at least 1")


def main(sweep: Sweep) -> list[dict[str, Any]]:
    """Runs the sweep; returns {"learning_rate", "gamma", "spread", "reward"} of every trial, best first."""
    options = replace(sweep.train, steps=sweep.steps, seed=sweep.seed)
    start_ray(replace(options, runners=sweep.at_once * (options.runners + 1)))
    trainable = tune.with_resources(
        tune.with_parameters(trial, options=options), tune.PlacementGroupFactory([{"CPU": 1}] * (options.runners + 1))
    )
    space = {
        "learning_rate": tune.loguniform(1e-4, 1e-3),
        "gamma": tune.choice([0.95, 0.97, 0.99]),
        "spread": tune.choice([-1.5, -1.0, -0.5]),
    }
    folder = sweep.out.resolve()
    if tune.Tuner.can_restore(folder / "ppo"):
        tuner = tune.Tuner.restore(str(folder / "ppo"), trainable, restart_errored=True)
    else:
        search = BasicVariantGenerator(random_state=sweep.seed, max_concurrent=sweep.at_once)
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(metric="reward", mode="max", num_samples=sweep.samples, search_alg=search),
            run_config=tune.RunConfig(name="ppo", storage_path=str(folder), verbose=1),
        )
    results = tuner.fit()
    ended = [result for result in map(results.__getitem__, range(len(results))) if result.error is None and result.metrics]
    rows: list[dict[str, Any]] = [{**(result.config or {}), **(result.metrics or {})} for result in ended]
    trials = [{name: float(row[name]) for name in (*space, "reward")} for row in rows]
    trials.sort(key=lambda tried: -tried["reward"])
    for tried in trials:
        print("  ".join(f"{name} {value:.4g}" for name, value in tried.items()))
    return trials


def trial(chosen: dict[str, float], options: Options) -> None:
    """One run with what was chosen; reports the mean reward of the latest training episodes after every batch."""
    torch.set_num_threads(options.threads)
    algorithm = make_config(replace(options, **chosen)).build_algo()  # type: ignore[arg-type]
    done = 0
    while done < options.steps:
        runners = algorithm.train()["env_runners"]
        done += int(runners["num_env_steps_sampled"])
        tune.report({"reward": float(runners.get("episode_return_mean", -np.inf)), "steps": done})
    algorithm.stop()


if __name__ == "__main__":
    run_script(main, Sweep)
