"""The published codec: CogVideoX's causal video VAE behind the interface of ``RGBDCodec``, and the choice between the two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dist4d_env.errors import ConfigError
from dist4d_env.models.arguments import check_channels, check_choice, check_options
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.depth_code import DEPTH_CODES
from dist4d_env.models.pretrained import load_diffusers, load_model, read_config


class VideoCodec(ModelMixin, ConfigMixin):
    """AutoencoderKLCogVideoX, frozen: 8 x 8 pixels and four frames to one latent, the first frame of a clip for itself.

    RGB and depth go through the same weights, depth repeated to three channels, clipped and averaged after decoding (DiST-4D).
    Clips go through one camera at a time, RGB and depth after each other, which bounds memory; the latent is the mean of the
    VAE's posterior times its scaling factor.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, latent_channels: int = 16, depth_code: str = "linear", vae: dict[str, Any] | None = None) -> None:
        """vae: further arguments of ``AutoencoderKLCogVideoX``; none gives CogVideoX-2b's."""
        super().__init__()
        check_channels(latent_channels=latent_channels)
        check_choice("depth_code", depth_code, DEPTH_CODES)
        check_options(AutoencoderKLCogVideoX, "vae", {} if vae is None else vae)
        self.autoencoder = AutoencoderKLCogVideoX(latent_channels=latent_channels, **(vae or {}))
        check_choice("vae: temporal_compression_ratio", self.autoencoder.config.temporal_compression_ratio, (1, 2, 4, 8, 16))
        self.autoencoder.requires_grad_(False)

    @classmethod
    def from_diffusers(cls, folder: str | Path, depth_code: str = "linear") -> VideoCodec:
        """The VAE of a local folder in diffusers' layout (a CogVideoX folder, or its ``vae``); safetensors only.

        Raises ``WeightsError`` where the folder holds something else.
        """
        folder = Path(folder)
        vae = load_diffusers(AutoencoderKLCogVideoX, folder / "vae" if (folder / "vae").is_dir() else folder)
        options = {name: value for name, value in vae.config.items() if not name.startswith("_")}
        codec = cls(options.pop("latent_channels"), depth_code, options)
        codec.autoencoder.load_state_dict(vae.state_dict())
        return codec.eval()

    @property
    def factor(self) -> int:
        """Pixels per latent along each image axis."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    @property
    def time_factor(self) -> int:
        """Frames per latent, after the first: T frames make 1 + (T - 1) / time_factor latents."""
        return int(self.autoencoder.config.temporal_compression_ratio)

    def encode_rgbd(self, rgbd: torch.Tensor) -> torch.Tensor:
        """RGB and depth code to latents, RGB's channels first, then depth's.

        Clips (B, V, T, 4, H, W), T = 1 + time_factor k, to (B, V, 1 + k, 2 C, h, w); single images (..., 4, H, W) with any
        fewer axes to (..., 2 C, h, w). Raises ``ConfigError`` for other lengths, or sizes not divisible by ``factor``.
        """
        return _by_clip(self._encode_clip, rgbd)

    def decode_rgbd(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents shaped as ``encode_rgbd`` returns them to RGB, not clipped, and depth code."""
        return _by_clip(self._decode_clip, latents)

    def _encode_clip(self, rgbd: torch.Tensor) -> torch.Tensor:
        """(T, 4, H, W) to (T', 2 C, h, w)."""
        frames, _, height, width = rgbd.shape
        if (frames - 1) % self.time_factor:
            raise ConfigError(f"this codec takes clips of 1 + {self.time_factor} k frames, not of {frames}")
        if height % self.factor or width % self.factor:
            raise ConfigError(f"images must be divisible by {self.factor} pixels, not {height} x {width}")
        images = (rgbd[:, :3], rgbd[:, 3:].expand(-1, 3, -1, -1))
        latents = [self.autoencoder.encode(self._to_vae(one)).latent_dist.mode()[0].transpose(0, 1) for one in images]
        return (torch.cat(latents, 1) * self.autoencoder.config.scaling_factor).to(rgbd.dtype)

    def _decode_clip(self, latents: torch.Tensor) -> torch.Tensor:
        """(T', 2 C, h, w) to (T, 4, H, W).

        The VAE doubles every latent of an even count, the first one too. The decoder looks back only, so the last latent can be
        repeated and its frames dropped.
        """
        surplus = 0
        if len(latents) % 2 == 0:
            latents, surplus = torch.cat([latents, latents[-1:]]), self.time_factor
        halves = (latents / self.autoencoder.config.scaling_factor).chunk(2, 1)
        rgb, depth = (self.autoencoder.decode(self._to_vae(one)).sample[0].transpose(0, 1) for one in halves)
        rgbd = torch.cat([rgb, depth.clamp(-1, 1).mean(1, keepdim=True)], 1)
        return rgbd[: len(rgbd) - surplus].to(latents.dtype)

    def _to_vae(self, images: torch.Tensor) -> torch.Tensor:
        """(T, C, H, W) to (1, C, T, H, W) in the weights' precision."""
        return images.transpose(0, 1)[None].to(self.autoencoder.dtype)


def _by_clip(function: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor) -> torch.Tensor:
    """Apply a function of one clip (T, C, H, W) to clips (B, V, T, C, H, W), or to images of fewer axes as clips of one frame."""
    if tensor.ndim > 6:
        raise ConfigError(f"a video codec takes (B, V, T, C, H, W) or fewer axes, not {tuple(tensor.shape)}")
    if tensor.ndim == 6:
        return torch.stack([function(clip) for clip in tensor.flatten(0, 1)]).unflatten(0, tensor.shape[:2])
    images = tensor.reshape(-1, *tensor.shape[-3:])
    made = torch.cat([function(image[None]) for image in images])
    return made.reshape(*tensor.shape[:-3], *made.shape[1:])


Codec = RGBDCodec | VideoCodec
CODECS: dict[str, type[Codec]] = {"RGBDCodec": RGBDCodec, "VideoCodec": VideoCodec}


def load_codec(folder: Path) -> Codec:
    """The codec, of whichever class, that ``save_model`` wrote to ``folder``; raises ``WeightsError``."""
    written_for = read_config(folder).get("_class_name")
    return load_model(CODECS.get(str(written_for), RGBDCodec), folder)


def encode_alike(one: Codec, other: Codec) -> bool:
    """Whether latents of both mean the same: only their decoders may differ."""
    mine, theirs = ({k: v for k, v in codec.state_dict().items() if "decoder" not in k} for codec in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
