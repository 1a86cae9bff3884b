"""Composition: the splat where nothing is predicted, a blend where something is, and detail within its bound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.models.composer import Composer
from dist4d_env.models.composition import COMPOSE_CHANNELS, compose, gain_image, regions
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.pretrained import load_model, save_model


def parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    base, proposal = (2 * torch.rand(2, 4, 8, 8, generator=draw) - 1 for _ in range(2))
    return base, proposal, 2 * torch.rand(2, 3, 8, 8, generator=draw) - 1


def test_nothing_predicted_is_the_base_and_an_open_gate_the_proposal() -> None:
    base, proposal, other = parts()
    prediction = torch.zeros(2, COMPOSE_CHANNELS, 8, 8)
    image, share = compose(base, proposal, other, prediction, 0.2)
    assert torch.equal(image, base) and not share.any()
    prediction[:, :2] = 20.0
    image, share = compose(base, proposal, other, prediction, 0.2)
    torch.testing.assert_close(image, proposal)
    assert (share == 1).all()


def test_detail_in_colours_is_bounded_and_in_depth_free() -> None:
    base, proposal, other = parts()
    prediction = torch.zeros(2, COMPOSE_CHANNELS, 8, 8)
    prediction[:, 3:] = 0.7
    free, _ = compose(base, proposal, other, prediction)
    bounded, share = compose(base, proposal, other, prediction, 0.2)
    torch.testing.assert_close(free - base, torch.full_like(base, 0.7))
    torch.testing.assert_close((bounded - base)[:, :3], torch.full_like(other, 0.2))
    torch.testing.assert_close((bounded - base)[:, 3], torch.full_like(base[:, 3], 0.7))
    torch.testing.assert_close(share, torch.full_like(share, 0.5))


def test_a_composer_keeps_its_detail_within_its_bound() -> None:
    base, proposal, other = parts()
    for most in (0.1, None):
        torch.manual_seed(0)
        composer = Composer((16, 16), 1, most_detail=most)
        torch.nn.init.normal_(composer.net.head.bias, std=2.0)
        composer.net.head.bias.data.view(COMPOSE_CHANNELS, 4)[:3] = 0.0  # gates stay shut
        image, _ = composer(proposal, base, other, base, torch.zeros(2, 8, 8, 8), torch.full((2,), 0.5))
        assert ((image - base)[:, :3].abs().max() <= 0.1 + 1e-6) == (most is not None)


def masks_of_every_kind() -> torch.Tensor:
    """(2, 4, 8, 8): of each row pair one of REGIONS, in order; a hole may be an agent's or confirmed in name."""
    masks = torch.zeros(2, 4, 8, 8)
    masks[:, 0, 2:] = 1.0  # valid
    masks[:, 1, :4] = 1.0  # moving
    masks[:, 2, 6:] = 1.0  # confidence
    return masks


def test_gains_keep_a_part_of_the_change_by_kind_of_pixel() -> None:
    base, proposal, other = parts()
    masks, gains = masks_of_every_kind(), (0.25, 0.5, 0.0, 1.0)
    assert [kind.nonzero()[:, 1].unique().tolist() for kind in regions(masks).unbind(1)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    prediction = torch.full((2, COMPOSE_CHANNELS, 8, 8), 0.3)
    free, whole = compose(base, proposal, other, prediction)
    image, share = compose(base, proposal, other, prediction, gain=gain_image(masks, gains))
    for kind, gain in enumerate(gains):
        rows = slice(2 * kind, 2 * kind + 2)
        torch.testing.assert_close((image - base)[:, :3, rows], gain * (free - base)[:, :3, rows])
        torch.testing.assert_close(share[:, :, rows], gain * whole[:, :, rows])
    assert torch.equal(image[:, 3], free[:, 3]), "depth is protected by other means"
    assert gain_image(masks, None) is None


@pytest.mark.parametrize("gains", [(1, 1, 1), (1, 1, 1, 1.1), (0, 0, 0, -0.1), (1, 1, 1, "1"), 0.5, {}])
def test_gains_that_are_none_are_refused(gains: object) -> None:
    for make in (lambda: Composer((16, 16), 1, gains=gains), lambda: DiSTSUNet((16, 16), 1, gains=gains)):
        with pytest.raises(ConfigError, match="a number from 0 to 1 for each of hole, moving, unsure, sure"):
            make()


def test_gains_of_nothing_show_the_splat_and_are_kept_with_the_weights(tmp_path: Path) -> None:
    base, proposal, other = parts()
    masks, nothing = masks_of_every_kind(), (0, 0, 0, 0)
    torch.manual_seed(0)
    composer, unet = Composer((16, 16), 1, gains=nothing), DiSTSUNet((16, 16), 1, gains=nothing)
    for model in (composer, unet):
        torch.nn.init.normal_(model.net.head.bias, std=2.0)
        save_model(model, tmp_path / type(model).__name__)
    composer, unet = (load_model(kind, tmp_path / kind.__name__) for kind in (Composer, DiSTSUNet))
    for image, share in (
        composer(proposal, base, other, masks, torch.zeros(2, 8, 8, 8), torch.full((2,), 0.5)),
        unet.predict_clean(proposal, torch.ones(2), ViewInputs(base, other, masks)),
    ):
        assert torch.equal(image[:, :3], base[:, :3]) and not share.any()
