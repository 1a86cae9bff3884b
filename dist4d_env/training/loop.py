"""The loop that all recipes share: optimiser, precision, processes, moving average, checkpoints, log, progress bar."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dist4d_env.errors import ConfigError
from dist4d_env.training.checkpoint import load_checkpoint, remove_torn, save_checkpoint
from dist4d_env.training.learning_rate import rate_at
from dist4d_env.training.loading import load, to_device
from dist4d_env.training.moving_average import Averaged, copied, update_average
from dist4d_env.training.run_log import Journal

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = ("auto", "float32", "bfloat16")
GPU_LOADERS = 4
"""Processes that make batches for a GPU, where there are as many cores."""


@dataclass(frozen=True)
class LoopOptions:
    """out: the run's folder; steps: optimiser steps in all; learning_rate: its plateau; warmup: steps of its rise; decay: share
    of the steps over which it falls to zero; ema: decay of the moving average that is exported; clip: largest gradient norm;
    log_every, validate_every: steps; checkpoint_every: seconds; resume: go on from the folder's checkpoint; precision: of the
    networks in training, "auto" is bfloat16 on GPUs that have it, else float32; gradient_checkpointing: recompute activations
    in the backward pass; loaders: processes that make batches ahead, None is GPU_LOADERS on a GPU and 0 on a CPU; until: stop
    after so many of the steps, None at their end.
    """

    out: Path
    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    ema: float = 0.998
    clip: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: float = 180.0
    resume: bool = False
    precision: str = "auto"
    gradient_checkpointing: bool = False
    loaders: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, not {self.steps}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.loaders is not None and self.loaders < 0:
            raise ConfigError(f"loaders must be 0 or more processes, not {self.loaders}")


class Recipe(Protocol):
    """What a model's training adds to the loop.

    Modules that are used but not trained go into an optional ``frozen``, a dict like ``models``. Where a recipe computes with
    its models outside ``loss``, it takes their device from their parameters.
    """

    models: dict[str, nn.Module]  # trained, by name of their folder

    def batch(self, step: int, rank: int = 0) -> Any:
        """Tensors of one step on the CPU: nested dataclasses, tuples or dicts. May run in another process, ahead of the step.

        All randomness, the noise too, comes from the seed, the step and the process's rank.
        """
        ...

    def loss(self, batch: Any, step: int) -> tuple[torch.Tensor, Mapping[str, float | torch.Tensor]]:
        """The loss of a batch that is on the models' device, and numbers to log (tensors wait until they are logged)."""
        ...

    def validate(self) -> dict[str, float]:
        """Numbers of the models as they are now."""
        ...

    def pictures(self) -> dict[str, np.ndarray]:
        """Samples to look at, (H, W, 3) uint8 by name."""
        ...

    def export(self, folder: Path) -> None:
        """Write the models as they are now so that pipelines can load them."""
        ...


def train(recipe: Recipe, options: LoopOptions) -> dict[str, float]:
    """Run a recipe to its last step and return the last validation. Interrupted runs go on with ``resume``, bit for bit.

    Under ``accelerate launch`` every process takes batches of its own and gradients are averaged.
    """
    accelerator = make_accelerator()
    device, rank, main = accelerator.device, accelerator.process_index, accelerator.is_main_process
    options.out.mkdir(parents=True, exist_ok=True)
    state = load_checkpoint(options.out) if options.resume else None
    first = state["step"] if state else 0
    loaders = options.loaders
    if loaders is None:
        loaders = 0 if device.type == "cpu" else min(GPU_LOADERS, os.cpu_count() or 1)
    last = options.steps if options.until is None else min(options.until, options.steps)
    batches = load(recipe.batch, first, last, rank, loaders, pin=device.type == "cuda")
    for module in (*recipe.models.values(), *getattr(recipe, "frozen", {}).values()):
        module.to(device)
    if options.gradient_checkpointing:
        checkpoint_gradients(recipe.models)
    parameters = [p for model in recipe.models.values() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=options.weight_decay
    )
    if state:
        for name, model in recipe.models.items():
            model.load_state_dict(state["models"][name])
        optimizer.load_state_dict(state["optimizer"])
    average = to_device(state["average"], device) if state else copied(recipe.models)
    del state
    bfloat16 = uses_bfloat16(options.precision, device)

    def save(step: int) -> None:
        # Weights first: were the process killed between the two, the resumed run writes them again.
        with Averaged(recipe.models, average):
            recipe.export(options.out / "weights")
        models = {name: model.state_dict() for name, model in recipe.models.items()}
        save_checkpoint(options.out, {"step": step, "models": models, "average": average, "optimizer": optimizer.state_dict()})

    journal = Journal(options.out, first) if main else None
    if main:
        remove_torn(options.out)
    saved = logged = time.monotonic()
    waited, logged_at = 0.0, first
    validation: dict[str, float] = {}
    bar = tqdm(total=options.steps, initial=first, desc="training", unit="step", dynamic_ncols=True, disable=not main)
    for step in range(first, last):
        asked = time.monotonic()
        batch = to_device(next(batches), device)
        waited += time.monotonic() - asked
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate_at(step, options.steps, options.warmup, options.decay)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss, numbers = recipe.loss(batch, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, accelerator)
        norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        update_average(average, recipe.models, min(options.ema, (step + 1) / (step + 10)))
        done = step + 1
        bar.update()
        if journal is None:
            continue
        if done % options.log_every == 0 or done == last:
            value = finite(loss, done)
            elapsed = max(time.monotonic() - logged, 1e-9)
            entry = {"loss": value, "gradient": float(norm), **{name: float(number) for name, number in numbers.items()}}
            entry |= {"steps_per_second": round((done - logged_at) / elapsed, 3), "waiting": round(waited / elapsed, 4)}
            journal.write(done, entry)
            bar.set_postfix(loss=f"{value:.4f}")
            logged, logged_at, waited = time.monotonic(), done, 0.0
        if done % options.validate_every == 0 or done == options.steps:
            with Averaged(recipe.models, average):
                validation = recipe.validate()
                journal.show(done, recipe.pictures())
            journal.write(done, validation, "validation")
            bar.write(f"step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in validation.items()))
        if time.monotonic() - saved > options.checkpoint_every or done == last:
            finite(loss, done)
            save(done)
            saved = time.monotonic()
    bar.close()
    if journal is not None:
        journal.close()
    accelerator.wait_for_everyone()
    return validation


def make_accelerator() -> Accelerator:
    """The device of this process and its place among the others; ``ConfigError`` where accelerate is not installed."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError(f"training needs Hugging Face accelerate ({error}): pip install dist4d_env[train]") from error
    return Accelerator()


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether networks compute in bfloat16; weights, losses and the optimiser stay in float32."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


def checkpoint_gradients(models: dict[str, nn.Module]) -> None:
    """Recompute activations where a model can; ``ConfigError`` where none of them can."""
    able = [model for model in models.values() if getattr(model, "_supports_gradient_checkpointing", False)]
    if not able:
        raise ConfigError(f"{', '.join(models)} cannot recompute activations: leave --gradient-checkpointing out")
    for model in able:
        model.enable_gradient_checkpointing()


def average_gradients(parameters: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over the processes.

    Recipes call their models' own methods, which a DistributedDataParallel wrapper would not see; so gradients are
    exchanged here, in one flat tensor.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def finite(loss: torch.Tensor, step: int) -> float:
    """The loss as a number; ``ConfigError`` where it is none, before broken weights reach a checkpoint."""
    value = loss.item()
    if not np.isfinite(value):
        remedy = "go on from the last checkpoint with --resume and a lower --learning-rate"
        raise ConfigError(f"the loss is {value} at step {step}: {remedy}")
    return value
