"""Critics of generated frames whose pixels cannot be known: the pixel loss alone teaches the blurred mean of all futures there.

A discriminator asks for frames that could be real, a layout reader for road and traffic that can be recognised where they are.
Both are trained beside DiST-T and not exported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.models.composition import CompositionUNet
from dist4d_env.models.layout import LAYOUT_CHANNELS

READ_CHANNELS = LAYOUT_CHANNELS[:-1]
"""Channels that the layout reader predicts: the binary ones."""
MAX_NOISE = 0.2
"""Largest standard deviation of the noise that is added to critics' images in [-1, 1], against adversarial patterns."""
GRADIENT_BOUND = 4.0
"""Largest gradient of a pixel, against the mean of all: single pixels become specks."""
RAREST = 0.01
"""Share of pixels below which a channel's errors no longer weigh more."""


class Discriminator(nn.Module):
    """Patch logits of RGB-D images under their projected layout: frames must look real *and* agree with the controls.

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

    def loss(self, real: torch.Tensor, generated: torch.Tensor, layout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Its own loss (non-saturating logistic; no gradient reaches the images) and its confidence in [0, 1].

        Confidence is 0 while it ranks generated images above real ones as often as not, and 1 if it always ranks two right.
        """
        true, false = self(real, layout), self(generated.detach(), layout)
        right = (true.detach().mean((1, 2, 3))[:, None] > false.detach().mean((1, 2, 3))).float().mean()
        return F.softplus(-true).mean() + F.softplus(false).mean(), (2 * right - 1).clamp(min=0)

    def gradient(self, generated: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        """The gradient (N, 4, H, W), detached, along which generated images look less real."""
        leaf = generated.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.softplus(-self(leaf, layout)).mean(), leaf)
        return gradient


class LayoutReader(nn.Module):
    """Predicts the layout from an image alone: where road, crossings, lines and agents are.

    It learns from true images and the controls that every data set has. Generated images should be read like the true ones of
    the same instants: layout consistency, which leaves texture free (ControlNet++, Li et al., 2024, with pretrained networks).
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 72)) -> None:
        super().__init__()
        self.net = CompositionUNet(3, len(READ_CHANNELS), widths, blocks=1, scalars=1)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Images (N, 4, H, W), RGB first, under ``critic_noise`` (N, 4, H, W), to logits of READ_CHANNELS (N, 7, H, W)."""
        strength = noise.flatten(1).std(1)
        return self.net((images + noise)[:, :3], strength[:, None] / MAX_NOISE)

    def loss(self, real: torch.Tensor, layout: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Its own loss on real images; layout: (N, 8, H, W) in [0, 1]."""
        return layout_loss(self(real, noise), layout[:, : len(READ_CHANNELS)])

    def gradient(self, generated: torch.Tensor, real: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient (N, 4, H, W), detached, along which generated images are read less like real ones, and the excess loss:
        cross-entropy beyond that of the real images' own reading.
        """
        leaf = generated.detach().requires_grad_()
        with torch.no_grad():
            logits = self(real, noise)
            target = torch.sigmoid(logits)
        missed = layout_loss(self(leaf, noise), target)
        (gradient,) = torch.autograd.grad(missed, leaf)
        return gradient, missed.detach() - layout_loss(logits, target)


def critic_noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Noise (..., 4, H, W) for critics' images, of another strength for each image."""
    strength = MAX_NOISE * torch.rand(*shape[:-3], 1, 1, 1, generator=generator)
    return strength * torch.randn(shape, generator=generator)


def layout_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every channel, (N, C, H, W) both, rare channels weighing as much as common ones."""
    errors = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((0, 2, 3))
    return (errors / target.mean((0, 2, 3)).clamp(min=RAREST)).mean()


def gradient_loss(
    generated: torch.Tensor, gradient: torch.Tensor, pixel_gradient: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """A loss on generated images whose gradient is a critic's, as strong as the pixel loss's times ``weight``.

    Balanced by norm as in VQGAN (Esser et al., 2021), but on the image, not on the last layer; gradients of single pixels are
    bounded. pixel_gradient: (N, 4, H, W) of the pixel loss by the generated images; weight: (N, 1, H, W).
    """
    most = GRADIENT_BOUND * gradient.abs().mean()
    gradient = gradient.clamp(-most, most)
    gradient = gradient * (pixel_gradient.norm() / gradient.norm().clamp(min=1e-12))
    return (generated * (gradient * weight)).sum()
