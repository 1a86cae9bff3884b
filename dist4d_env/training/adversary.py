"""Where pixels cannot be known an average of all futures is blurred: a discriminator asks for one that could be real."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from dist4d_env.models.layout import LAYOUT_CHANNELS


class Discriminator(nn.Module):
    """Patch logits of RGB-D images under their projected layout: what is drawn has to be real *and* where the controls put it.

    In: images (N, 4, H, W) and layouts (N, 8, H, W); out: (N, 1, H / 8, W / 8). Spectral normalisation (Miyato et al., 2018)
    keeps its gradients tame.
    """

    def __init__(self, widths: tuple[int, int, int] = (40, 72, 104)) -> None:
        super().__init__()
        first, second, third = widths
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            spectral_norm(nn.Conv2d(4 * (4 + len(LAYOUT_CHANNELS)), first, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(first, second, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(second, third, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(third, 1, 3, padding=1)),
        )

    def forward(self, images: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([images, layout], 1).contiguous(memory_format=torch.channels_last))

    def loss(self, real: torch.Tensor, made: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        """How badly it tells real images from made ones (non-saturating logistic loss); gradients stay in the discriminator."""
        return F.softplus(-self(real, layout)).mean() + F.softplus(self(made.detach(), layout)).mean()

    def pull(self, made: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        """The gradient (N, 4, H, W), not attached to anything, along which made images would look less real."""
        leaf = made.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.softplus(-self(leaf, layout)).mean(), leaf)
        return gradient


def adversarial_loss(
    made: torch.Tensor, layout: torch.Tensor, discriminator: Discriminator, pixel_gradient: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """A loss on made images whose gradient is the discriminator's, as strong as the pixel loss's times ``weight``.

    Balanced by norm as in VQGAN (Esser et al., 2021), but on the image, not on the last layer. pixel_gradient: (N, 4, H, W) of
    the pixel loss by the made images; weight: (N, 1, H, W), how far the discriminator's word counts against the pixels'.
    """
    pull = discriminator.pull(made, layout)
    pull = pull * (pixel_gradient.norm() / pull.norm().clamp(min=1e-12))
    return (made * (pull * weight)).sum()
