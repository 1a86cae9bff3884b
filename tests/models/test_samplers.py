"""Samplers: levels end at zero, linear flows are integrated exactly, names and objects are taken, diffusers' answer is near."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from dist4d_env.errors import ConfigError
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.samplers import SAMPLERS, FlowEuler, Karras, make_sampler

from .made import made_sample
from .published import small_svd
from .test_pipelines import dist_s, dist_t, seeded


def test_flow_levels_end_at_zero_in_equal_steps() -> None:
    for name in ("flow_euler", "euler"):
        sampler = make_sampler(name)
        assert sampler.levels(1) == [1.0, 0.0]
        assert sampler.levels(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert sampler.levels(4, shift=3.0) == [1.0, 0.9, 0.75, 0.5, 0.0]


def test_karras_levels_fall_to_zero() -> None:
    assert Karras().levels(1) == [pytest.approx(700.0), 0.0]
    levels = Karras().levels(25)
    assert len(levels) == 26 and levels[0] == pytest.approx(700.0) and levels[-2] == pytest.approx(0.002)
    assert all(a > b for a, b in pairwise(levels))


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_known_clean_sample_is_reached(name: str) -> None:
    sampler = make_sampler(name)
    clean, noise = torch.randn(2, 3, generator=seeded(1)), torch.randn(2, 3, generator=seeded(2))

    def model(noisy: torch.Tensor, level: float) -> torch.Tensor:
        return clean if sampler.predicts == "clean" else (noisy - clean) / level

    for steps in (1, 2, 5):
        torch.testing.assert_close(sampler.sample(model, noise, sampler.levels(steps)), clean, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="steps must be at least 1, not 0"):
        sampler.levels(0)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_flow_euler_agrees_with_diffusers_to_rounding(steps: int) -> None:
    noise, weight = torch.randn(2, 3, 8, generator=seeded(1)), torch.randn(2, 3, 8, generator=seeded(2))
    scheduler, sampler = FlowMatchEulerDiscreteScheduler(), FlowEuler()
    levels = sampler.levels(steps)
    scheduler.set_timesteps(sigmas=levels[:-1])
    latents = noise
    for timestep, level in zip(scheduler.timesteps, levels, strict=False):
        latents = scheduler.step(torch.tanh(weight * latents + level), timestep, latents, return_dict=False)[0]
    ours = sampler.sample(lambda noisy, level: torch.tanh(weight * noisy + level), noise, levels)
    torch.testing.assert_close(ours, latents, atol=1e-5, rtol=0)


class Heun:
    """A sampler from outside: two evaluations per interval, one in the last."""

    predicts: Literal["clean", "velocity"] = "velocity"
    levels = FlowEuler.levels

    def sample(self, model, noise, levels):  # type: ignore[no-untyped-def]
        noisy = noise
        for level, following in pairwise(levels):
            first = model(noisy, level)
            ahead = noisy + (following - level) * first
            noisy = ahead if following == 0 else noisy + (following - level) * (first + model(ahead, following)) / 2
        return noisy


def test_pipelines_take_samplers() -> None:
    reference, targets = made_sample(0)
    how = {"generator": seeded(), "steps": 2}
    plain = dist_t(trained=True)
    parts = (plain.codec, plain.transformer, plain.composer)
    frames = plain([reference], [targets], **how)
    by_name = DiSTTPipeline(*parts, sampler="flow_euler")([reference], [targets], **how | {"generator": seeded()})
    np.testing.assert_array_equal(by_name.rgb, frames.rgb)
    other = DiSTTPipeline(*parts, sampler=Heun())([reference], [targets], **how | {"generator": seeded()})
    assert np.isfinite(other.depth).all() and np.abs(other.depth - frames.depth).max() > 0
    near = DiSTTPipeline(*parts, sampler="euler")([reference], [targets], **how | {"generator": seeded()})
    np.testing.assert_allclose(near.depth, frames.depth, atol=0.05)
    for sampler in (Heun(), "flow_euler"):
        made = DiSTSPipeline(dist_s(trained=True).unet, sampler)([targets[0].images], generator=seeded(), steps=2)
        assert np.isfinite(made.depth).all()


def test_samplers_that_do_not_fit_are_refused() -> None:
    reference, targets = made_sample(0)
    plain = dist_t(trained=False)
    with pytest.raises(ConfigError, match="'heun' is unknown: use one of flow_euler, euler, karras"):
        DiSTTPipeline(plain.codec, plain.transformer, plain.composer, sampler="heun")
    karras = DiSTTPipeline(plain.codec, plain.transformer, plain.composer, sampler="karras")
    with pytest.raises(ConfigError, match="Karras starts at noise level 700, a rectified flow starts at 1"):
        karras([reference], [targets], generator=seeded())
    with pytest.raises(ConfigError, match="Stable Video Diffusion starts far above 1"):
        DiSTSPipeline(small_svd(), "euler")([targets[0].images], generator=seeded())
