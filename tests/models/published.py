"""The published architectures (CogVideoX's VAE, Stable Video Diffusion), small enough for tests."""

from __future__ import annotations

from typing import Any

import torch

from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.video_codec import VideoCodec

SMALL_VIDEO_VAE: dict[str, Any] = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}
SMALL_UNET: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "block_out_channels": (32, 64),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "num_attention_heads": (2, 4),
}
SMALL_FRAME_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 1,
    "latent_channels": 4,
}


def small_video_codec(seed: int = 0) -> VideoCodec:
    """8 x 8 x 4 compression to 4 channels each for RGB and depth."""
    torch.manual_seed(seed)
    return VideoCodec(latent_channels=4, vae=SMALL_VIDEO_VAE).eval()


def small_svd(seed: int = 0, mask_channels: int = 4) -> DiSTSUNet:
    """DiST-S on a two-level Stable Video Diffusion UNet."""
    torch.manual_seed(seed)
    unet, vae = SMALL_UNET, SMALL_FRAME_VAE
    return DiSTSUNet(depth_code="linear", backbone="svd", mask_channels=mask_channels, unet=unet, vae=vae).eval()
