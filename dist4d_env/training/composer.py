"""Training of the composer alone, on what a finished DiST-T generates."""

from __future__ import annotations

import torch

from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.dist_t_batches import DiSTTBatch
from dist4d_env.training.losses import decibels, hole_weight, image_loss

DECIBELS = 0.1
"""Weight of each image's logarithmic error beside the pixel loss, in which near views, with small errors, hardly count."""


class ComposerRecipe(DiSTTRecipe):
    """The samples of DiST-T, which stays as it is: how far to believe its frames where streets look as it has never seen them."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.transformer.eval().requires_grad_(False)

    def loss(self, batch: DiSTTBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """From pure noise, as in use, and with all controls."""
        inputs, ahead = batch.inputs, torch.ones_like(batch.level)
        with torch.no_grad():
            reference = self.codec.encode_rgbd(inputs.reference).float() + batch.reference_noise
            splat = self.codec.encode_rgbd(inputs.views.base).float()
            predicted = self.transformer.predict_clean(batch.noise, ahead, inputs, reference, splat).float()
            decoded = self.codec.decode_rgbd(predicted).float()
        composed, _ = self.composer.frames(decoded, inputs.views, inputs.layout, inputs.interval)
        composed, target = composed.float().flatten(0, 2), batch.truth.flatten(0, 2)
        pixels = image_loss(composed, target, hole_weight(inputs.views.masks[..., :1, :, :].flatten(0, 2)))
        return pixels + DECIBELS * decibels(composed, target), {"pixels": pixels.detach()}
