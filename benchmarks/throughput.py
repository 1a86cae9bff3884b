"""Decision steps per second of every world, with yardsticks measured in the same run.

Yardsticks: highway-env (highway-v0 and highway-fast-v0), where it is installed; and one decision of a DIAMOND-sized denoiser
(a UNet of four levels of 64 channels with two residual blocks each, conditioned on four past frames, three Euler steps) on the
same six views, in float32 and, where dist4d's networks are computed in it, in bfloat16.

    python -m benchmarks.throughput --size 224x400 --neighbours --out benchmarks/results/throughput.json

Rows are measured in turn, for a machine is faster at one time than at another. The last lines are ratios within the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import images_of, result_file, run
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.models.precision import computes_bfloat16, reduced
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.progress import each
from dist4d_env.registry import TRAFFIC, WORLDS
from dist4d_env.scenes.scene import Scene
from dist4d_env.town.dataset import TownDataset, draw_missing

DENOISER, REDUCED, FAST = "diamond-sized denoiser", "diamond-sized denoiser, bfloat16", "highway-fast-v0"


@dataclass(frozen=True)
class Options:
    """Decision steps per second of every world, beside highway-env and a DIAMOND-sized denoiser."""

    seconds: float = 15.0
    """Measured seconds per row."""
    weights: str = "tiny"
    """Preset or directory of the generative world; "splat" leaves its row out."""
    size: str = "64x112"
    """Height x width of the worlds' images; the denoiser's stay at 64x112."""
    dataroot: Path | None = None
    """A data set with town scenes; the default one is made when there is none."""
    quick: bool = False
    """Two seconds per row."""
    neighbours: bool = False
    """Measure dist4d once more beside a process that keeps each core busy."""
    out: Path | None = None
    """Result file (JSON)."""


ROUNDS = 3


def main(options: Options) -> dict[str, Any]:
    seconds = 2.0 if options.quick else options.seconds
    if options.weights != "splat":
        resolve_weights(options.weights)  # what is missing shows before anything is measured
    loading = scene_load(options)  # first: nothing has loaded these scenes yet
    steps: dict[str, Callable[[], dict[str, float]]] = {}
    rows: dict[str, Any] = {}
    for traffic in TRAFFIC.built_in:
        steps[f"simulator alone, {traffic}"] = simulating(traffic, options)
    for world in WORLDS.built_in:
        if world == "dist4d" and options.weights == "splat":
            rows[world] = {"skipped": "no weights were given"}
        else:
            steps[world] = driving(world, options)
    for name in ("highway-v0", FAST):
        made = highway(name)
        if made is None:
            rows[name] = {"skipped": "highway-env is not installed (pip install highway-env)"}
        else:
            steps[name] = made
    steps[DENOISER] = diamond_sized()
    if computes_bfloat16():
        steps[REDUCED] = diamond_sized(reduce=True)
    rows |= in_turn(steps, seconds)
    ratios = ratios_of(rows)
    if options.neighbours and "dist4d" in steps:
        with busy_cores():
            rows["dist4d, busy"] = in_turn({"dist4d, busy": steps["dist4d"]}, seconds)["dist4d, busy"]
        ratios["dist4d beside a busy process on each core / alone"] = (
            rows["dist4d, busy"]["per_second"] / rows["dist4d"]["per_second"]
        )
    content = {
        "images": images_of(first_scene(options.dataroot), parse_size(options.size)),
        "ticks_per_decision": 5,
        "results": rows,
        "ratios": ratios,
        "scene_load_seconds": loading,
    }
    result = result_file("throughput", options, content)
    for name, row in rows.items():
        rate = f"{row['per_second']:10.2f} decisions/s" if "per_second" in row else row["skipped"]
        stages = ", ".join(f"{k} {v:.1f} ms" for k, v in row.get("timing_ms", {}).items())
        print(f"{name:<24}{rate}   {stages}")
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.3g}")
    print(f"loading a scene: {loading['median']:.2f} s (median of {loading['scenes']}, {loading['keyframes']:.0f} keyframes)")
    return result


def first_scene(dataroot: Path | None) -> Scene:
    """The scene that is driven through."""
    dataset = open_dataset(dataroot)
    return dataset.load(dataset.scene_names("val")[0])


def scene_load(options: Options) -> dict[str, float]:
    """Seconds to load a scene (annotations, map, route; no images) once the data set's tables and its map are open."""
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")
    dataset.load(names[0])
    seconds, keyframes = [], []
    for name in names[1:]:
        begin = time.perf_counter()
        scene = dataset.load(name)
        seconds.append(time.perf_counter() - begin)
        keyframes.append(len(scene.sensors.keyframe_time))
    return {"median": float(np.median(seconds)), "scenes": len(seconds), "keyframes": float(np.mean(keyframes))}


def ratios_of(rows: dict[str, Any]) -> dict[str, float]:
    """How fast dist4d is beside the yardsticks that were measured."""
    rates = {name: row["per_second"] for name, row in rows.items() if "per_second" in row}
    return {
        f"dist4d / {name}": rates["dist4d"] / rates[name]
        for name in (DENOISER, REDUCED, FAST)
        if name in rates and "dist4d" in rates
    }


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process on every core that computes without end."""
    spin = "import os, sys\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    processes = [subprocess.Popen([sys.executable, "-c", spin, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def in_turn(steps: dict[str, Callable[[], dict[str, float]]], seconds: float) -> dict[str, dict[str, Any]]:
    """``summary`` of each, measured in ROUNDS turns of at least a step."""
    measured: dict[str, list[tuple[float, dict[str, float]]]] = {name: [] for name in steps}
    for step in steps.values():
        step(), step()  # warm
    for name in each([name for _ in range(ROUNDS) for name in steps], "measuring", "row", str):
        end = time.perf_counter() + seconds / ROUNDS
        while True:
            begin = time.perf_counter()
            stages = steps[name]()
            measured[name].append((time.perf_counter() - begin, stages))
            if time.perf_counter() >= end:
                break
    return {name: summary(*zip(*found, strict=True)) for name, found in measured.items()}


def summary(durations: Sequence[float], stages: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Steps per second, median and 90 % quantile of a step in milliseconds; stages that a step reports are averaged."""
    names = sorted({name for stage in stages for name in stage})
    return {
        "per_second": len(durations) / float(np.sum(durations)),
        "median_ms": 1e3 * float(np.median(durations)),
        "p90_ms": 1e3 * float(np.quantile(durations, 0.9)),
        "steps": len(durations),
        "timing_ms": {name: float(np.mean([stage.get(name, 0.0) for stage in stages])) for name in names},
    }


def simulating(traffic: str, options: Options) -> Callable[[], dict[str, float]]:
    """One decision of the simulator alone, ego and traffic, with small random controls; ten seconds, then from the start."""
    from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

    dataset = open_dataset(options.dataroot)
    simulator = Simulator(SimulatorConfig(traffic=traffic), [dataset.load(dataset.scene_names("val")[0])])
    rng = np.random.default_rng(0)
    state = simulator.reset([0], [0.0])

    def step() -> dict[str, float]:
        nonlocal state
        action = np.clip(np.array([0.1, 0.0]) + rng.normal(0, 0.15, 2), -1, 1)
        state, _ = simulator.step(state, action.astype(np.float32)[None])
        if state.time[0] >= 10.0:
            state = simulator.reset([0], [0.0])
        return {}

    return step


def driving(world: str, options: Options) -> Callable[[], dict[str, float]]:
    """One decision of the environment with small random controls; a finished episode is reset and the reset counts."""
    import gymnasium as gym

    import dist4d_env  # noqa: F401

    pictures = world != "none"
    env: Any = gym.make(
        "DiST4D-nuScenes-v0",
        dataroot=options.dataroot,
        world=world,
        weights=options.weights,
        size=parse_size(options.size),
        observation=("cameras", "depth", "ego", "route") if pictures else ("ego", "route", "agents"),
    )
    dataset = env.unwrapped.dataset
    if pictures and isinstance(dataset, TownDataset):
        draw_missing(Path(dataset.dataroot), env.unwrapped.scene_names)  # none is drawn while the clock runs
    rng = np.random.default_rng(0)
    env.reset(seed=0)

    def step() -> dict[str, float]:
        action = np.array([0.1, 0.0]) + rng.normal(0, 0.15, 2)
        _, _, terminated, truncated, info = env.step(np.clip(action, -1, 1).astype(np.float32))
        if terminated or truncated:
            env.reset()
        return dict(info["timing_ms"])

    return step


def highway(name: str) -> Callable[[], dict[str, float]] | None:
    """One step of highway-env, for scale; None where it is not installed."""
    try:
        import gymnasium as gym
        import highway_env
    except ImportError:
        return None
    gym.register_envs(highway_env)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.make(name)
        env.reset(seed=0)

        def step() -> dict[str, float]:
            _, _, terminated, truncated, _ = env.step(1)
            if terminated or truncated:
                env.reset()
            return {}

    return step


def diamond_sized(reduce: bool = False) -> Callable[[], dict[str, float]]:
    """Three Euler steps of a randomly initialised denoiser of DIAMOND's published size on six 64 x 112 views.

    reduce: in bfloat16 as the world's networks, else in float32 as torch has it by default.
    """
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        in_channels=15,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(64, 64, 64, 64),
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
    ).eval()
    past = torch.randn(6, 12, 64, 112)

    @torch.no_grad()
    def step() -> dict[str, float]:
        x = torch.randn(6, 3, 64, 112)
        levels = (5.0, 0.5, 0.05, 0.0)
        for level, following in pairwise(levels):
            seen = torch.cat([x, past], 1)
            with reduced(seen) if reduce else nullcontext():
                denoised = net(seen, level).sample
            x = x + (following - level) * denoised
        return {}

    return step


if __name__ == "__main__":
    run(main, Options)
