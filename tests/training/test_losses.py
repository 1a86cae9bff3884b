"""Losses that stand for a metric: they rank as the metric does, and can be learned from."""

from __future__ import annotations

import pytest
import torch

from dist4d_env.models.depth_code import encode_depth
from dist4d_env.training.losses import beyond, depth_errors


def images(depth: torch.Tensor, code: str) -> torch.Tensor:
    return torch.cat([torch.zeros(len(depth), 3, *depth.shape[1:]), encode_depth(depth, code)[:, None]], 1)


@pytest.mark.parametrize("code", ["log", "linear"])
def test_beyond_is_a_smooth_share_of_depth_that_delta1_counts_as_wrong(code: str) -> None:
    draw = torch.Generator().manual_seed(0)
    true = 3 + 60 * torch.rand(1, 40, 50, generator=draw)
    found = true * torch.exp(0.3 * torch.randn(true.shape, generator=draw))
    found = found.clamp(max=95)
    everywhere = torch.ones(1, 1, 40, 50)
    share = beyond(images(found, code), images(true, code), code, everywhere).item()
    assert share == pytest.approx(1 - depth_errors(images(found, code), images(true, code), code)[1].item(), abs=0.03)
    assert beyond(images(true, code), images(true, code), code, everywhere) < 0.07
    assert beyond(images(2 * true.clamp(max=40), code), images(true.clamp(max=40), code), code, everywhere) > 0.97


def test_beyond_counts_weighted_pixels_and_no_sky() -> None:
    true = torch.full((1, 8, 8), 10.0)
    true[:, :4] = 100.0
    found, where = torch.full_like(true, 20.0), torch.zeros(1, 1, 8, 8)
    found[..., :4] = 10.0
    where[..., :4] = 1
    assert beyond(images(found, "log"), images(true, "log"), "log", where) < 0.07
    assert beyond(images(found, "log"), images(true, "log"), "log", 1 - where) > 0.97
    assert beyond(images(found, "log"), images(true, "log"), "log", 0 * where) == 0
    made = images(found, "log").requires_grad_()
    beyond(made, images(true, "log"), "log", 1 - where).backward()
    assert made.grad is not None and (made.grad[0, 3, 4:, 4:] > 0).all() and (made.grad[:, :, :4] == 0).all()
