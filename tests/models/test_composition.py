"""Composition: the splat where nothing is predicted, a blend where something is, and detail within its bound."""

from __future__ import annotations

import torch

from dist4d_env.models.composer import Composer
from dist4d_env.models.composition import COMPOSE_CHANNELS, compose


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
