"""A small camera and LiDAR model of the public kind in its own process, to be replaced by yours.

python examples/end_to_end_model.py &
dist4d evaluate --planner dist4d_env.planners.remote:RemotePlanner --world oracle --size 128x224
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import grid_sample

from dist4d_env.planners.remote.end_to_end import EndToEnd  # or copy both files beside this one
from dist4d_env.planners.remote.planner_server import serve

CELLS, CELL, WIDTH, STEPS = 20, 2.0, 16, 6
"""Cells of the bird's-eye grid along a side, metres of one, channels, and waypoints of a plan, every 0.5 s."""


class SmallModel(nn.Module):
    """Image features lifted to a bird's-eye grid by the calibration, LiDAR points counted into it, CAN bus and command beside it.

    The weights are random ones of a fixed seed: it keeps its speed, straight on, and what it sees moves its waypoints by
    centimetres. It stands for a model's interface, not for its driving.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Sequential(nn.Conv2d(3, WIDTH, 7, 4, 3), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU())
        self.grid = nn.Sequential(nn.Conv2d(WIDTH + 1, WIDTH, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(16 * WIDTH + 18, 3 * STEPS * 2)
        middle = CELL * (torch.arange(CELLS) - CELLS / 2 + 0.5)
        y, x = torch.meshgrid(middle, middle, indexing="ij")  # the LiDAR's frame: x to the right, y forward
        self.register_buffer("places", torch.stack([x, y, torch.full_like(x, -1.0), torch.ones_like(x)], -1).reshape(-1, 4))
        self.scene, self.before = "", np.zeros(18)

    @torch.no_grad()
    def forward(self, img: Any, img_metas: Any, points: Any, ego_fut_cmd: Any) -> np.ndarray:
        """(3, 6, 2) waypoints for each command, in the LiDAR's frame."""
        lifted = self.lift(torch.from_numpy(img[0]), torch.from_numpy(np.asarray(img_metas[0]["lidar2img"], np.float32)))
        features = self.grid(torch.cat([lifted, self.counted(points[0])])[None])[0]
        can_bus = np.array(img_metas[0]["can_bus"], float)
        moved = can_bus - self.before if img_metas[0]["scene_token"] == self.scene else np.zeros(18)
        self.scene, self.before = img_metas[0]["scene_token"], can_bus
        status = np.concatenate([moved[:3], can_bus[3:16], moved[16:]])  # as UniAD and VAD: motion since the frame before
        steps = self.head(torch.cat([features, torch.from_numpy(status / 10.0).float()])).reshape(3, STEPS, 2)
        ahead = torch.tensor([0.0, 0.5 * can_bus[13]])  # of the speed that the CAN bus has
        return (ahead + 0.05 * steps.tanh()).cumsum(1).numpy()

    def lift(self, images: torch.Tensor, lidar2img: torch.Tensor) -> torch.Tensor:
        """(C, N, N) the mean of the features that cameras show where the cells of the grid are."""
        features, (height, width) = self.images(images), images.shape[2:]
        seen = torch.einsum("vij,nj->vni", lidar2img, self.places)
        depth = seen[..., 2].clamp(min=1e-3)
        pixels = seen[..., :2] / depth[..., None] / torch.tensor([width, height]) * 2 - 1
        valid = (seen[..., 2] > 0.5) & (pixels.abs() < 1).all(-1)
        sampled = grid_sample(features, pixels[:, None], align_corners=False)[:, :, 0] * valid[:, None]
        return (sampled.sum(0) / valid.sum(0).clamp(min=1)).reshape(-1, CELLS, CELLS)

    def counted(self, points: np.ndarray) -> torch.Tensor:
        """(1, N, N) logarithm of the LiDAR points in each cell."""
        place = np.floor(points[:, 1::-1] / CELL + CELLS / 2).astype(int)
        place = place[((place >= 0) & (place < CELLS)).all(1)]
        count = np.bincount(place[:, 0] * CELLS + place[:, 1], minlength=CELLS * CELLS).reshape(1, CELLS, CELLS)
        return torch.from_numpy(np.log1p(count)).float()


class Served(EndToEnd):
    """One model for each worker."""

    def __init__(self) -> None:
        super().__init__(SmallModel())


if __name__ == "__main__":
    serve(Served, lidar=True)
