"""Run log: ``log.jsonl`` with a run's numbers, TensorBoard with the same numbers and sample pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.scenes.files import write_text

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


class RunLog:
    """The log of one run; resumed at a step, later lines are dropped and written again."""

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"training needs TensorBoard ({error}): pip install 'dist4d_env[train]'") from error
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

    def validated(self, step: int) -> bool:
        """Whether a validation after ``step`` steps is logged."""
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        return any(entry["step"] == step and "validation" in entry for entry in map(json.loads, lines))

    def write_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
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
    write_text(file, "".join(kept))


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) in metres, from 1 m to FAR on a logarithmic scale, as colours (H, W, 3) uint8."""
    scale = np.log(np.maximum(depth, 1)) / np.log(FAR)
    return cv2.applyColorMap(np.clip(scale * 255, 0, 255).astype(np.uint8), cv2.COLORMAP_TURBO)


def rgbd_rows(rows: Sequence[torch.Tensor]) -> np.ndarray:
    """RGB of each row, then depth of each row: (V, 4, H, W) in [-1, 1] per row to one (2 R H, V W, 3) uint8 picture.

    One column per camera. Depth is its code as grey, near is bright.
    """
    colour = [row[:, :3] for row in rows]
    depth = [-row[:, 3:].expand(-1, 3, -1, -1) for row in rows]
    grid = torch.stack([*colour, *depth]).float().clamp(-1, 1)  # (2 R, V, 3, H, W)
    count, views, _, height, width = grid.shape
    picture = ((grid + 1) * 127.5).round().byte().permute(0, 3, 1, 4, 2).reshape(count * height, views * width, 3)
    return picture.cpu().numpy()
