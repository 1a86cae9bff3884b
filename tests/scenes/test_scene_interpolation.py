"""Poses, boxes and logs between the rows that were recorded."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dist4d_env.data.logs import ego_log, interpolate_tracks, ticks
from dist4d_env.data.nuscenes import category_index
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.transforms import pose_from_quaternion, poses_from_position_yaw
from dist4d_env.scenes.interpolation import interpolate_poses, quaternions_of
from dist4d_env.scenes.scene import Scene


def random_poses(seed: int, count: int) -> tuple[np.ndarray, Rotation]:
    rotation = Rotation.random(count, random_state=seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = rotation.as_matrix()
    poses[:, :3, 3] = np.random.default_rng(seed).normal(size=(count, 3))
    return poses, rotation


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_poses_are_interpolated_linearly_and_spherically(seed: int) -> None:
    poses, rotation = random_poses(seed, 6)
    time = np.cumsum(np.random.default_rng(seed).uniform(0.05, 1.0, 6))
    at = np.linspace(time[0], time[-1], 31)
    result = interpolate_poses(time, poses, at)
    np.testing.assert_allclose(result[:, :3, :3], Slerp(time, rotation)(at).as_matrix(), atol=1e-9)
    for axis in range(3):
        np.testing.assert_allclose(result[:, axis, 3], np.interp(at, time, poses[:, axis, 3]), atol=1e-12)


def test_poses_outside_the_log_are_its_ends() -> None:
    poses, _ = random_poses(1, 3)
    result = interpolate_poses(np.array([0.0, 1.0, 2.0]), poses, np.array([-5.0, 9.0]))
    np.testing.assert_allclose(result, poses[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(interpolate_poses(np.zeros(1), poses[:1], np.array([3.0])), poses[:1], atol=1e-12)


def test_quaternions_survive_half_turns() -> None:
    half = np.array([[0.0, 1, 0, 0], [0.0, 0, 1, 0], [0.0, 0, 0, 1], [1.0, 0, 0, 0], [0.0, 0.6, 0, 0.8]])
    poses = pose_from_quaternion(np.zeros((5, 3)), half)
    np.testing.assert_allclose(np.abs(np.einsum("ni,ni->n", quaternions_of(poses), half)), 1.0, atol=1e-12)


def test_ticks_end_at_the_last_keyframe() -> None:
    assert ticks(19.0)[-1] == 190 * 0.1 and len(ticks(19.0)) == 191
    assert len(ticks(19.049)) == 191 and len(ticks(19.0 - 1e-9)) == 191


def test_ego_log_rates_on_a_circle() -> None:
    time = np.arange(0, 8.01, 0.5)
    yaw = 0.2 * time
    poses = poses_from_position_yaw(np.stack([40 * np.sin(yaw), 40 - 40 * np.cos(yaw), 0 * yaw], -1), yaw)
    log = ego_log(time, poses, 8.0)
    np.testing.assert_allclose(log.speed, 8.0, atol=0.05)
    np.testing.assert_allclose(log.yaw_rate, 0.2, atol=1e-6)
    np.testing.assert_allclose(log.acceleration, 0.0, atol=0.1)


def test_ego_log_knows_reversing_and_braking() -> None:
    time = np.arange(0, 4.01, 0.05)
    x = 6 * time - 1.0 * time**2  # 6 m/s, braking at 2 m/s^2, backwards after 3 s
    log = ego_log(time, poses_from_position_yaw(np.stack([x, 0 * x, 0 * x], -1), 0 * x), 4.0)
    inner = slice(6, -6)
    np.testing.assert_allclose(log.speed[inner], 6 - 2 * log.time[inner], atol=1e-6)
    np.testing.assert_allclose(log.acceleration[inner], -2.0, atol=1e-6)
    assert log.speed[-1] < -1


def test_tracks_of_the_tiny_scene(tiny_scene: Scene) -> None:
    tracks = tiny_scene.tracks
    assert [CATEGORIES[i] for i in tracks.category] == ["car", "pedestrian", "other"]
    assert tracks.instance[0] == "scene-0103-car" and tracks.name[1] == "human.pedestrian.adult"
    np.testing.assert_allclose(tracks.size[0], [4.5, 2.0, 1.6])  # length, width, height
    # Seen at keyframes 0, 1 and 3: valid from 0 to 0.5 s and at 1.5 s, not in the gap.
    assert np.flatnonzero(tracks.valid[1]).tolist() == [0, 1, 2, 3, 4, 5, 15]
    assert np.flatnonzero(tracks.valid[2]).tolist() == [5]
    np.testing.assert_allclose(tracks.position[0, :, 0], 130 + 4 * tracks.time, atol=1e-9)
    np.testing.assert_allclose(tracks.velocity[0], [[4.0, 0.0]] * len(tracks.time), atol=1e-9)
    assert np.isfinite(tracks.position).all() and np.isfinite(tracks.velocity).all() and np.isfinite(tracks.yaw).all()


def test_heading_is_interpolated_the_short_way_round(tiny_scene: Scene) -> None:
    # The pedestrian turns from pi - 0.1 to pi + 0.05: halfway it must be near pi, not near zero.
    yaw = tiny_scene.boxes(0.25).yaw[1]
    assert abs(np.abs(yaw) - (np.pi - 0.025)) < 1e-6


def test_boxes_at_ticks_and_between(tiny_scene: Scene) -> None:
    at_tick, between = tiny_scene.boxes(0.5), tiny_scene.boxes(0.55)
    assert at_tick.token.tolist() == [0, 1, 2] and between.token.tolist() == [0]
    np.testing.assert_allclose(between.position[0], [132.2, 100.0, 0.8], atol=1e-9)
    last = tiny_scene.boxes(tiny_scene.duration)
    assert last.token.tolist() == [0, 1]
    assert tiny_scene.tracks.boxes(0.3 + 1e-12).token.tolist() == [0, 1]  # rounding of 3 * 0.1


def test_lone_keyframe_gives_one_tick() -> None:
    tracks = interpolate_tracks(
        ("a",),
        ("vehicle.car",),
        np.zeros(1, np.int8),
        np.ones((1, 3)),
        np.zeros(1),
        np.ones((1, 1, 3)),
        np.ones((1, 1)),
        np.ones((1, 1), bool),
        0.0,
    )
    assert tracks.valid.tolist() == [[True]] and tracks.velocity.tolist() == [[[0.0, 0.0]]]
    np.testing.assert_allclose(tracks.yaw, 1.0)


def test_nothing_is_known_before_the_first_and_after_the_last_keyframe() -> None:
    """Annotated from 0.52 s to 1.48 s of a log of 2 s, at 10 m/s; a tick 0.02 s away is that of the keyframe."""
    time = np.array([0.52, 1.0, 1.48])
    position = np.stack([10 * time, 0 * time, 0 * time], -1)[None]
    known, yaw = np.ones((1, 3), bool), np.zeros((1, 3))
    tracks = interpolate_tracks(("a",), ("vehicle.car",), np.zeros(1, np.int8), np.ones((1, 3)), time, position, yaw, known, 2.0)
    assert np.flatnonzero(tracks.valid[0]).tolist() == list(range(5, 16))
    np.testing.assert_allclose(tracks.position[0, 5:16, 0], np.clip(tracks.time[5:16], 0.52, 1.48) * 10)
    assert not tracks.position[0, :5].any() and not tracks.velocity[0, :5].any() and not tracks.velocity[0, 16:].any()


def test_categories() -> None:
    expected = {
        "vehicle.bus.bendy": "bus",
        "vehicle.bicycle": "bicycle",
        "vehicle.construction": "construction_vehicle",
        "vehicle.emergency.police": "other",
        "movable_object.trafficcone": "traffic_cone",
        "movable_object.barrier": "barrier",
        "human.pedestrian.police_officer": "pedestrian",
        "human.pedestrian.stroller": "other",
        "static_object.bicycle_rack": "other",
        "animal": "other",
    }
    assert {name: CATEGORIES[category_index(name)] for name in expected} == expected
