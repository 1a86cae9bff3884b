"""The numpy reference of depth against a plain loop: nearest surface first, cores before rims, surfaces averaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.box_motion import STATIC
from tests.geometry.reference.depth import Fragments, rasterise

HEIGHT, WIDTH, VIEWS, CORE = 5, 7, 2, 0.7


def random_fragments(seed: int, count: int) -> Fragments:
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count).astype(np.float32)

    z = draw(1, 40)
    camera, label = rng.integers(0, VIEWS, count).astype(np.int32), rng.integers(0, 3, count).astype(np.int32)
    return Fragments(camera, label, draw(-1, WIDTH + 1), draw(-1, HEIGHT + 1), z, draw(0.6, 4), draw(0.6, 4), 0.1 * z)


def by_hand(f: Fragments) -> tuple[np.ndarray, np.ndarray]:
    depth, label = np.zeros((VIEWS, HEIGHT, WIDTH)), np.full((VIEWS, HEIGHT, WIDTH), STATIC)
    for view, row, column in np.ndindex(VIEWS, HEIGHT, WIDTH):
        off = np.maximum(np.abs(column + 0.5 - f.u) / f.half_u, np.abs(row + 0.5 - f.v) / f.half_v)
        covers = np.flatnonzero((f.camera == view) & (off <= 1))
        if not len(covers):
            continue
        winner = min(covers, key=lambda i, off=off: (off[i] > CORE, f.z[i]))
        near = np.abs(f.z[covers] - f.z[winner]) <= f.slack[winner] * (1 + 1e-6)
        same = covers[near & (f.label[covers] == f.label[winner])]
        tent = (1.02 - np.abs(column + 0.5 - f.u[same]) / f.half_u[same]) * (
            1.02 - np.abs(row + 0.5 - f.v[same]) / f.half_v[same]
        )
        weight = tent / (f.half_u[same] * f.half_v[same])
        depth[view, row, column] = weight.sum() / (weight / f.z[same]).sum()
        label[view, row, column] = f.label[winner]
    return depth.ravel(), label.ravel()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_agrees_with_a_plain_loop(seed, count):
    fragments = random_fragments(seed, count)
    depth, label = rasterise(fragments, VIEWS * HEIGHT * WIDTH, (HEIGHT, WIDTH), CORE)
    expected, expected_label = by_hand(fragments)
    np.testing.assert_allclose(depth, expected, rtol=1e-4)
    np.testing.assert_array_equal(label, expected_label)


def test_order_of_fragments_does_not_matter():
    fragments = random_fragments(1, 50)
    shuffled = np.random.default_rng(0).permutation(50)
    other = Fragments(*(getattr(fragments, name)[shuffled] for name in Fragments.__dataclass_fields__))
    size = VIEWS * HEIGHT * WIDTH
    (a, la), (b, lb) = (rasterise(f, size, (HEIGHT, WIDTH), CORE) for f in (fragments, other))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_array_equal(la, lb)


def test_fragments_out_of_the_image_leave_holes():
    fragments = random_fragments(2, 4)
    away = replace(fragments, u=np.full(4, -9, np.float32), v=np.full(4, -9, np.float32))
    depth, label = rasterise(away, VIEWS * HEIGHT * WIDTH, (HEIGHT, WIDTH), CORE)
    assert not depth.any() and (label == STATIC).all()
