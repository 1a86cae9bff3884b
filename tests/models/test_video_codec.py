"""The video codec: CogVideoX's frame count and scale behind the image codec's interface, and weights from diffusers' folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLTemporalDecoder

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.video_codec import VideoCodec, load_codec

from .published import SMALL_VIDEO_VAE, small_video_codec


def clips(frames: int, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    """(1, 2, T, 4, H, W) of noise in [-1, 1]."""
    return torch.rand(1, 2, frames, 4, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (13, 4), (17, 5)])
def test_clips_go_in_and_come_back_as_long(frames: int, latents: int) -> None:
    codec, rgbd = small_video_codec(), clips(frames)
    coded = codec.encode_rgbd(rgbd)
    assert coded.shape == (1, 2, latents, 8, 2, 3) and latents == 1 + (frames - 1) // codec.time_factor
    assert codec.decode_rgbd(coded).shape == rgbd.shape


@torch.no_grad()
def test_an_odd_number_of_latent_rows_is_no_trouble() -> None:
    codec, odd = small_video_codec(), clips(5, 8 * 3, 8 * 5)
    coded = codec.encode_rgbd(odd)
    assert coded.shape[-2:] == (3, 5) and codec.decode_rgbd(coded).shape == odd.shape
    with pytest.raises(ConfigError, match="divisible by 8 pixels, not 20 x 40"):
        codec.encode_rgbd(clips(1, 20, 40))
    published = codec.to("meta").encode_rgbd(torch.empty(1, 1, 17, 4, 424, 800, device="meta"))
    assert published.shape == (1, 1, 5, 8, 53, 100)
    assert codec.decode_rgbd(published).shape == (1, 1, 17, 4, 424, 800)


@torch.no_grad()
def test_latents_are_the_vaes_own_scaled() -> None:
    codec, rgbd = small_video_codec(), clips(9)
    coded = codec.encode_rgbd(rgbd)
    for view in range(2):
        rgb = rgbd[:, view, :, :3].transpose(1, 2)
        depth = rgbd[:, view, :, 3:].expand(-1, -1, 3, -1, -1).transpose(1, 2)
        for half, image in enumerate((rgb, depth)):
            expected = codec.autoencoder.encode(image).latent_dist.mode()[0].transpose(0, 1) * 1.15258426
            torch.testing.assert_close(coded[0, view, :, 4 * half : 4 * half + 4], expected)


@torch.no_grad()
def test_clips_of_even_latent_counts_decode_like_the_start_of_longer_ones() -> None:
    """Two latents are three with the last one repeated, less four frames: frames in front do not look ahead."""
    codec = small_video_codec()
    pair = torch.randn(1, 1, 2, 8, 2, 3, generator=torch.Generator().manual_seed(1))
    longer = torch.cat([pair, pair[:, :, -1:]], 2)
    torch.testing.assert_close(codec.decode_rgbd(pair), codec.decode_rgbd(longer)[:, :, :5])
    undone = codec.autoencoder.decode(pair[0, :, :, :4].transpose(1, 2)).sample
    assert undone.shape[2] == 8, "diffusers doubles the first latent, too"


@torch.no_grad()
def test_both_codecs_take_the_same_axes() -> None:
    image = RGBDCodec(latent_channels=4, width=16, deep_width=16, blocks=1).eval()
    video = small_video_codec()
    assert (image.time_factor, video.time_factor) == (1, 4) and image.factor == video.factor == 8
    assert image.config.latent_channels == video.config.latent_channels
    assert (image.config.depth_code, video.config.depth_code) == ("log", "linear")
    for lead in ((), (3,), (1, 2)):
        rgbd = torch.rand(*lead, 4, 16, 24)
        for codec in (image, video):
            coded = codec.encode_rgbd(rgbd)
            assert coded.shape == (*lead, 8, 2, 3)
            assert codec.decode_rgbd(coded).shape == rgbd.shape
    one = torch.rand(1, 2, 4, 16, 24)
    torch.testing.assert_close(video.encode_rgbd(one), video.encode_rgbd(one[:, :, None])[:, :, 0])


def test_other_lengths_and_shapes_are_errors() -> None:
    codec = small_video_codec()
    with pytest.raises(ConfigError, match=r"1 \+ 4 k frames, not of 4"):
        codec.encode_rgbd(clips(4))
    with pytest.raises(ConfigError, match="fewer axes"):
        codec.encode_rgbd(clips(1)[None])


def test_the_codec_is_frozen_but_lets_gradients_through() -> None:
    codec = small_video_codec()
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    latents = torch.randn(1, 1, 1, 8, 2, 3, requires_grad=True)
    codec.decode_rgbd(latents).square().mean().backward()
    assert latents.grad is not None and latents.grad.abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("inside", ["", "vae"])
def test_weights_come_from_a_folder_of_diffusers(tmp_path: Path, inside: str) -> None:
    torch.manual_seed(3)
    vae = AutoencoderKLCogVideoX(latent_channels=4, scaling_factor=0.7, **SMALL_VIDEO_VAE).eval()
    vae.save_pretrained(tmp_path / inside)
    codec, rgbd = VideoCodec.from_diffusers(tmp_path), clips(5)
    expected = vae.encode(rgbd[0, :1, :, :3].transpose(1, 2)).latent_dist.mode()[0].transpose(0, 1) * 0.7
    torch.testing.assert_close(codec.encode_rgbd(rgbd)[0, 0, :, :4], expected)
    save_model(codec, tmp_path / "ours" / "codec")
    again = load_codec(tmp_path / "ours" / "codec")
    assert isinstance(again, VideoCodec) and again.config.depth_code == "linear"
    torch.testing.assert_close(again.encode_rgbd(rgbd), codec.encode_rgbd(rgbd), rtol=0, atol=0)


def test_folders_without_usable_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        VideoCodec.from_diffusers(tmp_path)
    vae = AutoencoderKLCogVideoX(latent_channels=4, **SMALL_VIDEO_VAE)
    vae.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(WeightsError, match="holds no diffusion_pytorch_model"):
        VideoCodec.from_diffusers(tmp_path)
    AutoencoderKLTemporalDecoder(block_out_channels=(32,)).save_pretrained(tmp_path / "frames")
    with pytest.raises(WeightsError, match="holds a AutoencoderKLTemporalDecoder, not a AutoencoderKLCogVideoX"):
        VideoCodec.from_diffusers(tmp_path / "frames")
