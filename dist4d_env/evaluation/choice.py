"""Which of adapted weights to keep, and how much of what they change: decided on hidden keyframes, one network at a time.

Candidates are the weights from before, those after, and those half-way between (Wortsman et al., 2022), each as it is and mixed
with the splat: of the change that a network makes to the splat's colours a part is kept, by kind of pixel, the one of least
squared error on the hidden keyframes. As each of them counts in units of its splat's error, the mean PSNR of a mixture is not
below the splat's there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dist4d_env.evaluation.held_out import DIST_S, DIST_T, Hidden, hidden_frames
from dist4d_env.metrics.images.accuracy import psnr
from dist4d_env.models.composition import REGIONS, Gains
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, noise_of
from dist4d_env.models.pretrained import read_config
from dist4d_env.training.export import blend, move
from dist4d_env.worlds.hidden import Change, fit_gains, kinds

BEFORE, HALFWAY, AFTER = 0.0, 0.5, 1.0
"""How far weights are moved from those before to those after."""
LEAST, ROUNDING = 0.02, 0.01
"""dB that a candidate must gain to replace what was there, and that rounding to 8 bits may cost a mixture."""
Pipelines = tuple[DiSTTPipeline, DiSTSPipeline]


@dataclass(frozen=True)
class Drawn:
    """A hidden frame drawn by every candidate. base, truth: the filled splat and the picture, (V, H, W, 3) uint8; kind:
    (V, H, W) int, REGIONS; street: (V, H, W) bool, pixels that count; made: by network and share, (V, H, W, 3) uint8.
    """

    base: np.ndarray
    truth: np.ndarray
    kind: np.ndarray
    street: np.ndarray
    made: Mapping[tuple[str, float], np.ndarray]

    def change(self, network: str, share: float) -> Change:
        """What a candidate changes in the splat."""
        return Change.of(self.base, self.truth, self.made[network, share], self.kind, self.street)

    def mixed(self, network: str, share: float, gains: Gains) -> np.ndarray:
        """The picture of a candidate."""
        made = self.made[network, share]
        if gains is None:
            return made
        kept = np.array(gains, np.float32)[self.kind][..., None]
        return np.round(self.base + kept * (made.astype(np.float32) - self.base)).astype(np.uint8)


@dataclass(frozen=True)
class Choice:
    """share, gains: what is kept of a network; gain, town: dB against what was there, on hidden keyframes and on the town's."""

    share: float
    gains: Gains
    gain: float = 0.0
    town: float = 0.0

    @property
    def kept(self) -> str:
        """In words."""
        weights = {BEFORE: "as before", HALFWAY: "half-way to the adapted ones", AFTER: "the adapted ones"}[self.share]
        if self.gains is None:
            return f"weights {weights}"
        parts = ", ".join(f"{name} {gain:.2f}" for name, gain in zip(REGIONS, self.gains, strict=True))
        return f"weights {weights}, mixed with the splat ({parts})"


def candidates(start: Path, dist_t: Path, dist_s: Path, device: torch.device) -> dict[float, Pipelines]:
    """The pipelines by share, unmixed. start: weights from before; dist_t, dist_s: those after."""
    after = DiSTTPipeline.from_pretrained(dist_t, device), DiSTSPipeline.from_pretrained(dist_s, device)
    found = {AFTER: after}
    for share in (BEFORE, HALFWAY):
        one = DiSTTPipeline.from_pretrained(start, device), DiSTSPipeline.from_pretrained(start, device)
        blend(one[0], [after[0]], share)
        move(one[1].unet, [after[1].unet], share)
        set_gains(one[0], None)
        set_gains(one[1], None)
        found[share] = one
    return found


def set_gains(pipeline: DiSTTPipeline | DiSTSPipeline, gains: Gains) -> None:
    """Mix what a pipeline shows with the splat."""
    (pipeline.composer if isinstance(pipeline, DiSTTPipeline) else pipeline.unet).register_to_config(gains=gains)


def gains_of(weights: Path) -> tuple[Gains, Gains]:
    """How what DiST-T and DiST-S of a folder show is mixed with the splat."""
    dist_t, dist_s = (read_config(weights / part).get("gains") for part in ("composer", "dist_s"))
    return dist_t and tuple(dist_t), dist_s and tuple(dist_s)


def draw_all(
    hidden: Iterable[Hidden], worlds: Mapping[float, Pipelines], size: tuple[int, int], progress: Callable[[], None]
) -> list[Drawn]:
    """Every hidden keyframe from both memories, by every candidate."""
    drawn = []
    for _, (_, keyframe), frame in hidden_frames(hidden, size):
        made: dict[tuple[str, float], np.ndarray] = {}
        for share, (dist_t, dist_s) in worlds.items():
            steps = dist_t.transformer.config.steps
            made[DIST_T, share] = frame.by_dist_t(dist_t, steps, noise_of(keyframe, 0)).rgb
            made[DIST_S, share] = frame.by_dist_s(dist_s, steps, noise_of(keyframe, 1)).rgb
        base, kind = kinds(frame.splat)
        drawn.append(Drawn(base, frame.truth.rgb, kind, frame.street, made))
        progress()
    return drawn


def choose(network: str, own: Sequence[Drawn], town: Sequence[Drawn], before: Gains, mixes: bool) -> Choice:
    """The candidate that gains most on the own keyframes; what it loses on the town's counts against it. One that is not below
    the splat on the own keyframes goes before one that is.

    before: gains of the weights from before; mixes: whether the network can be mixed with the splat.
    """

    def level(frames: Sequence[Drawn], share: float, gains: Gains) -> float:
        values = [psnr(one.mixed(network, share, gains), one.truth, one.street) for one in frames]
        return float(np.mean(values)) if values else 0.0

    splat = float(np.mean([psnr(one.base, one.truth, one.street) for one in own])) - ROUNDING
    was = level(own, BEFORE, before), level(town, BEFORE, before)
    best, most = Choice(BEFORE, before), (was[0] >= splat, LEAST)
    for share in (AFTER, HALFWAY, BEFORE):
        for gains in (None, fit_gains(one.change(network, share) for one in own)) if mixes else (None,):
            gain, other = level(own, share, gains) - was[0], level(town, share, gains) - was[1]
            rank = (was[0] + gain >= splat, gain + min(other, 0.0))
            if gain > LEAST and rank > most:
                best, most = Choice(share, gains, gain, other), rank
    return best
