"""Decision steps per second of every world, with yardsticks measured in the same run.

Yardsticks: highway-env (highway-v0 and highway-fast-v0), where it is installed; and one decision of a DIAMOND-sized denoiser
(a UNet of four levels of 64 channels with two residual blocks each, conditioned on four past frames, three Euler steps) on the
same six views.

    python -m benchmarks.throughput --out benchmarks/results/throughput.json
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import header, run, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.models.pretrained import resolve_weights

WORLDS = ("none", "oracle", "replay", "dist4d", "splat")
TRAFFIC = ("replay", "idm")


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
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    seconds = 2.0 if options.quick else options.seconds
    if options.weights != "splat":
        resolve_weights(options.weights)  # what is missing shows before anything is measured
    loading = scene_load(options)  # first: nothing has loaded these scenes yet
    rows: dict[str, Any] = {}
    simulators = [f"simulator alone, {traffic}" for traffic in TRAFFIC]
    bar = tqdm([*simulators, *WORLDS, "highway-v0", "highway-fast-v0", "diamond-sized denoiser"], disable=None)
    for name in bar:
        bar.set_description(name)
        if name == "dist4d" and options.weights == "splat":
            rows[name] = {"skipped": "no weights were given"}
        elif name in simulators:
            rows[name] = measure(simulating(name.split()[-1], options), seconds)
        elif name in WORLDS:
            rows[name] = measure(driving(name, options), seconds)
        elif name.startswith("highway"):
            rows[name] = highway(name, seconds)
        else:
            rows[name] = measure(diamond_sized(), seconds)
    result = header("throughput", options) | {
        "images": f"6 x {options.size}",
        "ticks_per_decision": 5,
        "results": rows,
        "scene_load_seconds": loading,
    }
    if options.out:
        write_json(options.out, result)
    for name, row in rows.items():
        rate = f"{row['per_second']:10.2f} decisions/s" if "per_second" in row else row["skipped"]
        stages = ", ".join(f"{k} {v:.1f} ms" for k, v in row.get("timing_ms", {}).items())
        print(f"{name:<24}{rate}   {stages}")
    print(f"loading a scene: {loading['median']:.2f} s (median of {loading['scenes']}, {loading['keyframes']:.0f} keyframes)")
    return result


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


def measure(step: Callable[[], dict[str, float]], seconds: float) -> dict[str, Any]:
    """Steps per second over at least three steps, median and 90 % quantile of a step in milliseconds; two warm-up calls do not
    count. Stages that a step reports are averaged."""
    for _ in range(2):
        step()
    durations: list[float] = []
    stages: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(durations) < 3:
        begin = time.perf_counter()
        stages.append(step())
        durations.append(time.perf_counter() - begin)
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
    env = gym.make(
        "DiST4D-nuScenes-v0",
        dataroot=options.dataroot,
        world=world,
        weights=options.weights,
        size=parse_size(options.size),
        observation=("cameras", "depth", "ego", "route") if pictures else ("ego", "route", "agents"),
    )
    rng = np.random.default_rng(0)
    env.reset(seed=0)

    def step() -> dict[str, float]:
        action = np.array([0.1, 0.0]) + rng.normal(0, 0.15, 2)
        _, _, terminated, truncated, info = env.step(np.clip(action, -1, 1).astype(np.float32))
        if terminated or truncated:
            env.reset()
        return dict(info["timing_ms"])

    return step


def highway(name: str, seconds: float) -> dict[str, Any]:
    """highway-env's own rate, for scale."""
    try:
        import gymnasium as gym
        import highway_env
    except ImportError:
        return {"skipped": "highway-env is not installed (pip install highway-env)"}
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

        return measure(step, seconds) | {"version": highway_env.__version__ if hasattr(highway_env, "__version__") else None}


def diamond_sized() -> Callable[[], dict[str, float]]:
    """Three Euler steps of a randomly initialised denoiser of DIAMOND's published size on six 64 x 112 views."""
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
            x = x + (following - level) * net(torch.cat([x, past], 1), level).sample
        return {}

    return step


if __name__ == "__main__":
    run(main, Options)
