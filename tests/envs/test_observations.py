"""Each observation's columns, frames and bounds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.envs.sensors.agents import Agents
from dist4d_env.envs.sensors.bev import BEV_CHANNELS, bev_raster
from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.envs.sensors.ego import Ego, commands
from dist4d_env.geometry.lidar import NUSCENES_LIDAR
from dist4d_env.metrics.driving.running import Running
from dist4d_env.registry import SENSORS
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import ego_rows
from dist4d_env.simulation.routes import Routes
from dist4d_env.simulation.state import SimState
from dist4d_env.town.sensors import town_rig

from .street import boxes_at, state_at, street

WITH_SENSORS = SimpleNamespace(rig=town_rig(64, 112), lidar=NUSCENES_LIDAR)
"""A scene as far as spaces depend on it."""

STRAIGHT = np.stack([2.5 * np.arange(1, 21), np.zeros(20)], 1)


def instant(state, position=0.0, offset=0.0, limit=float("nan"), end_time=12.0):
    """One episode at one instant, as sensors see it."""
    boxes = state.boxes
    agents = AgentArrays.empty(1, len(boxes))
    agents.valid[:] = True
    agents.values[:3, 0], agents.values[3, 0], agents.values[4:, 0] = boxes.position.T, boxes.yaw, boxes.velocity.T
    zero, row = np.zeros(1, int), np.array([round(state.time / 0.1)])
    values = {"route_offset": np.array([offset]), "speed_limit": np.array([limit])}
    scene = street()
    return Instant(
        rows=[0],
        state=SimState(zero, zero, row, ego_rows([state.ego]), agents, {}, Commands.controls(np.zeros(1))),
        running=replace(Running.before(1, len(boxes)), values=values, route_position=np.array([position])),
        scenes=[scene],
        size=boxes.size[None],
        category=boxes.category[None],
        frames=[None],
        world=None,
        world_states=[None],
        truths=[],
        end_time=np.array([end_time]),
        routes=Routes([scene.route]),
    )


def observed(sensor, now):
    """What a sensor of one key shows of one episode."""
    [(key, space)] = sensor.space(WITH_SENSORS, (64, 112)).items()
    out = {key: np.zeros((1, *space.shape), space.dtype)}
    sensor.observe(now, out)
    return out[key][0]


def observation_space(groups):
    keys = {}
    for group in groups:
        keys.update(SENSORS.make(group).space(WITH_SENSORS, (64, 112)))
    return spaces.Dict(keys)


def test_space_holds_exactly_the_chosen_groups():
    space = observation_space(("cameras", "depth", "ego", "route", "agents", "bev", "lidar"))
    assert len(space) == 17 and space["lidar"].shape == (34_560, 5)
    assert space["CAM_FRONT"].shape == (64, 112, 3) and space["CAM_FRONT"].dtype == np.uint8
    assert space["CAM_FRONT/depth"].shape == (64, 112, 1) and space["CAM_FRONT/depth"].dtype == np.float32
    assert space["ego"].shape == (10,) and space["route"].shape == (20, 2)
    assert space["agents"].shape == (64, 9) and space["bev"].shape == (len(BEV_CHANNELS), 200, 200)
    assert all(np.isfinite(box.low).all() and np.isfinite(box.high).all() for box in space.values())
    assert list(observation_space(("ego",))) == ["ego"]


def test_ego_columns():
    state = state_at(10.0, 1.5, 0.2)
    ego = observed(Ego(), instant(state, 10.0, 1.5, 13.9))
    assert ego == pytest.approx([8.0, 0.5, 8.0 * 0.05, 0.05, 0.1, 1.5, 0.2, 13.9, 0.0, 10.0], abs=1e-6)


def test_unknown_speed_limit_is_zero():
    state = state_at(10.0, 0.0, 0.0)
    assert observed(Ego(), instant(state))[7] == 0.0


@pytest.mark.parametrize(("side", "command"), [(1, 1.0), (-1, -1.0), (0, 0.0)])
def test_command_is_the_turn(side, command):
    angle = np.linspace(0, np.pi / 2, 20)
    ahead = np.stack([20 * np.sin(angle), side * 20 * (1 - np.cos(angle))], 1)
    assert commands(ahead[None]) == [command]


def test_agents_stand_in_the_ego_frame_nearest_first():
    # The ego looks along +y; one car 10 m ahead of it goes the same way, a pedestrian stands 5 m to its left, a bus is far off.
    boxes = boxes_at(("car", 0, 10, np.pi / 2), ("pedestrian", -5, 0, 0.0), ("bus", 500, 0, 0.0))
    agents = observed(Agents(), instant(state_at(0, 0, np.pi / 2, boxes)))
    assert agents[0] == pytest.approx([0, 5, -np.pi / 2, 4, 2, 0, -5, 7, 1], abs=1e-5)
    assert agents[1] == pytest.approx([10, 0, 0, 4, 2, 5, 0, 0, 1], abs=1e-5)
    assert not agents[2:].any()


def test_agents_beyond_sixty_four_are_left_out():
    rows = [("car", float(x), 20.0, 0.0) for x in range(-40, 40)]
    agents = observed(Agents(), instant(state_at(0, 0, 0, boxes_at(*rows))))
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


@pytest.mark.parametrize(("light", "value"), [(UNKNOWN, 255), (GREEN, 85), (AMBER, 170), (RED, 255)])
def test_bev_stop_lines_say_what_their_light_shows(light, value):
    """And nothing else changes."""
    scene, state = street(light=True), replace(state_at(50.0, 0.0, 0.3), lights=np.array([light], np.int8))
    bev, line = bev_raster(scene, state, STRAIGHT), BEV_CHANNELS.index("stop_line")
    assert set(np.unique(bev[line])) == {0, value} and (bev[line] > 0).sum() > 10
    plain = bev_raster(scene, replace(state, lights=np.array([UNKNOWN], np.int8)), STRAIGHT)
    assert ((bev > 0) == (plain > 0)).all() and (np.delete(bev, line, 0) == np.delete(plain, line, 0)).all()


def test_bev_without_a_map_still_shows_agents():
    scene = street()
    scene.map = None
    bev = bev_raster(scene, state_at(50.0, 0.0, 0.0, boxes_at(("car", 60.0, 0.0, 0.0))), STRAIGHT)
    assert not bev[:8].any() and bev[BEV_CHANNELS.index("vehicles")].any()


number = st.floats(-1e6, 1e6)
SCENE = street()
SPACE = observation_space(("ego", "agents", "bev"))


@settings(max_examples=25, deadline=None)
@given(x=number, y=number, yaw=st.floats(-10, 10), speed=st.floats(0, 500), offset=number, limit=st.floats(0, 1e3))
def test_bounds_are_never_violated(x, y, yaw, speed, offset, limit):
    state = state_at(x, y, yaw, boxes_at(("car", x + 3, y - 2, 1.0), ("truck", 0.0, 0.0, 9.0)), speed)
    now = instant(state, 0.0, offset, limit, 1e9)
    observation = {
        "ego": observed(Ego(), now),
        "agents": observed(Agents(), now),
        "bev": bev_raster(SCENE, state, STRAIGHT),
    }
    assert observation in SPACE
