"""The loop that all recipes share: optimiser, moving average, checkpoints, log, progress bar."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from tqdm import tqdm

from dist4d_env.errors import ConfigError
from dist4d_env.training.checkpoint import append_log, load_checkpoint, save_checkpoint, truncate_log
from dist4d_env.training.schedule import rate_at


@dataclass(frozen=True)
class LoopOptions:
    """out: the run's folder; steps: optimiser steps in all; learning_rate: its plateau; warmup: steps of its rise; decay: share
    of the steps over which it falls to zero; ema: decay of the moving average that is exported; clip: largest gradient norm;
    log_every, validate_every: steps; checkpoint_every: seconds; resume: go on from the folder's checkpoint;
    precision: "float32" or "bfloat16" (networks only; slower than float32 at these sizes even where the processor has it).
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
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, not {self.steps}")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision must be float32 or bfloat16, not {self.precision!r}")


class Recipe(Protocol):
    """What a model's training adds to the loop."""

    models: dict[str, nn.Module]  # trained, by name of their folder

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of one step and numbers to log. All randomness comes from the seed and the step."""
        ...

    def validate(self) -> dict[str, float]:
        """Numbers of the models as they are now."""
        ...

    def export(self, folder: Path) -> None:
        """Write the models as they are now so that pipelines can load them."""
        ...


def train(recipe: Recipe, options: LoopOptions) -> dict[str, float]:
    """Run a recipe to its last step and return the last validation. Interrupted runs go on with ``resume``, bit for bit."""
    options.out.mkdir(parents=True, exist_ok=True)
    parameters = [p for model in recipe.models.values() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=options.weight_decay
    )
    average = {name: {k: v.detach().clone() for k, v in model.state_dict().items()} for name, model in recipe.models.items()}
    first = 0
    if options.resume:
        state = load_checkpoint(options.out)
        for name, model in recipe.models.items():
            model.load_state_dict(state["models"][name])
        average, first = state["average"], state["step"]
        optimizer.load_state_dict(state["optimizer"])
        truncate_log(options.out, first)
    else:
        truncate_log(options.out, -1)

    def checkpoint(step: int) -> None:
        models = {name: model.state_dict() for name, model in recipe.models.items()}
        save_checkpoint(options.out, {"step": step, "models": models, "average": average, "optimizer": optimizer.state_dict()})
        with Averaged(recipe.models, average):
            recipe.export(options.out / "weights")

    saved = started = time.monotonic()
    validation: dict[str, float] = {}
    with tqdm(total=options.steps, initial=first, desc="training", unit="step", dynamic_ncols=True) as bar:
        for step in range(first, options.steps):
            factor = rate_at(step, options.steps, options.warmup, options.decay)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * factor
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
                loss, numbers = recipe.loss(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            optimizer.step()
            update_average(average, recipe.models, min(options.ema, (step + 1) / (step + 10)))
            done = step + 1
            bar.update()
            if done % options.log_every == 0 or done == options.steps:
                bar.set_postfix(loss=f"{loss.item():.4f}")
                rate = (done - first) / (time.monotonic() - started)
                entry = {"step": done, "loss": loss.item(), "gradient": norm.item(), "steps_per_second": round(rate, 3)}
                append_log(options.out, entry | numbers)
            if done % options.validate_every == 0 or done == options.steps:
                with Averaged(recipe.models, average):
                    validation = recipe.validate()
                append_log(options.out, {"step": done, "validation": validation})
                bar.write(f"step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in validation.items()))
            if time.monotonic() - saved > options.checkpoint_every or done == options.steps:
                checkpoint(done)
                saved = time.monotonic()
    return validation


@torch.no_grad()
def update_average(average: dict[str, dict[str, torch.Tensor]], models: dict[str, nn.Module], decay: float) -> None:
    """Move the averages towards the models; buffers are copied."""
    for name, model in models.items():
        floating = dict(model.named_parameters())
        for key, value in model.state_dict().items():
            if key in floating:
                average[name][key].lerp_(value, 1 - decay)
            else:
                average[name][key].copy_(value)


class Averaged:
    """Within this context the models carry their averaged weights and are in evaluation mode."""

    def __init__(self, models: dict[str, nn.Module], average: dict[str, dict[str, torch.Tensor]]) -> None:
        self.models, self.average = models, average

    def __enter__(self) -> None:
        self.kept = {n: {k: v.detach().clone() for k, v in m.state_dict().items()} for n, m in self.models.items()}
        for name, model in self.models.items():
            model.load_state_dict(self.average[name])
            model.eval()

    def __exit__(self, *error: object) -> None:
        for name, model in self.models.items():
            model.load_state_dict(self.kept[name])
            model.train()
