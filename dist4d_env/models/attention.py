"""The transformer's blocks: attention within views, between neighbouring views, over time and to the controls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.models.by_camera import by_camera

PARTS = ("spatial", "cross_view", "temporal", "control", "mlp")
"""Rows of a block's modulation table. Every block has "control" and "mlp"; the others are chosen per block."""


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys, (N, L, D) to (N, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """context: (N, M, D); mask: (N, M) bool, true where the context may be read."""
        split = (self.heads, x.shape[-1] // self.heads)
        query = self.query_norm(self.query(x).unflatten(-1, split)).transpose(1, 2)
        key, value = self.key_value(context).chunk(2, -1)
        key = self.key_norm(key.unflatten(-1, split)).transpose(1, 2)
        value = value.unflatten(-1, split).transpose(1, 2)
        bias = None if mask is None else mask[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Some of spatial, cross-view and temporal self-attention, then cross-attention to the controls and an MLP.

    Tokens are (B, V, T, S, D). Scale, shift and gate of each part come from one vector per frame (adaLN-single: shared
    projection, a table per block). Each view attends to its left and right neighbour at the same time; each token attends to
    its place over time.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = parts
        for part in ("spatial", "control", "cross_view", "temporal"):
            if part in parts or part == "control":
                self.add_module(part, Attention(width, heads))
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(len(PARTS), 3, width) * 0.02)

    def forward(
        self,
        x: torch.Tensor,
        neighbours: torch.Tensor,
        modulation: torch.Tensor,
        controls: torch.Tensor,
        control_mask: torch.Tensor,
    ) -> torch.Tensor:
        """neighbours: (B, V, 2); modulation: (B, T, 5, 3, D); controls: (B * T, N, D); control_mask: (B * T, N)."""
        shift, scale, gate = (modulation + self.table)[:, None, :, None].unbind(-2)  # each (B, 1, T, 1, 5, D)

        def entering(x: torch.Tensor, part: int) -> torch.Tensor:
            return self.norm(x) * (1 + scale[..., part, :]) + shift[..., part, :]

        def first(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if "spatial" in self.parts:
                h = entering(x, 0).flatten(0, 2)
                x = x + gate[..., 0, :] * self.spatial(h, h).view_as(x)
            return x, entering(x, 1)

        def second(x: torch.Tensor, h: torch.Tensor, *beside: torch.Tensor) -> torch.Tensor:
            batch, views, frames, tokens, width = x.shape
            if "cross_view" in self.parts:
                x = x + gate[..., 1, :] * self.cross_view(h.flatten(0, 2), torch.cat(beside, 3).flatten(0, 2)).view_as(x)
            if "temporal" in self.parts:
                h = entering(x, 2).transpose(2, 3).reshape(-1, frames, width)
                over_time = self.temporal(h, h).view(batch, views, tokens, frames, width).transpose(2, 3)
                x = x + gate[..., 2, :] * over_time
            h = entering(x, 3).transpose(1, 2).reshape(batch * frames, views * tokens, width)
            attended = self.control(h, controls, control_mask).view(batch, frames, views, tokens, width).transpose(1, 2)
            x = x + gate[..., 3, :] * attended
            return x + gate[..., 4, :] * self.mlp(entering(x, 4))

        # Views meet only between the two.
        x, h = by_camera(first, 1, x)
        sample = torch.arange(len(x), device=x.device)[:, None]
        return by_camera(second, 1, x, h, *(h[sample, neighbours[..., side]] for side in (0, 1)))
