"""Training DiST-S: complete the splat of a keyframe that its memory was not shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.errors import DataError
from dist4d_env.models.conditions import ViewInputs, collate_views, rgbd_tensor
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.loading import as_stores, choose_store, to_device
from dist4d_env.training.losses import depth_errors, hole_weight, image_loss, psnr
from dist4d_env.training.pictures import rgbd_rows
from dist4d_env.training.samples import BETWEEN, CYCLE, NEXT, OFF_PATH, SPACE, SampleStore

PURE_NOISE = 0.8
"""Share of samples at noise level 1, where one-step sampling spends its only evaluation."""
SHARES = {SPACE: 0.7, BETWEEN: 0.15, NEXT: 0.15}
"""How often a sample is of each kind of splat."""


@dataclass(frozen=True)
class DiSTSBatch:
    """N images: splats, the true frames and noise (N, 4, H, W), noise levels (N,)."""

    views: ViewInputs
    truth: torch.Tensor
    noise: torch.Tensor
    level: torch.Tensor


class DiSTSRecipe:
    """Stage 1, pairs from the recorded path alone: keyframes t +- 1, 2 splatted to t, agents carried by their boxes.

    train: one store of samples or one per image size, of which each step draws one. Stage 2 adds cycle consistency: ``extra``
    holds the samples of ``prepare_cycle`` (or, as an upper bound, ``prepare_off_path``), and a sample of the extra's image size
    is one of them with probability ``share``.
    """

    def __init__(
        self,
        preset: Preset,
        train: SampleStore | Sequence[SampleStore],
        val: SampleStore | None,
        batch: int,
        seed: int,
        extra: SampleStore | None = None,
        share: float = 0.5,
    ) -> None:
        torch.manual_seed(seed)
        self.unet = DiSTSUNet(**preset.dist_s).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"dist_s": self.unet}
        self.stores, self.count, self.seed = as_stores(train), batch, seed
        self.size = (preset.height, preset.width)
        self.val = val or self.stores[0]
        pools = {store: {kind: store.rows(kind) for kind in SHARES} for store in self.stores}
        self.pools = {store: {kind: pool for kind, pool in kinds.items() if pool} for store, kinds in pools.items()}
        self.extra, self.share = extra, share
        self.extra_rows = [] if extra is None else extra.rows(CYCLE) + extra.rows(OFF_PATH)
        if extra is not None and not self.extra_rows:
            raise DataError(f"{extra.folder} holds no cycle samples; make them with: python -m dist4d_env train cycle")

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def choose(self, store: SampleStore, generator: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """(scene, splat) of ``count`` samples of a store."""
        kinds = list(self.pools[store])
        shares = np.array([SHARES[kind] for kind in kinds])
        pools = [self.pools[store][kinds[k]] for k in generator.choice(len(kinds), size=count, p=shares / shares.sum())]
        return [pool[generator.integers(len(pool))] for pool in pools]

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

    def batch(self, step: int, rank: int = 0) -> DiSTSBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        store, samples = choose_store(self.stores, self.count, self.size, generator)
        beside = generator.binomial(samples, self.share) if self.extra and same_size(store, self.extra) else 0
        parts = [self.collate(store, self.choose(store, generator, samples - beside))] if beside < samples else []
        if self.extra and beside:
            rows = [self.extra_rows[k] for k in generator.integers(len(self.extra_rows), size=beside)]
            parts.append(self.collate(self.extra, rows))
        views = ViewInputs(*(torch.cat([getattr(v, f.name) for v, _ in parts]) for f in fields(ViewInputs)))
        truth = torch.cat([truth for _, truth in parts])
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        level = torch.sigmoid(torch.randn(len(truth), generator=draw))
        level = torch.where(torch.rand(len(truth), generator=draw) < PURE_NOISE, torch.ones(len(truth)), level)
        return DiSTSBatch(views, truth, torch.randn(truth.shape, generator=draw), level)

    def loss(self, batch: DiSTSBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        s = batch.level.view(-1, 1, 1, 1)
        clean, share = self.unet.predict_clean((1 - s) * batch.truth + s * batch.noise, batch.level, batch.views)
        loss = image_loss(clean.float(), batch.truth, hole_weight(batch.views.masks[:, :1]))
        return loss, {"share": share.detach().float().mean()}

    def pair(self, row: tuple[int, int]) -> tuple[ViewInputs, torch.Tensor, torch.Tensor]:
        """Inputs and truth of a validation sample and what DiST-S makes of pure noise, (V, ...)."""
        views, truth = to_device(self.collate(self.val, [row]), self.device)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        clean, _ = self.unet.predict_clean(noise, torch.ones(len(truth), device=self.device), views)
        return views, truth, clean

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the filled splat and of DiST-S from noise, and errors of depth, on recorded-path pairs."""
        code = str(self.unet.config.depth_code)
        pool = self.val.rows(SPACE)
        scores = []
        for index in np.linspace(0, len(pool) - 1, min(48, len(pool))).astype(int):
            views, truth, clean = self.pair(pool[index])
            rows = [psnr(views.base, truth), psnr(clean, truth)]
            rows += [depth_errors(views.base, truth, code)[0], *depth_errors(clean, truth, code)]
            scores.append([row.mean().item() for row in rows])
        names = ("splat", "composed", "splat_abs_rel", "abs_rel", "delta1")
        return dict(zip(names, np.mean(scores, 0).tolist(), strict=True))

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """One pair: truth, filled splat, DiST-S."""
        pool = self.val.rows(SPACE)
        views, truth, clean = self.pair(pool[len(pool) // 2])
        return {"pair": rgbd_rows([truth, views.base, clean])}

    def export(self, folder: Path) -> None:
        """Write DiST-S."""
        save_model(self.unet, folder / "dist_s")


def same_size(a: SampleStore, b: SampleStore) -> bool:
    """Whether two stores' images have one size."""
    return (a.settings.height, a.settings.width) == (b.settings.height, b.settings.width)
