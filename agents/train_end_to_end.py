"""Trains the end-to-end planner: it imitates PDM-Closed from pictures, then drives itself and is told what that would have done.

    python -m agents.train_end_to_end --out runs/e2e                   # the town's train scenes in the world "oracle"
    python -m agents.train_end_to_end --out runs/e2e --world dist4d    # in the generated world

Round 0: the expert drives random scenarios of every family, half of them from a start beside the recorded one; what the cameras
see is stored with what it plans. A network learns these plans, in every pass from pictures whose outlines lie a little elsewhere.
In every later round (DAgger) the network of the round before drives, the expert says at every instant what it would do there, and
the next network goes on from the last one with all rounds' data. Each network drives held-out scenes; the best of them is
``best/``, which ``dist4d evaluate --planner FOLDER`` drives.

Stopped (Ctrl-C, kill), the same command goes on: with the next scene while it drives, with the next epoch while it learns. More
``--rounds`` make a finished run longer. The folder gets ``data/``, ``round_N/``, ``best/``, ``curve.json`` and ``log.txt``.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from agents.common import Stop, remembered_options
from agents.end_to_end_data import Recorder, Samples, load_samples, random_scenarios
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, run_script
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import planner_input, reset_planner, to_action
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.learning.depth_scan import calibration_of
from dist4d_env.learning.end_to_end import EndToEndConfig, EndToEndPlanner
from dist4d_env.learning.end_to_end_network import Answer, EndToEndNetwork, NetworkConfig, load_network, save_network
from dist4d_env.planners.contract import Planner
from dist4d_env.planners.pdm_closed import PdmClosed
from dist4d_env.progress import Progress
from dist4d_env.registry import WORLDS
from dist4d_env.scenes.files import replacing, write_text
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart, world_traits
from dist4d_env.worlds.oracle import OracleWorld

CAUTION = 1 / 3
"""Quantile of the expert's speeds that the network learns."""
FRONT = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")


@dataclass(frozen=True)
class Options:
    """Train the end-to-end planner; the same command goes on where a stopped one was."""

    out: Path = Path("runs/end_to_end")
    """Folder of the run."""
    dataroot: Path | None = None
    """Town of the training scenes; else the built-in one's train split, which is made once."""
    world: str = "oracle"
    """World whose pictures are learned from, also in held-out scenes: oracle, dist4d, splat, or your own as module:Class."""
    scenes: str = "train"
    """Split to train on; its last ``--held-out`` scenes choose the best network instead."""
    held_out: int = 6
    """Scenes that are not trained on."""
    cameras: tuple[str, ...] = FRONT
    """Cameras that are looked at."""
    depth: bool = True
    """Depth images are given. Without, all pixels are taken to lie on the road."""
    share: float = 1.0
    """Share of the training scenes whose data is learned from."""
    data: Path | None = None
    """Folder of another run, all of whose drives are learned from in a single round, in place of own ones."""
    start: Path | None = None
    """Folder of a network that the first round goes on from; else it begins with a fresh one."""
    rounds: int = 3
    """Rounds of driving and learning: the first drives as the expert, the others (DAgger) as the network of the last one."""
    episodes: int = 12
    """Episodes in each scene that a round drives; rounds drive the even and the odd scenes in turn."""
    scored: int = 4
    """Episodes in each held-out scene that a round's network is scored by."""
    epochs: int = 10
    """Passes over all data in each round."""
    batch: int = 32
    """Samples per gradient step."""
    augment: float = 1.0
    """How strongly pictures are augmented, anew in each pass: outlines lie as other renderers might draw them; 0: not at all."""
    learning_rate: float = 1e-3
    """At a round's start; it falls along a cosine. Rounds that go on from a network begin at half of it."""
    horizon: float = 8.0
    """Seconds per episode."""
    seed: int = 0
    """The same seed on the same machine gives the same run."""
    threads: int = 1
    """Of torch on the CPU; the same number is needed for the same run."""

    def __post_init__(self) -> None:
        WORLDS.check(self.world)
        if not world_traits(self.world).shows_pictures:
            raise ConfigError(f"world={self.world!r} shows no pictures to learn from: choose oracle, dist4d or splat")
        if (
            min(self.rounds, self.episodes, self.scored, self.epochs, self.batch, self.held_out, self.threads) < 1
            or not self.cameras
        ):
            raise ConfigError(
                "rounds, episodes, scored, epochs, batch, held_out and threads must be at least 1, cameras at least one"
            )
        if not 0 <= self.augment <= 4:
            raise ConfigError(f"augment={self.augment} must be from 0 to 4")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share={self.share} must be above 0, at most 1")


def main(options: Options) -> Path:
    """Drives and learns until ``options.rounds``, or until stopped; returns the folder."""
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    free = ("rounds", "out", "threads", "dataroot")
    with remembered_options(options, free, older={"augment": 0.0}):  # type: ignore[arg-type]
        dataset = open_dataset(options.dataroot, None, options.scenes, size=(64, 112))
        names = dataset.scene_names(options.scenes)
        if options.held_out >= len(names):
            raise ConfigError(
                f"--held-out {options.held_out} leaves none of the {len(names)} scenes of {options.scenes} to train on: hold out "
                "fewer"
            )
        training, held_out = names[: -options.held_out], names[-options.held_out :]
        config = network_config(options, dataset, training)
        if options.data is not None:
            check_data(options.data, config)
            stored_drives(options, training, 0)
        if options.start is not None:
            load_network(options.start)
        make_env(options, dataset, training).close()
    with Stop() as stop:
        for number in range(1 if options.data else options.rounds):
            if options.data is None:
                drive_round(options, dataset, training, number, stop)
            learn_round(options, config, training, number, stop)
            score_round(options, dataset, held_out, number, stop)
            if stop.asked:
                print("stopped; the same command goes on from here", file=sys.stderr)
                break
    return options.out


def check_data(run: Path, config: NetworkConfig) -> None:
    """Raises ConfigError where another run's drives were seen in another world than the network's, or by other cameras."""
    path = run / "options.json"
    given = json.loads(path.read_text()) if path.is_file() else {}
    world, cameras = given.get("world", Options.world), tuple(given.get("cameras", Options.cameras))
    if world != config.about["world"]:
        raise ConfigError(f"the drives of {run} were seen in the world {world}: add --world {world}")
    if cameras != config.cameras:
        raise ConfigError(f"the drives of {run} were seen by {', '.join(cameras)}: add --cameras {' '.join(cameras)}")
    for folder in sorted(run.glob("round_*"))[:1]:  # its networks know where the cameras are
        for name, mine, theirs in zip(cameras, config.calibration, load_network(folder)[1].calibration, strict=True):
            if not np.allclose(mine, theirs, atol=0.05):
                raise ConfigError(
                    f"{name} is mounted unlike where the drives of {run} were seen from: choose --dataroot and --scenes with the "
                    "cameras of that run"
                )


def network_config(options: Options, dataset: Dataset, scenes: Sequence[str]) -> NetworkConfig:
    """The network's cameras as the first scene has them."""
    rig = dataset.load(scenes[0]).rig
    missing = [name for name in options.cameras if name not in rig.names]
    if missing:
        raise ConfigError(f"--cameras: the scenes have no {', '.join(missing)}; there are {', '.join(rig.names)}")
    rows = calibration_of(rig.at_size(64, 112))
    calibration = tuple(rows[rig.names.index(name)] for name in options.cameras)
    about = {
        "world": options.world,
        "seed": options.seed,
        "share": options.share,
        "epochs": options.epochs,
        "augment": options.augment,
        **({} if options.data else {"episodes": options.episodes}),
    }
    return NetworkConfig(options.cameras, calibration, depth=options.depth, about=about)


# --- Driving


class SomeCameras:
    """The oracle, drawing only some of a rig's cameras, which is all that this script stores: the others are black."""

    recalls = False

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._cameras, self._oracle = cameras, OracleWorld()

    def reset(self, starts: Sequence[WorldStart]) -> list[Any]:
        return [self._state(start) for start in starts]

    def _state(self, start: WorldStart) -> Any:
        rig = start.rig
        index = [rig.names.index(name) for name in self._cameras]
        drawn = replace(rig, names=self._cameras, intrinsics=rig.intrinsics[index], ego_from_camera=rig.ego_from_camera[index])
        return rig, index, self._oracle.reset([replace(start, rig=drawn)])

    def step(self, states: Sequence[Any], scenes: Sequence[SceneAt]) -> list[tuple[Any, RGBDFrame, WorldInfo]]:
        return [(state, *self._show(state, now)) for state, now in zip(states, scenes, strict=True)]

    def _show(self, state: Any, now: SceneAt) -> tuple[RGBDFrame, WorldInfo]:
        rig, index, inner = state
        [(_, drawn, info)] = self._oracle.step(inner, [now])
        shape = (len(rig.names), rig.height, rig.width)
        rgb, depth = np.zeros((*shape, 3), np.uint8), np.full(shape, 100.0, np.float32)
        rgb[index], depth[index] = drawn.rgb, drawn.depth
        poses, times = now.global_from_ego @ rig.ego_from_camera, np.full(len(rig.names), float(now.time))
        return RGBDFrame(rgb, depth, rig.intrinsics, poses, times), WorldInfo(
            ("oracle",) * len(rig.names), 0.0, 1.0, info.timing_ms
        )


def world_of(options: Options) -> Any:
    """The world of the environments; of the oracle only the cameras that are looked at are drawn."""
    return SomeCameras(options.cameras) if options.world == "oracle" else options.world


def make_env(options: Options, dataset: Dataset, scenes: Sequence[str], pictures: bool = True) -> Any:
    """The environment of training and of held-out scenes."""
    shown = ("cameras", "depth") if pictures else ()
    return gym.make(
        "DiST4D-nuScenes-v0",
        dataroot=str(dataset.dataroot),
        version=dataset.version,
        scenes=list(scenes),
        size=(64, 112),
        world=world_of(options) if pictures else "none",
        action="trajectory",
        observation=(*shown, "ego", "route", "agents"),
    )


def drive_round(options: Options, dataset: Dataset, scenes: Sequence[str], number: int, stop: Stop) -> None:
    """Stores a file of samples for each scene that has none yet."""
    folder = options.out / "data" / f"round_{number}"
    turn = scenes[number % 2 :: 2] or scenes
    left = [name for name in turn if not (folder / f"{name}.npz").exists()]
    if not left or stop.asked:
        return
    folder.mkdir(parents=True, exist_ok=True)
    student = EndToEndPlanner(EndToEndConfig(options.out / f"round_{number - 1}")) if number else None
    env = make_env(options, dataset, scenes)
    with Progress(f"driving, round {number}", "scene", len(turn), len(turn) - len(left)) as progress:
        for name in left:
            random = np.random.default_rng([options.seed, number, *name.encode()])
            recorder = Recorder(options.cameras)
            for scenario in random_scenarios(dataset.load(name), options.episodes, options.horizon, random):
                # A fifth of the later episodes are the expert's, too: the network must not forget how things are done.
                driver = student if student is not None and random.random() < 0.8 else None
                drive_episode(env, scenario, driver, recorder, int(random.integers(2**31)))
                if stop.asked:
                    env.close()
                    return
            with replacing(folder / f"{name}.npz") as part:
                recorder.write(part)
            progress.update()
    env.close()


def drive_episode(env: Any, scenario: Scenario, driver: Planner | None, recorder: Recorder, seed: int) -> None:
    """One episode of a driver, None for the expert; every instant is recorded with the expert's plan."""
    expert, driving = PdmClosed(), env.unwrapped
    observation, _ = env.reset(seed=seed, options={"scenario": scenario})
    reset_planner(driving, expert)
    if driver is not None:
        reset_planner(driving, driver)
    recorder.begin(driving)
    over = False
    while not over:
        wanted = expert.plan(planner_input(driving, expert, observation))
        recorder.add(driving, observation, wanted.trajectory)
        plan = wanted if driver is None else driver.plan(planner_input(driving, driver, observation))
        observation, _, terminated, truncated, _ = env.step(to_action(plan, "trajectory"))
        over = terminated or truncated


# --- Learning


def learn_round(options: Options, config: NetworkConfig, scenes: Sequence[str], number: int, stop: Stop) -> None:
    """Writes ``round_N``: the network after all epochs of a round."""
    target, checkpoint = options.out / f"round_{number}", options.out / "checkpoint.pt"
    if target.exists() or stop.asked:
        return
    samples = load_samples(stored_drives(options, scenes, number), config)
    torch.manual_seed(options.seed + number)
    start = options.out / f"round_{number - 1}" if number else options.start
    network = EndToEndNetwork() if start is None else load_network(start)[0]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    done = 0
    losses: dict[str, float] = {}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["round"] == number:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            done = state["epochs"]
            losses = state.get("losses", {})  # which older checkpoints lack
    with Progress(f"learning, round {number}", "epoch", options.epochs, done) as progress:
        for epoch in range(done, options.epochs):
            losses = learn_epoch(options, network, optimizer, samples, number, epoch)
            note(options, f"round {number}, epoch {epoch + 1} of {options.epochs}, {len(samples)} samples: {losses}")
            state = {
                "round": number, "epochs": epoch + 1, "losses": losses, "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
            }  # fmt: skip
            with replacing(checkpoint) as part:
                torch.save(state, part)
            progress.update()
            if stop.asked and epoch + 1 < options.epochs:
                return
    about = {**config.about, "rounds": number + 1, "samples": len(samples), "losses": losses}
    save_network(network, replace(config, about=about), target)


def stored_drives(options: Options, scenes: Sequence[str], number: int) -> list[Path]:
    """Files of the rounds up to this one, or of all of another run; of a share of the scenes."""
    used = [scenes[int(index)] for index in np.linspace(0, len(scenes) - 1, max(1, round(options.share * len(scenes))))]
    folder = (options.data or options.out) / "data"
    rounds = sorted(folder.glob("round_*")) if options.data else [folder / f"round_{n}" for n in range(number + 1)]
    found = [path for one in rounds for name in used if (path := one / f"{name}.npz").exists()]
    if not found:
        raise ConfigError(f"{folder} holds no drives in {', '.join(used[:3])}, ...: drive some first, without --data")
    return found


def learn_epoch(
    options: Options, network: EndToEndNetwork, optimizer: torch.optim.Optimizer, samples: Samples, number: int, epoch: int
) -> dict[str, float]:
    """One pass in random order; the mean of each part of the loss."""
    network.train()
    torch.manual_seed(int(np.random.SeedSequence([options.seed, number, epoch]).generate_state(1)[0]))
    random = np.random.default_rng([options.seed, number, epoch])
    examples = samples.lifted(random, options.augment)
    batches = np.array_split(random.permutation(len(samples)), max(1, len(samples) // options.batch))
    mirror = random.random(len(batches)) < 0.5
    rate = options.learning_rate * (0.5 if number or options.start else 1.0)
    totals: dict[str, float] = {}
    for index, rows in enumerate(batches):
        done = (epoch + index / len(batches)) / options.epochs
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        batch = examples.batch(rows, bool(mirror[index]))
        parts = losses_of(network(batch["rgb"], batch["cells"], batch["counts"], batch["state"]), batch)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach()) / len(batches)
    network.eval()
    return {name: round(value, 4) for name, value in totals.items()}


def losses_of(answer: Answer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """speed: towards the slower third of what the expert may do (pinball loss), where it is not sure, a network that aims at
    the mean brakes by half; beside: mean distance to the expert's where it brakes in no emergency; brake, light, occupied,
    drivable: cross-entropies; moving: of velocities where an agent is."""
    chance = nn.functional.binary_cross_entropy_with_logits
    calm = (1 - batch["brake"])[:, None]
    above = answer.speed - batch["speed"]
    count = (8 * calm.sum()).clamp(min=1.0)
    hints, truth = answer.hints, batch["hints"]
    there = truth[:, :1]
    moving = (there * (hints[:, 1:3] - truth[:, 1:3]).abs()).sum() / there.sum().clamp(min=1.0)
    return {
        "speed": 2.0 * torch.maximum((1 - CAUTION) * above, -CAUTION * above).mean(),
        "beside": 2.0 * (calm * (answer.beside - batch["beside"]).abs()).sum() / count,
        "brake": 2.0 * chance(answer.brake, batch["brake"]),
        "light": 0.2 * chance(answer.light, batch["light"]),
        "occupied": chance(hints[:, 0], there[:, 0], pos_weight=torch.tensor(4.0)),
        "drivable": 0.2 * chance(hints[:, 3], truth[:, 3]),
        "moving": 0.5 * moving,
    }


# --- Scoring


def score_round(options: Options, dataset: Dataset, scenes: Sequence[str], number: int, stop: Stop) -> None:
    """Adds a round's score on held-out scenes to ``curve.json``, beside those of simpler planners and of the expert; the best
    network is kept."""
    path, curve_path = options.out / f"round_{number}", options.out / "curve.json"
    curve: dict[str, Any] = json.loads(curve_path.read_text()) if curve_path.exists() else {}
    rivals: dict[str, Any] = {} if curve else {name: name for name in ("constant_velocity", "lane_keeping", "idm", "pdm_closed")}
    drivers = rivals | ({} if f"round_{number}" in curve or not path.exists() else {f"round_{number}": path})
    if not drivers or stop.asked:
        return
    env, blind = make_env(options, dataset, scenes), make_env(options, dataset, scenes, pictures=False)
    planners = {name: make_planner(str(where)) for name, where in drivers.items()}
    scores: dict[str, list[float]] = {name: [] for name in drivers}
    with Progress("held-out scenes", "scene", len(scenes)) as progress:
        for scene in scenes:
            random = np.random.default_rng([options.seed, 999, *scene.encode()])
            for scenario in random_scenarios(dataset.load(scene), options.scored, options.horizon, random, disturbed=0.0):
                for name, planner in planners.items():
                    scores[name].append(score_episode(env if planner.requires.cameras else blind, scenario, planner))
            progress.update()
    env.close()
    blind.close()
    curve |= {
        name: {"pdms": float(np.nanmean(values)), "episodes": int(np.isfinite(values).sum())} for name, values in scores.items()
    }
    if path.name in scores:
        curve[path.name]["samples"] = load_network(path)[1].about["samples"]
    note(options, ", ".join(f"{name} {curve[name]['pdms']:.3f}" for name in scores))
    tried = {name: value["pdms"] for name, value in curve.items() if name.startswith("round_")}
    if tried and max(tried, key=lambda name: tried[name]) == path.name:
        save_network(*load_network(path), options.out / "best")
    write_text(curve_path, json.dumps(curve, indent=1) + "\n")


def score_episode(env: Any, scenario: Scenario, planner: Planner) -> float:
    """PDMS of one episode, nan where it has none (an ego that touches something from the start on)."""
    driving = env.unwrapped
    observation, info = env.reset(seed=0, options={"scenario": scenario})
    reset_planner(driving, planner)
    over = False
    while not over:
        plan = planner.plan(planner_input(driving, planner, observation))
        observation, _, terminated, truncated, info = env.step(to_action(plan, "trajectory"))
        over = terminated or truncated
    found = info["metrics"]["final"]["pdms_v1"]
    return float(found["value"]) if found["valid"] else math.nan


def note(options: Options, line: str) -> None:
    """A line in the log file and on stderr."""
    with (options.out / "log.txt").open("a") as file:
        file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_script(main, Options)
