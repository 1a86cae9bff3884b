"""Soak test: episodes for hours, and whether memory, open files or threads grow with the number of episodes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from agents.common import process_usage

EVERY = 2.0
"""Seconds between samples."""
EPISODES = 40
"""Of one environment, which is then closed and made anew."""
WARM_UP = 0.25
"""Share of a run that enters no slope: caches fill, libraries load."""


def drive(world: str, dataroot: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Short episodes with random actions, each also restored once, for so many minutes.

    "samples": (N, 5) seconds, episodes so far, MiB in use, open files, threads.
    """
    random, began, samples, episodes = np.random.default_rng(seed), time.monotonic(), list[list[float]](), 0
    while time.monotonic() - began < 60 * minutes:
        env = gym.make("DiST4D-nuScenes-v0", dataroot=str(dataroot), scenes="val", world=world, horizon=1.0, size=(64, 112))
        driving: Any = env.unwrapped
        for _ in range(EPISODES):
            env.reset(seed=int(random.integers(2**31)))
            start = driving.snapshot()
            for again in (False, True):
                over = False
                while not over:
                    _, _, terminated, truncated, _ = env.step(random.uniform(-1, 1, 2).astype(np.float32))
                    over = terminated or truncated
                if not again:
                    env.reset(seed=int(random.integers(2**31)))
                    driving.restore(start)
            episodes += 2
            now = time.monotonic() - began
            if not samples or now - samples[-1][0] >= EVERY:
                samples.append([round(now, 1), episodes, *usage()])
            if now > 60 * minutes:
                break
        env.close()
    return {"minutes": round((time.monotonic() - began) / 60, 2), "episodes": episodes, "seed": seed, "samples": thinned(samples)}


def usage() -> tuple[float, int, int]:
    """MiB in use, open files, threads of this process (Linux)."""
    memory = process_usage()[1] or 0.0
    return round(memory, 2), len(os.listdir("/proc/self/fd")) - 1, len(os.listdir("/proc/self/task"))


def thinned(samples: list[list[float]], most: int = 300) -> list[list[float]]:
    """At most so many samples, evenly."""
    return [samples[k] for k in np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))]


def slopes(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Growth of memory (MiB), open files and threads per hour over all runs: least squares, each run about its own mean after its
    warm-up, with the standard error of the memory's."""
    times, values = list[np.ndarray](), list[np.ndarray]()
    for run in runs:
        table = np.array(run["samples"], float)
        table = table[table[:, 0] >= WARM_UP * 60 * run["minutes"]]
        if len(table) > 2:
            times.append((table[:, 0] - table[:, 0].mean()) / 3600)
            values.append(table[:, 2:] - table[:, 2:].mean(0))
    if not times:
        return {}
    time, value = np.concatenate(times), np.concatenate(values)
    slope = time @ value / (time @ time)
    error = np.sqrt(((value - np.outer(time, slope)) ** 2).sum(0) / max(len(time) - len(times) - 1, 1) / (time @ time))
    return dict(zip(("memory", "files", "threads", "memory_error"), map(float, (*slope, error[0])), strict=True))
