"""Samples in other light: one linear change for all images of a sample, of the memory's with an exposure of its own."""

from __future__ import annotations

import numpy as np
import torch

from dist4d_env.models.inputs import ViewInputs
from dist4d_env.training.relighting import RELIT, draw_light


def test_every_image_of_a_sample_changes_alike() -> None:
    light = draw_light(200, 2, np.random.default_rng(0))
    images = (torch.rand(200, 2, 4, 5, 7, generator=torch.Generator().manual_seed(0)) - 0.5) / 2
    lit = light.on(images, remembered=False)
    changed = (lit != images).flatten(1).any(1)
    assert abs(changed.float().mean() - RELIT) < 0.1
    torch.testing.assert_close(lit[:, :, 3], images[:, :, 3])  # depth stays
    n = int(changed.nonzero()[0])
    expected = (light.matrix[n] @ images[n, 1, :3, 2, 3] + light.offset[n]).clamp(-1, 1)
    torch.testing.assert_close(lit[n, 1, :3, 2, 3], expected)
    assert lit.abs().max() <= 1


def test_what_is_remembered_drifts_by_a_few_percent() -> None:
    light = draw_light(100, 3, np.random.default_rng(1))
    views = ViewInputs(torch.zeros(100, 3, 4, 2, 2), torch.zeros(100, 3, 3, 2, 2), torch.ones(100, 3, 4, 2, 2))
    lit = light.views(views)
    torch.testing.assert_close(lit.base[:, :, :3], lit.other)
    torch.testing.assert_close(lit.masks, views.masks)
    drift = (light.gain - 1).abs()
    assert 0 < drift.max() < 0.2 and (light.gain == 1).float().mean() > 0.3


def test_frames_over_time_keep_their_shape() -> None:
    light = draw_light(2, 6, np.random.default_rng(2))
    assert light.on(torch.zeros(2, 6, 3, 4, 8, 8), remembered=True).shape == (2, 6, 3, 4, 8, 8)
