"""Checkpoints, which are either whole or absent, and weights to start from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dist4d_env.errors import DataError, WeightsError
from dist4d_env.models.pretrained import load_model
from dist4d_env.progress import say
from dist4d_env.scenes.files import recovered

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) to the run's folder in one move."""
    temporary = folder / f".{CHECKPOINT}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / CHECKPOINT)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The run's last checkpoint, on the CPU; ``DataError`` where there is none or it cannot be read."""
    file = folder / CHECKPOINT
    if not file.is_file():
        raise DataError(f"no checkpoint to resume from: {file} does not exist; start the run without --resume")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"checkpoint {file} cannot be read ({error}); delete it and start again") from error


def remove_torn(folder: Path) -> None:
    """Remove checkpoints and weights that a killed process left unfinished."""
    for file in folder.glob(f".{CHECKPOINT}.*"):
        file.unlink()
    recovered(folder / "weights")
    for fresh in folder.glob(".weights-*"):
        shutil.rmtree(fresh, ignore_errors=True)


def initialise(models: dict[str, nn.Module], folder: Path) -> None:
    """Fill a recipe's models with the weights in ``folder``; those that it does not hold start fresh, with a message.

    Raises ``WeightsError`` where the folder holds none of them, or weights of another shape.
    """
    held = [name for name in models if (folder / name).is_dir()]
    if not held:
        raise WeightsError(f"{folder} holds none of {', '.join(models)} to start from; choose another --init")
    for name in held:
        model = models[name]
        tensors = load_model(type(model), folder / name).state_dict()
        own = model.state_dict()
        for key in own.keys() | tensors.keys():
            if key not in own or key not in tensors or own[key].shape != tensors[key].shape:
                raise WeightsError(f"{folder / name} does not fit the preset ({key} differs): start from weights of this preset")
        model.load_state_dict(tensors)
    for name in models.keys() - set(held):
        say(f"{folder} holds no {name}: it starts fresh")
