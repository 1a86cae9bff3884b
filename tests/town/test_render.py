"""Pictures: depth as stored, what is left out is never missed, and cameras that look anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.nuscenes import RING
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.town.lidar import scan
from dist4d_env.town.model import TownScene
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.sensors import EGO_FROM_LIDAR, TOWN_LIDAR, camera_pose, town_rig
from dist4d_env.town.textures_ground import SEMANTICS
from dist4d_env.town.timeline import EARLIER, boxes_at, ego_pose_at
from dist4d_env.town.wedges import Wedges
from town.conftest import SIZE


def test_stored_depth_is_the_rendered_depth_within_what_its_code_allows(
    renderer: TownRenderer, scene: TownScene, written: Path
) -> None:
    rig = town_rig(*SIZE)
    for view, channel in enumerate(RING):
        first = min((written / "depth" / channel).glob("*.png"))
        one, time = slice(view, view + 1), -EARLIER[channel]
        alone = replace(rig, names=(channel,), intrinsics=rig.intrinsics[one], ego_from_camera=rig.ego_from_camera[one])
        pose = (ego_pose_at(scene, time) @ rig.ego_from_camera[view])[None]
        depth = renderer.render(alone, pose, boxes_at(scene, time), time).depth[0]
        stored = read_depth(first)
        assert (stored[depth == FAR] == FAR).all()
        assert (np.abs(stored - depth) <= 0.005 + 0.0021 * depth)[depth < 99.5].all()  # the last code stands for the sky, too
        assert 1.0 < depth.min() < 8 and depth.dtype == np.float32


def test_six_cameras_together_show_what_each_shows_alone(renderer: TownRenderer, scene: TownScene) -> None:
    """What no camera of a call can see is not drawn; nothing that can be seen, shadows included, may depend on it."""
    rig = town_rig(24, 40)
    poses = ego_pose_at(scene, 8.0) @ rig.ego_from_camera
    together = renderer.render(rig, poses, boxes_at(scene, 8.0), 8.0)
    for view in range(len(RING)):
        one = slice(view, view + 1)
        alone = replace(rig, names=rig.names[one], intrinsics=rig.intrinsics[one], ego_from_camera=rig.ego_from_camera[one])
        images = renderer.render(alone, poses[one], boxes_at(scene, 8.0), 8.0)
        assert np.array_equal(images.rgb[0], together.rgb[view])
        assert np.array_equal(images.depth[0], together.depth[view])
        assert np.array_equal(images.semantics[0], together.semantics[view])


def test_a_camera_that_looks_straight_down_sees_the_cars_below(renderer: TownRenderer, scene: TownScene) -> None:
    rig = town_rig(24, 40)
    alone = replace(rig, names=RING[:1], intrinsics=rig.intrinsics[:1], ego_from_camera=rig.ego_from_camera[:1])
    boxes = boxes_at(scene, 5.0)
    cars = np.flatnonzero(boxes.category == 0)
    x, y = boxes.position[cars[0], :2]
    pose = np.array([[1.0, 0, 0, x], [0, -1, 0, y], [0, 0, -1, 30], [0, 0, 0, 1]])
    assert Wedges.of(alone, pose[None]).everything.all()
    images = renderer.render(alone, pose[None], boxes, 5.0)
    empty = renderer.render(alone, pose[None], None, 5.0)
    row, column = (int(v) for v in rig.intrinsics[0, [1, 0], 2])
    assert SEMANTICS[images.semantics[0, row, column]] == "vehicle" and abs(images.depth[0, row, column] - 28.4) < 0.6
    assert abs(empty.depth[0, row, column] - 30) < 1e-3 and not (empty.semantics == SEMANTICS.index("vehicle")).any()


@given(yaw=st.floats(-4, 4), pitch=st.floats(-0.6, 0.6), seed=st.integers(0, 99))
def test_wedges_hold_everything_that_a_camera_sees(yaw: float, pitch: float, seed: int) -> None:
    rig = town_rig(24, 40)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(pitch), -np.sin(pitch)], [np.sin(pitch), np.cos(pitch)]]
    pose = camera_pose(3.0, -2.0, 1.5, yaw) @ tilt
    rng = np.random.default_rng(seed)
    pixel = rng.uniform((0, 0), (rig.width, rig.height), (50, 2))
    rays = np.concatenate([pixel, np.ones((50, 1))], 1) @ np.linalg.inv(rig.intrinsics[1]).T
    seen = (rays * rng.uniform(1, 90, (50, 1))) @ pose[:3, :3].T + pose[:3, 3]
    alone = replace(rig, names=RING[1:2], intrinsics=rig.intrinsics[1:2], ego_from_camera=rig.ego_from_camera[1:2])
    view = Wedges.of(alone, pose[None])
    assert view.touch(seen[:, :2], np.zeros(50)).all()
    behind = pose[:2, 3] - 20 * pose[:2, 2] / np.hypot(*pose[:2, 2])
    assert not view.touch(behind[None], np.array([5.0])).any()
    assert view.touch(behind[None], np.array([25.0])).all()


def test_a_lidar_turn(renderer: TownRenderer, scene: TownScene) -> None:
    pose = ego_pose_at(scene, 5.0) @ EGO_FROM_LIDAR
    points = scan(renderer, pose, boxes_at(scene, 5.0), 5.0)
    assert points.dtype == np.float32 and points.shape[1] == 5
    reach = np.linalg.norm(points[:, :3], axis=1)
    assert reach.max() <= TOWN_LIDAR.max_range + 1e-3 and 10_000 < len(points) < 32 * 1080
    assert set(np.unique(points[:, 4])) == set(range(32)) and 0 < points[:, 3].min() and points[:, 3].max() <= 255
    below = (points @ np.array([0, 0, 1, 0, 0])) < -1.5
    height = (pose @ np.concatenate([points[below, :3], np.ones((below.sum(), 1))], 1).T)[2]
    assert height.min() > -1e-3 and np.median(height) < 0.01  # the ground
