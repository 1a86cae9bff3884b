"""Training DiST-T: rectified flow on latents, and its composer on the pixels that come out of it, together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.conditions import DiSTTInputs, collate_targets, rgbd_tensor
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.losses import depth_errors, hole_weight, image_loss, psnr
from dist4d_env.training.samples import BETWEEN, SampleStore

PURE_NOISE = 0.7
"""Share of samples at noise level 1, where few-step sampling spends its evaluations."""
LEAST_LEVEL = 0.2
"""The flow's weight 1 / level^2 (the velocity's error from the clean latent's) is bounded at this noise level."""


class DiSTTRecipe:
    """Chunks of one or several half seconds ahead of a past, and hidden keyframes between their neighbours."""

    def __init__(
        self, preset: Preset, codec: RGBDCodec, train: SampleStore, val: SampleStore | None, batch: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.codec = codec.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        use = {"image_size": (preset.height, preset.width), "chunk": preset.chunk, "steps": preset.steps}
        self.transformer = DiSTTTransformer(**preset.dist_t, **use)
        self.composer = Composer(**preset.composer).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"dist_t": self.transformer, "composer": self.composer}
        self.train, self.val, self.batch, self.seed = train, val, batch, seed
        self.single = train.chunks(1)
        self.long = train.chunks(min(preset.chunk, train.settings.chunk))
        self.between = [(s, [row]) for s, row in train.rows(BETWEEN)]

    def choose(self, generator: np.random.Generator) -> list[tuple[int, list[int]]]:
        """A batch of one length: mostly single steps, where quality is judged first, else one whole chunk."""
        kind = generator.random()
        pool = self.long if kind < 0.12 and self.long else self.between if kind < 0.24 and self.between else self.single
        count = max(1, self.batch // len(pool[0][1]))
        return [pool[i] for i in generator.integers(len(pool), size=count)]

    def collate(self, store: SampleStore, chosen: list[tuple[int, list[int]]]) -> tuple[DiSTTInputs, torch.Tensor]:
        """Inputs and the true frames (B, V, T, 4, H, W)."""
        code = self.codec.config.depth_code
        references, targets, truths = [], [], []
        for s, rows in chosen:
            scene = store.scenes[s]
            references.append(scene.frame(int(scene.reference[rows[0]])))
            targets.append([scene.conditions(row) for row in rows])
            frames = [int(scene.target[row]) for row in rows]
            rgb, depth = scene.arrays["frame_rgb"], scene.arrays["frame_depth"]
            truths.append(torch.stack([rgbd_tensor(rgb[k], depth[k], code) for k in frames], 1))
        return collate_targets(references, targets, code), torch.stack(truths)

    def generate(
        self, inputs: DiSTTInputs, level: torch.Tensor, noise: torch.Tensor, clean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The predicted clean latents, their decoded images and the composed images from one evaluation at ``level`` (B,)."""
        with torch.no_grad():
            reference = self.codec.encode_rgbd(inputs.reference).float()
            splat = self.codec.encode_rgbd(inputs.views.base).float()
        s = level.view(-1, 1, 1, 1, 1, 1)
        noisy = (1 - s) * clean + s * noise
        predicted = self.transformer.predict_clean(noisy, level, inputs, reference, splat).float()
        decoded = self.codec.decode_rgbd(predicted).float()
        views = inputs.views
        interval = inputs.interval[:, None].expand(decoded.shape[:3]).flatten()
        told = (decoded, views.base, views.other, views.masks, inputs.layout)
        composed, _ = self.composer(*(t.flatten(0, 2) for t in told), interval)
        return predicted, decoded.flatten(0, 2), composed

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        generator = np.random.default_rng([self.seed, step])
        inputs, truth = self.collate(self.train, self.choose(generator))
        with torch.no_grad():
            clean = self.codec.encode_rgbd(truth).float()
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        count = len(truth)
        level = torch.sigmoid(torch.randn(count, generator=draw))
        level = torch.where(torch.rand(count, generator=draw) < PURE_NOISE, torch.ones(count), level)
        noise = torch.randn(clean.shape, generator=draw)
        predicted, decoded, composed = self.generate(inputs, level, noise, clean)

        weight = 1 / level.clamp(min=LEAST_LEVEL).square().view(-1, 1, 1, 1, 1, 1)
        flow = ((predicted - clean).square() * weight).mean()
        target, holes = truth.flatten(0, 2), hole_weight(inputs.views.masks[..., :1, :, :].flatten(0, 2))
        drawn = image_loss(decoded, target, holes)
        shown = image_loss(composed, target, holes)
        numbers = {"flow": flow.item(), "decoded": drawn.item(), "composed": shown.item()}
        return shown + 0.3 * drawn + 0.1 * flow, numbers

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of splat, decoded and composed frames and errors of depth, one step ahead and at the chunk's end."""
        store = self.val or self.train
        result: dict[str, float] = {}
        for length in dict.fromkeys((1, min(4, store.settings.chunk))):
            pool = store.chunks(length)
            numbers = [self._scores(store, pool[i]) for i in np.linspace(0, len(pool) - 1, min(24, len(pool))).astype(int)]
            for name in numbers[0]:
                result[f"{name}@{length}"] = float(np.mean([n[name] for n in numbers]))
        return result

    def _scores(self, store: SampleStore, chunk: tuple[int, list[int]]) -> dict[str, float]:
        inputs, truth = self.collate(store, [chunk])
        clean = self.codec.encode_rgbd(truth)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        _, decoded, composed = self.generate(inputs, torch.ones(1), noise, clean)
        last = slice(len(chunk[1]) - 1, None, len(chunk[1]))  # flattened (V, T): every view's last frame
        code = self.codec.config.depth_code
        target, base = truth.flatten(0, 2)[last], inputs.views.base.flatten(0, 2)[last]
        return {
            "splat": psnr(base, target).mean().item(),
            "decoded": psnr(decoded[last], target).mean().item(),
            "composed": psnr(composed[last], target).mean().item(),
            "splat_abs_rel": depth_errors(base, target, code)[0].mean().item(),
            "abs_rel": depth_errors(composed[last], target, code)[0].mean().item(),
            "delta1": depth_errors(composed[last], target, code)[1].mean().item(),
        }

    def export(self, folder: Path) -> None:
        for name, model in (("codec", self.codec), *self.models.items()):
            save_model(model, folder / name)
