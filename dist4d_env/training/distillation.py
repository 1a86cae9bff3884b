"""Distillation of DiST-T: a teacher's answer to noise, in many evaluations, becomes a student's target for one or two.

The student's target is the teacher's answer to the very noise that the student is given, in place of the truth (the rectified
flow's second coupling; Liu et al., 2023): at noise level 1 from noise to data in one evaluation (Luhman and Luhman, 2021).
"""

from __future__ import annotations

import torch
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.inputs import DiSTTInputs
from dist4d_env.models.pipelines import DiSTTPipeline, denoise
from dist4d_env.models.video_codec import Codec, encode_alike


class Teacher(nn.Module):
    """Frozen weights and their number of evaluations.

    weights: a shipped preset or a folder with codec, DiST-T and composer; codec: the student's, whose encoder must be the same
    (``ConfigError``); guidance: classifier-free, which the student learns, too.
    """

    def __init__(self, weights: str, codec: Codec, evaluations: int, guidance: float = 1.0) -> None:
        super().__init__()
        if evaluations < 1:
            raise ConfigError(f"a teacher takes at least one evaluation, not {evaluations}")
        pipeline = DiSTTPipeline.from_pretrained(weights)
        self.codec, self.transformer, self.composer = pipeline.codec, pipeline.transformer, pipeline.composer
        self.evaluations, self.guidance = evaluations, guidance
        self.requires_grad_(False)
        if not encode_alike(self.codec, codec):
            raise ConfigError(f"the teacher {weights} encodes with another codec than the student: pass --codec {weights}")

    @torch.no_grad()
    def forward(self, inputs: DiSTTInputs, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, V, T', C, h, w) and images (B, V, T, 4, H, W) in [-1, 1] generated from ``noise``."""
        reference, splat = (self.codec.encode_rgbd(images).float() for images in (inputs.reference, inputs.views.base))
        latents = denoise(self.transformer, noise, inputs, reference, splat, self.evaluations, self.guidance).float()
        images = self.codec.decode_rgbd(latents).float()
        images, _ = self.composer.frames(images, inputs.views, inputs.layout, inputs.interval)
        return latents, images.float().clamp(-1, 1)
