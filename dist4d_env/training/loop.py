"""The training loop of all recipes: optimiser, precision, processes, averaged weights, checkpoints, log, progress bar."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.progress import Progress, say
from dist4d_env.scenes.files import keep_beside, replacing_folder
from dist4d_env.training.checkpoint import load_checkpoint, remove_torn, save_checkpoint
from dist4d_env.training.loading import load, to_device
from dist4d_env.training.run_log import RunLog

if TYPE_CHECKING:
    from accelerate import Accelerator

LARGEST_SEED = 2**63 - 1
"""Of those that torch takes."""
PRECISIONS = ("auto", "float32", "bfloat16")
GPU_LOADERS = 4
"""Processes that make batches for a GPU, where there are as many cores."""


@dataclass(frozen=True)
class LoopOptions:
    """out: the run's folder; steps: optimiser steps in all; learning_rate: its plateau; warmup: steps of its rise; decay: share
    of the steps over which it falls to zero; ema: decay of the moving average that is exported; clip: largest gradient norm;
    log_every, validate_every: steps, 0 never validates; checkpoint_every: seconds; resume: go on from the folder's checkpoint;
    precision: of the networks in training, "auto" is bfloat16 on GPUs that have it, else float32; gradient_checkpointing:
    recompute activations in the backward pass; loaders: processes that make batches ahead, None is GPU_LOADERS on a GPU and 0 on
    a CPU.
    """

    out: Path
    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    ema: float = 0.998
    clip: float = 1.0
    weight_decay: float = 0.01
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: float = 180.0
    resume: bool = False
    precision: str = "auto"
    gradient_checkpointing: bool = False
    loaders: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, not {self.steps}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.loaders is not None and self.loaders < 0:
            raise ConfigError(f"loaders must be 0 or more processes, not {self.loaders}")


class Recipe(Protocol):
    """A model's part of training.

    Modules that are used but not trained go into an optional ``frozen``, a dict like ``models``. Where a recipe computes with
    its models outside ``loss``, it takes their device from their parameters.
    """

    models: dict[str, nn.Module]  # trained, by name of their folder

    def batch(self, step: int, rank: int = 0) -> Any:
        """Tensors of one step on the CPU, in nested (named) tuples. May run in another process, ahead of the step.

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

    Under ``accelerate launch`` every process takes batches of its own and gradients are averaged. Raises ``DataError`` where
    there is no checkpoint to resume from, ``ConfigError`` where it has done more steps than are asked for.
    """
    accelerator = make_accelerator()
    device, main = accelerator.device, accelerator.is_main_process
    options.out.mkdir(parents=True, exist_ok=True)
    state = load_checkpoint(options.out) if options.resume else None
    first = state["step"] if state else 0
    if first > options.steps:
        raise ConfigError(
            f"{options.out} has done {first} steps, more than --steps {options.steps}: resume it with --steps {first} or more, "
            "or choose another --out"
        )
    loaders = options.loaders
    if loaders is None:
        loaders = 0 if device.type == "cpu" else min(GPU_LOADERS, os.cpu_count() or 1)
    batches = load(recipe.batch, first, options.steps, accelerator.process_index, loaders, pin=device.type == "cuda")
    trainer = Trainer(recipe, options, accelerator, state)
    del state
    with closing(Report(options, first)) if main else nullcontext() as report:  # an error is printed below the progress bar
        validation = _steps(trainer, batches, report, first)
    accelerator.wait_for_everyone()
    return validation


def _steps(trainer: Trainer, batches: Iterator[Any], report: Report | None, first: int) -> dict[str, float]:
    """Every step from ``first`` on; the last validation."""
    recipe, options, device = trainer.recipe, trainer.options, trainer.accelerator.device

    def validated(done: int) -> dict[str, float]:
        if report is None or not options.validate_every or (done % options.validate_every and done != options.steps):
            return {}
        with trainer.averaged():
            numbers = recipe.validate()
            report.validation(done, numbers, recipe.pictures())
        return numbers

    # A run that was stopped between a checkpoint and its validation lacks that in its log.
    validation = {} if report is None or not first or report.log.validated(first) else validated(first)
    for step in range(first, options.steps):
        asked = time.monotonic()
        batch = to_device(next(batches), device)
        waited = time.monotonic() - asked
        loss, numbers = trainer.step(batch, step)
        done, last = step + 1, step + 1 == options.steps
        if report is None:
            continue
        report.step(done, loss, numbers, waited)
        # The checkpoint first: what goes wrong in a validation must not cost the steps before it.
        if last or time.monotonic() - report.saved > options.checkpoint_every:
            finite(loss, done)
            trainer.save(done)
            report.saved = time.monotonic()
        validation = validated(done) or validation
    return validation


class Trainer:
    """Models, optimiser and averaged weights of a run, as a checkpoint's ``state`` left them."""

    def __init__(self, recipe: Recipe, options: LoopOptions, accelerator: Accelerator, state: dict[str, Any] | None) -> None:
        self.recipe, self.options, self.accelerator = recipe, options, accelerator
        device = accelerator.device
        for module in (*recipe.models.values(), *getattr(recipe, "frozen", {}).values()):
            module.to(device)
        if options.gradient_checkpointing:
            checkpoint_gradients(recipe.models)
        self.parameters = [p for model in recipe.models.values() for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=options.weight_decay
        )
        self.average = EMAModel(self.parameters, decay=options.ema)
        if state:
            for name, model in recipe.models.items():
                model.load_state_dict(state["models"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load_state_dict(state["average"])
            self.average.to(device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(options.precision, device))

    def step(self, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """One optimiser step; the loss and the numbers to log."""
        options = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * rate_at(step, options.steps, options.warmup, options.decay)
        with self.autocast:
            loss, numbers = self.recipe.loss(batch, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.parameters, self.accelerator)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, options.clip)
        self.optimizer.step()
        self.average.step(self.parameters)
        return loss, {"gradient": norm, **numbers}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the models have their averaged weights and are in evaluation mode."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        for model in self.recipe.models.values():
            model.eval()
        yield
        self.average.restore(self.parameters)
        for model in self.recipe.models.values():
            model.train()

    def save(self, step: int) -> None:
        """Write the averaged weights and the checkpoint."""
        # Weights first: were the process killed between the two, the resumed run writes them again.
        with self.averaged():
            with replacing_folder(self.options.out / "weights") as fresh:
                self.recipe.export(fresh)
                keep_beside(self.options.out / "weights", fresh)
        models = {name: model.state_dict() for name, model in self.recipe.models.items()}
        state = {"step": step, "models": models, "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(self.options.out, state)


class Report:
    """The main process's log and progress bar."""

    def __init__(self, options: LoopOptions, first: int) -> None:
        self.options, self.log = options, RunLog(options.out, first)
        remove_torn(options.out)
        self.saved = self.logged = time.monotonic()
        self.waited, self.logged_at = 0.0, first
        self.bar = Progress("training", "step", options.steps, first).__enter__()

    def step(self, done: int, loss: torch.Tensor, numbers: Mapping[str, Any], waited: float) -> None:
        """Count a step that waited so many seconds for its batch; log where it is due."""
        self.bar.update()
        self.waited += waited
        if done % self.options.log_every and done != self.options.steps:
            return
        value, elapsed = finite(loss, done), max(time.monotonic() - self.logged, 1e-9)
        entry = {"loss": value, **{name: float(number) for name, number in numbers.items()}}
        entry |= {"steps_per_second": round((done - self.logged_at) / elapsed, 3), "waiting": round(self.waited / elapsed, 4)}
        self.log.write(done, entry)
        self.bar.note(f"loss {value:.4f}")
        self.logged, self.logged_at, self.waited = time.monotonic(), done, 0.0

    def validation(self, done: int, numbers: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        """Log a validation."""
        self.log.write_pictures(done, pictures)
        self.log.write(done, numbers, "validation")
        say(f"step {done}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    def close(self) -> None:
        """Finish log and progress bar."""
        self.bar.__exit__(None, None, None)
        self.log.close()


def rate_at(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor on the learning rate at ``step`` of ``steps``: a rise, a plateau, a descent to zero over a share ``decay`` of the
    steps. A run that is resumed with more steps before its descent repeats nothing.
    """
    rise = min(1.0, (step + 1) / max(warmup, 1))
    falling = max(1, round(steps * decay))
    return rise * min(1.0, max(0.0, (steps - step) / falling))


def make_accelerator() -> Accelerator:
    """The device of this process and its place among the others; ``ConfigError`` where accelerate is not installed."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError(f"training needs Hugging Face accelerate ({error}): pip install 'dist4d_env[train]'") from error
    return Accelerator(cpu=not torch.accelerator.is_available())  # else processes of torchrun would not know of each other


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

    Recipes call their models' own methods, which a DistributedDataParallel wrapper would bypass; so gradients are exchanged
    here, in one flat tensor.
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
        remedy = "take a lower --learning-rate, from the last checkpoint where the command has --resume"
        raise ConfigError(f"the loss is {value} at step {step}: {remedy}")
    return value
