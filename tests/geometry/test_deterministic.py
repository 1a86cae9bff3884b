"""Angles of views have the same bits wherever the heap puts what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of


def test_headings_do_not_depend_on_what_lies_behind_them_in_memory() -> None:
    generator = np.random.default_rng(0)
    angle = generator.uniform(-3, 3, 201)
    sine, cosine = np.sin(angle), np.cos(angle)
    wanted = np.arctan2(sine, cosine)
    between = [np.empty(int(generator.integers(1, 400))) for _ in range(50)]  # the heap has holes of many sizes
    for _ in range(3000):
        poses = np.zeros((len(angle), 4, 4))
        poses[:, 1, 0], poses[:, 0, 0] = sine, cosine
        assert np.array_equal(yaw_of(poses), wanted)
        between[int(generator.integers(50))] = np.empty(int(generator.integers(1, 400)))


@pytest.mark.parametrize("name", ["sin", "cos", "tanh", "arcsin", "arccos", "arctan", "exp", "log"])
def test_functions_are_those_of_numpy(name: str) -> None:
    values = np.random.default_rng(1).uniform(0.1, 0.9, (5, 3))
    ours, numpys = getattr(deterministic, name), getattr(np, name)
    assert np.array_equal(ours(values[:, 1]), numpys(values[:, 1].copy()))
    assert ours(0.25) == numpys(0.25) and np.ndim(ours(0.25)) == 0
    assert np.array_equal(deterministic.arctan2(values[:, 0], 0.5), np.arctan2(values[:, 0].copy(), 0.5))
