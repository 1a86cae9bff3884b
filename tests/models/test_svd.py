"""DiST-S on Stable Video Diffusion: its parametrisation, its conditions, and pretrained weights widened to RGB-D."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.pretrained import load_model, save_model
from dist4d_env.models.svd import SVDConditions, draw_sigma, edm_weight

from .published import SMALL_FRAME_VAE, SMALL_UNET, small_svd

CLIPS, FRAMES, HEIGHT, WIDTH = 2, 3, 24, 40


def made_views(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> ViewInputs:
    """Noise with a third of it missing, over (N, F)."""
    generator = torch.Generator().manual_seed(seed)
    lead = (CLIPS, FRAMES)
    masks = torch.rand(*lead, 4, height, width, generator=generator)
    masks[:, :, 0] = (masks[:, :, 0] > 0.33).float()
    base = torch.rand(*lead, 4, height, width, generator=generator) * 2 - 1
    return ViewInputs(base, torch.zeros(*lead, 3, height, width), masks)


def noise(model: DiSTSUNet, views: ViewInputs, seed: int = 1) -> torch.Tensor:
    return torch.randn(model.noise_shape(views), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_denoiser_is_the_published_parametrisation() -> None:
    """D = c_skip x + c_out F(c_in x; log(sigma) / 4), with F called by hand."""
    model, views = small_svd(mask_channels=0), made_views()
    conditions = model.prepare(views)
    assert isinstance(conditions, SVDConditions)
    sigma = torch.tensor([0.3, 20.0])
    x = noise(model, views) * sigma.view(-1, 1, 1, 1, 1)
    seen = torch.cat([x / (sigma**2 + 1).sqrt().view(-1, 1, 1, 1, 1), conditions.latents], 2)
    ids = torch.tensor([[6.0, 127.0, 0.0]]).expand(CLIPS, -1)
    answer = model.svd.unet(seen, sigma.log() / 4, torch.zeros(CLIPS, 1, 16), ids).sample
    skip, out = (1 / (sigma**2 + 1)).view(-1, 1, 1, 1, 1), (-sigma / (sigma**2 + 1).sqrt()).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(model.predict_clean(x, sigma, conditions)[0], skip * x + out * answer)


@torch.no_grad()
def test_nearly_clean_latents_are_kept() -> None:
    model, views = small_svd(), made_views()
    clean = model.encode(views.base)
    kept, _ = model.predict_clean(clean, torch.full((CLIPS,), 1e-3), views)
    torch.testing.assert_close(kept, clean, atol=1e-2, rtol=1e-2)


def test_training_weighs_the_networks_own_target_alike() -> None:
    sigma = draw_sigma(20_000, torch.Generator().manual_seed(0))
    assert abs(sigma.log().mean() - 0.7) < 0.05 and abs(sigma.log().std() - 1.6) < 0.05
    out = -sigma / (sigma**2 + 1).sqrt()
    torch.testing.assert_close(edm_weight(sigma) * out**2, torch.ones_like(sigma))


@torch.no_grad()
def test_pixels_not_splatted_are_black_and_count_as_generated() -> None:
    model, views = small_svd(), made_views()
    hidden = ViewInputs(torch.where(views.masks[:, :, :1] > 0.5, views.base, 0.7), views.other, views.masks)
    a, b = model.prepare(views), model.prepare(hidden)
    assert isinstance(a, SVDConditions) and isinstance(b, SVDConditions)
    torch.testing.assert_close(a.latents, b.latents, rtol=0, atol=0)
    _, share = model.predict_clean(noise(model, views), torch.ones(CLIPS), a)
    torch.testing.assert_close(share, 1 - views.masks[:, :, :1])


@torch.no_grad()
def test_every_condition_reaches_the_network() -> None:
    model, views = small_svd(), made_views()
    for parameter in model.svd.unet.parameters():  # the masks' weights start at zero, as training would not leave them
        parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    x, sigma = noise(model, views), torch.ones(CLIPS)

    def clean(views: ViewInputs, **conditions: torch.Tensor) -> torch.Tensor:
        return model.predict_clean(x, sigma, model.prepare(views, **conditions))[0]

    before = clean(views)
    moved = {
        "RGB": ViewInputs(views.base * torch.tensor([-1.0, 1, 1, 1]).view(4, 1, 1), views.other, views.masks),
        "depth": ViewInputs(views.base * torch.tensor([1.0, 1, 1, -1]).view(4, 1, 1), views.other, views.masks),
        "age": ViewInputs(views.base, views.other, views.masks * torch.tensor([1.0, 1, 1, 0]).view(4, 1, 1)),
    }
    for name, changed in moved.items():
        assert (before - clean(changed)).abs().max() > 1e-5, name
    assert (before - clean(views, context=torch.ones(CLIPS, 1, 16))).abs().max() > 1e-5
    assert (before - model.predict_clean(x, torch.full((CLIPS,), 1.5), views)[0]).abs().max() > 1e-5


@torch.no_grad()
def test_frames_of_a_clip_see_each_other_and_clips_do_not() -> None:
    model, views = small_svd(), made_views()
    x, sigma = noise(model, views), torch.ones(CLIPS)
    other = x.clone()
    other[0, 1] += 1.0
    change = (model.predict_clean(x, sigma, views)[0] - model.predict_clean(other, sigma, views)[0]).abs().amax((2, 3, 4))
    assert (change[0] > 1e-6).all() and (change[1] == 0).all()


@torch.no_grad()
def test_single_images_are_clips_of_one_frame() -> None:
    model, views = small_svd(), made_views()
    ones = ViewInputs(*(t[:, 0] for t in (views.base, views.other, views.masks)))
    clips = ViewInputs(*(t[:, :1] for t in (views.base, views.other, views.masks)))
    x, sigma = noise(model, ones), torch.ones(CLIPS)
    alone, share = model.predict_clean(x, sigma, ones)
    torch.testing.assert_close(alone, model.predict_clean(x[:, None], sigma, clips)[0][:, 0])
    assert share.shape == (CLIPS, 1, HEIGHT, WIDTH) and alone.shape == (CLIPS, 8, HEIGHT // 8, WIDTH // 8)
    assert model.decode(alone).shape == (CLIPS, 4, HEIGHT, WIDTH)
    torch.testing.assert_close(model.encode(ones.base), model.encode(clips.base)[:, 0])
    slope = model(x, sigma, ones)
    torch.testing.assert_close(x - slope, alone)


@torch.no_grad()
def test_odd_latent_sizes_are_no_trouble() -> None:
    model, views = small_svd(), made_views(height=8 * 7, width=8 * 5)
    clean, _ = model.predict_clean(noise(model, views), torch.ones(CLIPS), views)
    assert clean.shape == (CLIPS, FRAMES, 8, 7, 5)
    with pytest.raises(ConfigError, match="divisible by 8 pixels, not 20 x 40"):
        model.prepare(made_views(height=20))


def test_only_the_unet_is_trained() -> None:
    model = small_svd()
    assert all(p.requires_grad for p in model.svd.unet.parameters())
    assert not any(p.requires_grad for p in model.svd.vae.parameters())
    model.train()
    assert model.svd.unet.training and not model.svd.vae.training
    with pytest.raises(ConfigError, match="mask_channels must be a whole number from 0 to 4"):
        small_svd(mask_channels=5)
    with pytest.raises(ConfigError, match="backbone must be one of 'composition', 'svd'"):
        DiSTSUNet(backbone="svx")


def test_a_training_step_lowers_the_loss() -> None:
    model, views = small_svd(), made_views()
    clean = model.encode(views.base).detach()
    conditions = model.prepare(views)
    sigma = torch.tensor([0.5, 3.0])
    noisy = clean + sigma.view(-1, 1, 1, 1, 1) * noise(model, views)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        answer, _ = model.predict_clean(noisy, sigma, conditions)
        loss = (edm_weight(sigma).view(-1, 1, 1, 1, 1) * (answer - clean).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses


def test_recomputed_activations_give_the_same_gradients() -> None:
    views, gradients = made_views(), []
    for recompute in (False, True):
        model = small_svd()
        if recompute:
            model.enable_gradient_checkpointing()
        answer, _ = model.predict_clean(noise(model, views), torch.ones(CLIPS), views)
        answer.square().mean().backward()
        gradients.append(model.svd.unet.conv_in.weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0] is not None and gradients[0].abs().max() > 0
    assert not DiSTSUNet(widths=(8, 8), blocks=1)._supports_gradient_checkpointing


def written_svd(folder: Path) -> tuple[UNetSpatioTemporalConditionModel, AutoencoderKLTemporalDecoder]:
    """A small Stable Video Diffusion in diffusers' layout."""
    torch.manual_seed(5)
    unet, vae = UNetSpatioTemporalConditionModel(**SMALL_UNET).eval(), AutoencoderKLTemporalDecoder(**SMALL_FRAME_VAE).eval()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    return unet, vae


@torch.no_grad()
@pytest.mark.parametrize("mask_channels", [0, 4])
@pytest.mark.medium
def test_pretrained_weights_are_widened_as_documented(tmp_path: Path, mask_channels: int) -> None:
    """RGB is denoised exactly as Stable Video Diffusion does from its noisy and condition latents; depth begins as its copy."""
    unet, vae = written_svd(tmp_path)
    model = DiSTSUNet.from_svd(tmp_path, mask_channels=mask_channels)
    assert model.svd.unet.conv_in.weight.shape == (32, 16 + mask_channels, 3, 3) and model.config.depth_code == "linear"
    conv = model.svd.unet.conv_in.weight
    torch.testing.assert_close(conv[:, 0:4], unet.conv_in.weight[:, :4], rtol=0, atol=0)
    torch.testing.assert_close(conv[:, 8:12], unet.conv_in.weight[:, 4:], rtol=0, atol=0)
    assert conv[:, 4:8].abs().max() == 0 and conv[:, 12:].abs().max() == 0
    torch.manual_seed(6)
    noisy, sparse = torch.randn(1, FRAMES, 8, 3, 5), torch.randn(1, FRAMES, 8, 3, 5)
    masks, context, ids = torch.rand(1, FRAMES, mask_channels, 3, 5), torch.randn(1, 1, 16), torch.tensor([[6.0, 127.0, 0.02]])
    ours = model.svd.unet(torch.cat([noisy, sparse, masks], 2), torch.tensor([0.4]), context, ids).sample
    theirs = unet(torch.cat([noisy[:, :, :4], sparse[:, :, :4]], 2), torch.tensor([0.4]), context, ids).sample
    torch.testing.assert_close(ours[:, :, :4], theirs)
    torch.testing.assert_close(ours[:, :, 4:], theirs)
    rgbd = torch.rand(1, 1, 4, HEIGHT, WIDTH)
    own = vae.encode(rgbd[0, :, :3]).latent_dist.mode()
    torch.testing.assert_close(model.encode(rgbd)[0, :, :4], own * vae.config.scaling_factor)
    conditions = model.prepare(ViewInputs(rgbd, rgbd[:, :, :3], torch.ones(1, 1, 4, HEIGHT, WIDTH)))
    assert isinstance(conditions, SVDConditions)
    torch.testing.assert_close(conditions.latents[0, :, :4], own), "condition latents are not scaled"
    save_model(model, tmp_path / "dist_s")
    again = load_model(DiSTSUNet, tmp_path / "dist_s")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    unet, _ = written_svd(tmp_path)
    with pytest.raises(WeightsError, match="holds a AutoencoderKLTemporalDecoder, not a UNet"):
        (tmp_path / "unet").rename(tmp_path / "kept")
        (tmp_path / "vae").rename(tmp_path / "unet")
        DiSTSUNet.from_svd(tmp_path)
    wide = UNetSpatioTemporalConditionModel(**{**SMALL_UNET, "in_channels": 12})
    wide.save_pretrained(tmp_path / "other" / "unet")
    AutoencoderKLTemporalDecoder(**SMALL_FRAME_VAE).save_pretrained(tmp_path / "other" / "vae")
    with pytest.raises(WeightsError, match="12 input and 4 output channels"):
        DiSTSUNet.from_svd(tmp_path / "other")
    assert unet.config.in_channels == 8
