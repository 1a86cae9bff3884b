"""The composer: blends DiST-T's decoded frames with the splat at full resolution, so that texture stays sharp."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dist4d_env.errors import ConfigError
from dist4d_env.models.arguments import check_levels
from dist4d_env.models.composition import COMPOSE_CHANNELS, CompositionUNet, Gains, check_gains, compose, gain_image, resized
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.precision import reduced
from dist4d_env.scenes.edits import is_number


class Composer(ModelMixin, ConfigMixin):
    """Predicts, per pixel, how much of the generated frame and of the other fill enters the splat, and detail on top.

    Zero before training: its output is then the filled splat, exactly.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (40, 80, 128),
        blocks: int = 2,
        most_detail: float | None = None,
        gains: tuple[float, ...] | None = None,
    ) -> None:
        """most_detail: bound of the detail in RGB, whose range is 2; None bounds nothing. Composed frames enter the memory:
        without a bound, detail grows from frame to frame into black and white specks. gains: what of the change of the splat's
        colours is kept by kind of pixel, ``composition.REGIONS``; None keeps all.
        """
        super().__init__()
        check_levels(widths, blocks)
        check_gains(gains)
        if most_detail is not None and not is_number(most_detail, 1e-6, 2):
            raise ConfigError(f"most_detail must be above 0 and at most RGB's range of 2, or null, not {most_detail!r}")
        channels = 4 + 4 + 3 + len(MASK_CHANNELS) + len(LAYOUT_CHANNELS)
        self.net = CompositionUNet(channels, COMPOSE_CHANNELS, tuple(widths), blocks, scalars=1)

    def forward(
        self,
        generated: torch.Tensor,
        base: torch.Tensor,
        other: torch.Tensor,
        masks: torch.Tensor,
        layout: torch.Tensor,
        interval: torch.Tensor,
        gains: Gains = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """generated: (N, 4, h, w); base: (N, 4, H, W); other: (N, 3, H, W); masks, layout: (N, C, H, W); interval: seconds since
        the reference (N,); gains: in place of the weights' own. The network works at h x w, the blend is of H x W.

        Returns the composed RGB-D image (N, 4, H, W), RGB and depth code, and the generated share (N, 1, H, W) in [0, 1].
        """
        size, coarse = base.shape[-2:], generated.shape[-2:]
        images = torch.cat([generated, *(resized(t, *coarse) for t in (base, other, masks, layout))], 1)
        with reduced(images):
            prediction = self.net(images, interval[:, None])
        prediction = resized(prediction.to(base.dtype), *size)
        gain = gain_image(masks, self.config.gains if gains is None else gains)
        return compose(base, resized(generated, *size), other, prediction, self.config.most_detail, gain)

    def frames(
        self, generated: torch.Tensor, views: ViewInputs, layout: torch.Tensor, interval: torch.Tensor, gains: Gains = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for frames: generated, views and layout over (B, V, T), interval (B, T); returns images and shares over it."""
        shape = generated.shape[:3]
        inputs = (generated, *views, layout, interval[:, None].expand(shape))
        image, share = self(*(t.flatten(0, 2) for t in inputs), gains=gains)
        return image.unflatten(0, shape), share.unflatten(0, shape)
