"""Beams through depth images: exact on planes, honest about what cameras do not see."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dist4d_env.geometry.lidar import NUSCENES_LIDAR, LidarPattern, depth_points, depth_ranges
from dist4d_env.geometry.rgbd import FAR, RGBDFrame

HEIGHT, WIDTH, FOCAL = 64, 112, 60.0
AHEAD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
"""ego_from_camera of a camera above the ego's origin that looks ahead."""
BESIDE = np.eye(4)
BESIDE[:3, 3] = -0.5, 0.4, 2.0


def camera(depth: np.ndarray, *poses: np.ndarray) -> RGBDFrame:
    """Cameras that all show one depth image (H, W)."""
    poses = poses or (AHEAD,)
    images = np.repeat(depth[None].astype(np.float32), len(poses), 0)
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    colours = np.zeros((*images.shape, 3), np.uint8)
    return RGBDFrame(colours, images, np.tile(intrinsics, (len(poses), 1, 1)), np.stack(poses), np.zeros(len(poses)))


def street(wall: float = 30.0) -> np.ndarray:
    """z-depth (H, W) of flat ground 1.5 m below the camera and a wall ``wall`` metres ahead of it."""
    below = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL
    ground = np.where(below > 0, 1.5 / np.maximum(below, 1e-9), np.inf)
    return np.tile(np.minimum(ground, wall)[:, None], (1, WIDTH))


def pattern(*degrees: float, azimuths: int = 720, max_range: float = 80.0) -> LidarPattern:
    return LidarPattern(np.radians(degrees), azimuths, BESIDE, max_range)


def test_pattern_of_nuscenes():
    assert len(NUSCENES_LIDAR) == 34_560 == len(NUSCENES_LIDAR.directions) == len(NUSCENES_LIDAR.rings)
    np.testing.assert_allclose(np.linalg.norm(NUSCENES_LIDAR.directions, axis=1), 1)
    right = NUSCENES_LIDAR.ego_from_lidar[:3, :3] @ NUSCENES_LIDAR.directions[20]
    assert right[1] < -0.99, "the first azimuth is the sensor's x, the car's right"
    assert (NUSCENES_LIDAR.directions[32] @ [0, 1, 0]) < 0, "clockwise: from the right to the back"
    kept = pickle.loads(pickle.dumps(NUSCENES_LIDAR))
    assert np.array_equal(kept.directions, NUSCENES_LIDAR.directions) and len(pickle.dumps(NUSCENES_LIDAR)) < 5_000


def test_planes_are_met_exactly_from_beside():
    """Ground and wall have an inverse depth that is linear in the image: parallax and pixel size cost nothing."""
    beams = pattern(-12.0, -8.0, -6.0, 0.0)
    points = depth_points(beams, camera(street()), np.eye(4))
    on_ground, on_wall = np.abs(points[:, 2]) < 0.02, np.abs(points[:, 0] - 30) < 0.02
    assert (on_ground | on_wall).mean() > 0.99 and on_ground.sum() > 100 and on_wall.sum() > 100
    ranges = depth_ranges(beams, camera(street()), np.eye(4)).reshape(720, 4)
    ahead = ranges[0]  # the sensor's x points along the ego's here
    np.testing.assert_allclose(
        ahead, [2 / np.sin(np.radians(12)), 2 / np.sin(np.radians(8)), 2 / np.sin(np.radians(6)), 30.5], atol=0.02
    )
    assert np.isinf(ranges[360]).all(), "nobody looks back"


def test_the_frame_is_where_it_was_taken():
    """An ego that has moved since finds the wall nearer."""
    moved = np.eye(4)
    moved[0, 3] = 5.0
    assert depth_ranges(pattern(0.0), camera(street()), moved)[0] == pytest.approx(25.5, abs=0.02)


def test_sky_and_what_is_out_of_range_give_nothing():
    assert np.isinf(depth_ranges(pattern(0.0, 5.0), camera(np.full((HEIGHT, WIDTH), FAR)), np.eye(4))).all()
    assert np.isinf(depth_ranges(pattern(0.0, max_range=20.0), camera(street()), np.eye(4))).all()
    assert np.isinf(depth_ranges(pattern(0.0), camera(np.zeros((HEIGHT, WIDTH))), np.eye(4))).all(), "holes are no surface"


def test_a_beam_behind_a_silhouette_ends_on_what_is_seen_beyond_it():
    """A post hides part of a beam from the camera: the beam does not end at the edge of the post."""
    depth = street()
    depth[:, 60:66] = 6.0  # to the right of the camera's middle
    ranges = depth_ranges(pattern(0.0), camera(depth), np.eye(4))
    points = depth_points(pattern(0.0), camera(depth), np.eye(4))
    post = np.abs(points[:, 0] - 6) < 0.05
    assert 0 < post.sum() < 30 and (post | (np.abs(points[:, 0] - 30) < 0.1)).all(), "post or wall, nothing between"
    assert np.isfinite(ranges).sum() == len(points)


def test_the_nearest_surface_of_all_cameras_counts():
    frame = camera(street(), AHEAD, AHEAD)
    frame.depth[1] = street(wall=20.0)
    assert depth_ranges(pattern(0.0), frame, np.eye(4))[0] == pytest.approx(20.5, abs=0.02)
    alone = depth_ranges(pattern(0.0), camera(street(wall=20.0)), np.eye(4))
    both = depth_ranges(pattern(0.0), frame, np.eye(4))
    assert np.array_equal(both, np.minimum(alone, depth_ranges(pattern(0.0), camera(street()), np.eye(4))))
