"""Comfort: the filter, each bound, and the centripetal acceleration that the original leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import savgol_filter

from dist4d_env.metrics.driving.comfort import TERMS, comfort, filtered

from .traces import make_trace, straight


@pytest.mark.parametrize("length", [6, 8, 15, 41, 97])
@pytest.mark.parametrize("window, order, derivative", [(8, 2, 0), (15, 2, 1), (5, 3, 2), (5, 2, 1), (41, 2, 1)])
def test_filter_is_scipys(length, window, order, derivative):
    signal = np.random.default_rng(length).normal(size=length)
    wanted = savgol_filter(signal, min(window, length), order, deriv=derivative, delta=0.1)
    np.testing.assert_allclose(filtered(signal, window, order, derivative), wanted, atol=1e-9)


def test_calm_driving_is_comfortable():
    result = comfort(make_trace(straight()))
    assert result.value == 1.0 and result.valid
    assert all(result.details[term]["held"] and result.details[term]["step"] is None for term in TERMS)


@pytest.mark.parametrize("acceleration, comfortable", [(-4.0, True), (-4.1, False), (2.3, True), (2.5, False)])
def test_bounds_of_the_acceleration(acceleration, comfortable):
    ego = straight(15.0)
    ego[:, 4] = acceleration
    ego[:, 3] = 20 + acceleration * 0.1 * np.arange(len(ego))
    result = comfort(make_trace(ego))
    assert result.value == float(comfortable)
    assert result.details["acceleration"]["held"] == comfortable
    assert result.details["acceleration"]["step"] == (None if comfortable else 0)


def test_a_fast_curve_is_felt():
    """15 m/s on a radius of 30 m is 7.5 m/s^2 sideways; the original, whose model reports none, calls it comfortable."""
    ego, rate = straight(15.0), 0.5
    ego[:, 2] = rate * 0.1 * np.arange(len(ego))
    ego[:, 6] = rate
    trace = make_trace(ego)
    honest = comfort(trace)
    assert honest.value == 0.0 and honest.details["lateral_acceleration"]["max"] == pytest.approx(7.5)
    assert comfort(trace, faithful=True).value == 1.0


def test_a_yaw_that_wraps_is_no_spin():
    ego = straight()
    ego[:, 2] = (3.1 + 0.01 * np.arange(len(ego)) + np.pi) % (2 * np.pi) - np.pi
    assert comfort(make_trace(ego)).details["yaw_rate"]["max"] == pytest.approx(0.1)


def test_too_short_to_smooth():
    result = comfort(make_trace(straight(steps=5)))
    assert not result.valid and "reason" in result.details
