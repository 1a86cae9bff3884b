"""PPO or SAC by Stable-Baselines3 on the driving environment: read it from top to bottom.

    python -m agents.train_sb3 --out runs/ppo                                    # vectors in the town, about ten minutes
    python -m agents.train_sb3 --out runs/cam --cameras --world dist4d --envs 4  # from six generated camera images
    tensorboard --logdir runs/ppo

Stopped (Ctrl-C, kill), the same command goes on from the last checkpoint. The folder gets ``best/`` and ``last/`` (policies that
``learning.policy_planner`` drives), ``curve.json``, ``machine.jsonl`` (time and memory at every point of the curve),
TensorBoard's files, ``checkpoint.pt`` and ``best.mp4``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from tqdm import tqdm

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.video import VideoWriter
from dist4d_env.learning.depth_scan import calibration_of
from dist4d_env.learning.disturbed_starts import Disturbance, DisturbedStarts
from dist4d_env.learning.networks import PolicyNetwork, make_encoder
from dist4d_env.learning.policy_files import Policy, PolicyConfig, outputs_of
from dist4d_env.learning.policy_planner import SB3Planner
from dist4d_env.learning.sb3_vec_env import SB3VecEnv, ViewVecEnv
from dist4d_env.learning.validation import validate
from dist4d_env.learning.views import View


@dataclass(frozen=True)
class Options:
    """Train a driving policy with Stable-Baselines3; the same command goes on where a stopped one was."""

    out: Path = Path("runs/ppo")
    """Folder of the run."""
    algorithm: Literal["ppo", "sac"] = "ppo"
    """On-policy, or off-policy with a replay buffer."""
    cameras: bool = False
    """See six camera images besides "ego" and "route"; else "ego", "route" and "agents"."""
    scan: bool = False
    """With --cameras: see their depth as a scan along the route, and no colours; learns from far fewer decisions."""
    action: Literal["route", "controls", "discrete"] = "route"
    """route: acceleration and place beside the route, followed by the tracker; controls: pedals and steering rate; discrete."""
    world: Literal["none", "dist4d", "replay", "oracle"] = "none"
    """What draws the images, with --cameras."""
    weights: str = "tiny"
    """Of the world dist4d."""
    dataroot: Path | None = None
    """Data set of the training scenes: else $NUSCENES, else the built-in town (whose train split is made once)."""
    scenes: tuple[str, ...] = ("train",)
    """Splits or scenes to train on."""
    val_dataroot: Path | None = None
    """Data set of the validation scenes, found like --dataroot."""
    val_scenes: str = "val"
    """Split to validate on."""
    disturb: float = 0.5
    """Share of training episodes that begin at another speed, place and heading than logged; 0: the environment's own starts."""
    traffic: Literal["replay", "idm"] = "replay"
    """Traffic as logged, or reacting."""
    reward: Literal["shaped", "pdms", "sparse"] = "shaped"
    """A preset of weights, see the environment."""
    reward_scale: float = 0.1
    """What the algorithm sees of it, so that values are about 1; "shaped" asks for 0.1, "pdms" and "sparse" for 1."""
    decision_dt: float = 0.5
    """Seconds per decision."""
    horizon: float = 10.0
    """Seconds per episode."""
    steps: int = 500_000
    """Decisions in all."""
    envs: int = 64
    """Environments in one batch."""
    seed: int = 0
    """The same seed on the same machine gives the same run."""
    learning_rate: float = 3e-4
    """Falls linearly to a tenth (PPO) or stays (SAC)."""
    gamma: float = 0.95
    """Discount per decision."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's layers after the encoder, and of the value's."""
    rollout: int = 64
    """PPO: decisions per environment between updates."""
    minibatch: int = 512
    """Samples per gradient step."""
    epochs: int = 8
    """PPO: passes over a rollout."""
    entropy: float = 0.0
    """PPO: bonus for trying things out."""
    spread: float = -0.5
    """PPO: logarithm of the actions' standard deviation at the start."""
    spread_end: float | None = -2.0
    """PPO: the same at the end, falling linearly, so that the policy learns to drive as it will be driven: by its most likely
    action. None: the spread is learned."""
    buffer: int = 200_000
    """SAC: decisions remembered."""
    warmup: int = 2_000
    """SAC: decisions before learning begins."""
    eval_every: int = 50_000
    """Decisions between evaluations on the validation scenes, each with a checkpoint."""
    eval_episodes: int = 32
    """Validation episodes, always the same."""
    device: str = "auto"
    """Of the policy's network; vectors are fastest on cpu."""
    threads: int = 1
    """Of torch on the CPU; the same number is needed for the same run."""
    video: bool = True
    """Film the best policy on a validation scene at the end."""

    def __post_init__(self) -> None:
        if self.cameras and self.world == "none":
            raise ConfigError("--cameras needs a world that makes images: --world dist4d, replay or oracle")
        if self.scan and not self.cameras:
            raise ConfigError("--scan is a way of seeing what cameras show: add --cameras")
        if self.algorithm == "sac" and self.action == "discrete":
            raise ConfigError("SAC takes continuous actions: choose --action route or controls")
        if not 0 <= self.disturb <= 1:
            raise ConfigError(f"disturb={self.disturb} must be a share from 0 to 1")
        if min(self.steps, self.envs, self.rollout, self.minibatch, self.eval_every, self.eval_episodes) < 1:
            raise ConfigError("steps, envs, rollout, minibatch, eval_every and eval_episodes must be at least 1")


def main(options: Options) -> Path:
    """Trains until ``options.steps``, or until stopped; returns the folder."""
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    remember_options(options)
    checkpoint = load_checkpoint(options.out)
    done = checkpoint["steps"] if checkpoint else 0

    # The environments: one batch to train in, one to validate in. A run that goes on draws other episodes than it began with:
    # its seed depends on where it is.
    training = make_environments(options, options.envs, options.dataroot, options.scenes)
    validation = make_environments(options, options.eval_episodes, options.val_dataroot, options.val_scenes)
    view = view_of(options, image_size(training))
    seed = int(np.random.SeedSequence([options.seed, done]).generate_state(1)[0]) >> 1
    driving = SB3VecEnv(training, infos="ended", starts=disturbed_starts(options, seed))
    seen = ViewVecEnv(VecMonitor(driving), view, options.reward_scale)

    model = make_model(options, seen, seed)
    if checkpoint:
        restore(model, checkpoint)

    # The loop is Stable-Baselines3's own; what happens in between is in the callback.
    keeper = Keeper(options, view, validation, checkpoint)
    with stopping_gracefully(keeper):
        model.learn(max(options.steps - done, 0), callback=keeper, reset_num_timesteps=not checkpoint, tb_log_name="run")
    keeper.finish()
    seen.close()
    validation.close()
    if keeper.stopped:
        print(f"stopped after {model.num_timesteps} decisions; the same command goes on from here", file=sys.stderr)
    elif options.video:
        film(options)
    return options.out


def make_environments(options: Options, count: int, dataroot: Path | None, scenes: str | tuple[str, ...]) -> gym.vector.VectorEnv:
    """``count`` environments in one batch."""
    view = View(options.cameras, options.action, scan=options.scan)
    settings = keywords(options, view, dataroot, scenes)
    return gym.make_vec("DiST4D-nuScenes-v0", count, vectorization_mode="vector_entry_point", **settings)


def disturbed_starts(options: Options, seed: int) -> DisturbedStarts | None:
    """Where training episodes begin; None for the environment's own starts."""
    if not options.disturb:
        return None
    dataset = open_dataset(options.dataroot, None, options.scenes)
    return DisturbedStarts(dataset, tuple(dataset.scene_names(options.scenes)), seed, Disturbance(share=options.disturb))


def keywords(options: Options, view: View, dataroot: Path | None, scenes: str | tuple[str, ...]) -> dict[str, Any]:
    """The environment's keywords."""
    return {
        "dataroot": dataroot, "scenes": scenes, "world": options.world if options.cameras else "none", "weights": options.weights,
        "observation": view.groups, "action": view.environment_action, "traffic": options.traffic, "reward": options.reward,
        "decision_dt": options.decision_dt, "horizon": options.horizon, "device": options.device,
    }  # fmt: skip


def image_size(venv: gym.vector.VectorEnv) -> tuple[int, int]:
    """Height and width of the cameras' images; (64, 112) where there are none."""
    keys = venv.single_observation_space.spaces  # type: ignore[attr-defined]
    camera = keys.get("CAM_FRONT", keys.get("CAM_FRONT/depth"))
    return (64, 112) if camera is None else camera.shape[:2]


def view_of(options: Options, size: tuple[int, int]) -> View:
    """What the policy sees of images of a height and width. Raises ConfigError for a scan with cameras that differ by scene."""
    view = View(options.cameras, options.action, size, options.scan)
    if not options.scan:
        return view
    dataset = open_dataset(options.dataroot, None, options.scenes)
    rigs = {name: calibration_of(dataset.load(name).rig.at_size(*size)) for name in dataset.scene_names(options.scenes)}
    first, calibration = next(iter(rigs.items()))
    for name, other in rigs.items():
        if not np.allclose(other, calibration, atol=0.05):
            raise ConfigError(
                f"the cameras of {name} are mounted unlike those of {first}: train a scan on scenes with the same cameras"
            )
    return replace(view, calibration=calibration)


class Extractor(BaseFeaturesExtractor):
    """An encoder of ``learning.networks`` where Stable-Baselines3 looks for one."""

    def __init__(self, observation_space: gym.Space, sees: str) -> None:
        encoder = make_encoder(sees)
        super().__init__(observation_space, encoder.features)
        self.encoder = encoder

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.encoder(seen)


def make_model(options: Options, envs: VecEnv, seed: int) -> BaseAlgorithm:
    """PPO or SAC, untrained."""
    common: dict[str, Any] = {
        "policy": "MultiInputPolicy", "env": envs, "gamma": options.gamma, "seed": seed, "device": options.device,
        "batch_size": options.minibatch, "tensorboard_log": str(options.out / "tensorboard"),
    }  # fmt: skip
    hidden, sees = list(options.hidden), View(options.cameras, scan=options.scan).sees
    extractor = {"features_extractor_class": Extractor, "features_extractor_kwargs": {"sees": sees}}
    if options.algorithm == "ppo":
        model = PPO(
            **common, n_steps=options.rollout, n_epochs=options.epochs, ent_coef=options.entropy, target_kl=0.05,
            learning_rate=lambda left: options.learning_rate * (0.1 + 0.9 * left),
            policy_kwargs={**extractor, "net_arch": {"pi": hidden, "vf": hidden}, "log_std_init": options.spread},
        )  # fmt: skip
        if options.action != "discrete":
            # Begin with what 0 means (follow the route at constant speed), not with a random bias of each seed.
            torch.nn.init.zeros_(model.policy.action_net.bias)
            if options.cameras:
                # Exactly so: what a camera policy is at its start does not depend on any image, and is known without driving.
                torch.nn.init.zeros_(model.policy.action_net.weight)
        return model
    return SAC(
        **common, buffer_size=options.buffer, learning_starts=options.warmup, learning_rate=options.learning_rate,
        train_freq=1, gradient_steps=max(1, options.envs // 8), policy_kwargs={**extractor, "net_arch": hidden},
    )  # fmt: skip


def narrow(model: BaseAlgorithm, options: Options) -> None:
    """Sets the spread of PPO's continuous actions to what it is to be after as many decisions."""
    if options.algorithm == "ppo" and options.action != "discrete" and options.spread_end is not None:
        done = min(model.num_timesteps / options.steps, 1.0)
        model.policy.log_std.requires_grad_(False)
        model.policy.log_std.fill_(options.spread + (options.spread_end - options.spread) * done)


def policy_of(model: BaseAlgorithm, options: Options, view: View) -> Policy:
    """The model's most likely action as a network of its own, to be stored and driven without Stable-Baselines3."""
    ppo = options.algorithm == "ppo"
    about = {"algorithm": options.algorithm, "seed": options.seed, "steps": int(model.num_timesteps), "reward": options.reward}
    config = PolicyConfig(view, options.decision_dt, options.hidden, "tanh" if ppo else "relu", not ppo, about)
    network = PolicyNetwork(view.sees, outputs_of(view), options.hidden, config.activation)
    if ppo:
        policy: Any = model.policy
        parts = policy.features_extractor.encoder, policy.mlp_extractor.policy_net, policy.action_net
    else:
        actor: Any = model.policy.actor
        parts = actor.features_extractor.encoder, actor.latent_pi, actor.mu
    for own, trained in zip((network.encoder, network.layers, network.head), parts, strict=True):
        own.load_state_dict({name: value.detach().cpu() for name, value in trained.state_dict().items()})
    return Policy(config, network)


class Keeper(BaseCallback):
    """Between decisions: evaluates, keeps checkpoints and the best policy, shows how far it is, and stops when asked to."""

    def __init__(self, options: Options, view: View, validation: gym.vector.VectorEnv, checkpoint: dict[str, Any] | None) -> None:
        super().__init__()
        self.options, self.view, self.validation = options, view, validation
        self.curve: list[dict[str, float]] = json.loads(checkpoint["curve"]) if checkpoint else []
        self.stopped = False
        self.begun = time.perf_counter()

    def _on_training_start(self) -> None:
        self.bar = tqdm(total=self.options.steps, initial=self.num_timesteps, unit="decision", disable=None)
        if not self.curve:
            self.evaluate()

    def _on_rollout_start(self) -> None:
        narrow(self.model, self.options)

    def _on_step(self) -> bool:
        self.bar.update(self.num_timesteps - self.bar.n)
        if self.num_timesteps - self.curve[-1]["steps"] >= self.options.eval_every:
            self.evaluate()
        return not self.stopped

    def evaluate(self) -> None:
        """One more point of the curve; the best policy so far is kept."""
        policy = policy_of(self.model, self.options, self.view)
        point = {"steps": float(self.num_timesteps), **validate(policy, self.validation)}
        for name, value in point.items():
            self.logger.record(f"val/{name}", value)
        self.logger.dump(self.num_timesteps)
        best = max((old["pdms"] for old in self.curve), default=-1.0)
        self.curve.append(point)
        self.bar.set_postfix(pdms=point["pdms"], collision=point["collision"])
        if point["pdms"] > best:
            policy.save(self.options.out / "best")
        self.save()

    def save(self) -> None:
        """The curve and a checkpoint to go on from."""
        write(self.options.out / "curve.json", json.dumps(self.curve, indent=1) + "\n")
        with (self.options.out / "machine.jsonl").open("a") as file:
            seconds, cpu = time.perf_counter() - self.begun, time.process_time()
            line = {"steps": self.num_timesteps, "seconds": seconds, "cpu_seconds": cpu, "memory_mib": memory()}
            file.write(json.dumps(line) + "\n")
        save_checkpoint(self.model, self.curve, self.options.out)

    def finish(self) -> None:
        """The last state, whether the run is over or was stopped."""
        if not self.stopped and self.curve[-1]["steps"] < self.num_timesteps:
            self.evaluate()
        self.save()
        policy_of(self.model, self.options, self.view).save(self.options.out / "last")
        self.bar.close()


class stopping_gracefully:
    """Ctrl-C and kill let the decision finish and the checkpoint be written; a second Ctrl-C interrupts at once."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def __enter__(self) -> None:
        self.before = {number: signal.signal(number, self.stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(self, number: int, frame: Any) -> None:
        if self.keeper.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.keeper.stopped = True

    def __exit__(self, *failure: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def save_checkpoint(model: BaseAlgorithm, curve: list[dict[str, float]], folder: Path) -> None:
    """Weights and optimizers (not SAC's replay buffer, which fills again)."""
    state = {"steps": int(model.num_timesteps), "curve": json.dumps(curve), "parameters": model.get_parameters()}
    if isinstance(model, SAC) and model.log_ent_coef is not None:
        state["log_ent_coef"] = model.log_ent_coef.detach().cpu()
    part = folder / "checkpoint.pt.part"
    torch.save(state, part)
    os.replace(part, folder / "checkpoint.pt")


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """What ``save_checkpoint`` wrote, None where there is nothing; tensors and numbers only, never other objects."""
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None


def restore(model: BaseAlgorithm, checkpoint: dict[str, Any]) -> None:
    """Go on from a checkpoint."""
    model.set_parameters(checkpoint["parameters"], device=model.device)
    model.num_timesteps = checkpoint["steps"]
    if isinstance(model, SAC) and "log_ent_coef" in checkpoint:
        assert model.log_ent_coef is not None
        model.log_ent_coef.data.copy_(checkpoint["log_ent_coef"])


def remember_options(options: Options) -> None:
    """options.json of the run. Raises ConfigError where the folder holds a run with others (more steps may be asked for)."""
    path = options.out / "options.json"
    mine = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    mine = json.loads(json.dumps(mine))
    if path.exists():
        theirs = json.loads(path.read_text())
        free = {"steps", "video", "out", "threads", "device"}
        other = sorted(key for key in mine if key not in free and theirs.get(key) != mine[key])
        if other:
            raise ConfigError(f"{options.out} holds a run with other {', '.join(other)}: choose another --out or remove it")
    write(path, json.dumps(mine, indent=1) + "\n")


def memory() -> float | None:
    """MiB that this process holds now; None where the system does not say."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages.exists() else None


def write(path: Path, text: str) -> None:
    """Atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def film(options: Options) -> None:
    """best.mp4: the dashboard of one validation episode of the best policy, as the benchmark drives it."""
    planner = SB3Planner(options.out / "best")
    view = planner.policy.config.view
    settings = keywords(options, view, options.val_dataroot, options.val_scenes)
    env = gym.make("DiST4D-nuScenes-v0", render_mode="rgb_array", **settings)
    with VideoWriter(options.out / "best.mp4", 1 / options.decision_dt) as video:
        show: Callable[..., None] = lambda driving, info: video.add(driving.render())  # noqa: E731
        run_episode(env, planner, 10_000, RunOptions(), show)
    env.close()


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except DiST4DError as error:
        print(f"train_sb3: {error}", file=sys.stderr)
        sys.exit(2)
