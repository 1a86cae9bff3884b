"""Presets: every model of every size can be built (on the meta device), and is as large as documented."""

from __future__ import annotations

import pytest
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.presets import PRESETS, preset
from dist4d_env.models.video_codec import CODECS, VideoCodec


def millions(model: torch.nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def test_published_sizes() -> None:
    paper = preset("paper")
    assert (paper.height, paper.width, paper.chunk, paper.steps) == (424, 800, 17, 30)
    with torch.device("meta"):
        transformer, codec, dist_s = (
            DiSTTTransformer(**paper.dist_t),
            CODECS[paper.codec_class](**paper.codec),
            DiSTSUNet(**paper.dist_s),
        )
    parts = (transformer.blocks, transformer.control_blocks, transformer.control_out)
    assert len(transformer.blocks) == 28 and len(transformer.control_blocks) == 13
    # Published: 28 x (27.9 + 21.2) and 13 pairs of 21.2 with their outlets, of which ours lacks a projection after cross-view.
    assert sum(map(millions, parts)) == pytest.approx(1960 - 28 * 1.152**2, rel=0.003)
    assert isinstance(codec, VideoCodec) and codec.config.latent_channels == 16 and codec.config.depth_code == "linear"
    assert codec.factor == 8 and codec.time_factor == 4 and codec.autoencoder.config.scaling_factor == 1.15258426
    assert millions(codec) == pytest.approx(215.6, abs=0.1)
    assert millions(dist_s.svd.unet) == pytest.approx(1524.7, abs=0.2) and millions(dist_s.svd.vae) == pytest.approx(
        97.7, abs=0.1
    )
    assert dist_s.svd.unet.conv_in.in_channels == 16 and dist_s.svd.unet.conv_out.out_channels == 8


@pytest.mark.parametrize(("name", "least", "most"), [("tiny", 1, 5), ("small", 15, 25), ("base", 270, 330)])
def test_dist_t_of_the_other_presets(name: str, least: float, most: float) -> None:
    with torch.device("meta"):
        assert least < millions(DiSTTTransformer(**preset(name).dist_t)) < most


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_parts_of_a_preset_fit_together(name: str) -> None:
    one = preset(name)
    with torch.device("meta"):
        codec, composer, dist_s = CODECS[one.codec_class](**one.codec), Composer(**one.composer), DiSTSUNet(**one.dist_s)
        transformer = DiSTTTransformer(**one.dist_t, image_size=(one.height, one.width), chunk=one.chunk, steps=one.steps)
        clip = torch.empty(1, 1, one.chunk, 4, one.height, one.width)
        coded = codec.encode_rgbd(clip)
        image, layout = torch.empty(1, 4, one.height, one.width), torch.empty(1, 8, one.height, one.width)
        composed, _ = composer(image, image, layout[:, :3], layout[:, :4], layout, torch.empty(1))
    assert transformer.config.latent_channels == 2 * codec.config.latent_channels == coded.shape[3]
    assert transformer.config.time_factor == codec.time_factor
    assert coded.shape[2] == 1 + (one.chunk - 1) // codec.time_factor
    assert codec.decode_rgbd(coded).shape == clip.shape and composed.shape == image.shape
    assert dist_s.config.depth_code == codec.config.depth_code


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match="preset 'huge' is unknown: use one of base, paper, small, tiny"):
        preset("huge")
