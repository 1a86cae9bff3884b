"""PPO or SAC by Stable-Baselines3 on the driving environment: read it from top to bottom.

    python -m agents.train_sb3 --out runs/ppo                                    # vectors in the town, about ten minutes
    python -m agents.train_sb3 --out runs/cam --cameras --world dist4d --envs 4  # from generated camera images
    tensorboard --logdir runs/ppo

Stopped (Ctrl-C, kill), the same command goes on from the last checkpoint. The folder gets ``best/`` and ``last/`` (policies that
``dist4d evaluate --planner FOLDER`` drives), ``curve.json``, ``machine.jsonl`` (time and memory at every point of the curve),
TensorBoard's files, ``checkpoint.pt`` and ``best.mp4``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

from agents import common
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, run_script
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.video import VideoWriter
from dist4d_env.learning.depth_scan import calibration_of
from dist4d_env.learning.disturbed_starts import Disturbance, DisturbedStarts
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.policy_planner import PolicyPlanner
from dist4d_env.learning.sb3_policy import policy_kwargs, policy_of
from dist4d_env.learning.sb3_vec_env import SB3VecEnv, ViewVecEnv
from dist4d_env.learning.validation import validate
from dist4d_env.learning.views import View
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import replacing, write_text


@dataclass(frozen=True)
class Options(common.CommonOptions):
    """Train a driving policy with Stable-Baselines3; the same command goes on where a stopped one was."""

    algorithm: Literal["ppo", "sac"] = "ppo"
    """On-policy, or off-policy with a replay buffer."""
    scan: bool = False
    """With --cameras: their depth as a scan along the route instead of colours; learns from far fewer decisions."""
    reward_scale: float = 0.1
    """Factor of the rewards that the algorithm learns from, so that values are about 1; "shaped" asks for 0.1, "pdms" and
    "sparse" for 1."""
    rollout: int = 64
    """PPO: decisions per environment between updates."""
    buffer: int = 200_000
    """SAC: decisions in the replay buffer."""
    warmup: int = 2_000
    """SAC: decisions before learning begins."""
    device: str = "auto"
    """Of the policy's network; vectors are fastest on cpu."""
    video: bool = True
    """Film the best policy on a validation scene at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scan and not self.cameras:
            raise ConfigError("--scan is made of the cameras' depth: add --cameras")
        if self.algorithm == "sac" and self.action == "discrete":
            raise ConfigError("SAC takes continuous actions: choose --action route or controls")
        if self.rollout < 1:
            raise ConfigError("rollout must be at least 1")


def main(options: Options) -> Path:
    """Trains until ``options.steps``, or until stopped; returns the folder."""
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    # The environments: one batch to train in, one to validate in.
    with common.remembered_options(options, free=("steps", "video", "out", "threads", "device")):
        checkpoint = load_checkpoint(options.out)
        done = checkpoint["steps"] if checkpoint else 0
        view = view_of(options)
        training = common.make_environments(options.envs, options, view, device=options.device)
        validation = common.make_environments(options.eval_episodes, options, view, True, options.device)
        seed = common.run_seed(options, done) >> 1
        driving = SB3VecEnv(training, infos="ended", starts=disturbed_starts(options, seed))
    envs = ViewVecEnv(VecMonitor(driving), view, options.reward_scale)

    model = make_model(options, envs, seed)
    if checkpoint:
        restore(model, checkpoint)

    # The loop is Stable-Baselines3's own; what happens in between is in the callback.
    with common.Stop() as stop:
        keeper = Keeper(options, view, validation, checkpoint, stop)
        model.learn(max(options.steps - done, 0), callback=keeper, reset_num_timesteps=not checkpoint, tb_log_name="run")
    keeper.finish()
    envs.close()
    validation.close()
    if stop.asked:
        print(f"stopped after {model.num_timesteps} decisions; the same command goes on from here", file=sys.stderr)
    elif options.video:
        film(options, view)
    return options.out


def view_of(options: Options) -> View:
    """The policy's view. Raises ConfigError for a scan with cameras that differ by scene."""
    view = View(common.camera_names(options), options.action, options.image_size)
    if not options.scan:
        return view
    dataset = open_dataset(options.dataroot, None, options.scenes, size=options.image_size)
    rigs = {name: calibration_of(dataset.load(name).rig.at_size(*view.size)) for name in dataset.scene_names(options.scenes)}
    first, calibration = next(iter(rigs.items()))
    for name, other in rigs.items():
        if not np.allclose(other, calibration, atol=0.05):
            raise ConfigError(
                f"the cameras of {name} are mounted unlike those of {first}: train a scan on scenes with the same cameras"
            )
    return View(view.cameras, view.action, view.size, True, calibration)


def disturbed_starts(options: Options, seed: int) -> DisturbedStarts | None:
    """Starts of training episodes; None for the environment's own starts."""
    if not options.disturb:
        return None
    dataset = open_dataset(options.dataroot, None, options.scenes, size=options.image_size)
    return DisturbedStarts(dataset, tuple(dataset.scene_names(options.scenes)), seed, Disturbance(share=options.disturb))


def make_model(options: Options, envs: ViewVecEnv, seed: int) -> BaseAlgorithm:
    """PPO or SAC, untrained."""
    shared: dict[str, Any] = {
        "policy": "MultiInputPolicy", "env": envs, "gamma": options.gamma, "seed": seed, "device": options.device,
        "batch_size": options.minibatch, "tensorboard_log": str(options.out / "tensorboard"),
    }  # fmt: skip
    kwargs = policy_kwargs(envs.view, options.hidden)
    if options.algorithm == "sac":
        return SAC(
            **shared, buffer_size=options.buffer, learning_starts=options.warmup, learning_rate=options.learning_rate,
            train_freq=1, gradient_steps=max(1, options.envs // 8), policy_kwargs=kwargs,
        )  # fmt: skip
    model = PPO(
        **shared, n_steps=options.rollout, n_epochs=options.epochs, ent_coef=options.entropy, target_kl=0.05,
        learning_rate=lambda left: options.learning_rate * (0.1 + 0.9 * left),
        policy_kwargs={**kwargs, "log_std_init": options.spread},
    )  # fmt: skip
    if options.action != "discrete":
        # Begin with what 0 means (follow the route at constant speed), not with a random bias of each seed.
        torch.nn.init.zeros_(model.policy.action_net.bias)
        if options.cameras:
            # Exactly so: a camera policy at its start does not depend on any image, and is known without driving.
            torch.nn.init.zeros_(model.policy.action_net.weight)
    return model


def learned(model: BaseAlgorithm, options: Options, view: View) -> Policy:
    """The model's most likely action as a policy, with a note of how it was trained."""
    about = {"algorithm": options.algorithm, "seed": options.seed, "steps": int(model.num_timesteps), "reward": options.reward}
    return policy_of(model, view, options.decision_dt, about)


class Keeper(BaseCallback):
    """Between decisions: evaluates, keeps checkpoints and the best policy, shows progress, and stops when asked to."""

    def __init__(
        self, options: Options, view: View, validation: gym.vector.VectorEnv, checkpoint: dict[str, Any] | None, stop: common.Stop
    ) -> None:
        super().__init__()
        self.options, self.view, self.validation, self.stop = options, view, validation, stop
        self.curve: list[dict[str, float]] = json.loads(checkpoint["curve"]) if checkpoint else []

    def _on_training_start(self) -> None:
        self.bar = Progress("training", "decision", self.options.steps, self.num_timesteps).__enter__()
        if not self.curve:
            self.evaluate()

    def _on_rollout_start(self) -> None:
        spread = common.spread_after(self.options, self.num_timesteps)
        if isinstance(self.model, PPO) and spread is not None:
            self.model.policy.log_std.requires_grad_(False)
            self.model.policy.log_std.fill_(spread)

    def _on_step(self) -> bool:
        self.bar.update(self.num_timesteps - self.bar.count)
        if self.num_timesteps - self.curve[-1]["steps"] >= self.options.eval_every:
            self.evaluate()
        return not self.stop.asked

    def evaluate(self) -> None:
        """One more point of the curve; the best policy so far is kept."""
        policy = learned(self.model, self.options, self.view)
        point = {"steps": float(self.num_timesteps), **validate(policy, self.validation)}
        for name, value in point.items():
            self.logger.record(f"val/{name}", value)
        self.logger.dump(self.num_timesteps)
        best = max((old["pdms"] for old in self.curve), default=-1.0)
        self.curve.append(point)
        self.bar.note(f"pdms {point['pdms']:.3f}, collision {point['collision']:.3f}")
        if point["pdms"] > best:
            policy.save(self.options.out / "best")
        self.save()

    def save(self) -> None:
        """The curve and a checkpoint to go on from."""
        write_text(self.options.out / "curve.json", json.dumps(self.curve, indent=1) + "\n")
        common.append_usage(self.options.out, self.num_timesteps, [common.process_usage()])
        save_checkpoint(self.model, self.curve, self.options.out)

    def finish(self) -> None:
        """The last state, whether the run is over or was stopped."""
        if not self.stop.asked and self.curve[-1]["steps"] < self.num_timesteps:
            self.evaluate()
        self.save()
        learned(self.model, self.options, self.view).save(self.options.out / "last")
        self.bar.__exit__(None, None, None)


def save_checkpoint(model: BaseAlgorithm, curve: list[dict[str, float]], folder: Path) -> None:
    """Weights and optimizers (not SAC's replay buffer, which fills again)."""
    state = {"steps": int(model.num_timesteps), "curve": json.dumps(curve), "parameters": model.get_parameters()}
    if isinstance(model, SAC) and model.log_ent_coef is not None:
        state["log_ent_coef"] = model.log_ent_coef.detach().cpu()
    with replacing(folder / "checkpoint.pt") as part:
        torch.save(state, part)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of ``save_checkpoint``, None where there is none; tensors and numbers only, never other objects."""
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None


def restore(model: BaseAlgorithm, checkpoint: dict[str, Any]) -> None:
    """Go on from a checkpoint."""
    model.set_parameters(checkpoint["parameters"], device=model.device)
    model.num_timesteps = checkpoint["steps"]
    if isinstance(model, SAC) and "log_ent_coef" in checkpoint:
        assert model.log_ent_coef is not None
        model.log_ent_coef.data.copy_(checkpoint["log_ent_coef"])


def film(options: Options, view: View) -> None:
    """best.mp4: the dashboard of one validation episode of the best policy, as the benchmark drives it."""
    keywords = common.env_keywords(options, view, validation=True)
    env = gym.make("DiST4D-nuScenes-v0", render_mode="rgb_array", device=options.device, **keywords)
    with VideoWriter(options.out / "best.mp4", 1 / options.decision_dt) as video:
        show: Callable[..., None] = lambda driving, info: video.add(driving.render())  # noqa: E731
        run_episode(env, PolicyPlanner(options.out / "best"), 10_000, RunOptions(), show)
    env.close()


if __name__ == "__main__":
    run_script(main, Options)
