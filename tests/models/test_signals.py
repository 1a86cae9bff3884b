"""Heads of traffic lights in pictures: where they are drawn, and that nothing but them is painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dist4d_env.errors import WeightsError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.models.inputs import channels_first
from dist4d_env.models.pretrained import load_model, save_model
from dist4d_env.models.signals import AHEAD, LENS, SignalPainter, in_sight, signal_layout
from dist4d_env.scenes.lights import AMBER, GREEN, LAMP_SPACING, RED, UNKNOWN
from tests.models.made import HEIGHT, WIDTH, ring

RIG = ring((0.0, 180.0))
FOCAL, UP = RIG.intrinsics[0, 0, 0], 1.5
CALM = np.zeros(4, np.float32)


def head(away: float, left: float = 0.0, up: float = UP, facing: float = np.pi) -> np.ndarray:
    return np.array([[away, left, up, facing]])


def drawn(heads: np.ndarray, *states: int, height: int = HEIGHT, width: int = WIDTH, zoom: float = 1.0) -> np.ndarray:
    intrinsics = RIG.intrinsics * np.array([zoom, zoom, 1.0])[:, None]
    return signal_layout(heads, np.array(states, np.int8), intrinsics, RIG.ego_from_camera, height, width)


def frame(depth: float = 60.0, seed: int = 0) -> RGBDFrame:
    generator, shape = np.random.default_rng(seed), (2, HEIGHT, WIDTH)
    rgb = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return RGBDFrame(rgb, np.full(shape, depth, np.float32), RIG.intrinsics, RIG.ego_from_camera, np.zeros(2))


def trained() -> SignalPainter:
    """A painter that changes whatever it may."""
    painter = SignalPainter((8, 8), 1).eval()
    torch.nn.init.constant_(painter.net.head.bias, 0.5)
    return painter


@pytest.mark.parametrize(("state", "channel", "up"), [(RED, 0, LAMP_SPACING), (AMBER, 1, 0.0), (GREEN, 2, -LAMP_SPACING)])
@pytest.mark.parametrize(("away", "left"), [(6.0, 0.0), (9.0, 1.3), (14.0, -4.0)])
def test_lit_lamps_are_where_they_are_and_as_large(state, channel, up, away, left):
    zoom = 8.0
    image = drawn(head(away, left), state, height=8 * HEIGHT, width=8 * WIDTH, zoom=zoom)
    lit = image[0, ..., :3].astype(float) / 255
    assert (np.delete(lit, channel, -1) == 0).all() and not image[1].any(), "the camera behind sees nothing"
    cover, rows, columns = lit[..., channel], *np.indices(lit.shape[:2]) + 0.5
    size, scale = cover.sum(), zoom * FOCAL / (away - AHEAD)
    assert size == pytest.approx(np.pi * (LENS * scale) ** 2, rel=0.08)
    middle = np.array([(columns * cover).sum(), (rows * cover).sum()]) / size
    expected = [zoom * WIDTH / 2 - left * scale, zoom * HEIGHT / 2 - up * scale]
    np.testing.assert_allclose(middle, expected, atol=0.1)
    there = np.argwhere(image[0, ..., 3])
    extent = np.ptp(there, 0) + 1 - 2  # a pixel of margin on each side
    np.testing.assert_allclose(extent, [2 * (LAMP_SPACING + LENS) * scale, 2 * LENS * scale], atol=2.0)
    assert set(np.unique(image[..., 3])) == {0, int(255 / (1 + away / 10))}


def test_only_faces_of_known_state_within_reach_are_drawn():
    assert drawn(head(10.0), RED).any()
    for hidden in (head(10.0, facing=0.0), head(10.0, facing=np.pi / 2), head(90.0), head(10.0, left=50.0), head(0.5)):
        assert not drawn(hidden, RED)[0].any()
    assert not drawn(head(10.0), UNKNOWN).any() and not drawn(np.zeros((0, 4))).any()
    both = drawn(np.concatenate([head(8.0), head(16.0)]), RED, GREEN)
    assert np.array_equal(both, drawn(np.concatenate([head(16.0), head(8.0)]), GREEN, RED))
    assert both[0, ..., 0].any() and not both[0, ..., 2].any(), "the nearer one hides the farther one"


def test_what_stands_before_a_head_hides_it():
    signals = channels_first(drawn(head(20.0), RED))
    for depth, seen in ((60.0, True), (20.0, True), (19.0, True), (12.0, False)):
        found = in_sight(torch.full((2, 1, HEIGHT, WIDTH), depth), signals)
        assert bool(found.any()) == seen
        assert not (found & (signals[:, 3:] == 0)).any()


def test_untrained_it_leaves_pictures_as_they_are():
    given = frame()
    painted = SignalPainter((8, 8), 1).paint(given, drawn(head(6.0), RED), CALM)
    assert np.array_equal(painted.rgb, given.rgb)


def test_nothing_but_heads_is_painted():
    given, signals = frame(), drawn(np.concatenate([head(6.0), head(8.0, -3.0, 2.5)]), RED, GREEN)
    before = given.rgb.copy()
    painted = trained().paint(given, signals, CALM)
    there = signals[..., 3] > 0
    assert np.array_equal(given.rgb, before) and np.array_equal(painted.rgb[~there], before[~there])
    assert (painted.rgb[there] != before[there]).any(-1).mean() > 0.9 and painted.depth is given.depth
    hidden = trained().paint(frame(3.0), signals, CALM)
    assert np.array_equal(hidden.rgb, before)
    broken = replace(given, depth=np.full_like(given.depth, np.nan))
    assert np.array_equal(trained().paint(broken, signals, CALM).rgb, before)


def test_states_matter_and_the_same_gives_the_same():
    painter = trained()
    torch.manual_seed(1)
    torch.nn.init.normal_(painter.net.head.weight, std=0.3)
    pictures = [painter.paint(frame(), drawn(head(5.0), state), CALM).rgb for state in (RED, GREEN, RED)]
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])


def test_it_is_written_and_read(tmp_path):
    painter = trained()
    save_model(painter, tmp_path)
    read = load_model(SignalPainter, tmp_path)
    signals = drawn(head(6.0), RED)
    assert np.array_equal(read.paint(frame(), signals, CALM).rgb, painter.paint(frame(), signals, CALM).rgb)
    (tmp_path / "config.json").write_text('{"_class_name": "SignalPainter", "widths": [0]}')
    with pytest.raises(WeightsError, match="SignalPainter"):
        load_model(SignalPainter, tmp_path)
