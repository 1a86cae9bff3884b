"""How fast a step is, on a small scene of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dist4d_env.doctor.check import Check

WORLDS = ("none", "splat", "dist4d")
SIZE, DURATION, HORIZON = (64, 112), 6.0, 4.0
"""Height and width of the pictures, seconds of the scene and of an episode."""
SECONDS, MOST, FIRST = 3.0, 200, 2
"""Seconds and steps that are measured at most, and how many before them are not: they compile and load."""


@contextmanager
def small_scene() -> Iterator[Path]:
    """A data set of one short scene of the town, which goes away."""
    from dist4d_env.town.writer import write_dataset

    with TemporaryDirectory() as folder:
        yield write_dataset(Path(folder) / "town", "val", 1, SIZE, duration=DURATION, progress=False)


def speed(world: str, dataroot: Path, weights: str) -> Check:
    """Decisions of half a second per second in a world, and the seconds until the first of them was done."""
    import gymnasium as gym

    began = time.perf_counter()
    same: dict[str, Any] = {"dataroot": dataroot, "weights": weights, "horizon": HORIZON}
    env = gym.make("DiST4D-nuScenes-v0", world=world, **same)
    env.reset(seed=0, options={"start": 0.0})
    rolling, taken, first = np.zeros(2, np.float32), [], 0.0
    for count in range(MOST + FIRST):
        before = time.perf_counter()
        *_, terminated, truncated, info = env.step(rolling)
        now = time.perf_counter()
        if count == 0:
            first = now - began
        if count >= FIRST:
            taken.append(now - before)
        if sum(taken) > SECONDS:
            break
        if terminated or truncated:
            env.reset(seed=0, options={"start": 0.0})
    env.close()
    rate, stages = 1 / float(np.median(taken)), info["timing_ms"]
    values = {"world": world, "steps_per_second": rate, "first_step_seconds": first, "timing_ms": stages}
    words = f"{world}: {rate:.3g} decisions/s at {SIZE[0]} x {SIZE[1]}, the first one after {first:.1f} s"
    return Check(f"speed of {world}", "ok", words, values)
