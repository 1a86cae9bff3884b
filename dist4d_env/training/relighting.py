"""Samples in other light: what is learned must not depend on the few colours and the one exposure of made streets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dist4d_env.models.inputs import ViewInputs

RELIT = 0.5
"""Share of training samples in another light."""
LUMA = (0.299, 0.587, 0.114)


class Light(NamedTuple):
    """A linear change of colours of N samples of V cameras, RGB in [-1, 1]: matrix (N, 3, 3) and offset (N, 3) for all images of
    a sample; gain (N, V): of what its memory shows, as exposure drifts between frames and differs by camera."""

    matrix: torch.Tensor
    offset: torch.Tensor
    gain: torch.Tensor

    def on(self, images: torch.Tensor, remembered: bool) -> torch.Tensor:
        """Images (N, V, ..., C, H, W), of which the first three channels are RGB; remembered: from the memory, with its gain."""
        rgb = images[..., :3, :, :]
        between = [1] * (images.dim() - 5)
        matrix = self.matrix.view(len(rgb), 1, *between, 3, 3)
        lit = torch.einsum("...ij,...jhw->...ihw", matrix.expand(*rgb.shape[:-3], 3, 3), rgb)
        lit = lit + self.offset.view(len(rgb), 1, *between, 3, 1, 1)
        if remembered:
            lit = (lit + 1) * self.gain.view(*self.gain.shape, *between, 1, 1, 1) - 1
        return torch.cat([lit.clamp(-1, 1), images[..., 3:, :, :]], -3)

    def views(self, views: ViewInputs) -> ViewInputs:
        """Splats (N, V, ...) in this light."""
        return views._replace(base=self.on(views.base, True), other=self.on(views.other, True))


def draw_light(samples: int, cameras: int, generator: np.random.Generator) -> Light:
    """Light of every sample: as it is, or of another saturation, white balance, contrast and brightness, sometimes with its
    colours exchanged; and with exposures that drift."""
    matrices, offsets = np.tile(np.eye(3), (samples, 1, 1)), np.zeros((samples, 3))
    gains = np.ones((samples, cameras))
    for n in np.flatnonzero(generator.random(samples) < RELIT):
        saturation, balance = generator.uniform(0.1, 1.4), generator.uniform(0.85, 1.15, 3)
        order = generator.permutation(3) if generator.random() < 0.3 else np.arange(3)
        contrast, brightness = generator.uniform(0.6, 1.2), generator.uniform(-0.25, 0.25)
        mixed = saturation * np.eye(3)[order] + (1 - saturation) * np.array(LUMA)
        matrices[n] = contrast * balance[:, None] * mixed
        offsets[n] = contrast * (balance - 1) + brightness  # of values that begin at -1
        gains[n] = np.exp(generator.normal(0, 0.02) + generator.normal(0, 0.02, cameras))
    return Light(*(torch.from_numpy(a.astype(np.float32)) for a in (matrices, offsets, gains)))
