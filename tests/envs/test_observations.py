"""Each observation's columns, frames and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.envs.observations import BEV_CHANNELS, agent_features, bev_raster, ego_features, observation_space
from dist4d_env.metrics.driving.recording import Recording
from dist4d_env.metrics.driving.running import Running

from .street import boxes_at, state_at, street

STRAIGHT = np.stack([2.5 * np.arange(1, 21), np.zeros(20)], 1)


def running(state, position=0.0, offset=0.0, limit=float("nan")):
    values = {"route_offset": offset, "speed_limit": limit}
    return Running(values, Recording(state), state.ego, frozenset(), position)


def test_space_holds_exactly_the_chosen_groups():
    space = observation_space(("cameras", "depth", "ego", "route", "agents", "bev"), (64, 112))
    assert len(space) == 16
    assert space["CAM_FRONT"].shape == (64, 112, 3) and space["CAM_FRONT"].dtype == np.uint8
    assert space["CAM_FRONT/depth"].shape == (64, 112, 1) and space["CAM_FRONT/depth"].dtype == np.float32
    assert space["ego"].shape == (10,) and space["route"].shape == (20, 2)
    assert space["agents"].shape == (64, 9) and space["bev"].shape == (len(BEV_CHANNELS), 200, 200)
    assert all(np.isfinite(box.low).all() and np.isfinite(box.high).all() for box in space.values())
    assert list(observation_space(("ego",), (64, 112))) == ["ego"]


def test_ego_columns():
    state = state_at(10.0, 1.5, 0.2)
    ego = ego_features(street(), state, running(state, 10.0, 1.5, 13.9), STRAIGHT, end_time=12.0)
    assert ego == pytest.approx([8.0, 0.5, 8.0 * 0.05, 0.05, 0.1, 1.5, 0.2, 13.9, 0.0, 10.0], abs=1e-6)


def test_unknown_speed_limit_is_zero():
    state = state_at(10.0, 0.0, 0.0)
    assert ego_features(street(), state, running(state), STRAIGHT, 12.0)[7] == 0.0


@pytest.mark.parametrize(("side", "command"), [(1, 1.0), (-1, -1.0), (0, 0.0)])
def test_command_tells_the_turn(side, command):
    angle = np.linspace(0, np.pi / 2, 20)
    ahead = np.stack([20 * np.sin(angle), side * 20 * (1 - np.cos(angle))], 1)
    state = state_at(0.0, 0.0, 0.0)
    assert ego_features(street(), state, running(state), ahead, 12.0)[8] == command


def test_agents_stand_in_the_ego_frame_nearest_first():
    # The ego looks along +y; one car 10 m ahead of it goes the same way, a pedestrian stands 5 m to its left, a bus is far off.
    boxes = boxes_at(("car", 0, 10, np.pi / 2), ("pedestrian", -5, 0, 0.0), ("bus", 500, 0, 0.0))
    agents = agent_features(boxes, state_at(0, 0, np.pi / 2).ego)
    assert agents[0] == pytest.approx([0, 5, -np.pi / 2, 4, 2, 0, -5, 7, 1], abs=1e-5)
    assert agents[1] == pytest.approx([10, 0, 0, 4, 2, 5, 0, 0, 1], abs=1e-5)
    assert not agents[2:].any()


def test_agents_beyond_sixty_four_are_left_out():
    rows = [("car", float(x), 20.0, 0.0) for x in range(-40, 40)]
    agents = agent_features(boxes_at(*rows), state_at(0, 0, 0).ego)
    assert agents[:, 8].all() and np.all(np.diff(np.hypot(agents[:, 0], agents[:, 1])) >= -1e-5)


def test_bev_is_ego_up():
    # Looking along +x: a car 20 m ahead and 10 m to the left.
    boxes = boxes_at(("car", 70.0, 10.0, 0.0), ("pedestrian", 30.0, 0.0, 0.0), ("barrier", 50.0, -20.0, 0.0))
    state = state_at(50.0, 0.0, 0.0, boxes)
    bev = bev_raster(street(), state, STRAIGHT)
    assert set(np.unique(bev)) == {0, 255}
    rows, columns = np.nonzero(bev[BEV_CHANNELS.index("vehicles")])
    assert (rows.mean(), columns.mean()) == pytest.approx((100 - 40 - 0.5, 100 - 20 - 0.5), abs=0.6)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == pytest.approx((8, 4), abs=1.1)
    rows, _ = np.nonzero(bev[BEV_CHANNELS.index("vulnerable")])
    assert rows.mean() == pytest.approx(100 + 40 - 0.5, abs=0.6)
    _, columns = np.nonzero(bev[BEV_CHANNELS.index("objects")])
    assert columns.mean() == pytest.approx(100 + 40 - 0.5, abs=0.6)
    rows, columns = np.nonzero(bev[BEV_CHANNELS.index("route")])
    assert columns.mean() == pytest.approx(99.5, abs=0.6) and rows.max() < 100
    _, columns = np.nonzero(bev[BEV_CHANNELS.index("drivable_area")])
    assert (columns.min(), columns.max()) == pytest.approx((86, 113), abs=1.1)


def test_bev_without_a_map_still_shows_agents():
    scene = street()
    scene.map = None
    bev = bev_raster(scene, state_at(50.0, 0.0, 0.0, boxes_at(("car", 60.0, 0.0, 0.0))), STRAIGHT)
    assert not bev[:8].any() and bev[BEV_CHANNELS.index("vehicles")].any()


number = st.floats(-1e6, 1e6)
SCENE = street()
SPACE = observation_space(("ego", "agents", "bev"), (64, 112))


@settings(max_examples=25, deadline=None)
@given(x=number, y=number, yaw=st.floats(-10, 10), speed=st.floats(0, 500), offset=number, limit=st.floats(0, 1e3))
def test_bounds_are_never_violated(x, y, yaw, speed, offset, limit):
    state = state_at(x, y, yaw, boxes_at(("car", x + 3, y - 2, 1.0), ("truck", 0.0, 0.0, 9.0)), speed)
    ego = ego_features(SCENE, state, running(state, 0.0, offset, limit), STRAIGHT, 1e9)
    observation = {"ego": ego, "agents": agent_features(state.boxes, state.ego), "bev": bev_raster(SCENE, state, STRAIGHT)}
    assert observation in SPACE
