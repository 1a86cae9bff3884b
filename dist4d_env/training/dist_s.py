"""Training DiST-S: complete the splat of a keyframe that its memory was not shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.models.conditions import ViewInputs, collate_views, rgbd_tensor
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.losses import depth_errors, hole_weight, image_loss, psnr
from dist4d_env.training.samples import BETWEEN, NEXT, SPACE, SampleStore

PURE_NOISE = 0.8
"""Share of samples at noise level 1, where one-step sampling spends its only evaluation."""


class DiSTSRecipe:
    """Pairs from the recorded path alone: keyframes t +- 1, 2 splatted to t, agents carried by their boxes."""

    def __init__(self, preset: Preset, train: SampleStore, val: SampleStore | None, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.unet = DiSTSUNet(**preset.dist_s).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"dist_s": self.unet}
        self.train, self.val, self.batch, self.seed = train, val, batch, seed
        self.pools = [pool for pool in (train.rows(SPACE), train.rows(BETWEEN), train.rows(NEXT)) if pool]
        self.shares = np.array([0.7, 0.15, 0.15])[: len(self.pools)]

    def collate(self, store: SampleStore, chosen: list[tuple[int, int]]) -> tuple[ViewInputs, torch.Tensor]:
        """Inputs and the true frames, (B V, ...)."""
        code = str(self.unet.config.depth_code)
        images, truths = [], []
        for s, row in chosen:
            scene = store.scenes[s]
            target = int(scene.target[row])
            images.append(scene.images(row))
            truths.append(rgbd_tensor(scene.arrays["frame_rgb"][target], scene.arrays["frame_depth"][target], code))
        views = collate_views(images, code)
        return ViewInputs(*(t.flatten(0, 1) for t in (views.base, views.other, views.masks))), torch.cat(truths)

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        generator = np.random.default_rng([self.seed, step])
        chosen = []
        for _ in range(self.batch):
            pool = self.pools[generator.choice(len(self.pools), p=self.shares / self.shares.sum())]
            chosen.append(pool[generator.integers(len(pool))])
        views, truth = self.collate(self.train, chosen)
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        count = len(truth)
        level = torch.sigmoid(torch.randn(count, generator=draw))
        level = torch.where(torch.rand(count, generator=draw) < PURE_NOISE, torch.ones(count), level)
        s = level.view(-1, 1, 1, 1)
        noisy = (1 - s) * truth + s * torch.randn(truth.shape, generator=draw)
        clean, share = self.unet.predict_clean(noisy, level, views)
        loss = image_loss(clean.float(), truth, hole_weight(views.masks[:, :1]))
        return loss, {"share": share.float().mean().item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the filled splat and of DiST-S from noise, and errors of depth, on recorded-path pairs."""
        store = self.val or self.train
        code = str(self.unet.config.depth_code)
        pool = store.rows(SPACE)
        scores = []
        for index in np.linspace(0, len(pool) - 1, min(48, len(pool))).astype(int):
            views, truth = self.collate(store, [pool[index]])
            noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
            clean, _ = self.unet.predict_clean(noise, torch.ones(len(truth)), views)
            rows = [psnr(views.base, truth), psnr(clean, truth)]
            rows += [depth_errors(views.base, truth, code)[0], *depth_errors(clean, truth, code)]
            scores.append([row.mean().item() for row in rows])
        names = ("splat", "composed", "splat_abs_rel", "abs_rel", "delta1")
        return dict(zip(names, np.mean(scores, 0).tolist(), strict=True))

    def export(self, folder: Path) -> None:
        save_model(self.unet, folder / "dist_s")
