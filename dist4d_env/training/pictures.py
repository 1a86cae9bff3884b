"""Sample pictures of a run: rows of RGB-D images as networks hold them, one column per camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def rgbd_rows(rows: Sequence[torch.Tensor]) -> np.ndarray:
    """RGB of each row, then depth of each row: (V, 4, H, W) in [-1, 1] per row to one (2 R H, V W, 3) uint8 picture.

    Depth is its code as grey, near is bright.
    """
    colour = [row[:, :3] for row in rows]
    depth = [-row[:, 3:].expand(-1, 3, -1, -1) for row in rows]
    grid = torch.stack([*colour, *depth]).float().clamp(-1, 1)  # (2 R, V, 3, H, W)
    count, views, _, height, width = grid.shape
    picture = ((grid + 1) * 127.5).round().byte().permute(0, 3, 1, 4, 2).reshape(count * height, views * width, 3)
    return picture.cpu().numpy()
