"""PPO by RLlib (new API stack) on the driving environment, on one machine or a Ray cluster: read it from top to bottom.

    python -m agents.train_rllib --out runs/rllib --runners 2                      # vectors in the town
    python -m agents.train_rllib --out runs/cam --cameras --world dist4d --service world --runners 8   # images by a world service

Stopped (Ctrl-C, kill), the same command goes on from the last checkpoint. The folder gets ``best/`` and ``last/`` (policies that
``dist4d evaluate --planner FOLDER`` drives), ``curve.json``, ``machine.jsonl`` (time and memory at every point of the curve) and
``checkpoint/``, which is RLlib's own: it holds pickles, so go on with folders of your own only.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import gymnasium as gym
import ray
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner import Learner

from agents import common
from dist4d_env.errors import ConfigError, run_script
from dist4d_env.learning.disturbed_starts import Disturbance, DisturbedStarts
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.rllib_policy import VALUE_SCALE, policy_of, through_view
from dist4d_env.learning.validation import validate
from dist4d_env.learning.views import View
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import recovered, replacing_folder, write_text

ENVIRONMENT = "dist4d_env:DiST4D-nuScenes-v0"
PATIENCE = 3600.0
"""Seconds that a batch may take. RLlib's own minute is too short for generated pictures and for busy machines; after it there
would be a batch of nothing. A runner that dies is noticed at once in any case."""


@dataclass(frozen=True)
class Options(common.CommonOptions):
    """Train a driving policy with RLlib; the same command goes on where a stopped one was."""

    out: Path = Path("runs/rllib")
    """Folder of the run."""
    service: str | None = None
    """Name of a world service on the cluster that holds the models."""
    runners: int = 0
    """Processes that drive; 0 drives in this one."""
    envs: int = 32
    """Environments of each runner, in one batch."""
    batch: int = 4096
    """Decisions between updates, of all runners together."""
    divergence: float = 0.01
    """KL divergence that an update aims at, by a penalty that adapts; 0: no penalty."""
    address: str = "local"
    """Ray cluster to run on: local starts one in this process, auto joins the one that runs here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.runners < 0:
            raise ConfigError("batch must be at least 1, runners at least 0")
        if self.batch % (self.envs * max(self.runners, 1)):
            raise ConfigError(
                f"--batch {self.batch} must be a multiple of the environments of all runners, {self.envs * max(self.runners, 1)}"
            )


def main(options: Options) -> Path:
    """Trains until ``options.steps``, or until stopped; returns the folder."""
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    with common.remembered_options(options, free=("steps", "out", "threads", "address")):
        start_ray(options)

        # The algorithm, from its last checkpoint where there is one, and the environments that it is validated in.
        checkpoint = recovered(options.out / "checkpoint")
        curve = load_curve(options.out, checkpoint) if checkpoint.exists() else []
        done = int(curve[-1]["steps"]) if curve else 0
        algorithm: Any = make_config(options, done).build_algo()
        if checkpoint.exists():
            algorithm.restore_from_path(str(checkpoint))
            write_curve(curve, options.out)  # a kill right after the checkpoint left it a point behind
        validation = common.make_environments(options.eval_episodes, options, view_of(options), validation=True)

    # Collect a batch, learn from it, and now and then evaluate on the validation scenes.
    with common.Stop() as stop, Progress("training", "decision", options.steps, done) as bar:
        if not curve:
            evaluate(algorithm, validation, options, 0, curve)
        while done < options.steps and not stop.asked:
            set_spreads(algorithm, options, done)
            result = algorithm.train()
            sampled = int(result["env_runners"]["num_env_steps_sampled"])
            done += sampled
            bar.update(sampled)
            trained = result["env_runners"].get("episode_return_mean")
            bar.note(f"reward {trained}, pdms {curve[-1]['pdms']:.3f}")
            if done - curve[-1]["steps"] >= options.eval_every:
                evaluate(algorithm, validation, options, done, curve, None if trained is None else float(trained))
        if done > curve[-1]["steps"]:
            evaluate(algorithm, validation, options, done, curve)
    learned(algorithm, options, done).save(options.out / "last")
    validation.close()
    algorithm.stop()
    if done < options.steps:
        print(f"stopped after {done} decisions; the same command goes on from here", file=sys.stderr)
    return options.out


def make_config(options: Options, done: int = 0) -> PPOConfig:
    """The algorithm's configuration, which is all that Tune needs, too (``agents.rllib_tune``)."""
    view = view_of(options)
    last = max(options.steps, done + 1)
    config = (
        PPOConfig()
        .environment(ENVIRONMENT, env_config=common.env_keywords(options, view) | {"service": options.service})
        .env_runners(
            num_env_runners=options.runners,
            num_envs_per_env_runner=options.envs,
            gym_env_vectorize_mode="vector_entry_point",  # one batched step of simulator and world
            rollout_fragment_length=options.batch // (options.envs * max(options.runners, 1)),
            sample_timeout_s=PATIENCE,
        )
        .training(
            lr=[[0, options.learning_rate], [last, 0.1 * options.learning_rate]],
            gamma=options.gamma, lambda_=0.95, clip_param=0.2, vf_clip_param=float("inf"),
            vf_loss_coeff=0.5 / VALUE_SCALE**2,
            use_kl_loss=options.divergence > 0, kl_target=options.divergence,
            entropy_coeff=options.entropy, grad_clip=0.5, train_batch_size_per_learner=options.batch,
            minibatch_size=options.minibatch, num_epochs=options.epochs,
        )
        .callbacks(on_environment_created=partial(disturb_starts, options=options, done=done))
        .debugging(seed=common.run_seed(options, done) >> 2)
    )  # fmt: skip
    through_view(config, view, options.hidden, options.spread)
    return config


def set_spreads(algorithm: PPO, options: Options, done: int) -> None:
    """Sets the spread of continuous actions of this point of the run, in the learner and in all runners."""
    spread, groups = common.spread_after(options, done), (algorithm.learner_group, algorithm.env_runner_group)
    if spread is not None and groups[0] is not None and groups[1] is not None:
        groups[0].foreach_learner(partial(set_spread, spread=spread))
        groups[1].foreach_env_runner(partial(set_spread, spread=spread))


def set_spread(holder: Any, spread: float) -> None:
    """On a learner or a runner."""
    module: Any = holder.module[DEFAULT_MODULE_ID].unwrapped() if isinstance(holder, Learner) else holder.module
    with torch.no_grad():
        module.spread.fill_(spread)


def disturb_starts(*, env_runner: Any, env: Any, options: Options, done: int, **more: Any) -> None:
    """On every runner: its training episodes begin off the recorded drive (``learning.disturbed_starts``)."""
    if options.disturb:
        seed = common.run_seed(options, done, env_runner.worker_index)
        dataset, scenes = env.envs[0].dataset, tuple(env.envs[0].scene_names)
        starts = DisturbedStarts(dataset, scenes, seed, Disturbance(share=options.disturb))
        for single in env.envs:
            single.starts = starts


def view_of(options: Options) -> View:
    """The policy's view."""
    return View(common.camera_names(options), options.action, options.image_size)


def start_ray(options: Options) -> None:
    """Ray, unless this process is on a cluster already. Runners beyond the cores share them."""
    if not ray.is_initialized():
        own: dict[str, Any] = {"num_cpus": options.runners + 1, "include_dashboard": False} if options.address == "local" else {}
        ray.init(address=options.address, log_to_driver=False, **own)


def learned(algorithm: PPO, options: Options, steps: int) -> Policy:
    """The most likely action learned so far, as a policy."""
    about = {"algorithm": "ppo", "library": "rllib", "seed": options.seed, "steps": steps, "reward": options.reward}
    return policy_of(algorithm.get_module(), options.decision_dt, about)


def evaluate(
    algorithm: PPO,
    validation: gym.vector.VectorEnv,
    options: Options,
    done: int,
    curve: list[dict[str, float]],
    trained: float | None = None,
) -> None:
    """One more point of the curve, a checkpoint, and the policy if it is the best so far."""
    policy = learned(algorithm, options, done)
    point = {"steps": float(done), **validate(policy, validation)} | ({} if trained is None else {"training_reward": trained})
    best = max((old["pdms"] for old in curve), default=-1.0)
    curve.append(point)
    if point["pdms"] > best:
        policy.save(options.out / "best")
    save_checkpoint(algorithm, curve, options.out)
    write_curve(curve, options.out)
    group = algorithm.env_runner_group
    assert group is not None
    runners = group.foreach_env_runner(lambda runner: common.process_usage(), local_env_runner=False)
    common.append_usage(options.out, done, [common.process_usage(), *runners])


def save_checkpoint(algorithm: PPO, curve: list[dict[str, float]], folder: Path) -> None:
    """RLlib's checkpoint and the curve so far, in place of those before; one of the two is there, whole, at any instant."""
    with replacing_folder(folder / "checkpoint") as fresh:
        algorithm.save_to_path(str(fresh))
        write_curve(curve, fresh)


def write_curve(curve: list[dict[str, float]], folder: Path) -> None:
    """``curve.json`` of a folder."""
    write_text(folder / "curve.json", json.dumps(curve, indent=1) + "\n")


def load_curve(run: Path, checkpoint: Path) -> list[dict[str, float]]:
    """The curve up to a checkpoint; older runs have it beside the checkpoint alone."""
    found = next((path for path in (checkpoint / "curve.json", run / "curve.json") if path.is_file()), None)
    if found is None:
        raise ConfigError(
            f"{checkpoint} has no curve.json, and {run} neither: remove {checkpoint} to begin anew, or choose another --out"
        )
    curve: list[dict[str, float]] = json.loads(found.read_text())
    return curve


if __name__ == "__main__":
    run_script(main, Options)
