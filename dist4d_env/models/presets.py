"""Sizes of the models: the same classes, only the configuration differs (see the table in docs/design.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dist4d_env.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """Image size and constructor arguments of every model.

    height, width: pixels of each camera; chunk: frames that DiST-T generates at once; steps: network evaluations per frame;
    codec_class: "RGBDCodec" or "VideoCodec".
    """

    height: int
    width: int
    chunk: int
    steps: int
    codec: dict[str, Any] = field(default_factory=dict)
    dist_t: dict[str, Any] = field(default_factory=dict)
    composer: dict[str, Any] = field(default_factory=dict)
    dist_s: dict[str, Any] = field(default_factory=dict)
    codec_class: str = "RGBDCodec"


PRESETS = {
    "tiny": Preset(
        64,
        112,
        chunk=4,
        steps=1,
        codec={"latent_channels": 16, "width": 48, "deep_width": 80, "blocks": 2, "depth_code": "log"},
        dist_t={"latent_channels": 32, "width": 160, "heads": 5, "depth": 4, "control_depth": 1, "mlp_ratio": 2.0, "patch": 2},
        composer={"widths": (40, 80, 128), "blocks": 2},
        dist_s={"widths": (48, 96, 160), "blocks": 2},
    ),
    "small": Preset(
        128,
        224,
        chunk=4,
        steps=2,
        codec={"latent_channels": 16, "width": 96, "deep_width": 160, "blocks": 3, "depth_code": "log"},
        dist_t={"latent_channels": 32, "width": 320, "heads": 10, "depth": 6, "control_depth": 2, "mlp_ratio": 4.0, "patch": 2},
        composer={"widths": (48, 96, 160, 192), "blocks": 2},
        dist_s={"widths": (64, 128, 192, 256), "blocks": 2},
    ),
    "base": Preset(
        224,
        400,
        chunk=8,
        steps=8,
        codec={"latent_channels": 16, "width": 128, "deep_width": 256, "blocks": 4, "depth_code": "log"},
        dist_t={"latent_channels": 32, "width": 768, "heads": 12, "depth": 16, "control_depth": 6, "mlp_ratio": 4.0, "patch": 2},
        composer={"widths": (96, 192, 320), "blocks": 3},
        dist_s={"widths": (128, 256, 384), "blocks": 4},
    ),
    # The published dimensions: CogVideoX-2b's VAE, 28 + 13 pairs of blocks, SVD img2vid-xt with 16 input and 8 output channels.
    "paper": Preset(
        424,
        800,
        chunk=17,
        steps=30,
        codec={"latent_channels": 16, "depth_code": "linear"},
        dist_t={
            "latent_channels": 32,
            "width": 1152,
            "heads": 16,
            "depth": 28,
            "control_depth": 13,
            "mlp_ratio": 4.0,
            "patch": 2,
            "time_factor": 4,
            "split_blocks": True,
            "camera": "fourier",
            "caption_dim": 4096,
        },
        composer={"widths": (96, 192, 320), "blocks": 3},
        dist_s={
            "depth_code": "linear",
            "backbone": "svd",
            "mask_channels": 0,
            "unet": {
                "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",),
                "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3,
                "block_out_channels": (320, 640, 1280, 1280),
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 768,
                "layers_per_block": 2,
                "cross_attention_dim": 1024,
                "transformer_layers_per_block": 1,
                "num_attention_heads": (5, 10, 20, 20),
                "num_frames": 25,
            },
            "vae": {
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "block_out_channels": (128, 256, 512, 512),
                "layers_per_block": 2,
                "latent_channels": 4,
                "scaling_factor": 0.18215,
            },
        },
        codec_class="VideoCodec",
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name, or a ``ConfigError`` that lists them."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: use one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
