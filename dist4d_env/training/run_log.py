"""What a run tells: ``log.jsonl`` with its numbers, TensorBoard with the same numbers and sample pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


class Journal:
    """The log of one run; resumed at a step, what was written after it is dropped and written again."""

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"training needs TensorBoard ({error}): pip install dist4d_env[train]") from error
        self.file = folder / LOG
        truncate_log(self.file, first if first else -1)
        self.board = SummaryWriter(str(folder / TENSORBOARD), purge_step=first + 1)

    def write(self, step: int, numbers: Mapping[str, Any], kind: str = "") -> None:
        """Numbers after ``step`` steps; ``kind`` groups them ("" training, "validation")."""
        entry = {"step": step} | ({kind: dict(numbers)} if kind else dict(numbers))
        with self.file.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        for name, value in numbers.items():
            self.board.add_scalar(f"{kind or 'training'}/{name}", value, step)
        self.board.flush()

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures (H, W, 3) uint8 by name."""
        for name, picture in pictures.items():
            self.board.add_image(name, picture, step, dataformats="HWC")
        self.board.flush()

    def close(self) -> None:
        """Finish the files."""
        self.board.close()


def truncate_log(file: Path, step: int) -> None:
    """Drop the lines after ``step``, and a last line that a kill cut short: a resumed run writes them again."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["step"] <= step:
            kept.append(line + "\n")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text("".join(kept))
    os.replace(temporary, file)
