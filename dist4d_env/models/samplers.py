"""Samplers: noise levels and the integration from noise to clean images or latents; a pipeline takes a name or an object."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, Protocol

import torch

from dist4d_env.errors import ConfigError

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0
"""Range and exponent of Karras' noise levels (Karras et al. 2022, equation 5), with Stable Video Diffusion's range."""
MIN_NOISE = 0.02
"""Smallest noise level at which a velocity is formed from a predicted clean image or latent."""

Model = Callable[[torch.Tensor, float], torch.Tensor]
"""A network evaluation: noisy images or latents and their noise level to a prediction of the same shape."""


class Sampler(Protocol):
    """Integrates the probability-flow ODE from noise to clean images or latents.

    predicts: what the sampler asks of the model, the clean sample or the velocity d(noisy)/d(noise level).
    """

    predicts: Literal["clean", "velocity"]

    def levels(self, steps: int, shift: float = 1.0) -> list[float]:
        """Noise levels from pure noise to 0, one more than network evaluations; shift: of rectified flow, by resolution."""
        ...

    def sample(self, model: Model, noise: torch.Tensor, levels: list[float]) -> torch.Tensor:
        """From standard normal ``noise`` to the sample; ``model`` is evaluated once or more per interval of ``levels``."""
        ...


class FlowEuler:
    """Euler's method on the velocity of a rectified flow.

    Not diffusers' ``FlowMatchEulerDiscreteScheduler``: it rounds noise levels to float32 before it takes their difference, so
    bits differ from three evaluations on.
    """

    predicts: Literal["clean", "velocity"] = "velocity"

    def levels(self, steps: int, shift: float = 1.0) -> list[float]:
        """1, ..., 0: equal steps t, shifted to r t / (1 + (r - 1) t)."""
        _check_steps(steps)
        return [shift * t / ((1 - t) + shift * t) for t in (1 - k / steps for k in range(steps))] + [0.0]

    def sample(self, model: Model, noise: torch.Tensor, levels: list[float]) -> torch.Tensor:
        noisy = levels[0] * noise
        for level, following in pairwise(levels):
            noisy = noisy + (following - level) * model(noisy, level)
        return noisy


class Euler(FlowEuler):
    """Euler's method on predictions of the clean sample, the last of which is the result exactly.

    Not diffusers' ``EulerDiscreteScheduler``: it ends in noisy + (clean - noisy), which is not clean in floating point.
    """

    predicts: Literal["clean", "velocity"] = "clean"

    def sample(self, model: Model, noise: torch.Tensor, levels: list[float]) -> torch.Tensor:
        noisy = levels[0] * noise
        for level, following in pairwise(levels):
            clean = model(noisy, level)
            noisy = clean if following == 0 else noisy + (following - level) * (noisy - clean) / level
        return noisy


class Karras(Euler):
    """Euler's method from sigma 700 down to 0.002 (Karras et al. 2022), for Stable Video Diffusion; one step starts at 700."""

    def levels(self, steps: int, shift: float = 1.0) -> list[float]:
        _check_steps(steps)
        first, last = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
        return [(first + k / max(steps - 1, 1) * (last - first)) ** RHO for k in range(steps)] + [0.0]


SAMPLERS: dict[str, Callable[[], Sampler]] = {"flow_euler": FlowEuler, "euler": Euler, "karras": Karras}


def make_sampler(sampler: str | Sampler) -> Sampler:
    """A sampler by its name in ``SAMPLERS``, or as it is; raises ``ConfigError`` for an unknown name."""
    if not isinstance(sampler, str):
        return sampler
    if sampler not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise ConfigError(f"sampler {sampler!r} is unknown: use one of {known}, or pass an object with levels() and sample()")
    return SAMPLERS[sampler]()


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, not {steps}")
