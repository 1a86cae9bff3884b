"""The dashboard: what is drawn where, and that a video of it has one size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.envs.birdseye import AGENTS, ARROW, BACKGROUND, EGO, LIGHTS, View, draw_birdseye
from dist4d_env.envs.drawing import colour_depth
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN

from .street import boxes_at, state_at, street


def frame(height=64, width=112, colour=(200, 30, 30)):
    rgb = np.broadcast_to(np.array(colour, np.uint8), (6, height, width, 3)).copy()
    depth = np.full((6, height, width), 12.0, np.float32)
    return RGBDFrame(rgb, depth, np.tile(np.eye(3), (6, 1, 1)), np.tile(np.eye(4), (6, 1, 1)), np.zeros(6))


def info(source="dist_t"):
    world = {"source": (source,) * 6 if source else (), "deviation_m": 0.4, "trust": 0.7}
    return {"time": 2.0, "world": world, "metrics": {"progress": 12.3}, "reward_terms": {"collision": 1.0}}


@pytest.mark.parametrize("size", [(64, 112), (128, 224), (224, 400), (424, 800)])
def test_sizes_are_even_and_constant(size):
    first = render_dashboard(frame(*size), info(), state_at(10, 0, 0), street())
    state = state_at(30, 1, 0.3, boxes_at(("car", 40, 0, 0)))
    later = render_dashboard(frame(*size), info("log"), state, street(), np.zeros((4, 3)))
    assert first.dtype == np.uint8 and first.shape == later.shape and first.shape[2] == 3
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert first.shape[1] < 2600


def test_without_pictures():
    picture = render_dashboard(None, info(""), state_at(10, 0, 0), street())
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


def test_cameras_keep_their_colours_and_sources_differ():
    generated = render_dashboard(frame(), info("dist_t"), state_at(10, 0, 0), street())
    logged = render_dashboard(frame(), info("log"), state_at(10, 0, 0), street())
    assert (np.abs(generated.astype(int) - (200, 30, 30)).max(-1) <= 1).mean() > 0.3
    assert 0 < (generated != logged).any(-1).mean() < 0.02


def test_birdseye_is_heading_up_with_left_on_the_left():
    scene, height, width = street(), 300, 300
    looking = np.pi / 2  # along +y: what lies at smaller x is to the left
    state = state_at(50.0, 0.0, looking, boxes_at(("car", 40.0, 20.0, 0.0)))
    with_car = draw_birdseye(scene, state, height, width)
    without = draw_birdseye(scene, state_at(50.0, 0.0, looking), height, width)
    rows, columns = np.nonzero((with_car != without).any(-1))
    scale = height / 75
    assert rows.mean() == pytest.approx((50 - 20) * scale, abs=2) and columns.mean() == pytest.approx(150 - 10 * scale, abs=2)
    assert (np.abs(with_car.astype(int) - np.array(AGENTS["car"])).max(-1) < 40).any()
    assert (np.abs(with_car.astype(int) - np.array(EGO)).max(-1) < 10).any()


def test_the_ego_points_ahead():
    """An arrow on its box, ahead of the middle and narrow at its front."""
    picture = draw_birdseye(street(), state_at(50.0, 0.0, 0.4), 600, 600).astype(int)
    box = np.argwhere(np.abs(picture - EGO).sum(-1) < 30)
    top, bottom = box[:, 0].min(), box[:, 0].max()
    inside = picture[top : bottom + 1, box[:, 1].min() : box[:, 1].max() + 1]
    arrow = (np.abs(inside - ARROW).sum(-1) < 30).sum(1)
    rows = np.flatnonzero(arrow)
    assert rows.max() <= len(inside) / 2 + 1 and arrow[rows[0]] < arrow[rows[-1]]


@pytest.mark.parametrize("light", [GREEN, AMBER, RED, UNKNOWN])
def test_birdseye_draws_stop_lines_in_the_colour_of_their_light(light):
    state = replace(state_at(50.0, 0.0, 0.0), lights=np.array([light], np.int8))
    picture = draw_birdseye(street(light=True), state, 300, 300)
    column, row = View().pixels_from_global(300, 300, 50.0, 0.0, 0.0) @ (58.0, -4.0, 1.0)
    assert np.abs(picture[int(row), int(column)].astype(int) - LIGHTS[light]).max() < 12
    assert len({tuple(colour) for colour in LIGHTS.values()}) == 4


def test_birdseye_draws_the_map_only_where_it_is():
    scene = street()
    seen = draw_birdseye(scene, state_at(50.0, 0.0, 0.0), 300, 300)
    assert tuple(seen[150, 150]) != BACKGROUND and tuple(seen[150, 10]) == BACKGROUND
    scene.map = None
    bare = draw_birdseye(scene, state_at(50.0, 0.0, 0.0), 300, 300)
    assert tuple(bare[150, 170]) == BACKGROUND


def test_depth_colours_tell_near_from_far_and_sky():
    colours = colour_depth(np.array([[2.0, 10.0, 50.0, 100.0]], np.float32))[0].astype(int)
    assert colours[0, 0] > colours[0, 2] and colours[2, 2] > colours[2, 0]  # red near, blue far
    assert colours[3].sum() < 90


def test_environment_renders_what_it_shows(make_env):
    env = make_env("replay", render_mode="rgb_array", observation=("cameras",))
    observation, _ = env.reset(seed=0)
    first = env.render()
    assert np.array_equal(first, env.render())
    env.step(np.array([0.5, 0.2], np.float32))
    assert env.render().shape == first.shape and not np.array_equal(first, env.render())
    front = observation["CAM_FRONT"].reshape(-1, 3).mean(0)
    tile = first[54 : 54 + 192, 12 + 342 : 12 + 342 + 336].reshape(-1, 3).mean(0)
    assert np.abs(front - tile).max() < 8
