"""The oracle shows the town's own truth: the logged pictures at logged poses, agents where the simulator has them."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.metrics.images.accuracy import psnr
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.oracle import OracleWorld, _renderer


@pytest.fixture(scope="module")
def scene(town_dataroot):
    return open_dataset(town_dataroot).load("town-val-0000")


@pytest.fixture(scope="module")
def world():
    return OracleWorld()


def start_of(scene, height=32, width=56):
    return WorldStart(scene, scene.rig.at_size(height, width), 0.0, 0)


def at(scene, time, global_from_ego=None, boxes=None):
    nothing = np.zeros(0), np.zeros((0, 4, 4)), ()
    pose = scene.ego_pose(time) if global_from_ego is None else global_from_ego
    return SceneAt(time, pose, scene.boxes(time) if boxes is None else boxes, *nothing)


def test_agrees_with_the_logged_pictures_and_depth(world, scene):
    """Each logged camera has its own time; rendered at that time and pose, the oracle's view is the file's."""
    start = start_of(scene, scene.rig.height, scene.rig.width)
    (state,) = world.reset([start])
    logged = scene.sensors.rgbd(3, scene.rig.height, scene.rig.width)
    for view in range(len(scene.rig.names)):
        ego = logged.global_from_camera[view] @ np.linalg.inv(scene.rig.ego_from_camera[view])
        ((_, frame, _),) = world.step([state], [at(scene, float(logged.time[view]), ego)])
        difference = np.abs(frame.rgb[view].astype(int) - logged.rgb[view])
        assert difference.mean() < 3.0  # what JPEG leaves
        near = frame.depth[view] < 99
        relative = np.abs(frame.depth[view] - logged.depth[view])[near] / frame.depth[view][near]
        assert np.mean(relative < 0.006) > 0.995  # what 16 bits leave, but for pixels at silhouettes


def test_traffic_lights_show_what_the_simulator_says(world, scene):
    """Without word of them they show what was recorded; the other states of the same instant look different."""
    (state,) = world.reset([start_of(scene, 64, 112)])
    assert len(scene.lights) > 0
    (x, y), (ex, ey) = scene.lights.stop_line[0].mean(0), np.diff(scene.lights.stop_line[0], axis=0)[0]
    heading = np.arctan2(ex, -ey)  # of those who come, 12 m before the line
    now = at(scene, 1.0, pose_from_xy_yaw(x - 12 * np.cos(heading), y - 12 * np.sin(heading), heading))
    lights = scene.lights.state[:, 10]
    recorded, told, other = (
        frame.rgb for _, frame, _ in world.step([state] * 3, [
            now, replace(now, lights=lights), replace(now, lights=(lights + 1) % 4)
        ])
    )  # fmt: skip
    assert np.array_equal(recorded, told) and (recorded != other).any()


def test_frame_is_what_the_contract_says(world, scene):
    start = start_of(scene)
    (state,) = world.reset([start])
    ((after, frame, info),) = world.step([state], [at(scene, 1.0)])
    assert after is state
    assert frame.rgb.shape == (6, 32, 56, 3) and frame.depth.shape == (6, 32, 56)
    assert frame.depth.min() > 0 and frame.depth.max() == 100
    assert np.array_equal(frame.intrinsics, start.rig.intrinsics)
    assert np.allclose(frame.global_from_camera, scene.ego_pose(1.0) @ start.rig.ego_from_camera)
    assert info.source == ("oracle",) * 6 and info.trust == 1.0


def test_same_truth_same_bits_whatever_was_shown_before(world, scene):
    (state,) = world.reset([start_of(scene)])
    fresh = OracleWorld()
    (other,) = fresh.reset([start_of(scene)])
    instants = [at(scene, t) for t in (0.0, 2.5, 1.0)]
    forwards = [world.step([state], [now])[0][1] for now in instants]
    backwards = [fresh.step([other], [now])[0][1] for now in reversed(instants)][::-1]
    together = [frame for _, frame, _ in world.step([state, pickle.loads(pickle.dumps(state)), state], instants)]
    for a, b, c in zip(forwards, backwards, together, strict=True):
        assert np.array_equal(a.rgb, b.rgb) and np.array_equal(a.depth, b.depth)
        assert np.array_equal(a.rgb, c.rgb) and np.array_equal(a.depth, c.depth)


@pytest.mark.parametrize(("ahead", "left", "turn"), [(2.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, -0.5, 0.05)])
def test_a_splat_of_its_frame_is_its_own_view_from_elsewhere(world, scene, ahead, left, turn):
    """Depth, poses and intrinsics of the whole chain: what both poses see must land where the oracle draws it."""
    start = start_of(scene, 64, 112)
    (state,) = world.reset([start])
    here, there = at(scene, 2.0), at(scene, 2.0, scene.ego_pose(2.0) @ pose_from_xy_yaw(ahead, left, turn))
    (_, frame, _), (_, truth, _) = world.step([state] * 2, [here, there])
    got = Memory.from_frames([frame], [here.boxes]).render(start.rig, truth.global_from_camera, there.boxes, 2.0)
    sure = got.valid & (got.confidence > 0.3)
    assert got.valid.mean() > 0.9 and sure.mean() > 0.75
    solid = sure & (truth.depth < FAR)
    error = np.abs(got.depth - truth.depth)[solid] / truth.depth[solid]
    assert np.median(error) < 0.005 and np.mean(error > 0.05) < 0.04
    colour = np.abs(got.rgb.astype(int) - truth.rgb).mean(-1)[sure]
    assert np.median(colour) < 5 and psnr(got.rgb, truth.rgb, sure) > 26
    # A fifth of a metre of misplacement would be plain to see.
    off = Memory.from_frames([frame], [here.boxes]).render(
        start.rig, truth.global_from_camera @ pose_from_xy_yaw(0.2, 0, 0), there.boxes, 2.0
    )
    assert psnr(off.rgb, truth.rgb, sure & off.valid) < psnr(got.rgb, truth.rgb, sure & off.valid) - 2


def test_an_agent_is_drawn_where_the_simulator_has_it(world, scene):
    """A car put 8 m ahead of the ego fills the middle of the front camera at that distance."""
    (state,) = world.reset([start_of(scene)])
    boxes = scene.boxes(1.0)
    car = boxes.select(boxes.category == 0).select(np.arange(1))
    pose = scene.ego_pose(1.0)
    ahead = (pose @ [1.7 + 8.0 + car.size[0, 0] / 2, 0, car.size[0, 2] / 2, 1])[:3]
    car = replace(car, position=ahead[None], yaw=np.arctan2(pose[1, 0], pose[0, 0])[None])
    nobody = boxes.select(np.zeros(len(boxes), bool))
    ((_, empty, _),) = world.step([state], [at(scene, 1.0, boxes=nobody)])
    ((_, met, _),) = world.step([state], [at(scene, 1.0, boxes=car)])
    front = scene.rig.names.index("CAM_FRONT")
    row, column = 19, 28  # a little below the horizon, straight ahead
    assert abs(met.depth[front, row, column] - 8.0) < 0.5  # rears are sloped
    assert empty.depth[front, row, column] > 9.0
    back = scene.rig.names.index("CAM_BACK")
    assert np.array_equal(empty.depth[back], met.depth[back])


def test_refuses_what_is_not_its_town(scene, town_dataroot, tmp_path):
    world = make_world("oracle")
    elsewhere = replace(scene, dataroot=str(tmp_path))
    with pytest.raises(DataError, match=r"no town\.json.*replay"):
        world.reset([start_of(elsewhere)])
    shutil.copy(town_dataroot / "town.json", tmp_path / "town.json")
    with pytest.raises(DataError, match="does not list scene-x"):
        world.reset([start_of(replace(elsewhere, name="scene-x"))])
    record = json.loads((tmp_path / "town.json").read_text())
    (tmp_path / "town.json").write_text(json.dumps({**record, "generator_version": -1}))
    with pytest.raises(DataError, match="version -1 of the town generator"):
        world.reset([start_of(elsewhere)])
    (tmp_path / "town.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        world.reset([start_of(elsewhere)])


@pytest.mark.medium
def test_a_scene_is_built_once(world, scene):
    """Its street takes seconds: who starts an episode and who draws it must ask for the same renderer."""
    _renderer.cache_clear()
    world.step(world.reset([start_of(scene)]), [at(scene, 0.0)])
    assert _renderer.cache_info().misses == 1
