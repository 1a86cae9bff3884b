"""PPO by RLlib (new API stack) on the driving environment, on one machine or a Ray cluster: read it from top to bottom.

    python -m agents.train_rllib --out runs/rllib --runners 2                      # vectors in the town
    python -m agents.train_rllib --out runs/cam --cameras --world dist4d --service world --runners 8   # images by a world service

Stopped (Ctrl-C, kill), the same command goes on from the last checkpoint. The folder gets ``best/`` and ``last/`` (policies that
``dist4d_env.learning.rllib_planner`` drives), ``curve.json``, ``machine.jsonl`` (time and memory at every point of the curve) and
``checkpoint/``, which is RLlib's own: it holds pickles, so go on with folders of your own only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import gymnasium as gym
import numpy as np
import ray
import torch
import tyro
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner import Learner
from ray.rllib.core.rl_module import RLModuleSpec
from tqdm import tqdm

import dist4d_env  # noqa: F401 (registers the environment)
from agents.resource_usage import spent
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.learning.disturbed_starts import Disturbance, DisturbedStarts
from dist4d_env.learning.policy_files import Policy, PolicyConfig
from dist4d_env.learning.rllib_connectors import ActAsPolicy, SeeAsPolicy
from dist4d_env.learning.rllib_module import VALUE_SCALE, DrivingModule, policy_of
from dist4d_env.learning.validation import validate
from dist4d_env.learning.views import View

ENVIRONMENT = "dist4d_env:DiST4D-nuScenes-v0"
PATIENCE = 3600.0
"""Seconds that a batch may take. RLlib's own minute is too short for generated pictures and for busy machines; after it there
would be a batch of nothing. A runner that dies is noticed at once in any case."""


@dataclass(frozen=True)
class Options:
    """Train a driving policy with RLlib; the same command goes on where a stopped one was."""

    out: Path = Path("runs/rllib")
    """Folder of the run."""
    cameras: bool = False
    """See six camera images besides "ego" and "route"; else "ego", "route" and "agents"."""
    action: Literal["route", "controls", "discrete"] = "route"
    """route: acceleration and place beside the route, followed by the tracker; controls: pedals and steering rate; discrete."""
    network: Literal["own", "flat"] = "own"
    """own: learning.rllib_module; flat: RLlib's default layers on flattened vectors, which cannot be saved as a policy."""
    world: Literal["none", "dist4d", "replay", "oracle"] = "none"
    """What draws the images, with --cameras."""
    weights: str = "tiny"
    """Of the world dist4d."""
    service: str | None = None
    """Name of a world service on the cluster that holds the models."""
    dataroot: Path | None = None
    """Data set of the training scenes: else $NUSCENES, else the built-in town (whose train split is made once)."""
    scenes: str = "train"
    """Split (or scene) to train on."""
    val_dataroot: Path | None = None
    """Data set of the validation scenes, found like --dataroot."""
    val_scenes: str = "val"
    """Split to validate on."""
    traffic: Literal["replay", "idm"] = "replay"
    """Traffic as logged, or reacting."""
    disturb: float = 0.5
    """Share of training episodes that begin at another speed, place and heading than the log's; 0: the environment's starts."""
    reward: Literal["shaped", "pdms", "sparse"] = "shaped"
    """A preset of weights, see the environment."""
    decision_dt: float = 0.5
    """Seconds per decision."""
    horizon: float = 10.0
    """Seconds per episode."""
    steps: int = 500_000
    """Decisions in all."""
    runners: int = 0
    """Processes that drive; 0 drives in this one."""
    envs: int = 32
    """Environments of each runner, in one batch."""
    seed: int = 0
    """The same seed on the same machine, with as many runners, gives the same run."""
    learning_rate: float = 3e-4
    """Falls linearly to a tenth."""
    gamma: float = 0.95
    """Discount per decision."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's layers after the encoder, and of the value's."""
    batch: int = 4096
    """Decisions between updates, of all runners together."""
    minibatch: int = 512
    """Samples per gradient step."""
    epochs: int = 8
    """Passes over a batch."""
    divergence: float = 0.01
    """KL divergence that an update aims at, by a penalty that adapts; 0: no penalty."""
    entropy: float = 0.0
    """Bonus for trying things out."""
    spread: float = -0.5
    """Logarithm of the actions' standard deviation at the start."""
    spread_end: float | None = -2.0
    """The same at the end, falling linearly, so that the policy learns to drive as it will be driven: by its most likely action.
    None: the spread is learned."""
    eval_every: int = 50_000
    """Decisions between evaluations on the validation scenes, each with a checkpoint."""
    eval_episodes: int = 32
    """Validation episodes, always the same."""
    address: str = "local"
    """Ray cluster to run on: local starts one in this process, auto joins the one that runs here."""
    threads: int = 1
    """Of torch on the CPU; the same number is needed for the same run."""

    def __post_init__(self) -> None:
        if self.cameras and self.world == "none":
            raise ConfigError("--cameras needs a world that makes images: --world dist4d, replay or oracle")
        if self.cameras and self.network == "flat":
            raise ConfigError("--network flat is for vectors: leave --cameras out")
        if not 0 <= self.disturb <= 1:
            raise ConfigError(f"disturb={self.disturb} must be a share from 0 to 1")
        if min(self.steps, self.envs, self.batch, self.minibatch, self.eval_every, self.eval_episodes) < 1 or self.runners < 0:
            raise ConfigError("steps, envs, batch, minibatch, eval_every, eval_episodes must be at least 1, runners at least 0")
        if self.batch % (self.envs * max(self.runners, 1)):
            raise ConfigError(
                f"--batch {self.batch} must be a multiple of the environments of all runners, {self.envs * max(self.runners, 1)}"
            )


def main(options: Options) -> Path:
    """Trains until ``options.steps``, or until stopped; returns the folder."""
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    remember_options(options)
    start_ray(options)

    # The algorithm. A run that goes on draws other episodes than it began with: its seed depends on where it is.
    checkpoint = options.out.resolve() / "checkpoint"
    curve: list[dict[str, float]] = json.loads((options.out / "curve.json").read_text()) if checkpoint.exists() else []
    done = int(curve[-1]["steps"]) if curve else 0
    algorithm: PPO = make_config(options, done).build_algo()
    if checkpoint.exists():
        algorithm.restore_from_path(str(checkpoint))

    # Collect a batch, learn from it, and now and then look at how the policy drives where it was not trained.
    validation = make_validation(options)
    stop = Stop()
    with stop, tqdm(total=options.steps, initial=done, unit="decision", disable=None) as bar:
        if not curve:
            evaluate(algorithm, validation, options, 0, curve)
        while done < options.steps and not stop.asked:
            narrow(algorithm, options, done)
            result = algorithm.train()
            done += int(result["env_runners"]["num_env_steps_sampled"])
            bar.update(done - bar.n)
            trained = result["env_runners"].get("episode_return_mean")
            bar.set_postfix(reward=trained, pdms=curve[-1]["pdms"])
            if done - curve[-1]["steps"] >= options.eval_every:
                evaluate(algorithm, validation, options, done, curve, None if trained is None else float(trained))
        if done > curve[-1]["steps"]:
            evaluate(algorithm, validation, options, done, curve)
    if options.network == "own":
        learned(algorithm, options, done).save(options.out / "last")
    validation.close()
    algorithm.stop()
    if done < options.steps:
        print(f"stopped after {done} decisions; the same command goes on from here", file=sys.stderr)
    return options.out


def make_config(options: Options, done: int = 0) -> PPOConfig:
    """The algorithm's configuration, which is all that Tune needs, too (``agents.rllib_tune``)."""
    view = View(options.cameras, options.action)
    see, act = SeeAsPolicy(view=view), ActAsPolicy(view=view)
    flat = options.network == "flat"
    last = max(options.steps, done + 1)
    config = (
        PPOConfig()
        .environment(ENVIRONMENT, env_config=keywords(options, view, options.dataroot, options.scenes))
        .env_runners(
            num_env_runners=options.runners,
            num_envs_per_env_runner=options.envs,
            gym_env_vectorize_mode="vector_entry_point",  # one batched step of simulator and world
            env_to_module_connector=lambda env=None, spaces=None, device=None: [see, FlattenObservations()] if flat else see,
            module_to_env_connector=lambda env=None, spaces=None, device=None: act,
            rollout_fragment_length=options.batch // (options.envs * max(options.runners, 1)),
            sample_timeout_s=PATIENCE,
        )
        .training(
            lr=[[0, options.learning_rate], [last, 0.1 * options.learning_rate]],
            gamma=options.gamma, lambda_=0.95, clip_param=0.2, vf_clip_param=float("inf"),
            vf_loss_coeff=0.5 / (1.0 if flat else VALUE_SCALE) ** 2,
            use_kl_loss=options.divergence > 0, kl_target=options.divergence,
            entropy_coeff=options.entropy, grad_clip=0.5, train_batch_size_per_learner=options.batch,
            minibatch_size=options.minibatch, num_epochs=options.epochs,
        )
        .callbacks(on_environment_created=partial(disturb_starts, options=options, done=done))
        .debugging(seed=int(np.random.SeedSequence([options.seed, done]).generate_state(1)[0]) >> 2)
    )  # fmt: skip
    config.normalize_actions = config.clip_actions = False  # the connector does what there is to do
    model = {"view": asdict(view), "hidden": options.hidden, "spread": options.spread}
    spaces = {"action_space": view.action_space}
    if flat:
        layers: dict[str, Any] = {"fcnet_hiddens": list(options.hidden), "fcnet_activation": "tanh"}
        return config.rl_module(rl_module_spec=RLModuleSpec(model_config=layers, **spaces))
    spec = RLModuleSpec(DrivingModule, observation_space=view.observation_space, model_config=model, **spaces)
    return config.rl_module(rl_module_spec=spec)


def narrow(algorithm: PPO, options: Options, done: int) -> None:
    """Sets the spread of continuous actions to what it is to be after as many decisions, in the learner and in all runners."""
    if options.network == "own" and options.action != "discrete" and options.spread_end is not None:
        spread = options.spread + (options.spread_end - options.spread) * min(done / options.steps, 1.0)
        for group in (algorithm.learner_group.foreach_learner, algorithm.env_runner_group.foreach_env_runner):  # type: ignore[union-attr]
            group(partial(set_spread, spread=spread))


def set_spread(holder: Any, spread: float) -> None:
    """On a learner or a runner."""
    module = holder.module[DEFAULT_MODULE_ID].unwrapped() if isinstance(holder, Learner) else holder.module
    with torch.no_grad():
        module.spread.fill_(spread)


def disturb_starts(*, env_runner: Any, env: Any, options: Options, done: int, **more: Any) -> None:
    """On every runner: its training episodes begin where the recorded driver never was, so that there is something to mend."""
    if options.disturb:
        seed = int(np.random.SeedSequence([options.seed, done, env_runner.worker_index]).generate_state(1)[0])
        dataset, scenes = env.envs[0].dataset, tuple(env.envs[0].scene_names)
        starts = DisturbedStarts(dataset, scenes, seed, Disturbance(share=options.disturb))
        for member in env.envs:
            member.starts = starts


def keywords(options: Options, view: View, dataroot: Path | None, scenes: str) -> dict[str, Any]:
    """The environment's keywords."""
    return {
        "dataroot": None if dataroot is None else str(dataroot.resolve()), "scenes": scenes,
        "world": options.world if options.cameras else "none", "weights": options.weights, "service": options.service,
        "observation": view.groups, "action": view.environment_action, "traffic": options.traffic, "reward": options.reward,
        "decision_dt": options.decision_dt, "horizon": options.horizon,
    }  # fmt: skip


def start_ray(options: Options) -> None:
    """Ray, unless this process is on a cluster already. Runners beyond the cores share them."""
    if not ray.is_initialized():
        own = {"num_cpus": options.runners + 1, "include_dashboard": False} if options.address == "local" else {}
        ray.init(address=options.address, log_to_driver=False, **own)


def make_validation(options: Options) -> gym.vector.VectorEnv:
    """Validation episodes, in one batch."""
    settings = keywords(options, View(options.cameras, options.action), options.val_dataroot, options.val_scenes)
    return gym.make_vec("DiST4D-nuScenes-v0", options.eval_episodes, vectorization_mode="vector_entry_point", **settings)


def learned(algorithm: PPO, options: Options, steps: int) -> Policy:
    """What has been learned so far, as a policy."""
    about = {"algorithm": "ppo", "library": "rllib", "seed": options.seed, "steps": steps, "reward": options.reward}
    view = View(options.cameras, options.action)
    config = PolicyConfig(view, options.decision_dt, options.hidden, "tanh", False, about)
    return policy_of(algorithm.get_module(), config)


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
    if point["pdms"] > best and options.network == "own":
        policy.save(options.out / "best")
    save_checkpoint(algorithm, options.out)
    write(options.out / "curve.json", json.dumps(curve, indent=1) + "\n")
    with (options.out / "machine.jsonl").open("a") as file:
        file.write(json.dumps({"steps": done, **spent(algorithm)}) + "\n")


def save_checkpoint(algorithm: PPO, folder: Path) -> None:
    """RLlib's checkpoint in place of the one before, which is there until the new one is whole."""
    new, old = folder.resolve() / "checkpoint.part", folder.resolve() / "checkpoint.old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    algorithm.save_to_path(str(new))
    if (folder / "checkpoint").exists():
        os.replace(folder / "checkpoint", old)
    os.replace(new, folder / "checkpoint")
    shutil.rmtree(old, ignore_errors=True)


class Stop:
    """Ctrl-C and kill let the batch finish and the checkpoint be written; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *failure: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def remember_options(options: Options) -> None:
    """options.json of the run. Raises ConfigError where the folder holds a run with others (more steps may be asked for)."""
    path = options.out / "options.json"
    mine = json.loads(json.dumps(asdict(options), default=str))
    if path.exists():
        theirs = json.loads(path.read_text())
        free = {"steps", "out", "threads", "address"}
        other = sorted(key for key in mine if key not in free and theirs.get(key) != mine[key])
        if other:
            raise ConfigError(f"{options.out} holds a run with other {', '.join(other)}: choose another --out or remove it")
    write(path, json.dumps(mine, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except DiST4DError as error:
        print(f"train_rllib: {error}", file=sys.stderr)
        sys.exit(2)
