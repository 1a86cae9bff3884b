"""nuScenes open-loop scores: golden numbers of the original, its grid, and what the corrected form mends."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.foreign.open_loop import FutureBoxes, open_loop
from dist4d_env.metrics.foreign.open_loop_hits import (
    EGO_CELLS,
    exact_hits,
    grid_hits,
    headings,
    occupancy,
)

T = 0.5 * np.arange(1, 7)
TRUTH = np.stack([5 * T, 0 * T], -1)[None]
ASIDE = TRUTH + np.array([0.0, 40.0])
PREDICTED = np.stack([5.3 * T, -0.1 * T**2], -1)[None]  # 0.1 t^2 to the right
AT = [0.1521, 0.3162, 0.5031, 0.7211, 0.9763, 1.2728]


def boxes(*agents, samples=1):
    """Agents that stand for 3 s: x, y, yaw, category."""
    count = len(agents)
    there = np.array([agent[:3] for agent in agents], float).reshape(count, 3)
    position = np.broadcast_to(there, (samples, 6, count, 3))
    category = np.array([CATEGORIES.index(agent[3]) for agent in agents], np.int8)
    return FutureBoxes(
        position[..., :2],
        position[..., 2],
        np.broadcast_to([4.0, 2.0], (samples, count, 2)),
        np.broadcast_to(category, (samples, count)),
        np.ones((samples, 6, count), bool),
    )


NOBODY = boxes()


def test_golden_distances():
    uniad, stp3 = (open_loop(PREDICTED, TRUTH, NOBODY, protocol) for protocol in ("uniad", "stp3"))
    assert uniad.l2_steps == pytest.approx(AT, abs=5e-5) and uniad.l2 == pytest.approx([AT[1], AT[3], AT[5]], abs=5e-5)
    assert stp3.l2 == pytest.approx([0.2341, 0.4231, 0.6569], abs=6e-5)
    assert (uniad.protocol, stp3.protocol) == ("uniad", "stp3")


def test_the_ego_covers_the_originals_cells():
    """32 cells, 8 long and 4 wide, from 1.5 m behind to 2.5 m ahead of the LiDAR: those that scikit-image, as there, takes."""
    skimage = pytest.importorskip("skimage.draw")
    corners = np.array([[-2.042, 0.925], [2.042, 0.925], [2.042, -0.925], [-2.042, -0.925]]) + np.array([0.5, 0.0])
    corners = (corners + 49.75) / 0.5
    rows, columns = skimage.polygon(corners[:, 0], corners[:, 1])
    assert sorted(zip(rows, columns, strict=True)) == sorted(map(tuple, EGO_CELLS.astype(int).tolist()))
    middles = EGO_CELLS * 0.5 - 49.75
    assert len(EGO_CELLS) == 32
    assert (middles.min(0) - 0.25).tolist() == [-1.5, -1.0] and (middles.max(0) + 0.25).tolist() == [2.5, 1.0]


def test_boxes_on_the_grid():
    """A car of 4 x 2 m at the origin, between the middles of cells 99 and 100: with its edge and half a cell too far, 9 x 5."""
    cells = np.argwhere(occupancy(np.zeros((1, 2)), np.zeros(1), np.array([[4.0, 2.0]])))
    assert cells.min(0).tolist() == [96, 98] and cells.max(0).tolist() == [104, 102]
    turned = np.argwhere(occupancy(np.zeros((1, 2)), np.array([np.pi / 2]), np.array([[4.0, 2.0]])))
    assert turned.min(0).tolist() == [98, 96] and turned.max(0).tolist() == [102, 104]


@pytest.mark.parametrize(
    "y, grid, exact", [(1.6, True, True), (1.85, False, True), (3.2, False, False), (-2.1, True, False), (-3.2, False, False)]
)
def test_the_grid_misses_on_the_left_and_invents_on_the_right(y, grid, exact):
    """A car beside the path, its near side a metre from its middle. The true box reaches 0.925 m to both sides; drawn half a cell
    off and rounded, boxes are hit from 0.75 m on the left and from 1.25 m on the right."""
    path, where = np.concatenate([TRUTH[0], np.zeros((6, 1))], -1), np.array([[10.0, y]])
    drawn = np.stack([occupancy(where, np.zeros(1), np.array([[4.0, 2.0]]))] * 6)
    assert grid_hits(path[:, :2], drawn).any() == grid
    there = np.broadcast_to(where, (6, 1, 2))
    assert exact_hits(path, there, np.zeros((6, 1)), np.array([[4.0, 2.0]]), np.ones((6, 1), bool)).any() == exact


def test_only_the_corrected_ego_turns():
    """A plan that turns left by 90 degrees: the turned box stands across, the grid's does not."""
    path = np.concatenate([np.zeros((1, 6, 2)), np.full((1, 6, 1), np.pi / 2)], -1)
    ahead = boxes((0.0, 3.2, np.pi / 2, "car"))  # its rear 1.2 m to the left of the LiDAR
    assert open_loop(path, TRUTH, ahead, form="corrected").collision[0] == 1.0
    assert open_loop(path, TRUTH, ahead, form="faithful").collision[0] == 0.0


def test_headings_follow_the_path_where_none_are_given():
    path = np.array([[0.05, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.01], [0.0, 1.01]])
    assert headings(path)[:, 2] == pytest.approx([0.0, 0.0, np.pi / 2, np.pi / 2, np.pi])
    assert headings(headings(path)) is not path and (headings(headings(path)) == headings(path)).all()


def test_classes_differ_between_the_protocols():
    """A pedestrian in the way counts under one, a cone under none."""
    for category, uniad, stp3 in (("truck", 1.0, 1.0), ("pedestrian", 0.0, 1.0), ("traffic_cone", 0.0, 0.0)):
        there = boxes((15.9, -0.9, 0.0, category))
        for form in ("faithful", "corrected"):
            assert open_loop(PREDICTED, ASIDE, there, "uniad", form).collision_steps.max() == uniad
            assert open_loop(PREDICTED, ASIDE, there, "stp3", form).collision_steps.max() == stp3


def test_a_collision_counts_only_where_the_truth_is_free():
    """Two samples, the same car in the way; the second's truth runs through it. The originals keep it in the denominator."""
    predicted, truth = np.concatenate([PREDICTED, PREDICTED]), np.concatenate([ASIDE, TRUTH])
    there = boxes((15.5, 0.0, 0.0, "car"), samples=2)
    assert open_loop(predicted, truth, there, "uniad", "faithful").collision[2] == 0.5
    assert open_loop(predicted, truth, there, "uniad", "corrected").collision[2] == 1.0


def test_rates_up_to_t_are_means_over_steps():
    there = boxes((8.0, 0.0, 0.0, "car"))
    score = open_loop(PREDICTED, ASIDE, there, "stp3", "corrected")
    assert score.collision_steps.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert score.collision == pytest.approx([1 / 2, 3 / 4, 3 / 6])


def test_steps_without_a_truth():
    """The original adds nothing and divides by all; corrected, the mean is over what there is."""
    predicted, truth = np.concatenate([PREDICTED] * 2), np.concatenate([TRUTH] * 2)
    mask = np.ones((2, 6), bool)
    mask[1, 4:] = False
    nobody = boxes(samples=2)
    faithful, corrected = (open_loop(predicted, truth, nobody, "uniad", form, mask) for form in ("faithful", "corrected"))
    assert faithful.l2[2] == pytest.approx(AT[5] / 2, abs=5e-5) and corrected.l2[2] == pytest.approx(AT[5], abs=5e-5)
    alone = open_loop(PREDICTED, TRUTH, NOBODY, "uniad", "faithful", mask[1:])
    assert alone.l2_steps[4:].tolist() == [0.0, 0.0]
    whole = open_loop(predicted, truth, nobody, "stp3", "faithful", mask)
    assert whole.samples == 1 and whole.l2[2] == pytest.approx(0.6569, abs=6e-5)


def test_inputs_stay_as_they_are():
    """The original turns its callers' tensors round."""
    predicted, truth = PREDICTED.copy(), TRUTH.copy()
    open_loop(predicted, truth, boxes((10.0, 0.0, 0.0, "car")))
    assert (predicted == PREDICTED).all() and (truth == TRUTH).all()


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="uniad"):
        open_loop(PREDICTED, TRUTH, NOBODY, "vad")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="faithful"):
        open_loop(PREDICTED, TRUTH, NOBODY, form="exact")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"\(S, 6, 2 or 3\)"):
        open_loop(PREDICTED[:, :5], TRUTH[:, :5], NOBODY)
