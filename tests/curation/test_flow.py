"""Depth by the completion network: fitted to returns, sure where it is right, dense on every size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.completion import ImageGraph
from dist4d_env.curation.flow import fitted, flow_depth, spread_errors
from dist4d_env.curation.points import SeparatedSweep, separate, vertical_field
from dist4d_env.curation.prompt import along, condition
from dist4d_env.curation.views import View
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.models.depth_flow import CONDITIONS, MIDDLE
from dist4d_env.scenes.scene import LidarSweep

CAMERA = np.array([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
NOBODY = Boxes(*(np.zeros(shape) for shape in ((0,), (0,), (0, 3), (0, 3), (0,), (0, 2))))


def view(height: int, width: int) -> View:
    """A level camera 1.5 m above a flat road."""
    focal = 0.8 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return View(intrinsics, CAMERA, np.eye(4), np.zeros(3), (-0.5, 0.2))


def test_scale_and_shift_meet_the_returns_in_spite_of_outliers():
    generator = np.random.default_rng(0)
    true = generator.uniform(3, 60, (60, 80))
    sparse = np.where(generator.random(true.shape) < 0.2, true, 0)
    sparse[generator.random(true.shape) < 0.01] = 5.0
    assert np.allclose(fitted((true - 0.7) / 1.3, sparse), true, rtol=0.03)
    few = np.where(np.arange(true.size).reshape(true.shape) < 5, sparse, 0)
    assert (fitted(true / 1.3, few) == true / 1.3).all(), "a handful of returns says nothing"


def test_errors_at_returns_spread_over_their_own_surface_only():
    depth = np.full((112, 200), 10.0, np.float32)
    depth[:, 100:] = 40.0
    sparse = np.zeros_like(depth)
    sparse[::3, 10:100:3] = 11.0  # the near wall is a tenth farther than the network says; of the far one nothing is known
    made = spread_errors(depth, sparse)
    assert np.abs(made[20:90, 20:90] - 11.0).max() < 0.3
    assert np.allclose(made[:, 110:], 40.0)


def test_the_first_guess_follows_the_image():
    """Either side of an edge has the depth of its own return; without any there is none."""
    image = np.full((32, 48, 3), 40, np.uint8)
    image[:, 24:] = 220
    code, returned = np.zeros((32, 48)), np.zeros((32, 48), bool)
    code[4, 4], code[28, 44] = 1.0, -1.0
    returned[4, 4] = returned[28, 44] = True
    graph = ImageGraph(cv2.resize(image, (24, 16), interpolation=cv2.INTER_AREA))
    guess = along(graph, code, returned)
    assert guess.shape == (32, 48) and guess[:, :22].min() > 0.8 and guess[:, 26:].max() < -0.8
    assert (along(graph, code, np.zeros_like(returned)) == 0).all()


def test_the_condition_says_where_the_ground_and_the_lidars_view_are():
    sparse = np.zeros((56, 100), np.float32)
    sparse[40, 50] = 8.0
    made = dict(zip(CONDITIONS, condition(np.zeros((56, 100, 3), np.uint8), sparse, sparse > 0, view(56, 100)), strict=True))
    assert made["depth"][40, 50] == pytest.approx(np.log(8.0) - MIDDLE) and made["returned"].sum() == made["upright"].sum() == 1
    below = 55.5 / 80 - 28 / 80
    assert np.exp(made["plane"][55, 50] + MIDDLE) == pytest.approx(1.5 / below, rel=1e-4)
    assert made["elevation"][0, 50] > 0 > made["elevation"][55, 50]
    assert made["below_top"][0, 50] < 0 < made["below_top"][30, 50] and made["above_bottom"][50, 50] > 0


def test_the_lidars_vertical_view_is_that_of_its_returns():
    around = np.arange(0, 2 * np.pi, 0.01)
    elevations = np.radians([-24.8, -10, 2.0])
    points = np.concatenate([
        20 * np.stack([np.cos(around) * np.cos(e), np.sin(around) * np.cos(e), np.full_like(around, np.sin(e)), 0 * around], 1)
        for e in elevations
    ])  # fmt: skip
    pose = np.eye(4)
    pose[2, 3] = 1.8
    taken = separate(LidarSweep(points.astype(np.float32), pose, 0.0), NOBODY, np.eye(4))
    assert np.degrees(taken.field) == pytest.approx((-24.8, 2.0), abs=0.01)
    empty = SeparatedSweep(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, int), (-0.6, 0.1))
    assert vertical_field([taken, empty]) == pytest.approx((-0.6, 0.1))


@pytest.mark.parametrize("size", [(24, 43), (112, 199), (225, 400), (100, 331)])
def test_every_size_is_dense_finite_and_the_same_twice(size: tuple[int, int]):
    generator = np.random.default_rng(1)
    image = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
    for share in (0.0, 0.1):
        sparse = np.where(generator.random(size) < share, generator.uniform(2, 50, size), 0).astype(np.float32)
        first, again = (flow_depth(image, sparse, sparse > 20, view(*size)) for _ in range(2))
        assert first.depth.shape == size and first.depth.dtype == np.float32
        assert np.isfinite(first.depth).all() and first.depth.min() >= 0.5 and first.depth.max() <= 100
        assert ((first.confidence > 0) & (first.confidence <= 1)).all()
        assert (first.depth == again.depth).all() and (first.labels == again.labels).all()


def test_an_unknown_way_of_completing_is_refused():
    with pytest.raises(ConfigError, match="flow, least_squares"):
        CurationConfig(completion="magic")  # type: ignore[arg-type]
