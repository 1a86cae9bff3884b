"""Sampling: DiST-T and DiST-S from conditions to RGB-D frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.models.by_camera import by_camera, inferring
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.composition import REGIONS, Gains, coarse_size, regions, resized
from dist4d_env.models.conditions import MASK_CHANNELS, SplatImages, TargetConditions, age_code
from dist4d_env.models.depth_code import decode_depth
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer, timestep_shift
from dist4d_env.models.inputs import (
    DiSTTInputs,
    ViewInputs,
    collate_targets,
    collate_views,
    rgb_pixels,
    stacked_layouts,
    stacked_views,
    without_controls,
)
from dist4d_env.models.pretrained import load_model, resolve_weights, save_model
from dist4d_env.models.samplers import MIN_NOISE, FlowEuler, Sampler, make_sampler
from dist4d_env.models.svd import SVDConditions
from dist4d_env.models.video_codec import Codec, load_codec


@dataclass(frozen=True)
class Generated:
    """Frames as arrays; leading axes are (B, T, V) from DiST-T and (B, V) from DiST-S.

    rgb: (..., H, W, 3) uint8; depth: (..., H, W) float32 metres, nan where a network's answer isn't finite; share: (..., H, W)
    float32 in [0, 1], how much of each pixel was generated rather than splatted.
    """

    rgb: np.ndarray
    depth: np.ndarray
    share: np.ndarray


@torch.no_grad()
def denoise(
    transformer: DiSTTTransformer,
    noise: torch.Tensor,
    inputs: DiSTTInputs,
    reference: torch.Tensor,
    splat: torch.Tensor,
    steps: int,
    guidance: float = 1.0,
    sampler: Sampler | None = None,
) -> torch.Tensor:
    """Follow the flow from noise to clean latents, (B, V, T', C, h, w) both; ``sampler`` None is Euler's method.

    reference, splat: latents as ``DiSTTTransformer.forward`` takes them; guidance: classifier-free, towards the controls.
    """
    sampler = sampler or FlowEuler()
    network = transformer if sampler.predicts == "velocity" else transformer.predict_clean
    withheld = without_controls(inputs, torch.ones_like(inputs.controlled)) if guidance != 1 else None

    def model(noisy: torch.Tensor, level: float) -> torch.Tensor:
        at = torch.full((len(noisy),), level, device=noisy.device)
        prediction = network(noisy, at, inputs, reference, splat)
        if withheld is None:
            return prediction
        free = network(noisy, at, withheld, reference, splat)
        return free + guidance * (prediction - free)

    height, width = inputs.layout.shape[-2:]
    levels = _levels(sampler, steps, timestep_shift(height, width, noise.shape[2]), flow=True)
    return sampler.sample(model, noise, levels)


def _levels(sampler: Sampler, steps: int, shift: float, flow: bool) -> list[float]:
    """A sampler's noise levels; ``ConfigError`` where they are not a rectified flow's, from 1, or not SVD's, from far above."""
    levels = sampler.levels(steps, shift)
    if flow != (levels[0] == 1):
        kind = "a rectified flow starts at 1" if flow else "Stable Video Diffusion starts far above 1"
        raise ConfigError(f"{type(sampler).__name__} starts at noise level {levels[0]:g}, {kind}: choose another sampler")
    return levels


def _to_images(rgbd: torch.Tensor, share: torch.Tensor, depth_code: str) -> Generated:
    """(..., 4, H, W) and (..., 1, H, W) to arrays."""
    finite = torch.isfinite(rgbd).all(-3) & torch.isfinite(share).all(-3)
    rgb = rgb_pixels(rgbd[..., :3, :, :])
    depth = decode_depth(rgbd[..., 3, :, :], depth_code).where(finite, torch.nan)
    return Generated(rgb, depth.float().cpu().numpy(), share[..., 0, :, :].float().cpu().numpy())


def noise_of(*key: int) -> torch.Generator:
    """A generator of noise on the CPU, so that a key means the same noise on every device."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


DRAWN = 0.5
"""Share from which a pixel counts as drawn anew."""


def keep_agents(
    rgbd: torch.Tensor, share: torch.Tensor, views: ViewInputs, seen_within: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB-D images (..., 4, H, W) with the splat's colours of agents where it shows them as they were seen up to so many seconds
    before or after, and the generated share (..., 1, H, W), which is 0 there.

    A network that is not sure of a small object fades it into the road. Plain bodies of inserted agents stay as they are, too.
    views: the splat, same leading axes.
    """
    agents = regions(views.masks)[..., REGIONS.index("moving"), None, :, :]
    if math.isfinite(seen_within):
        age = views.masks[..., MASK_CHANNELS.index("age"), None, :, :]
        agents = agents & (age <= age_code(seen_within) + 0.5 / 255)
    rgb = torch.where(agents, views.base[..., :3, :, :], rgbd[..., :3, :, :])
    return torch.cat([rgb, rgbd[..., 3:, :, :]], -3), share.masked_fill(agents, 0.0)


def protect_depth(
    rgbd: torch.Tensor, share: torch.Tensor, views: ViewInputs, depth_code: str, alike: float, confirmed: float
) -> torch.Tensor:
    """RGB-D images (..., 4, H, W) with the splat's depth where it is valid and the network is not sure: where the colour stays
    the splat's, too (share (..., 1, H, W) below ``DRAWN``), or where its confidence is at least ``confirmed`` and the network's
    depth is within a factor ``alike`` of it.

    On streets unlike those that it learned from, a network moves depth that was right. views: the splat, same leading axes.
    """
    ours, theirs = (decode_depth(image[..., 3:, :, :], depth_code).clamp(min=0.1) for image in (rgbd, views.base))
    valid, confidence = (
        views.masks[..., MASK_CHANNELS.index(name), None, :, :] >= level
        for name, level in (("valid", 0.5), ("confidence", confirmed))
    )
    corrected = torch.maximum(ours / theirs, theirs / ours) < alike
    kept = valid & ((share < DRAWN) | (confidence & corrected))
    return torch.cat([rgbd[..., :3, :, :], torch.where(kept, views.base[..., 3:, :, :], rgbd[..., 3:, :, :])], -3)


class DiSTTPipeline:
    """Codec, transformer and composer: reference frames and target conditions in, the next RGB-D frames out.

    Any number V of cameras. sampler: a name in ``samplers.SAMPLERS`` or an object.

    >>> pipeline = DiSTTPipeline.from_pretrained("tiny")
    >>> frames = pipeline([reference], [[next_half_second, next_second]], generator=torch.Generator().manual_seed(0))
    >>> frames.rgb.shape
    (1, 2, 6, 64, 112, 3)
    """

    PROTECTED = 2.0, 0.0
    """``alike`` and ``confirmed`` of ``protect_depth``, chosen on other streets than are reported."""

    def __init__(
        self,
        codec: Codec,
        transformer: DiSTTTransformer,
        composer: Composer,
        sampler: str | Sampler = "flow_euler",
    ) -> None:
        self.codec, self.transformer, self.composer = codec.eval(), transformer.eval(), composer.eval()
        self.sampler = make_sampler(sampler)
        composer.to(memory_format=torch.channels_last)
        if isinstance(codec, RGBDCodec):  # the video codec's weights have an axis more
            codec.to(memory_format=torch.channels_last)
        if transformer.config.latent_channels != 2 * codec.config.latent_channels:
            raise ConfigError(
                f"the transformer takes {transformer.config.latent_channels} latent channels, the codec makes "
                f"{codec.config.latent_channels} each for RGB and depth"
            )
        levels = 2 ** len(composer.config.widths)
        if any(side % levels for side in transformer.config.image_size):
            raise ConfigError(
                f"the composer takes multiples of {levels} pixels, DiST-T's image_size is {transformer.config.image_size}"
            )
        if transformer.config.time_factor != codec.time_factor:
            raise ConfigError(
                f"the transformer counts {transformer.config.time_factor} frames to a latent, the codec {codec.time_factor}"
            )

    @classmethod
    def from_pretrained(
        cls, weights: str | Path, device: str | torch.device = "cpu", sampler: str | Sampler = "flow_euler"
    ) -> DiSTTPipeline:
        """A shipped preset's name or a folder written by ``save_pretrained``; raises ``WeightsError``."""
        folder = resolve_weights(weights)
        codec, transformer = load_codec(folder / "codec"), load_model(DiSTTTransformer, folder / "dist_t")
        composer = load_model(Composer, folder / "composer")
        sampler = make_sampler(sampler)
        try:
            return cls(codec.to(device), transformer.to(device), composer.to(device), sampler)
        except ConfigError as error:
            raise WeightsError(f"the models in {folder} do not belong together: {error}") from error

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write ``codec``, ``dist_t`` and ``composer`` below ``folder``."""
        for model, name in ((self.codec, "codec"), (self.transformer, "dist_t"), (self.composer, "composer")):
            save_model(model, Path(folder) / name, dtype)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.transformer.parameters()).device

    def __call__(
        self,
        references: Sequence[RGBDFrame],
        targets: Sequence[Sequence[TargetConditions]],
        *,
        gains: Gains = None,
        seen_within: float = math.inf,
        **how: Any,
    ) -> Generated:
        """Generate T frames for each of B samples: ``predict``, ``decode``, ``compose``, whose arguments these are.

        Returns arrays over (B, T, V).
        """
        return self.compose(self.decode(self.predict(references, targets, **how)), targets, gains, seen_within)

    @inferring
    def predict(
        self,
        references: Sequence[RGBDFrame],
        targets: Sequence[Sequence[TargetConditions]],
        *,
        generator: torch.Generator,
        steps: int = 1,
        guidance: float = 1.0,
        captions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The latents (B, V, T', C, h, w) of T frames for each of B samples.

        references: the last known frame of each sample; targets: B lists of T conditions, T one more than a multiple of the
        codec's ``time_factor``; generator: on the CPU, so that a seed means the same noise on every device; steps: network
        evaluations, twice as many with ``guidance`` other than 1 (classifier-free, towards the controls); captions: (B, L, D)
        features where the weights take them.
        """
        inputs = collate_targets(references, targets, self.codec.config.depth_code, captions).to(self.device)
        inputs = inputs.at_size(*coarse_size(inputs.layout.shape[-2:], self.transformer.config.image_size))
        reference = by_camera(self.codec.encode_rgbd, 1, inputs.reference)
        splat = by_camera(self.codec.encode_rgbd, 1, inputs.views.base)
        noise = torch.randn(splat.shape, generator=generator).to(self.device)
        return denoise(self.transformer, noise, inputs, reference, splat, steps, guidance, self.sampler)

    @inferring
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to RGB and depth code (B, V, T, 4, H, W). Where ``time_factor`` is 1, each frame can be decoded on its own."""
        return by_camera(self.codec.decode_rgbd, 1, latents.to(self.device))

    @inferring
    def compose(
        self,
        decoded: torch.Tensor,
        targets: Sequence[Sequence[TargetConditions]],
        gains: Gains = None,
        seen_within: float = math.inf,
    ) -> Generated:
        """Decoded frames (B, V, T, 4, H, W) and their conditions to the final frames, arrays over (B, T, V).

        gains: in place of the weights' own, ``composition.Gains``; seen_within: of ``keep_agents``.
        """
        code = self.codec.config.depth_code
        views = stacked_views(targets, code).to(self.device)
        layout = stacked_layouts([[one.controls for one in sample] for sample in targets]).to(self.device)
        interval = torch.tensor([[one.interval for one in sample] for sample in targets], dtype=torch.float32)
        interval = interval.to(self.device)

        def composed(frames: torch.Tensor, layout: torch.Tensor, *views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.composer.frames(frames, ViewInputs(*views), layout, interval, gains)

        rgbd, share = by_camera(composed, 1, decoded, layout, *views)
        rgbd, share = keep_agents(rgbd, share, views, seen_within)
        rgbd = protect_depth(rgbd, share, views, code, *self.PROTECTED)
        return _to_images(rgbd.transpose(1, 2), share.transpose(1, 2), code)

    def uncomposed(self, decoded: torch.Tensor, height: int, width: int) -> Generated:
        """Decoded frames (B, V, T, 4, h, w) as they are, all of them generated, arrays of that size over (B, T, V)."""
        decoded = resized(decoded, height, width)
        share = torch.ones_like(decoded[..., :1, :, :])
        return _to_images(decoded.transpose(1, 2), share.transpose(1, 2), self.codec.config.depth_code)


class DiSTSPipeline:
    """The view-synthesis network: splats at new poses in, dense RGB-D out.

    sampler: a name in ``samplers.SAMPLERS`` or an object; None is "karras" for Stable Video Diffusion, else "euler".
    """

    PROTECTED = 1.5, 0.5
    """``alike`` and ``confirmed`` of ``protect_depth``, chosen on other streets than are reported."""

    def __init__(self, unet: DiSTSUNet, sampler: str | Sampler | None = None) -> None:
        self.unet = unet.eval()
        self.sampler = make_sampler(sampler or ("karras" if unet.is_svd else "euler"))
        if not unet.is_svd:  # SVD's weights over time have an axis more
            unet.to(memory_format=torch.channels_last)
        self.depth_code = str(unet.config.depth_code)

    @classmethod
    def from_pretrained(
        cls, weights: str | Path, device: str | torch.device = "cpu", sampler: str | Sampler | None = None
    ) -> DiSTSPipeline:
        """A shipped preset's name or a folder written by ``save_pretrained``; raises ``WeightsError``."""
        unet = load_model(DiSTSUNet, resolve_weights(weights) / "dist_s")
        return cls(unet.to(device), sampler)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write ``dist_s`` below ``folder``."""
        save_model(self.unet, Path(folder) / "dist_s", dtype)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.unet.parameters()).device

    @inferring
    def __call__(
        self,
        splats: Sequence[SplatImages],
        *,
        generator: torch.Generator,
        steps: int = 1,
        frames: int = 1,
        guidance: float = 1.0,
        context: torch.Tensor | None = None,
        gains: Gains = None,
        seen_within: float = math.inf,
    ) -> Generated:
        """Complete B splats (``conditions.splat_images``) of V cameras.

        generator: on the CPU; steps: network evaluations. For the SVD backbone alone: frames: so many successive splats are a
        clip, whose frames attend to each other; guidance: classifier-free, away from no splat; context: (B / frames * V, L, D)
        image tokens. Of the composition: gains, in place of the weights' own; seen_within: of ``keep_agents``.

        Returns arrays over (B, V).
        """
        if not self.unet.is_svd and (frames, guidance) != (1, 1.0):
            raise ConfigError("frames and guidance are for DiST-S with backbone='svd': leave them at 1")
        if frames < 1 or len(splats) % frames:
            raise ConfigError(f"{len(splats)} splats are not clips of {frames} frames: give a multiple")
        together = collate_views(splats, self.depth_code)
        cameras = together.base.shape[1]

        def clips(tensor: torch.Tensor) -> torch.Tensor:  # (B, V, ...) to (B / F * V, F, ...)
            return tensor.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)

        def splat_order(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.unflatten(0, (-1, cameras)).transpose(1, 2).flatten(0, 1)

        views = ViewInputs(*(clips(tensor).to(self.device) for tensor in together))
        conditions = self.unet.prepare(views, None if context is None else context.to(self.device))
        share = torch.zeros_like(views.masks[:, :, :1])

        def completed(noisy: torch.Tensor, at: torch.Tensor, *views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.unet.predict_clean(noisy, at, ViewInputs(*views), gains)

        def model(noisy: torch.Tensor, level: float) -> torch.Tensor:
            nonlocal share
            at = torch.full((len(noisy),), level, device=self.device)
            if isinstance(conditions, ViewInputs):
                clean, share = by_camera(completed, 0, noisy, at, *conditions)
            else:
                clean, share = self.unet.predict_clean(noisy, at, conditions)
            if guidance != 1 and isinstance(conditions, SVDConditions):
                free, _ = self.unet.predict_clean(noisy, at, conditions.withheld())
                clean = free + guidance * (clean - free)
            return clean if self.sampler.predicts == "clean" else (noisy - clean) / max(level, MIN_NOISE)

        noise = torch.randn(self.unet.noise_shape(views), generator=generator).to(self.device)
        clean = self.sampler.sample(model, noise, _levels(self.sampler, steps, 1.0, flow=not self.unet.is_svd))
        rgbd = self.unet.decode(clean)
        if not self.unet.is_svd:
            rgbd, share = keep_agents(rgbd, share, views, seen_within)
            rgbd = protect_depth(rgbd, share, views, self.depth_code, *self.PROTECTED)
        return _to_images(splat_order(rgbd), splat_order(share), self.depth_code)
