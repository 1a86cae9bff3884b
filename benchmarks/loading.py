"""Does loading keep the device busy? Batches per second of N loader processes, and the share of a training step spent waiting.

    python -m benchmarks.loading --samples runs/samples --out benchmarks/results/loading.json

Three things are timed for every model: the step alone, on a batch that is already on the device; loading alone, as fast as N
processes supply batches while nothing trains; and both together, as the training loop runs them. With 0 processes the step's
own process makes the batch. The rate of loading alone says how fast a device these processes could feed. Beside the clock, the
computing of one process is given in CPU time, which holds on a machine that has other work to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import header, run, write_json
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.presets import preset as preset_named
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.loading import load, to_device
from dist4d_env.training.loop import Recipe, make_accelerator, uses_bfloat16
from dist4d_env.training.samples import SampleStore

WARM_UP = 3
"""Steps or batches per process before timing begins."""


@dataclass(frozen=True)
class Options:
    """Loading of training batches against the training step."""

    samples: Path
    """Folder of samples, as train --samples; its train/ is read."""
    models: tuple[str, ...] = ("codec", "dist-t", "dist-s")
    """Which models' training."""
    loaders: tuple[int, ...] = (0, 1, 2)
    """Numbers of processes."""
    preset: str = "tiny"
    """Sizes of images and models."""
    codec: str = "tiny"
    """The codec that dist-t trains with: a shipped preset or a folder."""
    batch: int = 4
    """Frames of six cameras per step."""
    steps: int = 12
    """Timed steps of each measurement."""
    batches: int = 60
    """Timed batches of loading alone."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    store = SampleStore(options.samples / "train")
    device = make_accelerator().device
    rows: dict[str, Any] = {}
    bar = tqdm([(model, workers) for model in options.models for workers in options.loaders], disable=None)
    for model, workers in bar:
        bar.set_description(f"{model}, {workers} processes")
        row = rows.setdefault(model, {"loaders": {}})
        # Loaders start before the models move to the device, as in training.
        recipe = make_recipe(model, options, store)
        count = WARM_UP * max(workers, 1)
        alone = supply(load(recipe.batch, 0, options.batches + count, 0, workers, device.type == "cuda"), count)
        batches = load(recipe.batch, 0, options.steps + WARM_UP, 0, workers, device.type == "cuda")
        step = stepping(recipe, device)
        if "step_ms" not in row:
            fixed = to_device(recipe.batch(0), device)
            row["step_ms"] = step_alone(step, fixed, options.steps)
            row["batch_cpu_ms"] = cpu_ms(recipe.batch, options.batches)
            if device.type == "cpu":
                row["step_cpu_ms"] = cpu_ms(lambda _, step=step, fixed=fixed: step(fixed), options.steps)
        row["loaders"][str(workers)] = {"batches_per_second": alone} | together(step, batches, device)
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = header("loading", options) | {"device": device.type, "load_average": load_average, "results": rows}
    if options.out:
        write_json(options.out, result)
    for model, row in rows.items():
        computing = f", of computing {row['step_cpu_ms']:.0f} ms" if "step_cpu_ms" in row else ""
        print(f"{model}: step alone {row['step_ms']:.0f} ms{computing}; a batch takes {row['batch_cpu_ms']:.1f} ms of computing")
        for workers, told in row["loaders"].items():
            print(
                f"  {workers} processes: {told['batches_per_second']:7.1f} batches/s alone, step with loading "
                f"{told['step_ms']:.0f} ms, waiting {100 * told['waiting']:.1f} %"
            )
    return result


def make_recipe(model: str, options: Options, store: SampleStore) -> Recipe:
    """A recipe with fresh weights."""
    preset = preset_named(options.preset)
    if model == "codec":
        return CodecRecipe(preset, store, None, options.batch, 0)
    if model == "dist-s":
        return DiSTSRecipe(preset, store, None, options.batch, 0)
    codec = load_model(RGBDCodec, resolve_weights(options.codec) / "codec")
    return DiSTTRecipe(preset, codec, store, None, options.batch, 0)


def stepping(recipe: Recipe, device: torch.device) -> Callable[[Any], None]:
    """One optimiser step on a batch, with the loop's precision, finished when it returns."""
    for module in (*recipe.models.values(), *getattr(recipe, "frozen", {}).values()):
        module.to(device)
    parameters = [p for model in recipe.models.values() for p in model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(batch: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16("auto", device)):
            loss, _ = recipe.loss(batch, 0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def supply(batches: Iterator[Any], warm_up: int) -> float:
    """Batches per second when nothing else is done."""
    for _ in range(warm_up):
        next(batches)
    begin, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
    return count / (time.perf_counter() - begin)


def cpu_ms(work: Callable[[int], Any], count: int) -> float:
    """Median milliseconds of this process's own computing in ``work(0)``, ``work(1)``, ...: other processes do not count."""
    durations = []
    for k in range(count + WARM_UP):
        begin = time.process_time()
        work(k)
        durations.append(time.process_time() - begin)
    return 1e3 * float(np.median(durations[WARM_UP:]))


def step_alone(step: Callable[[Any], None], batch: Any, steps: int) -> float:
    """Median milliseconds of a step without any loading."""
    durations = []
    for _ in range(steps + WARM_UP):
        begin = time.perf_counter()
        step(batch)
        durations.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(durations[WARM_UP:]))


def together(step: Callable[[Any], None], batches: Iterator[Any], device: torch.device) -> dict[str, float]:
    """Mean milliseconds of a step with its loading, and the share of that in which the device waits for the batch."""
    waited, whole = [], []
    begin = time.perf_counter()
    for batch in batches:
        moved = to_device(batch, device)
        arrived = time.perf_counter()
        step(moved)
        end = time.perf_counter()
        waited.append(arrived - begin)
        whole.append(end - begin)
        begin = end
    waiting = np.sum(waited[WARM_UP:]) / np.sum(whole[WARM_UP:])
    return {"step_ms": 1e3 * float(np.mean(whole[WARM_UP:])), "waiting": float(waiting)}


if __name__ == "__main__":
    run(main, Options)
