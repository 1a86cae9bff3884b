"""Checkpoints that are either whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from dist4d_env.errors import DataError

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) to the run's folder in one move."""
    temporary = folder / f".{CHECKPOINT}.{os.getpid()}"
    torch.save(state, temporary)
    os.replace(temporary, folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The run's last checkpoint; ``DataError`` where there is none or it cannot be read."""
    file = folder / CHECKPOINT
    if not file.is_file():
        raise DataError(f"no checkpoint to resume from: {file} does not exist; start the run without --resume")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"checkpoint {file} cannot be read ({error}); delete it and start again") from error


def append_log(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line to the run's log."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(entry) + "\n")


def truncate_log(folder: Path, step: int) -> None:
    """Drop the lines after ``step``: a resumed run writes them again."""
    file = folder / LOG
    if not file.is_file():
        return
    kept = [line for line in file.read_text().splitlines() if line and json.loads(line)["step"] <= step]
    temporary = file.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, file)
