"""Training of DiST-T: rectified flow on latents, together with its composer on the decoded pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.errors import DataError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, without_controls
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.video_codec import Codec
from dist4d_env.training.critics import Discriminator, LayoutReader, gradient_loss
from dist4d_env.training.dist_t_batches import DiSTTBatch, DiSTTBatches, DiSTTOptions, whole
from dist4d_env.training.loading import evenly, to_device
from dist4d_env.training.losses import hole_weight, image_loss, mean_scores, psnr, scores
from dist4d_env.training.run_log import rgbd_rows
from dist4d_env.training.samples import SampleStore

LEAST_LEVEL = 0.2
"""The flow's weight 1 / level^2 (the velocity's error from the clean latent's) is bounded at this noise level."""
SPLATTED = 0.1
"""Weight of critics' gradients on splatted pixels; in holes it is 1."""
HOLE_COLOUR = 0.4
"""Weight of the pixel loss of colours in the holes of frames that critics guide, where pixels cannot be known."""
CRITIC_LOSS = 0.1
"""Weight of the critics' own losses: Adam's steps do not depend on it, and the gradient norm that is clipped is the model's."""
DECODED, FLOW = 0.3, 0.1
"""Weights of the loss on decoded frames and of the flow's, beside the composed frames' 1."""
CRITICS = ("discriminator", "reader")
EMPHASISED = [LAYOUT_CHANNELS.index(name) for name in ("divider", "vehicle", "vulnerable")]
"""Layout channels of few pixels that matter to a driver. Crossings are not among them: where their stripes begin cannot be
known, and the pixel loss would make them grey."""


class DiSTTRecipe(DiSTTBatches):
    """Chunks of one or several half seconds ahead of a past, hidden keyframes between their neighbours, and own rollouts.

    train: one store of samples or one per image size, of which each step draws one.
    """

    def __init__(
        self,
        preset: Preset,
        codec: Codec,
        train: SampleStore | Sequence[SampleStore],
        val: SampleStore | None,
        batch: int,
        seed: int,
        options: DiSTTOptions | None = None,
    ) -> None:
        torch.manual_seed(seed)
        super().__init__(preset, codec, train, batch, seed, options or DiSTTOptions())
        self.val = val or self.stores[0]
        codec.eval().requires_grad_(False)
        if isinstance(codec, RGBDCodec):  # the video codec's weights have an axis more
            codec.to(memory_format=torch.channels_last)
        self.frozen: dict[str, nn.Module] = {"codec": self.codec}
        if self.options.teacher is not None:
            self.frozen["teacher"] = self.options.teacher.eval()
        use = {"image_size": self.size, "chunk": preset.chunk, "steps": preset.steps}
        self.transformer = DiSTTTransformer(**(preset.dist_t | use))
        self.models: dict[str, nn.Module] = {"dist_t": self.transformer}
        self.composer = Composer(**preset.composer).to(memory_format=torch.channels_last)
        self.models["composer"] = self.composer
        if self.options.adversarial:
            self.discriminator = Discriminator().to(memory_format=torch.channels_last)
            self.models["discriminator"] = self.discriminator
        if self.options.layout_consistency:
            self.reader = LayoutReader().to(memory_format=torch.channels_last)
            self.models["reader"] = self.reader

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device

    def generate(
        self, inputs: DiSTTInputs, level: torch.Tensor, noise: torch.Tensor, clean: torch.Tensor, reference_noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The predicted clean latents, their decoded images and the composed images from one evaluation at ``level`` (B,)."""
        with torch.no_grad():
            reference = self.codec.encode_rgbd(inputs.reference).float() + reference_noise
            splat = self.codec.encode_rgbd(inputs.views.base).float()
        s = level.view(-1, 1, 1, 1, 1, 1)
        noisy = (1 - s) * clean + s * noise
        predicted = self.transformer.predict_clean(noisy, level, inputs, reference, splat).float()
        decoded = self.codec.decode_rgbd(predicted).float()
        composed, _ = self.composer.frames(decoded, inputs.views, inputs.layout, inputs.interval)
        return predicted, decoded.flatten(0, 2), composed.float().flatten(0, 2)

    def loss(self, batch: DiSTTBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        inputs = without_controls(batch.inputs, batch.withheld)
        clean, truth = self.targets(inputs, batch.truth, batch.noise)
        predicted, decoded, composed = self.generate(inputs, batch.level, batch.noise, clean, batch.reference_noise)

        weight = 1 / batch.level.clamp(min=LEAST_LEVEL).square().view(-1, 1, 1, 1, 1, 1)
        flow = ((predicted - clean).square() * weight).mean()
        target, valid = truth.flatten(0, 2), inputs.views.masks[..., :1, :, :].flatten(0, 2)
        emphasised = batch.inputs.layout.flatten(0, 2)[:, EMPHASISED].amax(1, keepdim=True) > 0.5
        far = batch.far[:, None].expand(truth.shape[:3]).flatten()
        guided = far if self.options.critics else torch.zeros_like(far)
        decoded_loss = image_loss(decoded, target, self.pixel_weight(valid, emphasised))
        composed_loss = image_loss(composed, target, self.pixel_weight(valid, emphasised, guided))
        numbers = {"flow": flow.detach(), "decoded": decoded_loss.detach(), "composed": composed_loss.detach()}
        total = composed_loss + DECODED * decoded_loss + FLOW * flow
        if self.options.critics:
            losses = self.critic_losses(batch, target)
            if guided.any():
                (pixel,) = torch.autograd.grad(composed_loss, composed, retain_graph=True)
                total = total + self.critic_loss(batch, inputs, composed, target, pixel, valid, guided, losses)
            if losses:
                total = total + CRITIC_LOSS * sum(losses.values())
                numbers |= {name: loss.detach() for name, loss in losses.items()}
        return total, numbers

    def pixel_weight(self, valid: torch.Tensor, emphasised: torch.Tensor, guided: torch.Tensor | None = None) -> torch.Tensor:
        """Weights (N, 4, H, W) of the loss on images: more in holes, but less for colours in the holes of images (N,) that
        critics guide; most on markings and agents, (N, 1, H, W) bool, where the layout is known."""
        weight = hole_weight(valid).repeat(1, 4, 1, 1)
        if guided is not None:
            weight[guided, :3] = hole_weight(valid[guided], HOLE_COLOUR - 1)
        if not self.options.emphasis:
            return weight
        return torch.where(emphasised, (1 + self.options.emphasis) * hole_weight(valid), weight)

    @torch.no_grad()
    def targets(self, inputs: DiSTTInputs, truth: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean latents and images (B, V, T, 4, H, W) to learn: the truth's, or a teacher's answer to ``noise``."""
        if self.options.teacher is not None:
            return self.options.teacher(inputs, noise)
        return self.codec.encode_rgbd(truth).float(), truth

    def critic_losses(self, batch: DiSTTBatch, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """The critics' own losses by name; the layout reader learns from true images of every step, near or far."""
        losses: dict[str, torch.Tensor] = {}
        if self.options.layout_consistency:
            losses["reader"] = self.reader.loss(target, batch.inputs.layout.flatten(0, 2), batch.critic_noise.flatten(0, 2))
        if self.options.adversarial:
            losses["discriminator"], _ = self.discriminator.loss(*batch.examples)
        return losses

    def critic_loss(
        self,
        batch: DiSTTBatch,
        inputs: DiSTTInputs,
        composed: torch.Tensor,
        target: torch.Tensor,
        pixel: torch.Tensor,
        valid: torch.Tensor,
        guided: torch.Tensor,
        losses: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """The critics' part in the loss of the ``guided`` images (N,) bool; ``losses`` are their own, updated in place.

        inputs: as the model is conditioned, perhaps without controls, which are then withheld from the discriminator, too;
        composed, target, pixel: (N, 4, H, W) generated and true images and the gradient of the pixel loss by the generated
        ones; valid: (N, 1, H, W).
        """
        generated, real, pixel = composed.clamp(-1, 1)[guided], target[guided], pixel[guided]
        trust, noise = SPLATTED + (1 - SPLATTED) * (1 - valid[guided]), batch.critic_noise.flatten(0, 2)[guided]
        total = generated.new_zeros(())
        if self.options.adversarial:
            layout = inputs.layout.flatten(0, 2)[guided]
            own, confidence = self.discriminator.loss(real + noise, generated + noise, layout)
            losses["discriminator"] = (losses["discriminator"] + own) / 2
            gradient = self.discriminator.gradient(generated + noise, layout)
            total = total + self.options.adversarial * gradient_loss(generated, gradient, pixel, confidence * trust)
        if self.options.layout_consistency:
            gradient, excess = self.reader.gradient(generated, real, noise)
            confidence = (excess / losses["reader"].detach().clamp(min=1e-6)).clamp(0, 1)  # against its loss on real images
            total = total + self.options.layout_consistency * gradient_loss(generated, gradient, pixel, confidence * trust)
        return total

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of splat, decoded and composed frames and errors of depth, one step ahead and at the chunk's end; with a teacher,
        its PSNR, and that of composed frames against its own."""
        result: dict[str, float] = {}
        for length in self.lengths():
            pool = self.val.chunks(length)
            rows = [self._scores(place) for place in evenly(pool, 24)]
            result |= {f"{name}@{length}": value for name, value in mean_scores(rows).items()}
        return result

    def lengths(self) -> list[int]:
        """Frames of the chunks that are validated: one, and the first longer ones that the codec takes, about four."""
        longest = min(max(4, 1 + self.codec.time_factor), self.val.settings.chunk)
        return list(dict.fromkeys((1, whole(longest, self.codec.time_factor))))

    def check_lengths(self) -> None:
        """Raises ``DataError`` where there is no chunk of one of the ``lengths`` to validate on."""
        flags = "--dataroot, --split" if any(self.val is store for store in self.stores) else "--val-dataroot, --val-split"
        for length in self.lengths():
            if not self.val.chunks(length):
                raise DataError(
                    f"{self.val.folder} holds no {length} keyframes in a row after a first one, which validation needs: choose "
                    f"longer scenes ({flags}), of at least {1 + length * min(self.val.settings.strides)} keyframes with images "
                    "and depth"
                )

    def sample(self, chunk: tuple[int, list[int]]) -> list[torch.Tensor]:
        """Truth, filled splat, decoded and composed images (V, 4, H, W) of a validation chunk's last frame, from pure noise, and
        the teacher's where there is one."""
        inputs, truth = to_device(self.collate(self.val, [chunk]), self.device)
        clean = self.codec.encode_rgbd(truth)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        level = torch.ones(1, device=self.device)
        _, decoded, composed = self.generate(inputs, level, noise, clean, torch.zeros_like(clean[:, :, 0]))
        images = [truth.flatten(0, 2), inputs.views.base.flatten(0, 2), decoded, composed]
        if self.options.teacher is not None:
            images.append(self.targets(inputs, truth, noise)[1].flatten(0, 2))
        return [one.unflatten(0, (-1, len(chunk[1])))[:, -1] for one in images]

    def _scores(self, chunk: tuple[int, list[int]]) -> dict[str, float]:
        truth, base, decoded, composed, *answers = self.sample(chunk)
        result = {"decoded": psnr(decoded, truth).mean().item()}
        for answer in answers:
            result |= {"teacher": psnr(answer, truth).mean().item(), "as_teacher": psnr(composed, answer).mean().item()}
        return result | scores("composed", composed, base, truth, self.codec.config.depth_code)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """A single step and a chunk's end: truth, filled splat, decoded, composed and, where there is one, the teacher's."""
        pools = {length: self.val.chunks(length) for length in self.lengths()}
        return {f"{length} ahead": rgbd_rows(self.sample(pool[len(pool) // 2])) for length, pool in pools.items()}

    def export(self, folder: Path) -> None:
        """Write codec, DiST-T and composer; critics are not exported."""
        for name, model in ({"codec": self.codec} | self.models).items():
            if name not in CRITICS:
                save_model(model, folder / name)
