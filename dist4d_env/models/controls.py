"""Conditions of DiST-T beside images: BEV map, camera geometry, ego trajectory, boxes, attributes, captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.models.codec import Pointwise
from dist4d_env.models.composition import fourier_features
from dist4d_env.models.conditions import ATTRIBUTES, INSTANCES
from dist4d_env.models.inputs import DiSTTInputs
from dist4d_env.models.layout import BEV_RANGE

METRES = 20.0
"""Unit of lengths inside the network."""
OUTSIDE = 10 * BEV_RANGE
"""Ground coordinate of rays that never meet the ground: outside the map."""


def over_latent_time(values: torch.Tensor, dim: int, factor: int) -> torch.Tensor:
    """Values of T frames to those of 1 + (T - 1) / factor latent frames: the first as it is, then means of ``factor``.

    The index map of a causal video codec that keeps its first frame (CogVideoX: factor 4).
    """
    if factor == 1 or values.shape[dim] == 1:
        return values
    first, rest = values.narrow(dim, 0, 1), values.narrow(dim, 1, values.shape[dim] - 1)
    return torch.cat([first, rest.unflatten(dim, (-1, factor)).mean(dim + 1 if dim >= 0 else dim)], dim)


class BEVEncoder(nn.Module):
    """The BEV map to features of 4 m cells, read where each token's ray meets the ground."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            Pointwise(64, width),
        )

    def forward(self, bev: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
        """bev: (N, 8, R, R); ground: (N, P, 2) metres x, y in the ego frame. Returns (N, P, D), zero outside the map."""
        features = self.net(bev)
        # Row 0 lies 50 m ahead and column 0 lies 50 m to the left, so the raster's axes are -y and -x.
        grid = torch.stack([-ground[..., 1], -ground[..., 0]], -1)[:, None] / BEV_RANGE
        picked = F.grid_sample(features, grid.to(features.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
        return picked[:, :, 0].transpose(1, 2)


class ControlTokens(nn.Module):
    """Ego pose, boxes, attributes and captions as tokens that every image token attends to."""

    def __init__(self, width: int, caption_dim: int) -> None:
        super().__init__()
        self.box = nn.Sequential(nn.Linear(24 * 9, width), nn.SiLU(), nn.Linear(width, width))
        self.box_class = nn.Embedding(len(CATEGORIES), width)
        self.box_instance = nn.Embedding(INSTANCES, width)
        self.ego = nn.Sequential(nn.Linear(12 * 9, width), nn.SiLU(), nn.Linear(width, width))
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attributes = nn.Linear(len(ATTRIBUTES), width)
        self.captions = nn.Linear(caption_dim, width) if caption_dim else None
        for zero in (self.box_instance.weight, *self.attributes.parameters()):
            nn.init.zeros_(zero)

    def forward(self, inputs: DiSTTInputs, time_factor: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B T', N, D) over T' latent frames, and which of them may be read (B T', N)."""
        dtype = self.nothing.dtype
        corners = fourier_features(inputs.box_corners.flatten(-2) / METRES, 4).to(dtype)  # (B, T, N, 216)
        classes = inputs.box_class
        boxes = self.box(corners) + self.box_class(classes.clamp(min=0)) + self.box_instance(inputs.box_instance)
        pose = inputs.trajectory[..., :3, :].clone()
        pose[..., 3] = pose[..., 3] / METRES
        ego = self.ego(fourier_features(pose.flatten(2), 4).to(dtype))[:, :, None]
        exists = classes >= 0
        boxes, ego = over_latent_time(boxes, 1, time_factor), over_latent_time(ego, 1, time_factor)
        # A latent frame's box tokens are means over its frames, so a row counts where it held a box in all of them.
        exists = over_latent_time(exists.to(dtype), 1, time_factor) > 0.999
        batch, frames = ego.shape[:2]
        controlled = inputs.controlled[:, None, None].expand(batch, frames, 1)
        attributes = self.attributes(inputs.attributes.to(dtype))[:, None, None].expand(-1, frames, -1, -1)
        tokens = [self.nothing[:, None].expand(batch, frames, -1, -1), ego, boxes, attributes]
        readable = [torch.ones_like(controlled), controlled, exists, controlled]
        if inputs.captions is not None:
            if self.captions is None or inputs.captions.shape[-1] != self.captions.in_features:
                takes = "none" if self.captions is None else f"features of {self.captions.in_features} numbers"
                raise ConfigError(
                    f"captions of {tuple(inputs.captions.shape)}: these weights take {takes} (caption_dim); leave them out, or "
                    "choose weights that take them"
                )
            tokens.append(self.captions(inputs.captions.to(dtype))[:, None].expand(-1, frames, -1, -1))
            readable.append(controlled.expand(-1, -1, inputs.captions.shape[1]))
        return torch.cat([t.to(dtype) for t in tokens], 2).flatten(0, 1), torch.cat(readable, 2).flatten(0, 1)


class CameraPlace(nn.Module):
    """Viewing direction of each token: Fourier features of its camera ray ("rays", which any rig has), or sine-cosine image
    positions plus an embedding of the 3 x 7 matrix of intrinsics and ego-from-camera ("fourier", as published)."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind, self.width = kind, width
        if kind == "rays":
            self.embed = nn.Linear(6 * 7, width)
        else:
            self.embed = nn.Sequential(nn.Linear(21 * 9, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, inputs: DiSTTInputs, rows: int, columns: int, pixels: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Places (B, V, T, S, D) of tokens ``pixels`` wide and high, and where their rays meet the ground (B, V, T, S, 2)."""
        dtype = next(self.parameters()).dtype
        with torch.autocast(inputs.layout.device.type, enabled=False):
            rays, ground = camera_rays(inputs.intrinsics, inputs.ego_from_camera, rows, columns, pixels)
        if self.kind == "rays":
            return self.embed(fourier_features(rays, 3).to(dtype)), ground
        turn = inputs.ego_from_camera[..., :3, :].clone()
        turn[..., 3] = turn[..., 3] / METRES
        # Intrinsics in units of the image's size, so that the same camera at another resolution is the same camera.
        scale = inputs.intrinsics.new_tensor([columns * pixels, rows * pixels, 1.0]).view(3, 1)
        camera = torch.cat([inputs.intrinsics / scale, turn], -1).flatten(-2)  # (B, V, T, 21)
        image = image_positions(rows, columns, self.width, camera.device).to(dtype)
        return self.embed(fourier_features(camera, 4).to(dtype))[..., None, :] + image, ground


def camera_rays(
    intrinsics: torch.Tensor, ego_from_camera: torch.Tensor, rows: int, columns: int, pixels: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays of token centres in the ego frame, (..., S, 6) direction and origin (in METRES), and where they meet the ground,
    (..., S, 2) metres; intrinsics (..., 3, 3), ego_from_camera (..., 4, 4)."""
    device = intrinsics.device
    v, u = torch.meshgrid(
        (torch.arange(rows, device=device) + 0.5) * pixels, (torch.arange(columns, device=device) + 0.5) * pixels, indexing="ij"
    )
    points = torch.stack([u, v, torch.ones_like(u)], -1).flatten(0, 1)  # (S, 3)
    turn = ego_from_camera[..., :3, :3] @ torch.linalg.inv(intrinsics)
    direction = F.normalize(points @ turn.transpose(-1, -2), dim=-1)
    origin = ego_from_camera[..., None, :3, 3].expand_as(direction)
    falling = direction[..., 2] < -1e-3
    reach = -origin[..., 2] / torch.where(falling, direction[..., 2], -torch.ones_like(direction[..., 2]))
    ground = origin[..., :2] + reach[..., None] * direction[..., :2]
    ground = torch.where(falling[..., None], ground, torch.full_like(ground, OUTSIDE))
    return torch.cat([direction, origin / METRES], -1), ground


def image_positions(rows: int, columns: int, width: int, device: torch.device) -> torch.Tensor:
    """Sine-cosine positions (S, D) of a grid: half of the channels for rows, half for columns (width divisible by 4)."""
    rate = 10000.0 ** (-torch.arange(width // 4, device=device) / (width // 4))

    def along(count: int) -> torch.Tensor:
        angle = torch.arange(count, device=device)[:, None] * rate
        return torch.cat([torch.sin(angle), torch.cos(angle)], -1)

    down, across = along(rows)[:, None].expand(-1, columns, -1), along(columns)[None].expand(rows, -1, -1)
    return torch.cat([down, across], -1).flatten(0, 1)
