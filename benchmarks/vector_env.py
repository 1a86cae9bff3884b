"""Decision steps per second of one core: N environments stepped as one against N single ones, in world="none".

Seconds are those that the process really ran, on one thread, so that what else the machine does counts less; those on the clock
are stored beside them.

Both are given the same small random controls and play from the same seeds; an episode that ends begins anew, and that counts as
a step. "final read" looks into ``info["metrics"]["final"]`` of every ended episode, which is computed only when it is read.
Besides: the simulator alone, 64 plans followed in a batch, and highway-env where it is installed.

    python -m benchmarks.vector_env --out benchmarks/results/vector_env.json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core: before numpy loads

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import header, run, write_json

OBSERVATION = ("ego", "route", "agents")
TRAFFIC = ("replay", "idm")


@dataclass(frozen=True)
class Options:
    """Decision steps per second of N environments stepped as one, of N single ones and of highway-env."""

    counts: tuple[int, ...] = (1, 8, 64)
    """How many environments."""
    seconds: float = 12.0
    """Measured seconds per row."""
    rounds: int = 3
    """Passes over the rows of environments; the median counts, so that a busy moment does not."""
    dataroot: Path | None = None
    """A data set; the default town is made when there is none."""
    scenes: str = "val"
    """Split or scene."""
    yardsticks: bool = True
    """Measure highway-env, too."""
    quick: bool = False
    """A second per row, one pass."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    seconds, passes = (1.0, 1) if options.quick else (options.seconds / options.rounds, options.rounds)
    makers: dict[str, Callable[[], Callable[[], int] | None]] = {}
    for count in options.counts:
        for traffic in TRAFFIC if count == max(options.counts) else TRAFFIC[:1]:
            named = f"{count} x {traffic}"
            for read, how in ((False, ""), (True, ", final read")):
                makers[f"{named}, single{how}"] = partial(singles, count, traffic, options, read_final=read)
                makers[f"{named}, vector{how}"] = partial(together, count, traffic, options, read_final=read)
    for traffic in TRAFFIC:
        for action in ("controls", "trajectory"):
            named = f"simulator alone, {max(options.counts)} x {traffic}, {action}"
            makers[f"{named}, single"] = partial(simulators, traffic, action, options, batched=False)
            makers[f"{named}, vector"] = partial(simulators, traffic, action, options, batched=True)
    for name in ("highway-v0", "highway-fast-v0") if options.yardsticks else ():
        makers[name] = partial(highway, name)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    bar = tqdm([name for _ in range(passes) for name in makers], disable=None)
    for name in bar:
        bar.set_description(name)
        if (step := makers[name]()) is not None:
            rates[name].append(rate(step, seconds))
    rows: dict[str, Any] = {name: row_of(each) for name, each in rates.items()}
    for name, row in rows.items():
        single = name.replace(", vector", ", single")
        if single != name and "per_second" in row:
            row["times_single"] = row["per_second"] / rows[single]["per_second"]
    rows["plans"] = plans(options.quick)
    result = header("vector_env", options) | {"observation": OBSERVATION, "ticks_per_decision": 5, "results": rows}
    if options.out:
        write_json(options.out, result)
    for name, row in rows.items():
        print(f"{name:<50}" + described(row))
    return result


def described(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return str(row["skipped"])
    if "milliseconds" in row:
        return f"{row['milliseconds']:10.2f} ms for {row['count']} of 4 s"
    times = f"{row['times_single']:8.2f} x single" if "times_single" in row else ""
    return f"{row['per_second']:10.1f} decisions/s{times}"


def rate(step: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Decisions per second that the process ran and per second on the clock; ``step`` returns how many it made. The
    first half second (or as much as is measured) does not count."""
    end = time.perf_counter() + min(0.5, seconds)
    while time.perf_counter() < end:
        step()
    made, begin, ran = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < begin + seconds:
        made += step()
    return made / (time.process_time() - ran), made / (time.perf_counter() - begin)


def row_of(passes: list[tuple[float, float]]) -> dict[str, Any]:
    if not passes:
        return {"skipped": "not installed (pip install highway-env)"}
    running, clock = zip(*passes, strict=True)
    return {"per_second": float(np.median(running)), "per_second_on_the_clock": float(np.median(clock)), "passes": running}


def controls(random: np.random.Generator, count: int) -> np.ndarray:
    """(N, 2) a little throttle and a wavering wheel."""
    return np.clip(np.array([0.1, 0.0]) + random.normal(0, 0.15, (count, 2)), -1, 1).astype(np.float32)


def keywords(traffic: str, options: Options) -> dict[str, Any]:
    return {
        "dataroot": options.dataroot,
        "scenes": options.scenes,
        "world": "none",
        "observation": OBSERVATION,
        "traffic": traffic,
    }


def singles(count: int, traffic: str, options: Options, read_final: bool) -> Callable[[], int]:
    """N environments that share data and maps, stepped one after the other."""
    from dist4d_env.envs.driving import DiST4DDrivingEnv

    first = DiST4DDrivingEnv(**keywords(traffic, options))
    others = {**keywords(traffic, options), "dataroot": None, "dataset": first.dataset}
    envs = [first, *(DiST4DDrivingEnv(**others) for _ in range(count - 1))]
    random = np.random.default_rng(0)
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    over = [False] * count

    def step() -> int:
        for index, (env, action) in enumerate(zip(envs, controls(random, count), strict=True)):
            if over[index]:
                env.reset()
                over[index] = False
            else:
                _, _, terminated, truncated, info = env.step(action)
                over[index] = terminated or truncated
                if read_final and over[index]:
                    dict(info["metrics"]["final"])
        return count

    return step


def together(count: int, traffic: str, options: Options, read_final: bool) -> Callable[[], int]:
    """The same as one vector environment."""
    import gymnasium as gym

    import dist4d_env  # noqa: F401

    envs = gym.make_vec("DiST4D-nuScenes-v0", count, vectorization_mode="vector_entry_point", **keywords(traffic, options))
    envs.reset(seed=0)
    random = np.random.default_rng(0)

    def step() -> int:
        *_, infos = envs.step(controls(random, count))
        if read_final and "final" in infos["metrics"]:
            dict(infos["metrics"]["final"])
        return count

    return step


def simulators(traffic: str, action: str, options: Options, batched: bool) -> Callable[[], int]:
    """Ego and traffic without anything around them, all scenes in turn; ten seconds, then from the start."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

    count, dataset = max(options.counts), open_dataset(options.dataroot, None, options.scenes)
    config = SimulatorConfig(action=action, traffic=traffic)
    many = Simulator(config, [dataset.load(name) for name in dataset.scene_names(options.scenes)[:8]])
    scene, random = [index % len(many.scenes) for index in range(count)], np.random.default_rng(0)
    state = many.reset(scene, [0.0] * count)
    states = [state.take(np.array([row])) for row in range(count)]

    def actions() -> np.ndarray:
        if action == "controls":
            return controls(random, count)
        ahead = np.cumsum(random.uniform(2.0, 5.0, (count, 8)), 1)
        return np.stack([ahead, 0.02 * ahead, np.full_like(ahead, 0.02)], -1).astype(np.float32)

    def step_all() -> int:
        nonlocal state
        state, _ = many.step(state, actions())
        if state.time[0] >= 10.0:
            state = many.reset(scene, [0.0] * count)
        return count

    def step_each() -> int:
        nonlocal states
        states = [many.step(now, act[None])[0] for now, act in zip(states, actions(), strict=True)]
        if states[0].time[0] >= 10.0:
            states = [many.reset([number], [0.0]) for number in scene]
        return count

    return step_all if batched else step_each


def highway(name: str) -> Callable[[], int] | None:
    """highway-env's own rate, for scale: 15 ticks a decision in highway-v0, 5 in highway-fast-v0."""
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

    def step() -> int:
        _, _, terminated, truncated, _ = env.step(1)
        if terminated or truncated:
            env.reset()
        return 1

    return step


def plans(quick: bool) -> dict[str, Any]:
    """64 plans of 4 s, followed by tracker and bicycle at 10 Hz."""
    from dist4d_env.simulation.drive import simulate_plans
    from dist4d_env.simulation.ego import EgoState

    random = np.random.default_rng(0)
    many = np.cumsum(random.normal([4.0, 0.0, 0.0], [1.0, 0.2, 0.05], (64, 8, 3)), 1)
    durations = []
    for _ in range(20 if quick else 200):
        begin = time.process_time()
        simulate_plans(EgoState(0.0, 0.0, 0.3, 8.0, 0.1, 0.02, 0.05), many)
        durations.append(time.process_time() - begin)
    return {"count": len(many), "milliseconds": 1e3 * float(np.median(durations)), "runs": len(durations)}


if __name__ == "__main__":
    run(main, Options)
