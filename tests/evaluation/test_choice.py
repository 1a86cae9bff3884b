"""What is kept of adapted weights: never a mixture below the splat, never what isn't better, and losses on the town count."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.evaluation.choice import AFTER, BEFORE, HALFWAY, Choice, Drawn, choose
from dist4d_env.evaluation.held_out import DIST_T
from dist4d_env.metrics.images.accuracy import psnr
from dist4d_env.worlds.hidden import fit_gains

SHAPE = (2, 16, 24)


def frame(seed: int, splat: float, changes: dict[float, tuple[float, float]]) -> Drawn:
    """A frame whose splat errs by ``splat``. By share, a candidate errs by a factor times that in holes, elsewhere by that and
    noise."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(80, 170, (*SHAPE, 3)).astype(float)
    error = generator.normal(0, splat, truth.shape)
    kind = generator.integers(0, 4, SHAPE)
    made = {}
    for share, (in_holes, noise) in changes.items():
        left = np.where((kind == 0)[..., None], in_holes * error, error + generator.normal(0, noise, truth.shape))
        made[DIST_T, share] = (truth + left).round().clip(0, 255).astype(np.uint8)
    base = (truth + error).round().clip(0, 255).astype(np.uint8)
    return Drawn(base, truth.astype(np.uint8), kind, np.ones(SHAPE, bool), made)


def level(frames: list[Drawn], share: float, gains: tuple[float, ...] | None) -> float:
    return float(np.mean([psnr(one.mixed(DIST_T, share, gains), one.truth, one.street) for one in frames]))


def splat_level(frames: list[Drawn]) -> float:
    return float(np.mean([psnr(one.base, one.truth, one.street) for one in frames]))


def gains_of(frames: list[Drawn]) -> tuple[float, ...]:
    return fit_gains(one.change(DIST_T, AFTER) for one in frames)


def test_gains_keep_what_helps_and_drop_what_harms():
    frames = [frame(seed, 12.0, {AFTER: (0.3, 9.0)}) for seed in range(3)]
    hole, *others = gains_of(frames)
    assert hole == 1 and max(others) < 0.1, "a change for the better alone would be made larger still, were it not for the bound"


@pytest.mark.parametrize("seed", range(6))
def test_a_mixture_is_not_below_the_splat_whatever_a_network_does(seed):
    generator = np.random.default_rng(seed)
    frames = [
        frame(10 * seed + k, float(generator.uniform(2, 40)), {AFTER: tuple(generator.uniform(0, 30, 2) / (10, 1))})
        for k in range(5)
    ]
    gains = gains_of(frames)
    assert level(frames, AFTER, gains) >= splat_level(frames) - 0.01, "rounded to 8 bits"
    assert level(frames, AFTER, gains) >= level(frames, AFTER, (0, 0, 0, 0)) - 0.01
    assert level(frames, AFTER, (0, 0, 0, 0)) == pytest.approx(splat_level(frames))


def test_the_cars_own_body_does_not_count():
    one = frame(0, 12.0, {AFTER: (0.3, 9.0)})
    one.street[:, 8:] = False
    before = gains_of([one])
    one.made[DIST_T, AFTER][:, 8:] = 0
    assert gains_of([one]) == before


def test_what_is_not_better_stays_as_it_was():
    same = {BEFORE: (0.5, 0.0), HALFWAY: (0.7, 2.0), AFTER: (0.9, 4.0)}
    frames = [frame(seed, 12.0, same) for seed in range(3)]
    assert choose(DIST_T, frames, [], None, mixes=True) == Choice(BEFORE, None)


def test_the_better_weights_are_kept_with_what_they_gain():
    better = {BEFORE: (1.0, 0.0), HALFWAY: (0.7, 0.0), AFTER: (0.4, 0.0)}
    frames = [frame(seed, 12.0, better) for seed in range(3)]
    best = choose(DIST_T, frames, [], None, mixes=True)
    assert best.share == AFTER and best.gain == pytest.approx(level(frames, AFTER, best.gains) - level(frames, BEFORE, None))
    assert best.gain > 0.5


def test_a_loss_on_the_town_counts_against_a_gain():
    better = {BEFORE: (1.0, 0.0), HALFWAY: (0.7, 0.0), AFTER: (0.4, 0.0)}
    worse = {BEFORE: (1.0, 0.0), HALFWAY: (0.95, 0.0), AFTER: (4.0, 30.0)}
    own, town = ([frame(seed, 12.0, changes) for seed in range(3)] for changes in (better, worse))
    best = choose(DIST_T, own, town, None, mixes=False)
    assert (best.share, best.gains) == (HALFWAY, None) and best.town > 0


def test_not_to_be_below_the_splat_goes_before_what_the_town_loses():
    harmful = {share: (0.5, 15.0) for share in (BEFORE, HALFWAY, AFTER)}
    useful = {share: (0.1, 0.0) for share in (BEFORE, HALFWAY, AFTER)}
    own, town = ([frame(seed, splat, changes) for seed in range(3)] for splat, changes in ((6.0, harmful), (25.0, useful)))
    for one in town:
        one.kind[:] = 3  # where the own gains keep nothing, and the town's network puts everything right
        one.made.update({key: one.truth for key in one.made})
    best = choose(DIST_T, own, town, None, mixes=True)
    assert best.town < -best.gain < 0 and level(own, best.share, best.gains) >= splat_level(own) - 0.01


def test_mixing_alone_can_be_what_is_kept():
    """Adapted no better, but the shipped network harms where the splat is right."""
    harmful = {share: (0.5, 15.0) for share in (BEFORE, HALFWAY, AFTER)}
    frames = [frame(seed, 6.0, harmful) for seed in range(3)]
    best = choose(DIST_T, frames, [], None, mixes=True)
    assert best.gains is not None and best.gain > 3
    assert choose(DIST_T, frames, [], None, mixes=False).gains is None
    assert choose(DIST_T, frames, [], best.gains, mixes=True).gain < 0.3, "measured against the mixture that was there"
