"""Training of the painter of traffic lights: splats of what was seen earlier, painted as the lights show at the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.errors import DataError
from dist4d_env.models.depth_code import decode_depth
from dist4d_env.models.inputs import channels_first, rgbd_tensor
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.signals import SignalPainter, in_sight
from dist4d_env.training.loading import as_stores, to_device
from dist4d_env.training.losses import mean_scores
from dist4d_env.training.run_log import rgbd_rows
from dist4d_env.training.samples import NEXT, SampleStore

CROP = 64
"""Pixels of the windows around heads that are learned from, at most a picture's height and width."""
STALE = 0.6
"""Share of samples whose splat shows another state than the target."""
FADED = 0.5
"""Share of samples whose heads are blurred, as networks draw what they don't know."""
LIT = 3.0
"""How much more lit lamps weigh than the rest of a head."""
LEAST = 0.3
"""Pixels that the lit lamps in a picture cover at least."""


class SignalsBatch(NamedTuple):
    """image: (N, 4, h, w) splats with lamps as they were; signals: (N, 4, h, w) as they are; truth: (N, 4, h, w); attributes:
    (N, 4) of the scenes."""

    image: torch.Tensor
    signals: torch.Tensor
    truth: torch.Tensor
    attributes: torch.Tensor


Place = tuple[int, int, int]
"""Scene of a store, splat in it and camera."""


class SignalsRecipe:
    """Pictures in which lamps are seen, from each past of the scene's splats; half of them with another state then."""

    def __init__(
        self, preset: Preset, train: SampleStore | Sequence[SampleStore], val: SampleStore | None, batch: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.painter = SignalPainter().to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"signals": self.painter}
        self.count, self.seed, self.stores = batch, seed, as_stores(train)
        self.pools = [lamps_seen(store) for store in self.stores]
        self.val = val or self.stores[0]
        self.val_pool = lamps_seen(self.val)

    @property
    def device(self) -> torch.device:
        return next(self.painter.parameters()).device

    def batch(self, step: int, rank: int = 0) -> SignalsBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        which = int(generator.integers(len(self.stores)))
        steady, stale = self.pools[which]
        pools = [stale if stale and generator.random() < STALE else steady or stale for _ in range(self.count)]
        chosen = [pool[generator.integers(len(pool))] for pool in pools]
        image, signals, truth, attributes = crops(self.stores[which], chosen, generator)
        drawn = torch.from_numpy(generator.random((len(image), 1, 1, 1), np.float32))
        strength = torch.where(drawn < FADED, drawn / FADED, 0) * (signals[:, 3:] > 0)
        image[:, :3] = torch.lerp(image[:, :3], blurred(image[:, :3]), strength)
        return SignalsBatch(image, signals, truth, attributes)

    def loss(self, batch: SignalsBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        error = (self.painter(batch.image, batch.signals, batch.attributes) - batch.truth).float()[:, :3]
        weight = self.weight(batch)
        loss = (error.abs() + 5 * error.square()).mul(weight).sum() / (3 * weight.sum()).clamp(min=1)
        return loss, {"squared": (error.square() * weight).sum().detach() / (3 * weight.sum()).clamp(min=1)}

    def weight(self, batch: SignalsBatch) -> torch.Tensor:
        """(N, 1, h, w) of the pixels that can be painted; 0 elsewhere."""
        seen = in_sight(decode_depth(batch.image[:, 3:], self.painter.config.depth_code), batch.signals)
        return seen * (1 + LIT * batch.signals[:, :3].amax(1, keepdim=True))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of heads in the splat and painted, where they show another state than before and where they don't."""
        result: dict[str, float] = {}
        for name, pool in zip(("steady", "stale"), self.val_pool, strict=True):
            rows = []
            for place in pool[:: max(1, len(pool) // 200)]:
                batch = self.example(place)
                painted, weight = self.painter(batch.image, batch.signals, batch.attributes), (self.weight(batch) > 0).float()
                rows.append({f"{name}_{what}": _decibels(image, batch.truth, weight) for what, image in
                             (("before", batch.image), ("painted", painted))})  # fmt: skip
            result |= mean_scores(rows) if rows else {}
        return result

    def example(self, place: Place) -> SignalsBatch:
        """A validation sample, the same each time."""
        return to_device(SignalsBatch(*crops(self.val, [place], np.random.default_rng(0))), self.device)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Truth, splat and painted, of up to eight heads that changed."""
        pool = self.val_pool[1] or self.val_pool[0]
        chosen = [self.example(place) for place in pool[:: max(1, len(pool) // 8)][:8]]
        rows = [[one.truth, one.image, self.painter(one.image, one.signals, one.attributes)] for one in chosen]
        return {"heads": rgbd_rows([torch.cat(row) for row in zip(*rows, strict=True)])}

    def export(self, folder: Path) -> None:
        """Write the painter."""
        save_model(self.painter, folder / "signals")


def lamps_seen(store: SampleStore) -> tuple[list[Place], list[Place]]:
    """The places where lit lamps are seen, in splats of later keyframes: those with the states of the reference, and those where
    one is another. Raises ``DataError`` where there are none."""
    steady: list[Place] = []
    stale: list[Place] = []
    for number, scene in enumerate(store.scenes):
        rows = np.flatnonzero(scene.kind == NEXT)
        for target in np.unique(scene.target[rows]).tolist():
            signals = scene.signals(target)
            if not signals.any():
                continue
            depth = torch.from_numpy(np.array(scene.arrays["frame_depth"][target], np.float32))[:, None]
            seen = in_sight(depth, channels_first(signals))[:, 0].numpy()
            lit = (signals[..., :3].max(-1) * seen).sum((1, 2)) / 255
            for row in rows[scene.target[rows] == target].tolist():
                before = scene.signals_as(target, scene.head_states(int(scene.reference[row])))
                for view in np.flatnonzero(lit >= LEAST).tolist():
                    changed = (before[view, ..., :3] != signals[view, ..., :3])[seen[view]].any()
                    (stale if changed else steady).append((number, row, view))
    if not steady and not stale:
        raise DataError(f"no lamps are seen in {store.folder}: take scenes with traffic lights")
    return steady, stale


def crops(
    store: SampleStore, chosen: Sequence[Place], generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Splat, signals, truth and attributes of ``SignalsBatch`` in windows around lamps of the places."""
    images, signals, truths, attributes = [], [], [], []
    for number, row, view in chosen:
        scene = store.scenes[number]
        a, target = scene.arrays, int(scene.target[row])
        drawn = scene.signals(target, view)[0]
        lamps = np.argwhere(drawn[..., :3].any(-1))
        middle = lamps[generator.integers(len(lamps))] + generator.integers(-CROP // 4, CROP // 4, 2)
        side = [min(CROP, length) for length in drawn.shape[:2]]
        corner = [int(np.clip(m - s // 2, 0, n - s)) for m, s, n in zip(middle, side, drawn.shape[:2], strict=True)]
        window = (slice(corner[0], corner[0] + side[0]), slice(corner[1], corner[1] + side[1]))
        images.append(rgbd_tensor(a["splat_base_rgb"][row, view][window], a["splat_base_depth"][row, view][window]))
        truths.append(rgbd_tensor(a["frame_rgb"][target, view][window], a["frame_depth"][target, view][window]))
        signals.append(channels_first(drawn[window]))
        attributes.append(torch.from_numpy(np.array(a["attributes"], np.float32)))
    return torch.stack(images), torch.stack(signals), torch.stack(truths), torch.stack(attributes)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, h, w), each pixel the mean of 5 x 5."""
    return F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, 1)


def _decibels(image: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> float:
    error = ((image.clamp(-1, 1) - truth)[:, :3].square() * weight).sum() / (3 * weight.sum()).clamp(min=1)
    return float(-10 * torch.log10(error / 4 + 1e-6))
