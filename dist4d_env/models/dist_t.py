"""DiST-T: a multi-camera transformer that denoises the latents of the next RGB-D frames under the controls of the scene."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.models.codec import Pointwise
from dist4d_env.models.composition import ScalarEmbedding, fourier_features
from dist4d_env.models.conditions import LAYOUT_CHANNELS, MASK_CHANNELS, DiSTTInputs

BEV_RANGE = 50.0
METRES = 20.0
"""Unit of lengths inside the network."""

MIN_NOISE = 0.02
"""Smallest noise level at which a velocity is formed from the predicted clean latent."""


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys, (N, L, D) to (N, M, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """mask: (N, M) bool, true where the context may be read."""
        split = (self.heads, x.shape[-1] // self.heads)
        query = self.query_norm(self.query(x).unflatten(-1, split)).transpose(1, 2)
        key, value = self.key_value(context).chunk(2, -1)
        key = self.key_norm(key.unflatten(-1, split)).transpose(1, 2)
        value = value.unflatten(-1, split).transpose(1, 2)
        bias = None if mask is None else mask[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Spatial, cross-view and temporal self-attention, cross-attention to the controls, and an MLP.

    Tokens are (B, V, T, S, D). Scale, shift and gate of each part come from one vector per frame (adaLN-single: shared
    projection, a table per block). Each view attends to its two ring neighbours at the same time; each token attends to its
    place over time.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, full: bool) -> None:
        super().__init__()
        self.full = full
        self.spatial = Attention(width, heads)
        self.control = Attention(width, heads)
        if full:
            self.cross_view = Attention(width, heads)
            self.temporal = Attention(width, heads)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(5, 3, width) * 0.02)

    def forward(
        self, x: torch.Tensor, modulation: torch.Tensor, controls: torch.Tensor, control_mask: torch.Tensor
    ) -> torch.Tensor:
        """modulation: (B, T, 5, 3, D); controls: (B * T, N, D); control_mask: (B * T, N)."""
        batch, views, frames, tokens, width = x.shape
        shift, scale, gate = (modulation + self.table)[:, None, :, None].unbind(-2)  # each (B, 1, T, 1, 5, D)

        def entering(part: int) -> torch.Tensor:
            return self.norm(x) * (1 + scale[..., part, :]) + shift[..., part, :]

        h = entering(0).flatten(0, 2)
        x = x + gate[..., 0, :] * self.spatial(h, h).view_as(x)
        if self.full:
            h = entering(1)
            left, right = h.roll(1, 1), h.roll(-1, 1)
            around = torch.cat([left, right], 3).flatten(0, 2)
            x = x + gate[..., 1, :] * self.cross_view(h.flatten(0, 2), around).view_as(x)
            h = entering(2).transpose(2, 3).reshape(-1, frames, width)
            over_time = self.temporal(h, h).view(batch, views, tokens, frames, width).transpose(2, 3)
            x = x + gate[..., 2, :] * over_time
        h = entering(3).transpose(1, 2).reshape(batch * frames, views * tokens, width)
        told = self.control(h, controls, control_mask).view(batch, frames, views, tokens, width).transpose(1, 2)
        x = x + gate[..., 3, :] * told
        return x + gate[..., 4, :] * self.mlp(entering(4))


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
        picked = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return picked[:, :, 0].transpose(1, 2)


class DiSTTTransformer(ModelMixin, ConfigMixin):
    """Rectified flow over the latents of T frames of V cameras, RGB and depth jointly.

    The network predicts how the clean latent differs from the splat's latent, and from it the velocity: untrained, it
    reproduces the splat. Controls: ego trajectory and boxes by cross-attention, noise level and frame interval by adaptive layer
    norm, the BEV map and the reference frame by a control branch behind zero-initialised projections (as in MagicDrive and
    DiST-4D), camera rays, the splat's latents and the projected layout with the patch embedding.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        width: int = 192,
        heads: int = 6,
        depth: int = 4,
        control_depth: int = 1,
        mlp_ratio: float = 3.0,
        patch: int = 2,
        image_size: tuple[int, int] = (64, 112),
        chunk: int = 4,
        steps: int = 1,
    ) -> None:
        """image_size, chunk and steps shape nothing: they record the height and width, frames at once and evaluations per frame
        that the weights are trained for, so that a folder of weights says how to use it.
        """
        super().__init__()
        extra = len(MASK_CHANNELS) + len(LAYOUT_CHANNELS)
        area = patch * patch
        self.embed = nn.Linear((2 * latent_channels + extra) * area, width)
        self.embed_reference = nn.Linear(latent_channels * area, width)
        self.embed_rays = nn.Linear(6 * 7, width)
        self.bev = BEVEncoder(8, width)
        self.bev_out = nn.Linear(width, width)
        self.embed_box = nn.Sequential(nn.Linear(24 * 9, width), nn.SiLU(), nn.Linear(width, width))
        self.box_class = nn.Embedding(len(CATEGORIES), width)
        self.embed_ego = nn.Sequential(nn.Linear(12 * 9, width), nn.SiLU(), nn.Linear(width, width))
        self.no_control = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.embed_level = ScalarEmbedding(2, width)
        self.modulation = nn.Linear(width, 15 * width)
        self.blocks = nn.ModuleList([Block(width, heads, mlp_ratio, full=True) for _ in range(depth)])
        self.control_blocks = nn.ModuleList([Block(width, heads, mlp_ratio, full=False) for _ in range(control_depth)])
        self.control_out = nn.ModuleList([nn.Linear(width, width) for _ in range(control_depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, latent_channels * area)
        for layer in (self.bev_out, *self.control_out, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        noisy: torch.Tensor,
        noise_level: torch.Tensor,
        inputs: DiSTTInputs,
        reference: torch.Tensor,
        splat: torch.Tensor,
    ) -> torch.Tensor:
        """The velocity d(latent)/d(noise level) at ``noisy = (1 - s) clean + s noise``.

        noisy, splat: (B, V, T, C, h, w) latents; noise_level: (B,) in (0, 1]; reference: (B, V, C, h, w). Shaped as ``noisy``.
        """
        clean = self.predict_clean(noisy, noise_level, inputs, reference, splat)
        level = noise_level.clamp(min=MIN_NOISE).view(-1, 1, 1, 1, 1, 1)
        return (noisy - clean) / level

    def predict_clean(
        self,
        noisy: torch.Tensor,
        noise_level: torch.Tensor,
        inputs: DiSTTInputs,
        reference: torch.Tensor,
        splat: torch.Tensor,
    ) -> torch.Tensor:
        """The clean latent that the network believes in, shapes as in ``forward``."""
        batch, views, frames, _, height, width = noisy.shape
        patch = self.config.patch
        rows, columns = height // patch, width // patch

        flat = torch.cat([inputs.views.masks, inputs.layout], 3).flatten(0, 2)
        told = F.adaptive_avg_pool2d(flat, (height, width)).view(batch, views, frames, -1, height, width)
        with torch.autocast(noisy.device.type, enabled=False):
            rays, ground = self._rays(inputs, rows, columns)
        place = self.embed_rays(fourier_features(rays, 3))  # (B, V, T, S, D)
        x = self.embed(_patches(torch.cat([noisy, splat, told.to(noisy.dtype)], 3), patch)) + place

        modulation = self._modulation(noise_level, inputs.interval)
        controls, control_mask = self._controls(inputs)

        bev = self.bev(inputs.bev.flatten(0, 1), ground.transpose(1, 2).reshape(batch * frames, -1, 2))
        bev = bev.view(batch, frames, views, rows * columns, -1).transpose(1, 2)
        side = self.embed_reference(_patches(reference[:, :, None], patch)) + place + self.bev_out(bev)
        for index, block in enumerate(self.blocks):
            if index < len(self.control_blocks):
                side = self.control_blocks[index](side, modulation, controls, control_mask)
                x = x + self.control_out[index](side)
            x = block(x, modulation, controls, control_mask)

        change = self.head(self.norm(x)).view(batch, views, frames, rows, columns, -1, patch, patch)
        change = change.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(noisy.shape)
        return splat + change

    def _modulation(self, noise_level: torch.Tensor, interval: torch.Tensor) -> torch.Tensor:
        scalars = torch.stack([noise_level[:, None].expand_as(interval), interval], -1)
        return self.modulation(F.silu(self.embed_level(scalars))).unflatten(-1, (5, 3, -1))

    def _controls(self, inputs: DiSTTInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of ego pose and boxes (B T, 2 + N, D) and which of them exist."""
        corners = inputs.box_corners.flatten(0, 1).flatten(-2) / METRES
        classes = inputs.box_class.flatten(0, 1)
        boxes = self.embed_box(fourier_features(corners, 4)) + self.box_class(classes.clamp(min=0))
        pose = inputs.trajectory.flatten(0, 1)[:, :3].clone()
        pose[..., 3] = pose[..., 3] / METRES
        ego = self.embed_ego(fourier_features(pose.flatten(1), 4))[:, None]
        nothing = self.no_control.expand(len(ego), -1, -1).to(ego.dtype)
        always = torch.ones(len(ego), 2, dtype=torch.bool, device=ego.device)
        return torch.cat([nothing, ego, boxes], 1), torch.cat([always, classes >= 0], 1)

    def _rays(self, inputs: DiSTTInputs, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Camera rays of token centres in the target ego frame, (B, V, T, S, 6) direction and origin, and where they
        meet the ground, (B, V, T, S, 2); rays that never do get a point outside the map.
        """
        height, width = inputs.layout.shape[-2:]
        device = inputs.layout.device
        v = (torch.arange(rows, device=device) + 0.5) * (height / rows)
        u = (torch.arange(columns, device=device) + 0.5) * (width / columns)
        v, u = torch.meshgrid(v, u, indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], -1).flatten(0, 1)  # (S, 3)
        turn = inputs.ego_from_camera[..., :3, :3] @ torch.linalg.inv(inputs.intrinsics)
        direction = F.normalize(pixels @ turn.transpose(-1, -2), dim=-1)
        origin = inputs.ego_from_camera[..., None, :3, 3].expand_as(direction)
        falling = direction[..., 2] < -1e-3
        reach = -origin[..., 2] / torch.where(falling, direction[..., 2], -torch.ones_like(direction[..., 2]))
        ground = origin[..., :2] + reach[..., None] * direction[..., :2]
        ground = torch.where(falling[..., None], ground, torch.full_like(ground, 10 * BEV_RANGE))
        return torch.cat([direction, origin / METRES], -1), ground


def _patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(..., C, h, w) to tokens (..., h w / patch^2, C patch^2)."""
    channels, height, width = images.shape[-3:]
    cut = images.reshape(-1, channels, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(*images.shape[:-3], (height // patch) * (width // patch), channels * patch * patch)
