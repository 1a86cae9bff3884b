"""Checkpoints that are either whole or absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from dist4d_env.errors import DataError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) to the run's folder in one move."""
    temporary = folder / f".{CHECKPOINT}.{os.getpid()}"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / CHECKPOINT)


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
    """Remove checkpoints that a killed process left unfinished."""
    for file in folder.glob(f".{CHECKPOINT}.*"):
        file.unlink()
