"""DiST-T: controls change the output, withheld ones do not, and each switch of the configuration takes effect."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.models.attention import Block
from dist4d_env.models.conditions import scene_attributes
from dist4d_env.models.controls import over_latent_time
from dist4d_env.models.dist_t import DiSTTTransformer, timestep_shift
from dist4d_env.models.inputs import DiSTTInputs, collate_targets, without_controls

from .made import HEIGHT, VIEWS, WIDTH, made_sample, small_preset


def model(**changes: Any) -> DiSTTTransformer:
    """As if trained: nothing is zero."""
    torch.manual_seed(0)
    network = DiSTTTransformer(**(small_preset().dist_t | changes)).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network


def inputs(frames: int = 2) -> DiSTTInputs:
    reference, targets = made_sample(0, frames)
    return collate_targets([reference], [targets])


def latents(frames: int = 2, height: int = HEIGHT // 8, width: int = WIDTH // 8) -> tuple[torch.Tensor, ...]:
    """noisy, reference, splat."""
    draw = torch.Generator().manual_seed(1)
    shape = (1, VIEWS, frames, 8, height, width)
    noisy, splat = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
    return noisy, torch.randn(1, VIEWS, 8, height, width, generator=draw), splat


@torch.no_grad()
def answer(network: DiSTTTransformer, conditions: DiSTTInputs, frames: int = 2) -> torch.Tensor:
    noisy, reference, splat = latents(frames)
    return network.predict_clean(noisy, torch.ones(1), conditions, reference, splat)


def variations(batch: DiSTTInputs) -> dict[str, DiSTTInputs]:
    """The batch with one control changed."""
    drawn = batch.box_class >= 0
    return {
        "trajectory": batch._replace(trajectory=batch.trajectory + 0.3),
        "bev": batch._replace(bev=1 - batch.bev),
        "boxes": batch._replace(box_corners=batch.box_corners + 1),
        "box classes": batch._replace(box_class=torch.where(drawn, batch.box_class + 1, batch.box_class)),
        "box instances": batch._replace(box_instance=batch.box_instance + 1),
        "layout": batch._replace(layout=1 - batch.layout),
        "attributes": batch._replace(attributes=1 - batch.attributes),
        "cameras": batch._replace(ego_from_camera=batch.ego_from_camera + 0.1),
        "interval": batch._replace(interval=batch.interval + 0.5),
    }


@pytest.mark.parametrize("camera", ["rays", "fourier"])
@pytest.mark.parametrize("split_blocks", [False, True])
def test_every_control_changes_the_output(camera: str, split_blocks: bool) -> None:
    network, batch = model(camera=camera, split_blocks=split_blocks), inputs()
    before = answer(network, batch)
    for name, changed in variations(batch).items():
        assert not torch.allclose(before, answer(network, changed), atol=1e-5), name
    noisy, reference, splat = latents()
    with torch.no_grad():
        moved = network.predict_clean(noisy, torch.ones(1), batch, reference + 1, splat)
    assert not torch.allclose(before, moved, atol=1e-5), "reference"
    hidden = batch._replace(box_corners=torch.where(batch.box_class[..., None, None] < 0, 9.0, batch.box_corners))
    torch.testing.assert_close(before, answer(network, hidden)), "empty box rows must not matter"


def test_withheld_controls_change_nothing() -> None:
    network, batch = model(), inputs()
    withheld = without_controls(batch, torch.ones(1, dtype=torch.bool))
    silent = answer(network, withheld)
    assert not torch.allclose(silent, answer(network, batch), atol=1e-5)
    for name, changed in variations(batch).items():
        same = torch.allclose(silent, answer(network, without_controls(changed, torch.ones(1, dtype=torch.bool))), atol=1e-6)
        assert same == (name not in ("cameras", "interval")), name
    kept = without_controls(batch, torch.zeros(1, dtype=torch.bool))
    torch.testing.assert_close(answer(network, kept), answer(network, batch))


def test_captions_condition_a_model_that_takes_them() -> None:
    network, batch = model(caption_dim=12), inputs()
    first, second = (batch._replace(captions=torch.full((1, 5, 12), value)) for value in (0.5, -0.5))
    assert not torch.allclose(answer(network, first), answer(network, second), atol=1e-5)
    for other, takes in ((model(), "none"), (model(caption_dim=8), "features of 8 numbers")):
        with pytest.raises(ConfigError, match=rf"captions of \(1, 5, 12\): these weights take {takes}"):
            answer(other, first)


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_latent_frames_of_a_video_codec(frames: int) -> None:
    network, batch = model(time_factor=4), inputs(frames)
    assert answer(network, batch, 1 + (frames - 1) // 4).shape[2] == 1 + (frames - 1) // 4


def test_the_first_frame_keeps_its_latent_to_itself() -> None:
    values = torch.arange(9.0)[None]
    assert over_latent_time(values, 1, 4).tolist() == [[0.0, 2.5, 6.5]]
    assert over_latent_time(values, 1, 1) is values


def test_latents_of_odd_height_are_padded_and_cut() -> None:
    """424 pixels are 53 latents, an odd number, and a patch is two latents high."""
    network, batch = model(), inputs()
    noisy, reference, splat = latents(height=3, width=5)
    with torch.no_grad():
        assert network.predict_clean(noisy, torch.ones(1), batch, reference, splat).shape == noisy.shape


def test_untrained_it_answers_with_the_splat() -> None:
    noisy, reference, splat = latents()
    network = DiSTTTransformer(**small_preset().dist_t).eval()
    with torch.no_grad():
        torch.testing.assert_close(network.predict_clean(noisy, torch.ones(1), inputs(), reference, splat), splat)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    noisy, reference, splat = latents()
    gradients = []
    for checkpointing in (False, True):
        network = model()
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.train().predict_clean(noisy, torch.ones(1), inputs(), reference, splat).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_neighbouring_cameras_attend_to_each_other_and_opposite_ones_do_not_in_one_block() -> None:
    torch.manual_seed(0)
    block = Block(32, 2, 2.0, ("spatial", "cross_view", "temporal")).eval()
    tokens = torch.randn(1, 6, 1, 4, 32)
    modulation, controls = torch.randn(1, 1, 5, 3, 32), torch.randn(1, 3, 32)
    mask = torch.ones(1, 3, dtype=torch.bool)
    moved = tokens.clone()
    moved[:, 0] = torch.randn(1, 1, 4, 32)
    conditions = (torch.tensor([[[(k - 1) % 6, (k + 1) % 6] for k in range(6)]]), modulation, controls, mask)
    with torch.no_grad():
        change = (block(tokens, *conditions) - block(moved, *conditions)).abs().amax((0, 2, 3, 4))
    assert (change[[0, 1, 5]] > 1e-4).all() and (change[[2, 3, 4]] < 1e-6).all()


def test_shift_of_noise_levels_is_the_published_one() -> None:
    """MagicDriveDiT: 1.307 for 17 frames of 224 x 400, 2.544 and 3.413 for 17 and 33 frames of 424 x 800."""
    assert timestep_shift(224, 400, 5) == pytest.approx(1.307, abs=1e-3)
    assert timestep_shift(424, 800, 5) == pytest.approx(2.544, abs=1e-3)
    assert timestep_shift(424, 800, 9) == pytest.approx(3.413, abs=1e-3)


def test_attributes_come_from_the_scenes_description() -> None:
    assert scene_attributes("Night, rain, parked cars").tolist() == [1, 0, 1, 0]
    assert scene_attributes("town, wet, 12 actors").tolist() == [0, 0, 1, 0]
    assert scene_attributes("Parked truck, construction").tolist() == [0, 0, 0, 0]
