"""Batches of splats and true frames for DiST-S: kinds by their shares, several image sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dist4d_env.errors import DataError
from dist4d_env.models.inputs import ViewInputs, collate_views, rgbd_tensor
from dist4d_env.training.loading import as_stores, choose_store
from dist4d_env.training.relighting import draw_light
from dist4d_env.training.samples import BETWEEN, NEXT, SPACE, SampleStore, SceneSamples

SHARES = {SPACE: 0.7, BETWEEN: 0.15, NEXT: 0.15}
"""Share of samples of each kind of splat."""


@dataclass(frozen=True)
class Run:
    """Where a clip can be taken from: a scene of a store and, frame after frame, the splats that show that keyframe."""

    scene: int
    splats: tuple[tuple[int, ...], ...]

    def clip(self, generator: np.random.Generator) -> tuple[int, list[int]]:
        """(scene, splats), one splat drawn for each frame that has several."""
        return self.scene, [rows[generator.integers(len(rows))] if len(rows) > 1 else rows[0] for rows in self.splats]


def runs(store: SampleStore, kind: int, frames: int) -> list[Run]:
    """Every splat of a kind that begins ``frames`` successive keyframes with splats of that kind, scene by scene."""
    return [Run(s, splats) for s, scene in enumerate(store.scenes) for splats in _scene_runs(scene, kind, frames)]


def _scene_runs(scene: SceneSamples, kind: int, frames: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    targets = np.array(scene.target)
    rows = [int(row) for row in np.flatnonzero(scene.kind == kind)]
    shown: dict[int, tuple[int, ...]] = {}
    for row in rows:
        shown[int(targets[row])] = (*shown.get(int(targets[row]), ()), row)
    for row in rows:
        clip = range(int(targets[row]), int(targets[row]) + frames)
        if all(k in shown for k in clip):
            yield ((row,), *(shown[k] for k in clip[1:]))


class ViewSamples:
    """Clips of ``frames`` successive keyframes, each frame with a splat of a memory that lacks it; 1 gives single images.

    train: stores of samples, of which each draw takes one; count: images of all cameras per draw, at ``size`` (height, width);
    code: of depth. Raises ``DataError`` where a store has no such samples.
    """

    def __init__(
        self,
        train: SampleStore | Sequence[SampleStore],
        count: int,
        size: tuple[int, int],
        code: str,
        frames: int = 1,
    ) -> None:
        self.stores, self.count, self.size, self.code, self.frames = as_stores(train), count, size, code, frames
        pools = {store: {kind: runs(store, kind, frames) for kind in SHARES} for store in self.stores}
        self.pools = {store: {kind: pool for kind, pool in kinds.items() if pool} for store, kinds in pools.items()}
        for store, kinds in self.pools.items():
            if not kinds:
                raise DataError(f"{store.folder} holds no {frames} successive keyframes with splats; take longer scenes")

    def draw(self, generator: np.random.Generator) -> tuple[ViewInputs, torch.Tensor]:
        """Inputs over (N, F) and the true frames (N, F, 4, H, W): N clips, one per sample and camera."""
        store, images = choose_store(self.stores, self.count, self.size, generator)
        return self.collate(store, self.choose(store, generator, max(1, images // self.frames)), generator)

    def choose(self, store: SampleStore, generator: np.random.Generator, count: int) -> list[tuple[int, list[int]]]:
        """(scene, splats) of ``count`` clips of a store."""
        kinds = list(self.pools[store])
        shares = np.array([SHARES[kind] for kind in kinds])
        pools = [self.pools[store][kinds[k]] for k in generator.choice(len(kinds), size=count, p=shares / shares.sum())]
        return [pool[generator.integers(len(pool))].clip(generator) for pool in pools]

    def collate(
        self,
        store: SampleStore,
        chosen: Sequence[tuple[int, Sequence[int]]],
        generator: np.random.Generator | None = None,
    ) -> tuple[ViewInputs, torch.Tensor]:
        """Inputs over (B V, F) and the true frames (B V, F, 4, H, W) of B clips; generator: draws their light."""
        images, truths = [], []
        for s, rows in chosen:
            scene = store.scenes[s]
            images += [scene.images(row) for row in rows]
            frames = [int(scene.target[row]) for row in rows]
            rgb, depth = scene.arrays["frame_rgb"], scene.arrays["frame_depth"]
            truths += [rgbd_tensor(rgb[k], depth[k], self.code) for k in frames]

        def clips(tensor: torch.Tensor) -> torch.Tensor:  # (B F, V, ...) to (B V, F, ...)
            return tensor.unflatten(0, (len(chosen), -1)).transpose(1, 2).flatten(0, 1)

        views, truth = ViewInputs(*map(clips, collate_views(images, self.code))), clips(torch.stack(truths))
        if generator is None:
            return views, truth

        def cameras(tensor: torch.Tensor) -> torch.Tensor:  # (B V, F, ...) to (B, V, F, ...)
            return tensor.unflatten(0, (len(chosen), -1))

        light = draw_light(len(chosen), len(truth) // len(chosen), generator)
        relit = light.views(ViewInputs(*map(cameras, views)))
        return ViewInputs(*(tensor.flatten(0, 1) for tensor in relit)), light.on(cameras(truth), False).flatten(0, 1)


def clip_length(stores: Sequence[SampleStore], frames: int) -> int:
    """``frames`` where every store has clips of so many successive keyframes, else 1."""
    return frames if all(any(runs(store, kind, frames) for kind in SHARES) for store in stores) else 1
