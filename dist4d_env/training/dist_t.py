"""Training DiST-T: rectified flow on latents, and its composer on the pixels that come out of it, together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, without_controls
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.video_codec import Codec
from dist4d_env.training.critics import Discriminator, Reader, steered
from dist4d_env.training.dist_t_batches import DiSTTBatch, DiSTTBatches, DiSTTOptions, whole
from dist4d_env.training.loading import to_device
from dist4d_env.training.losses import depth_errors, hole_weight, image_loss, psnr
from dist4d_env.training.pictures import rgbd_rows
from dist4d_env.training.samples import SampleStore

LEAST_LEVEL = 0.2
"""The flow's weight 1 / level^2 (the velocity's error from the clean latent's) is bounded at this noise level."""
TRUSTED = 0.1
"""How far a judge's word counts where a splat shows the pixel; in holes it counts in full."""
UNKNOWABLE = 0.4
"""Weight of the pixel loss of colours in the holes of frames that judges judge, where pixels cannot be known."""
JUDGES_SHARE = 0.1
"""Of the judges' own losses in the total: Adam's steps are as long as ever, and the norm that is clipped stays the model's."""
JUDGES = ("discriminator", "reader")
NAMED = [LAYOUT_CHANNELS.index(name) for name in ("divider", "vehicle", "vulnerable")]
"""Channels of the layout that are few pixels, but those that a driver reads. Crossings are not among them: nobody knows where
their stripes begin, and the pixel loss would have them grey."""


class DiSTTRecipe(DiSTTBatches):
    """Chunks of one or several half seconds ahead of a past, hidden keyframes between their neighbours, and own roll-outs.

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
        if self.options.decoder:
            if not isinstance(codec, RGBDCodec):
                raise ConfigError(
                    f"the decoder of a {type(codec).__name__} is pretrained and not trained here: leave --decoder out"
                )
            codec.decoder.requires_grad_(True)
        use = {"image_size": self.size, "chunk": preset.chunk, "steps": preset.steps, "compose": self.options.compose}
        self.transformer = DiSTTTransformer(**(preset.dist_t | use))
        self.models: dict[str, nn.Module] = {"dist_t": self.transformer}
        if self.options.decoder:
            self.models["codec"] = self.frozen.pop("codec")
        if self.options.compose:
            self.composer = Composer(**preset.composer).to(memory_format=torch.channels_last)
            self.models["composer"] = self.composer
        if self.options.adversarial:
            self.discriminator = Discriminator().to(memory_format=torch.channels_last)
            self.models["discriminator"] = self.discriminator
        if self.options.obedience:
            self.reader = Reader().to(memory_format=torch.channels_last)
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
        if not self.options.compose:
            return predicted, decoded.flatten(0, 2), decoded.flatten(0, 2)
        composed, _ = self.composer.frames(decoded, inputs.views, inputs.layout, inputs.interval)
        return predicted, decoded.flatten(0, 2), composed.float().flatten(0, 2)

    def loss(self, batch: DiSTTBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        inputs = without_controls(batch.inputs, batch.withheld)
        clean, truth = self.aim(inputs, batch.truth, batch.noise)
        predicted, decoded, composed = self.generate(inputs, batch.level, batch.noise, clean, batch.reference_noise)

        weight = 1 / batch.level.clamp(min=LEAST_LEVEL).square().view(-1, 1, 1, 1, 1, 1)
        flow = ((predicted - clean).square() * weight).mean()
        target, valid = truth.flatten(0, 2), inputs.views.masks[..., :1, :, :].flatten(0, 2)
        named = batch.inputs.layout.flatten(0, 2)[:, NAMED].amax(1, keepdim=True) > 0.5
        far = batch.far[:, None].expand(truth.shape[:3]).flatten()
        judged = far if self.options.adversarial or self.options.obedience else torch.zeros_like(far)
        drawn = image_loss(decoded, target, self.pixel_weight(valid, named))
        shown = image_loss(composed, target, self.pixel_weight(valid, named, judged))
        numbers = {"flow": flow.detach(), "decoded": drawn.detach(), "composed": shown.detach()}
        total = shown + self.options.decoded_weight * drawn + self.options.flow_weight * flow
        told: dict[str, torch.Tensor] = {}
        if self.options.obedience:  # true pictures are read in every step, near or far
            told["reader"] = self.reader.loss(target, batch.inputs.layout.flatten(0, 2), batch.veil.flatten(0, 2))
        if self.options.adversarial:
            told["discriminator"], _ = self.discriminator.loss(*batch.example)
        if judged.any():
            (pixel,) = torch.autograd.grad(shown, composed, retain_graph=True)
            total = total + self.judge(batch, inputs, composed, target, pixel, valid, judged, told)
        if told:
            total = total + JUDGES_SHARE * sum(told.values())
            numbers |= {name: loss.detach() for name, loss in told.items()}
        return total, numbers

    def pixel_weight(self, valid: torch.Tensor, named: torch.Tensor, judged: torch.Tensor | None = None) -> torch.Tensor:
        """Weights (N, 4, H, W) of the loss on images: more in holes, but less for colours in the holes of images (N,) that are
        judged; most where the layout names a marking or an agent, (N, 1, H, W) bool, and what to draw is known."""
        weight = hole_weight(valid).repeat(1, 4, 1, 1)
        if judged is not None:
            weight[judged, :3] = hole_weight(valid[judged], UNKNOWABLE - 1)
        if not self.options.emphasis:
            return weight
        return torch.where(named, (1 + self.options.emphasis) * hole_weight(valid), weight)

    @torch.no_grad()
    def aim(self, inputs: DiSTTInputs, truth: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean latents and images (B, V, T, 4, H, W) that are learned: the truth's, or a teacher's answer to ``noise``."""
        if self.options.teacher is not None:
            return self.options.teacher(inputs, noise)
        return self.codec.encode_rgbd(truth).float(), truth

    def judge(
        self,
        batch: DiSTTBatch,
        inputs: DiSTTInputs,
        composed: torch.Tensor,
        target: torch.Tensor,
        pixel: torch.Tensor,
        valid: torch.Tensor,
        judged: torch.Tensor,
        told: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """The judges' part in the loss of the ``judged`` images (N,) bool; their own losses are, or come, in ``told`` by name.

        inputs: as the model was told, perhaps without controls, which the discriminator does not get to know either; composed,
        target, pixel: (N, 4, H, W) made and true images and the gradient of the pixel loss by the made ones; valid: (N, 1, H, W).
        """
        made, real, pixel = composed.clamp(-1, 1)[judged], target[judged], pixel[judged]
        believed, noise = TRUSTED + (1 - TRUSTED) * (1 - valid[judged]), batch.veil.flatten(0, 2)[judged]
        steer = made.new_zeros(())
        if self.options.adversarial:
            layout = inputs.layout.flatten(0, 2)[judged]
            missed, say = self.discriminator.loss(real + noise, made + noise, layout)
            told["discriminator"] = (told["discriminator"] + missed) / 2
            pull = self.discriminator.pull(made + noise, layout)
            steer = steer + self.options.adversarial * steered(made, pull, pixel, say * believed)
        if self.options.obedience:
            pull, missed = self.reader.pull(made, real, noise)
            say = (missed / told["reader"].detach().clamp(min=1e-6)).clamp(0, 1)  # against what it misreads of real images
            steer = steer + self.options.obedience * steered(made, pull, pixel, say * believed)
        return steer

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of splat, decoded and composed frames and errors of depth, one step ahead and at the chunk's end; with a teacher,
        its PSNR, and that of composed frames against its own."""
        result: dict[str, float] = {}
        for length in self.lengths():
            pool = self.val.chunks(length)
            numbers = [self._scores(pool[i]) for i in np.linspace(0, len(pool) - 1, min(24, len(pool))).astype(int)]
            for name in numbers[0]:
                result[f"{name}@{length}"] = float(np.mean([n[name] for n in numbers]))
        return result

    def lengths(self) -> list[int]:
        """Frames of the chunks that are validated: one, and the first longer ones that the codec takes, about four."""
        longest = min(max(4, 1 + self.codec.time_factor), self.val.settings.chunk)
        return list(dict.fromkeys((1, whole(longest, self.codec.time_factor))))

    def sample(self, chunk: tuple[int, list[int]], teacher: bool = False) -> list[torch.Tensor]:
        """Truth, filled splat, decoded and composed images (V, 4, H, W) of a validation chunk's last frame, from pure noise, and
        the teacher's where asked for."""
        inputs, truth = to_device(self.collate(self.val, [chunk]), self.device)
        clean = self.codec.encode_rgbd(truth)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        _, decoded, composed = self.generate(
            inputs, torch.ones(1, device=self.device), noise, clean, torch.zeros_like(clean[:, :, 0])
        )
        images = [truth.flatten(0, 2), inputs.views.base.flatten(0, 2), decoded, composed]
        if teacher:
            images.append(self.aim(inputs, truth, noise)[1].flatten(0, 2))
        return [one.unflatten(0, (-1, len(chunk[1])))[:, -1] for one in images]

    def _scores(self, chunk: tuple[int, list[int]]) -> dict[str, float]:
        truth, base, decoded, composed, *answers = self.sample(chunk, teacher=self.options.teacher is not None)
        code = self.codec.config.depth_code
        taught = {}
        for answer in answers:
            taught = {"teacher": psnr(answer, truth).mean().item(), "as_teacher": psnr(composed, answer).mean().item()}
        return taught | {
            "splat": psnr(base, truth).mean().item(),
            "decoded": psnr(decoded, truth).mean().item(),
            "composed": psnr(composed, truth).mean().item(),
            "splat_abs_rel": depth_errors(base, truth, code)[0].mean().item(),
            "abs_rel": depth_errors(composed, truth, code)[0].mean().item(),
            "delta1": depth_errors(composed, truth, code)[1].mean().item(),
        }

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """A single step and a chunk's end: truth, filled splat, decoded, composed."""
        pools = {length: self.val.chunks(length) for length in self.lengths()}
        return {f"{length} ahead": rgbd_rows(self.sample(pool[len(pool) // 2])) for length, pool in pools.items()}

    def export(self, folder: Path) -> None:
        """Write codec, DiST-T and composer; the judges have done their work."""
        for name, model in ({"codec": self.codec} | self.models).items():
            if name not in JUDGES:
                save_model(model, folder / name)
