"""Sampling: untrained models show the splat, seeds decide everything, weights travel through folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, Generated

from .made import HEIGHT, VIEWS, WIDTH, made_sample, small_preset
from .published import small_svd, small_video_codec


def dist_t(trained: bool) -> DiSTTPipeline:
    torch.manual_seed(0)
    preset = small_preset()
    parts = (RGBDCodec(**preset.codec), DiSTTTransformer(**preset.dist_t), Composer(**preset.composer))
    return DiSTTPipeline(*(off_zero(part) if trained else part for part in parts))


def dist_s(trained: bool) -> DiSTSPipeline:
    torch.manual_seed(0)
    unet = DiSTSUNet(**small_preset().dist_s)
    return DiSTSPipeline(off_zero(unet) if trained else unet)


def off_zero(model: torch.nn.Module) -> torch.nn.Module:
    """Stand-in for training: every weight a little random, zero-initialised ones too."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_untrained_models_show_the_filled_splat_exactly() -> None:
    reference, targets = made_sample(0)
    frames = dist_t(trained=False)([reference], [targets], generator=seeded())
    completed = dist_s(trained=False)([t.images for t in targets], generator=seeded())
    for k, target in enumerate(targets):
        for found_rgb, found_depth in ((frames.rgb[0, k], frames.depth[0, k]), (completed.rgb[k], completed.depth[k])):
            np.testing.assert_array_equal(found_rgb, target.images.base_rgb)
            np.testing.assert_allclose(found_depth, target.images.base_depth, rtol=1e-3)
    assert frames.share.max() == 0 and completed.share.max() == 0


def test_shapes_and_ranges_of_a_batch() -> None:
    samples = [made_sample(seed) for seed in (0, 1)]
    frames = dist_t(trained=True)([r for r, _ in samples], [t for _, t in samples], generator=seeded())
    assert frames.rgb.shape == (2, 2, VIEWS, HEIGHT, WIDTH, 3) and frames.rgb.dtype == np.uint8
    assert frames.depth.shape == (2, 2, VIEWS, HEIGHT, WIDTH) and frames.depth.dtype == np.float32
    assert 0 <= frames.depth.min() and frames.depth.max() <= 100.01
    assert 0 <= frames.share.min() and frames.share.max() <= 1 and frames.share.max() > 0


@pytest.mark.parametrize("steps", [1, 3])
def test_same_seed_same_bits(steps: int) -> None:
    """Bits are promised for one number of threads: matrix libraries may sum in another order with another number."""
    reference, targets = made_sample(0)
    pipeline, completion = dist_t(trained=True), dist_s(trained=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 1, 2, 2):
            torch.set_num_threads(threads)
            frames = pipeline([reference], [targets], generator=seeded(), steps=steps)
            completed = completion([targets[0].images], generator=seeded(), steps=steps)
            results.append((frames.rgb, frames.depth, completed.rgb, completed.depth))
    finally:
        torch.set_num_threads(before)
    for first, second in ((0, 1), (2, 3)):
        for a, b in zip(results[first], results[second], strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(results[0], results[2], strict=True):
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-3, atol=1)


def test_another_seed_draws_another_frame() -> None:
    reference, targets = made_sample(0)
    pipeline = dist_t(trained=True)
    a = pipeline([reference], [targets], generator=seeded(0))
    b = pipeline([reference], [targets], generator=seeded(1))
    assert not np.array_equal(a.depth, b.depth)


def test_one_euler_step_from_noise_is_the_predicted_clean_image() -> None:
    """With exact arithmetic, noise - 1 * velocity is what ``predict_clean`` returns."""
    _, targets = made_sample(0)
    from dist4d_env.models.inputs import ViewInputs, collate_views

    unet = off_zero(DiSTSUNet(**small_preset().dist_s))
    batch = collate_views([targets[0].images])
    views = ViewInputs(batch.base[0], batch.other[0], batch.masks[0])
    noise = torch.randn(views.base.shape, generator=seeded())
    level = torch.ones(len(noise))
    velocity = unet(noise, level, views)
    torch.testing.assert_close(noise - velocity, unet.predict_clean(noise, level, views)[0])


def published_t(trained: bool = True, time_factor: int = 4) -> DiSTTPipeline:
    """DiST-T as published, in small: four frames to a latent, spatial and temporal blocks, captions."""
    preset, codec = small_preset(), small_video_codec()
    torch.manual_seed(0)
    kind = {"time_factor": time_factor, "split_blocks": True, "camera": "fourier", "caption_dim": 12}
    parts = (DiSTTTransformer(**{**preset.dist_t, **kind}), Composer(**preset.composer))
    return DiSTTPipeline(codec, *(off_zero(part) if trained else part for part in parts))


def published_s() -> DiSTSPipeline:
    """DiST-S on Stable Video Diffusion, in small."""
    return DiSTSPipeline(small_svd())


@pytest.mark.parametrize(("temporal", "frames"), [(dist_t, 2), (published_t, 5)])
def test_saved_dist_t_gives_the_same_frames(temporal: Callable[..., DiSTTPipeline], frames: int, tmp_path: Path) -> None:
    reference, targets = made_sample(0, frames)
    pipeline = temporal(trained=True)
    pipeline.save_pretrained(tmp_path)
    loaded = DiSTTPipeline.from_pretrained(tmp_path)
    assert type(loaded.codec) is type(pipeline.codec)
    a, b = (one([reference], [targets], generator=seeded()) for one in (pipeline, loaded))
    assert a.rgb.shape == (1, frames, VIEWS, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.depth, b.depth)


@pytest.mark.parametrize("spatial", [lambda: dist_s(trained=True), published_s])
def test_saved_dist_s_gives_the_same_images(spatial: Callable[[], DiSTSPipeline], tmp_path: Path) -> None:
    _, targets = made_sample(0)
    pipeline = spatial()
    pipeline.save_pretrained(tmp_path)
    loaded = DiSTSPipeline.from_pretrained(tmp_path)
    a, b = (one([targets[0].images], generator=seeded(), steps=2) for one in (pipeline, loaded))
    assert a.rgb.shape == (1, VIEWS, HEIGHT, WIDTH, 3) and a.share.shape == (1, VIEWS, HEIGHT, WIDTH)
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.depth, b.depth)


def test_chunks_of_a_video_codec_have_one_frame_more_than_a_multiple_of_four() -> None:
    reference, targets = made_sample(0, 4)
    with pytest.raises(ConfigError, match=r"1 \+ 4 k frames, not of 4"):
        published_t()([reference], [targets], generator=seeded())
    with pytest.raises(ConfigError, match="counts 1 frames to a latent, the codec 4"):
        published_t(time_factor=1)


@pytest.mark.medium
def test_guidance_and_captions_steer_dist_t() -> None:
    reference, targets = made_sample(0, 5)
    pipeline = published_t()
    captions = torch.randn(1, 3, 12, generator=seeded(2))
    plain = pipeline([reference], [targets], generator=seeded())
    captioned = pipeline([reference], [targets], generator=seeded(), captions=captions)
    guided = pipeline([reference], [targets], generator=seeded(), captions=captions, guidance=2.0)
    same = pipeline([reference], [targets], generator=seeded(), captions=captions, guidance=1.0 + 1e-9)
    assert np.abs(plain.depth - captioned.depth).max() > 0 and np.abs(guided.depth - captioned.depth).max() > 0
    np.testing.assert_allclose(same.depth, captioned.depth, atol=1e-2)


@pytest.mark.medium
def test_clips_and_guidance_of_dist_s() -> None:
    _, targets = made_sample(0, 4)
    splats = [target.images for target in targets]
    pipeline = published_s()

    def made(**how: Any) -> Generated:
        return pipeline(splats, generator=seeded(), steps=2, **how)

    alone, clips = made(), made(frames=2)
    assert clips.rgb.shape == alone.rgb.shape == (4, VIEWS, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(clips.share, alone.share)  # every splat's answer is at its own place
    for k, splat in enumerate(splats):
        np.testing.assert_array_equal(alone.share[k] == 0, splat.masks[..., 0] > 127)
    assert np.abs(clips.depth - alone.depth).max() > 0, "frames of a clip see each other"
    assert np.abs(made(guidance=2.0).depth - alone.depth).max() > 0
    assert np.abs(made(context=torch.ones(4 * VIEWS, 1, 16)).depth - alone.depth).max() > 0
    with pytest.raises(ConfigError, match="4 splats are not clips of 3 frames"):
        made(frames=3)
    with pytest.raises(ConfigError, match="backbone='svd'"):
        dist_s(trained=False)(splats, generator=seeded(), frames=2)


def test_broken_weights_are_named(tmp_path: Path) -> None:
    for nothing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(WeightsError, match="no weights at"):
            DiSTSPipeline.from_pretrained(nothing)
    dist_s(trained=False).save_pretrained(tmp_path)
    folder = tmp_path / "dist_s"
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "head" not in k}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lacks net\.head"):
        DiSTSPipeline.from_pretrained(tmp_path)
    save_file(tensors | {"net.head.bias": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"net\.head\.bias has shape \(3,\)"):
        DiSTSPipeline.from_pretrained(tmp_path)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        DiSTSPipeline.from_pretrained(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "Composer"}))
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="holds a Composer"):
        DiSTSPipeline.from_pretrained(tmp_path)


def test_weights_without_a_composer_are_refused(tmp_path: Path) -> None:
    dist_t(trained=True).save_pretrained(tmp_path / "composed")
    shutil.rmtree(tmp_path / "composed" / "composer")
    with pytest.raises(WeightsError, match="composer"):
        DiSTTPipeline.from_pretrained(tmp_path / "composed")
