"""Measures how fast the ``dist4d_env`` that Python finds drives; row by row, as named on stdin.

Like ``driver`` it uses the public interface only and imports nothing from beside it. Every line on stdin is a row's name; each is
answered by a line of JSON: how many decisions (or resets) were made, in how many seconds of the process and on the clock.

    PYTHONPATH=TREE python speed_driver.py DATAROOT --tree TREE
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

MANY = 64
VECTORS = {"world": "none", "observation": ("ego", "route", "agents")}
SPLAT = {"world": "dist4d", "weights": "splat"}
DIST4D = {"world": "dist4d"}

Row = tuple[dict[str, Any], str, int]
ROWS: dict[str, Row] = {
    "none": (VECTORS, "single", 1500),
    "none idm": (VECTORS | {"traffic": "idm"}, "single", 500),
    f"none x {MANY}": (VECTORS, "vector", 120),
    f"none x {MANY} idm": (VECTORS | {"traffic": "idm"}, "vector", 60),
    "dist4d": (DIST4D, "single", 14),
    "dist4d, splat": (SPLAT, "single", 50),
    "reset none": (VECTORS, "reset", 500),
    "reset dist4d": (DIST4D, "reset", 8),
    "reset dist4d, splat": (SPLAT, "reset", 25),
}
"""Keywords, what is done, and how often, by name: decisions of a single environment or of all environments, or resets."""


def controls(random: np.random.Generator, count: int) -> np.ndarray:
    """(N, 2) a little throttle and a wavering wheel."""
    return np.clip(np.array([0.1, 0.0]) + random.normal(0, 0.15, (count, 2)), -1, 1).astype(np.float32)


def single(env: Any, count: int) -> int:
    """An episode that ends begins anew, which does not count."""
    random = np.random.default_rng(0)
    env.reset(seed=0)
    for action in controls(random, count):
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return count


def vector(envs: Any, count: int) -> int:
    random = np.random.default_rng(0)
    envs.reset(seed=0)
    for _ in range(count):
        envs.step(controls(random, MANY))
    return count * MANY


def reset(env: Any, count: int) -> int:
    for seed in range(count):
        env.reset(seed=seed)
    return count


DEEDS: dict[str, Callable[[Any, int], int]] = {"single": single, "vector": vector, "reset": reset}


def make(row: Row, dataroot: str) -> Any:
    """The row's environment, warm: everything has been loaded and compiled."""
    keywords, deed, count = row
    settings = {"dataroot": dataroot, "device": "cpu", **keywords}
    if deed == "vector":
        env: Any = gym.make_vec("DiST4D-nuScenes-v0", MANY, vectorization_mode="vector_entry_point", **settings)
    else:
        env = gym.make("DiST4D-nuScenes-v0", disable_env_checker=True, **settings)
    DEEDS[deed](env, count)
    return env


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataroot")
    parser.add_argument("--tree", type=Path, required=True)
    arguments = parser.parse_args()
    import dist4d_env

    found = Path(dist4d_env.__file__).resolve()
    if not found.is_relative_to(arguments.tree.resolve()):
        raise SystemExit(f"dist4d_env is {found}, not that of {arguments.tree}")
    warnings.simplefilter("ignore")
    made: dict[str, Any] = {}
    for line in sys.stdin:
        name = line.strip()
        _, deed, count = ROWS[name]
        if name not in made:
            made[name] = make(ROWS[name], arguments.dataroot)
        clock, process = time.perf_counter(), time.process_time()
        number = DEEDS[deed](made[name], count)
        measured = {"count": number, "process": time.process_time() - process, "clock": time.perf_counter() - clock}
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
