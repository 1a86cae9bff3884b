"""The world service against the world in one's own process: decisions a second, latency and the batches really formed.

Clients are environments in threads of one process, each with an episode of its own, and ask as fast as they are answered; the
reference is the vector environment of as many environments with the models in this process. CPU time, of clients and actors
together, measures the cost of a decision independently of other load. Frames are the same bit for bit
(tests/worlds/test_service_ray.py). On few cores the clients and the actor share them: then the overhead of the
service is measured, not what a GPU for the models would bring.

    python -m benchmarks.world_service --out benchmarks/results/world_service.json
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import dist4d_env  # noqa: F401 (registers the environment)
from benchmarks.common import header, run, write_json
from dist4d_env.errors import ConfigError
from dist4d_env.worlds.service.actors import Batching, Service, serve_world
from dist4d_env.worlds.service.client import RemoteState

NAME = "benchmark"


@dataclass(frozen=True)
class Options:
    """Cost of the world service, and sizes of its batches."""

    clients: tuple[int, ...] = (1, 2, 4, 8)
    """Environments that ask at the same time."""
    decisions: int = 16
    """Of each client, counted after its first two."""
    actors: tuple[int, ...] = (1,)
    """Processes of the service, one measurement each."""
    threads: int = 1
    """States of a batch that an actor works on side by side."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset, a folder, or splat."""
    dataroot: Path | None = None
    """Data set; else $NUSCENES, else the built-in town."""
    wait: float = 0.002
    """Seconds for which the first of a batch waits for others."""
    quick: bool = False
    """One and two clients, three decisions, no model."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        if min(self.clients) < 1 or min(self.actors) < 1 or self.decisions < 1:
            raise ConfigError("clients, actors and decisions must be at least 1")


WARM_UP = 2


def main(options: Options) -> dict[str, Any]:
    if options.quick:
        options = replace(options, clients=(1, 2), decisions=3, weights="splat")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else the actor has lower priority than the clients that wait for it
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=sum(options.actors), include_dashboard=False, log_to_driver=False)
    rows: list[dict[str, Any]] = []
    try:
        services = [start(options, actors) for actors in options.actors]
        with tqdm(total=len(options.clients) * (1 + len(services)), unit="measurement", disable=None) as bar:
            for clients in options.clients:  # side by side: whatever else the machine does, all suffer alike
                rows.append({"where": "this process", "clients": clients} | in_process(options, clients))
                bar.update()
                for service in services:
                    where = f"service of {len(service.actors)}"
                    rows.append({"where": where, "clients": clients} | served(options, clients, service))
                    bar.update()
        for service in services:
            service.stop()
    finally:
        if started:
            ray.shutdown()
    result = header("world_service", options) | {"rows": rows}
    if options.out is not None:
        write_json(options.out, result)
    print(table(rows))
    return result


def start(options: Options, actors: int) -> Service:
    batching = Batching(batch_wait_timeout_s=options.wait)
    return serve_world(f"{NAME}-{actors}", weights=options.weights, actors=actors, threads=options.threads, batching=batching)


def keywords(options: Options) -> dict[str, Any]:
    return {"dataroot": options.dataroot, "world": "dist4d", "weights": options.weights, "observation": ("cameras", "ego"),
            "termination": ("collision",)}  # fmt: skip


def action(random: np.random.Generator) -> np.ndarray:
    """A car that keeps going, now beside the path foreseen, now on it: both models have work."""
    return np.array([random.uniform(0.0, 0.4), random.uniform(-0.08, 0.08)], np.float32)


def in_process(options: Options, clients: int) -> dict[str, Any]:
    """The vector environment: one call of the world for all environments."""
    env = gym.make_vec("DiST4D-nuScenes-v0", clients, vectorization_mode="vector_entry_point", **keywords(options))
    env.reset(seed=0)
    random = [np.random.default_rng(index) for index in range(clients)]
    calls = []
    for step in range(WARM_UP + options.decisions):
        if step == WARM_UP:
            began, cpu = time.perf_counter(), time.process_time()
        asked = time.perf_counter()
        env.step(np.stack([action(each) for each in random]))
        calls.append(time.perf_counter() - asked)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    env.close()
    decisions = clients * options.decisions
    return {"decisions_per_second": decisions / took, "cpu_ms_per_decision": 1e3 * cpu / decisions} | spread(calls[WARM_UP:])


def served(options: Options, clients: int, service: Service) -> dict[str, Any]:
    """Environments in threads; all begin to be counted when the last is warm, and go on until all are done."""
    envs: list[Any] = [
        gym.make("DiST4D-nuScenes-v0", service=service.name, **keywords(options)).unwrapped for _ in range(clients)
    ]
    warm, failures = threading.Barrier(clients + 1), list[BaseException]()
    calls: list[list[float]] = [[] for _ in envs]
    sent: list[list[int]] = [[] for _ in envs]

    def play(index: int) -> None:
        try:
            env, random = envs[index], np.random.default_rng(index)
            env.reset(seed=index)
            for step in range(WARM_UP + options.decisions):
                if step == WARM_UP:
                    warm.wait()
                before = env.episode.world
                asked = time.perf_counter()
                _, _, terminated, truncated, _ = env.step(action(random))
                if step >= WARM_UP:
                    calls[index].append(time.perf_counter() - asked)
                    sent[index].append(new_bytes(before, env.episode.world))
                if terminated or truncated:
                    env.reset()
        except BaseException as error:
            failures.append(error)
            warm.abort()

    threads = [threading.Thread(target=play, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    try:
        warm.wait()
    except threading.BrokenBarrierError:
        raise failures[0] from None
    before, began, cpu = service.stats(), time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    took, cpu, after = time.perf_counter() - began, time.process_time() - cpu, service.stats()
    if failures:
        raise failures[0]
    batches = difference(before, after)
    questions = sum(size * count for size, count in batches.items())
    change = lambda name: sum(b[name] - a[name] for a, b in zip(before, after, strict=True))  # noqa: E731
    return {
        "decisions_per_second": clients * options.decisions / took,
        "cpu_ms_per_decision": 1e3 * (cpu + change("cpu")) / (clients * options.decisions),
        **spread([call for each in calls for call in each]),
        "batches": {str(size): count for size, count in batches.items()},
        "mean_batch": questions / max(sum(batches.values()), 1),
        "worked_ms_per_question": 1e3 * change("worked") / max(questions, 1),
        "queued_ms_per_question": 1e3 * change("waited") / max(questions, 1),
        "megabytes_per_decision": statistics.mean(size for each in sent for size in each) / 1e6,
        "kept_megabytes": sum(stats["megabytes"] for stats in after),
    }


def new_bytes(before: RemoteState, after: RemoteState) -> int:
    """Bytes of a reply: parts that the state before did not have."""
    return sum(len(part.content) for key, part in after.packed.parts.items() if key not in before.packed.parts)


def difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[int, int]:
    """Batches by size that were formed in between, over all actors."""
    counts: dict[int, int] = {}
    for old, new in zip(before, after, strict=True):
        for size, count in new["batches"].items():
            counts[size] = counts.get(size, 0) + count - old["batches"].get(size, 0)
    return {size: count for size, count in sorted(counts.items()) if count}


def spread(seconds: list[float]) -> dict[str, float]:
    """Of calls, in milliseconds."""
    return {
        "latency_ms_mean": 1e3 * statistics.mean(seconds),
        "latency_ms_median": 1e3 * statistics.median(seconds),
        "latency_ms_p95": 1e3 * float(np.quantile(seconds, 0.95)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| models | clients | decisions/s | CPU ms | median ms | p95 ms | batches, size: count | worked, queued ms | MB |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        sizes = ", ".join(f"{size}: {count}" for size, count in row.get("batches", {}).items()) or "-"
        times = f"{row['worked_ms_per_question']:.0f}, {row['queued_ms_per_question']:.0f}" if "batches" in row else "-"
        sent = f"{row['megabytes_per_decision']:.1f}" if "batches" in row else "-"
        lines.append(
            f"| {row['where']} | {row['clients']} | {row['decisions_per_second']:.2f} | "
            f"{row['cpu_ms_per_decision']:.0f} | {row['latency_ms_median']:.0f} | "
            f"{row['latency_ms_p95']:.0f} | {sizes} | {times} | {sent} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Options)
