"""Workloads of the kill-and-restart tests: all that writes for longer than a moment, and how results are compared.

An activity runs in a forked process of a parent that has imported everything and done nothing, so that a trial costs what the
activity costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents import train_sb3
from dist4d_env.__main__ import main as command_line
from dist4d_env.data.open import open_dataset
from dist4d_env.evaluation import adaptation
from dist4d_env.learning.policy_files import Policy
from dist4d_env.models.presets import Preset
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite
from dist4d_env.town.writer import write_dataset
from dist4d_env.training.checkpoint import CHECKPOINT, load_checkpoint
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.prepare import prepare
from dist4d_env.training.samples import SampleSettings, SampleStore

TIMES = ("timing_ms", "steps_per_second", "waiting", "seconds", "cpu_seconds", "memory_mib", "key")
"""Entries of JSON files that are measured, not computed, or a digest of such."""
SCENE = "town-val-0000"
STEPS, DECISIONS, EVERY = 8, 48, 16
ADAPTED = {"codec": 1, "dist_t": 2, "dist_s": 1}


@dataclass(frozen=True)
class Activity:
    """run: does it for the folder of inputs and its own folder, with so many helper processes, and goes on where a killed one
    was; returns the exit status. compare: what differs between an unbroken run's folder and another, empty if nothing does that
    is promised. promise: in words. helpers: whether it can start any."""

    run: Callable[[Path, Path, int], int]
    compare: Callable[[Path, Path], str]
    promise: str
    helpers: bool = True


def make_inputs(folder: Path) -> None:
    """The data set that the activities work on: a scene of each split, two seconds long, and a suite of two scenarios."""
    if folder.is_dir():
        return
    fresh = folder.with_name(folder.name + ".part")
    write_dataset(fresh / "town", ("train", "val"), 1, (32, 48), duration=2.0, workers=1, progress=False)
    scenarios = tuple(Scenario(SCENE, start=start, name=f"from-{start}", horizon=1.0) for start in (0.0, 0.5, 1.0))
    write_suite(fresh / "suite.yaml", Suite("small", None, None, scenarios))
    fresh.rename(folder)


def make_town(inputs: Path, out: Path, helpers: int) -> int:
    options = ["--split", "val", "--scenes", "2", "--size", "32x48", "--duration", "0.5", "--workers", str(max(helpers, 1))]
    return command_line(["town", "--out", str(out), *options])


def make_depth(inputs: Path, out: Path, helpers: int) -> int:
    options = ["--scenes", SCENE, "--height", "32", "--sweeps", "0", "--workers", str(max(helpers, 1))]
    return command_line(["prepare", "--dataroot", str(inputs / "town"), "--out", str(out), *options])


def make_samples(inputs: Path, out: Path, helpers: int) -> int:
    dataset = open_dataset(str(inputs / "town"), None, SCENE)
    prepare(dataset, [SCENE], out, SampleSettings(32, 48, chunk=1, space=0.5), max(helpers, 1))
    return 0


def train_model(inputs: Path, out: Path, helpers: int) -> int:
    """Samples, then a small DiST-S, with a checkpoint after every step."""
    make_samples(inputs, out / "samples", helpers)
    small = Preset(
        32, 48, chunk=1, steps=1, codec={}, dist_t={}, composer={}, dist_s={"widths": (16, 16), "blocks": 1},
    )  # fmt: skip
    recipe = DiSTSRecipe(small, [SampleStore(out / "samples")], None, 1, 0)
    again = (out / CHECKPOINT).is_file()
    train(
        recipe,
        LoopOptions(out, STEPS, warmup=2, log_every=1, validate_every=4, checkpoint_every=0.0, resume=again, loaders=helpers),
    )
    return 0


def drive_campaign(inputs: Path, out: Path, helpers: int) -> int:
    options = ["--planner", "lane", "idm", "--suite", str(inputs / "suite.yaml"), "--workers", str(helpers)]
    return command_line(["evaluate", "--dataroot", str(inputs / "town"), "--out", str(out), *options])


def adapt_weights(inputs: Path, out: Path, helpers: int) -> int:
    """Samples, a few steps of every part from the shipped weights on, and the choice; how many steps is not left to a clock."""
    options = adaptation.Options(
        out, inputs / "town", scenes=(SCENE,), minutes=1, keyframes=1, town=0, batch=1, workers=max(helpers, 1)
    )
    if not (out / "work" / "plan.json").is_file():
        adaptation.begin(options)
    adaptation.write_plan(options, adaptation.read_plan(options) | {"steps": ADAPTED})
    return adaptation.run(options)


def learn_policy(inputs: Path, out: Path, helpers: int) -> int:
    """PPO with an evaluation, and so a checkpoint, every few decisions."""
    town = inputs / "town"
    train_sb3.main(
        train_sb3.Options(
            out=out, dataroot=town, val_dataroot=town, horizon=1.0, steps=DECISIONS, envs=2, rollout=4, minibatch=8, epochs=1,
            hidden=(8,), eval_every=EVERY, eval_episodes=1, device="cpu", video=False,
        )
    )  # fmt: skip
    return 0


def same_files(whole: Path, other: Path) -> str:
    """The folders hold the same files, bit for bit, hidden ones aside."""
    return _differing(whole, other, lambda path: path.read_bytes())


def same_campaign(whole: Path, other: Path) -> str:
    """Episodes and results hold the same values, but for times and paths."""

    def content(path: Path) -> Any:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return {name: array.tobytes() for name, array in arrays.items()}
        if path.suffix == ".json":
            return untimed(json.loads(path.read_text()))
        return path.read_bytes() if path.suffix == ".md" else None  # the report shows times

    return _differing(whole, other, content)


def same_training(whole: Path, other: Path) -> str:
    """Samples, weights, checkpoint and log hold the same values, but for times; TensorBoard's files aside."""

    def content(path: Path) -> Any:
        if path.suffix == ".jsonl":
            return [untimed(json.loads(line)) for line in path.read_text().splitlines()]
        return _plain(load_checkpoint(path.parent)) if path.name == CHECKPOINT else path.read_bytes()

    return _differing(whole, other, content, skip="tensorboard")


def whole_run(whole: Path, other: Path) -> str:
    """The run reached its end, every file can be read, and no decision counts twice; it draws other episodes after a stop."""
    names = [{path.name for path in folder.iterdir()} for folder in (whole, other)]
    if names[0] - names[1]:
        return f"{sorted(names[0] - names[1])} missing"
    for name in ("best", "last"):
        Policy.load(other / name)
    steps = [point["steps"] for point in json.loads((other / "curve.json").read_text())]
    state = train_sb3.load_checkpoint(other)
    if state is None or state["steps"] < DECISIONS or json.loads(state["curve"])[-1]["steps"] != steps[-1]:
        return f"checkpoint and curve end at {state and state['steps']} and {steps[-1]}"
    if steps != sorted(set(steps)) or steps[0] != 0 or steps[-1] != DECISIONS:
        return f"the curve has points at {steps}"
    used = [json.loads(line)["steps"] for line in (other / "machine.jsonl").read_text().splitlines()]
    return "" if used and used[-1] == DECISIONS else f"machine.jsonl ends at {used[-1:]}"


def same_weights(whole: Path, other: Path) -> str:
    """The weights are the same, bit for bit, and so is what is written down of them, but for times and paths."""

    def content(path: Path) -> Any:
        if path.suffix == ".json":
            record = untimed(json.loads(path.read_text()))
            return record if path.name != "adapted.json" else {key: record[key] for key in ("steps", "held_out", "kept", "gains")}
        return path.read_bytes()

    return _differing(whole, other, content, skip="work")


def untimed(value: Any) -> Any:
    """JSON without what is measured."""
    if isinstance(value, Mapping):
        return {key: untimed(entry) for key, entry in value.items() if key not in TIMES}
    return [untimed(entry) for entry in value] if isinstance(value, list) else value


def leftovers(folder: Path) -> int:
    """Hidden files and folders that were to be moved into place."""
    return sum(path.name.startswith(".") and not path.name.endswith(".lock") for path in folder.rglob("*"))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.numpy().tobytes()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _differing(whole: Path, other: Path, content: Callable[[Path], Any], skip: str = "") -> str:
    def files(folder: Path) -> dict[str, Path]:
        paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        return {str(name): path for name, path in paths.items() if not any(p.startswith(".") or p == skip for p in name.parts)}

    ours, theirs = files(whole), files(other)
    if ours.keys() != theirs.keys():
        return f"other files: {sorted(ours.keys() ^ theirs.keys())[:4]}"
    return ", ".join([name for name in ours if content(ours[name]) != content(theirs[name])][:4])


ACTIVITIES: dict[str, Activity] = {
    "town": Activity(make_town, same_files, "the folder appears whole or not at all; run again: the same files, bit for bit"),
    "prepare": Activity(make_depth, same_files, "each file appears whole or not at all; run again: the same files, bit for bit"),
    "train": Activity(
        train_model, same_training, "samples, weights, checkpoint and log of the resumed run are the same, bit for bit"
    ),
    "campaign": Activity(drive_campaign, same_campaign, "episodes and scores are the same, bit for bit; times aside"),
    "adapt": Activity(adapt_weights, same_weights, "the weights, what was chosen and what it gains are the same, bit for bit"),
    "rl": Activity(learn_policy, whole_run, "the same command reaches its end; after a stop it draws other episodes", False),
}
SHARED = {
    **{name: ACTIVITIES[name] for name in ("town", "prepare", "campaign")},
    "samples": Activity(make_samples, same_files, "one makes them, the other waits"),
}
"""Activities that two processes may begin in the same folder."""
