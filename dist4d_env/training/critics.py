"""Judges of what cannot be known: an average of all futures is blurred, so a discriminator asks for one that could be real, and
a reader that it shows road and traffic where they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.models.composition import CompositionUNet
from dist4d_env.models.layout import LAYOUT_CHANNELS

READ = LAYOUT_CHANNELS[:-1]
"""What can be read out of a picture: every channel of the layout that is yes or no."""
VEIL = 0.2
"""Largest standard deviation of the noise that judges see pictures, in [-1, 1], under: what is seen through it is no trick."""
SPECK = 4.0
"""Largest pull on a pixel, against the mean of all."""
RAREST = 0.01
"""Share of pixels below which a channel's errors no longer weigh more."""


class Discriminator(nn.Module):
    """Patch logits of RGB-D images under their projected layout: what is drawn has to be real *and* where the controls put it.

    In: images (N, 4, H, W) and layouts (N, 8, H, W); out: (N, 1, H / 8, W / 8). Groups of features are normalised (Wu and He,
    2018), with which it learns the difference in a third of the steps that spectral normalisation takes.
    """

    def __init__(self, widths: tuple[int, int, int] = (40, 72, 104)) -> None:
        super().__init__()
        first, second, third = widths
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * (4 + len(LAYOUT_CHANNELS)), first, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.GroupNorm(8, second),
            nn.LeakyReLU(0.2),
            nn.Conv2d(second, third, 4, stride=2, padding=1),
            nn.GroupNorm(8, third),
            nn.LeakyReLU(0.2),
            nn.Conv2d(third, 1, 3, padding=1),
        )

    def forward(self, images: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([images, layout], 1).contiguous(memory_format=torch.channels_last))

    def loss(self, real: torch.Tensor, made: torch.Tensor, layout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How badly it tells real images from made ones (non-saturating logistic loss; gradients stay in the discriminator), and
        how much it has to say, 0 to 1: nothing while it takes made images for real ones as often as not, when its gradient is
        noise, all if it is always right about which of two is real.
        """
        true, false = self(real, layout), self(made.detach(), layout)
        right = (true.detach().mean((1, 2, 3))[:, None] > false.detach().mean((1, 2, 3))).float().mean()
        return F.softplus(-true).mean() + F.softplus(false).mean(), (2 * right - 1).clamp(min=0)

    def pull(self, made: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        """The gradient (N, 4, H, W), not attached to anything, along which made images would look less real."""
        leaf = made.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.softplus(-self(leaf, layout)).mean(), leaf)
        return gradient


class Reader(nn.Module):
    """Reads the layout out of a picture alone: where road, crossings, lines and agents are.

    It learns from true pictures and the controls that every data set has. That generated pictures should read like the true ones
    of the same instants asks for obedience and leaves texture free (as ControlNet++, Li et al., 2024, does with finished
    networks; here the reader learns beside the model, and reads under noise).
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 72)) -> None:
        super().__init__()
        self.net = CompositionUNet(3, len(READ), widths, blocks=1, scalars=1)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Images (N, 4, H, W), RGB first, under noise (N, 4, H, W) of ``veil`` to logits of READ (N, 7, H, W)."""
        strength = noise.flatten(1).std(1)
        return self.net((images + noise)[:, :3], strength[:, None] / VEIL)

    def loss(self, real: torch.Tensor, layout: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """How badly it reads real images; layout: (N, 8, H, W) in [0, 1]."""
        return misread(self(real, noise), layout[:, : len(READ)])

    def pull(self, made: torch.Tensor, real: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient (N, 4, H, W), not attached to anything, along which made images would read less like real ones, and how
        far they are from that: cross-entropy beyond that of the real images' reading with itself.
        """
        leaf = made.detach().requires_grad_()
        with torch.no_grad():
            read = self(real, noise)
            meant = torch.sigmoid(read)
        missed = misread(self(leaf, noise), meant)
        (gradient,) = torch.autograd.grad(missed, leaf)
        return gradient, missed.detach() - misread(read, meant)


def veil(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Noise of that shape (..., 4, H, W) to judge images under, of another strength for each image."""
    strength = VEIL * torch.rand(*shape[:-3], 1, 1, 1, generator=generator)
    return strength * torch.randn(shape, generator=generator)


def misread(logits: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every channel, (N, C, H, W) both, rare channels weighing as much as common ones."""
    errors = F.binary_cross_entropy_with_logits(logits, meant, reduction="none").mean((0, 2, 3))
    return (errors / meant.mean((0, 2, 3)).clamp(min=RAREST)).mean()


def steered(made: torch.Tensor, pull: torch.Tensor, pixel_gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A loss on made images whose gradient is a judge's ``pull``, as strong as the pixel loss's times ``weight``.

    Balanced by norm as in VQGAN (Esser et al., 2021), but on the image, not on the last layer. A pull on single pixels, which
    makes them bright or dark specks, is bounded. pixel_gradient: (N, 4, H, W) of the pixel loss by the made images; weight:
    (N, 1, H, W), how far the judge's word counts against the pixels'.
    """
    most = SPECK * pull.abs().mean()
    pull = pull.clamp(-most, most)
    pull = pull * (pixel_gradient.norm() / pull.norm().clamp(min=1e-12))
    return (made * (pull * weight)).sum()
