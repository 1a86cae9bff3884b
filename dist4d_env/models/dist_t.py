"""DiST-T: a multi-camera transformer that denoises the latents of the next RGB-D frames under the controls of the scene."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.arguments import MOST_BLOCKS, MOST_CHANNELS, check_channels, check_choice, check_image_size, check_whole
from dist4d_env.models.attention import PARTS, Block
from dist4d_env.models.composition import ScalarEmbedding
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.models.controls import BEVEncoder, CameraPlace, ControlTokens, over_latent_time
from dist4d_env.models.inputs import DiSTTInputs
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.samplers import MIN_NOISE
from dist4d_env.scenes.edits import is_number


def timestep_shift(height: int, width: int, latent_frames: int) -> float:
    """Factor r of the shift t' = r t / (1 + (r - 1) t): more pixels need more noise to be destroyed (Open-Sora, DiST-4D).

    r = sqrt(H W / 512^2) sqrt(T), T latent frames: 2.54 for 17 frames (5 latent ones, counted 4 + 1) of 424 x 800.
    """
    return math.sqrt(height * width / 512**2) * math.sqrt(latent_frames)


class DiSTTTransformer(ModelMixin, ConfigMixin):
    """Rectified flow over the latents of T frames of V cameras, RGB and depth jointly.

    The network predicts how the clean latent differs from the splat's latent, and from it the velocity: untrained, it
    reproduces the splat. Controls: ego trajectory, boxes, attributes and captions by cross-attention, noise level and frame
    interval by adaptive layer norm, the BEV map and the reference frame by a control branch behind zero-initialised
    projections (as in MagicDrive and DiST-4D), cameras, the splat's latents and the projected layout with the patch embedding.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True

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
        time_factor: int = 1,
        split_blocks: bool = False,
        camera: str = "rays",
        caption_dim: int = 0,
        image_size: tuple[int, int] = (64, 112),
        chunk: int = 4,
        steps: int = 1,
    ) -> None:
        """time_factor: frames per latent frame after the first; split_blocks: a spatial and a temporal block at each depth, each
        with controls and MLP of its own (as published), else one block for all; camera: "rays" or "fourier"; caption_dim: width
        of caption features, 0 for none.

        image_size, chunk and steps do not shape the network: they record the height and width, frames at once and evaluations per
        frame that the weights are trained for.
        """
        super().__init__()
        _check_arguments(self.config)
        extra = len(MASK_CHANNELS) + len(LAYOUT_CHANNELS)
        area = patch * patch
        self.embed = nn.Linear((2 * latent_channels + extra) * area, width)
        self.embed_reference = nn.Linear(latent_channels * area, width)
        self.place = CameraPlace(width, camera)
        self.bev = BEVEncoder(8, width)
        self.bev_out = nn.Linear(width, width)
        self.controls = ControlTokens(width, caption_dim)
        self.embed_level = ScalarEmbedding(2, width)
        self.modulation = nn.Linear(width, len(PARTS) * 3 * width)

        def level(parts: tuple[str, ...]) -> nn.ModuleList:
            groups = [tuple(p for p in parts if p != "temporal"), ("temporal",)] if split_blocks else [parts]
            return nn.ModuleList([Block(width, heads, mlp_ratio, group) for group in groups])

        self.blocks = nn.ModuleList([level(("spatial", "cross_view", "temporal")) for _ in range(depth)])
        aside = ("spatial", "temporal") if split_blocks else ("spatial",)
        self.control_blocks = nn.ModuleList([level(aside) for _ in range(control_depth)])
        self.control_out = nn.ModuleList([nn.Linear(width, width) for _ in range(control_depth * len(level(aside)))])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, latent_channels * area)
        for layer in (self.bev_out, *self.control_out, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.gradient_checkpointing = False

    def forward(
        self,
        noisy: torch.Tensor,
        noise_level: torch.Tensor,
        inputs: DiSTTInputs,
        reference: torch.Tensor,
        splat: torch.Tensor,
    ) -> torch.Tensor:
        """The velocity d(latent)/d(noise level) at ``noisy = (1 - s) clean + s noise``.

        noisy, splat: (B, V, T', C, h, w) latents, T' = 1 + (T - 1) / time_factor; noise_level: (B,) in (0, 1];
        reference: (B, V, C, h, w). Shaped as ``noisy``.
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
        """The predicted clean latent, shapes as in ``forward``."""
        config = self.config
        height, width = noisy.shape[-2:]
        patch, dtype = config.patch, self.embed.weight.dtype
        images = torch.cat([noisy, splat, self._image_conditions(inputs, (height, width)).to(noisy.dtype)], 3)
        images, reference = _padded(images, patch), _padded(reference[:, :, None], patch)
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        pixels = inputs.layout.shape[-1] / width * patch

        place, ground = self.place(inputs, rows, columns, pixels)
        place = over_latent_time(place, 2, config.time_factor)
        x = self.embed(_patches(images, patch).to(dtype)) + place  # (B, V, T', S, D)

        interval = over_latent_time(inputs.interval, 1, config.time_factor)
        modulation = self._modulation(noise_level, interval)
        controls, readable = self.controls(inputs, config.time_factor)

        side = self.embed_reference(_patches(reference, patch).to(dtype)) + place + self.bev_out(self._map(inputs, ground))
        outlets = iter(self.control_out)
        for depth, blocks in enumerate(self.blocks):
            aside = self.control_blocks[depth] if depth < len(self.control_blocks) else [None] * len(blocks)
            for part, block in enumerate(blocks):
                if part < len(aside) and aside[part] is not None:
                    side = self._run(aside[part], side, inputs.neighbours, modulation, controls, readable)
                    x = x + next(outlets)(side)
                x = self._run(block, x, inputs.neighbours, modulation, controls, readable)

        change = self.head(self.norm(x)).unflatten(3, (rows, columns)).unflatten(-1, (-1, patch, patch))
        change = change.permute(0, 1, 2, 5, 3, 6, 4, 7).flatten(-2).flatten(-3, -2)
        return splat + change[..., :height, :width]

    def _run(self, block: nn.Module, x: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, x, *conditions)
        return block(x, *conditions)

    def _image_conditions(self, inputs: DiSTTInputs, size: tuple[int, int]) -> torch.Tensor:
        """Masks of the splat and layout at latent size and latent frames, (B, V, T', 12, h, w)."""
        images = torch.cat([inputs.views.masks, inputs.layout], 3)
        pooled = F.adaptive_avg_pool2d(images.flatten(0, 2), size).unflatten(0, images.shape[:3])
        return over_latent_time(pooled, 2, self.config.time_factor)

    def _map(self, inputs: DiSTTInputs, ground: torch.Tensor) -> torch.Tensor:
        """BEV features (B, V, T', S, D) where rays meet the ground, (B, V, T, S, 2) metres."""
        batch, views, frames, tokens = ground.shape[:4]
        features = self.bev(inputs.bev.flatten(0, 1), ground.transpose(1, 2).reshape(batch * frames, -1, 2))
        features = features.view(batch, frames, views, tokens, -1).transpose(1, 2)
        return over_latent_time(features, 2, self.config.time_factor)

    def _modulation(self, noise_level: torch.Tensor, interval: torch.Tensor) -> torch.Tensor:
        scalars = torch.stack([noise_level[:, None].expand_as(interval), interval], -1)
        embedded = self.embed_level(scalars.to(self.modulation.weight.dtype))
        return self.modulation(F.silu(embedded)).unflatten(-1, (len(PARTS), 3, -1))


def _check_arguments(given: Any) -> None:
    """Raises ConfigError for arguments of ``DiSTTTransformer`` that cannot be."""
    width, heads = given.width, given.heads
    check_channels(latent_channels=given.latent_channels, width=width)
    bounds = {
        "heads": (1, width), "depth": (1, MOST_BLOCKS), "control_depth": (0, given.depth), "patch": (1, 8),
        "time_factor": (1, 16), "caption_dim": (0, MOST_CHANNELS), "chunk": (1, 17), "steps": (1, 1000),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        check_whole(name, given[name], low, high)
    check_choice("split_blocks", given.split_blocks, (False, True))
    check_choice("camera", given.camera, ("rays", "fourier"))
    if width % heads or (given.camera == "fourier" and width % 4):
        raise ConfigError(f"width must be a multiple of heads, and of 4 with camera='fourier', not {width} with {heads} heads")
    if not is_number(given.mlp_ratio, 1 / width, 16):
        raise ConfigError(f"mlp_ratio must be a number from 1 / width to 16, not {given.mlp_ratio!r}")
    check_image_size(given.image_size)


def _padded(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(..., h, w) with rows and columns repeated at the end up to whole patches."""
    height, width = images.shape[-2:]
    down, right = -height % patch, -width % patch
    if not (down or right):
        return images
    flat = F.pad(images.flatten(0, -4), (0, right, 0, down), mode="replicate")
    return flat.unflatten(0, images.shape[:-3])


def _patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(..., C, h, w) to tokens (..., h w / patch^2, C patch^2)."""
    channels, height, width = images.shape[-3:]
    cut = images.reshape(-1, channels, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(*images.shape[:-3], (height // patch) * (width // patch), channels * patch * patch)
