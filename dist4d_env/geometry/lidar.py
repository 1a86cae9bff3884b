"""A spinning LiDAR: its beams as a value, and their ranges through the depth images of cameras beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.transforms import apply, invert, pose_from_xy_yaw

MIN_RANGE = 1.0
"""Metres below which a beam's range is not looked for in depth images; the HDL-32E's own minimum."""


@dataclass(frozen=True, eq=False)
class LidarPattern:
    """The beams of one turn, all fired at one instant.

    elevations: (E,) radians, lowest first; azimuths: steps per turn, clockwise seen from above, the first along the sensor's x;
    ego_from_lidar: (4, 4), the sensor's x to the car's right and y forward where it is mounted as in nuScenes; max_range: metres
    beyond which nothing comes back.
    """

    elevations: np.ndarray
    azimuths: int
    ego_from_lidar: np.ndarray
    max_range: float = 80.0

    def __len__(self) -> int:
        """Beams of one turn."""
        return len(self.elevations) * self.azimuths

    def __reduce__(self) -> Any:
        return LidarPattern, (self.elevations, self.azimuths, self.ego_from_lidar, self.max_range)  # not what is worked out

    @cached_property
    def directions(self) -> np.ndarray:
        """(N, 3) unit vectors in the sensor's frame in firing order: all elevations of the first azimuth, then of the next."""
        azimuth = -np.arange(self.azimuths) * (2 * np.pi / self.azimuths)
        elevation, turn = np.broadcast_arrays(self.elevations, azimuth[:, None])
        return np.stack([np.cos(elevation) * np.cos(turn), np.cos(elevation) * np.sin(turn), np.sin(elevation)], -1).reshape(
            -1, 3
        )

    @cached_property
    def rings(self) -> np.ndarray:
        """(N,) float32, the index into ``elevations`` of each beam."""
        return np.tile(np.arange(len(self.elevations), dtype=np.float32), self.azimuths)


NUSCENES_LIDAR = LidarPattern(np.radians(np.linspace(-30.67, 10.67, 32)), 1080, pose_from_xy_yaw(0.94, 0.0, -np.pi / 2, 1.84))
"""nuScenes' LIDAR_TOP, a Velodyne HDL-32E (32 beams, 20 turns a second, 1080 firings a turn) where nuScenes mounts it."""


def depth_ranges(pattern: LidarPattern, frame: RGBDFrame, global_from_ego: np.ndarray) -> np.ndarray:
    """(N,) float64 metres along each beam to the nearest surface that a camera's depth shows on it, inf where there is none.

    A beam crosses a camera's image on a straight line, along which its inverse z-depth is linear. Each pixel on that line is
    taken as a piece of a plane (inverse depth with a slope along rows and columns), and the beam ends where it goes from before
    to behind that surface. Where it passes behind the silhouette of something nearer, it goes on until it is in view again. No
    return where the depth is FAR (sky), beyond ``max_range``, or where no camera sees the beam's end.
    """
    from dist4d_env.geometry.lidar_kernel import beam_ranges, pixel_planes  # numba takes a while to import

    camera_from_ego = invert(frame.global_from_camera) @ global_from_ego
    camera_from_lidar = camera_from_ego @ pattern.ego_from_lidar
    pixel_from_lidar = np.ascontiguousarray(frame.intrinsics @ camera_from_lidar[:, :3])
    planes = pixel_planes(np.require(frame.depth, np.float32, ["C", "W"]), np.float32(FAR))
    return beam_ranges(pattern.directions, pixel_from_lidar, planes, MIN_RANGE, min(pattern.max_range, 0.99 * FAR))


def depth_points(pattern: LidarPattern, frame: RGBDFrame, global_from_ego: np.ndarray) -> np.ndarray:
    """(P, 3) float64 points in the ego frame, in firing order, where beams meet what the cameras' depth shows."""
    ranges = depth_ranges(pattern, frame, global_from_ego)
    found = np.isfinite(ranges)
    return apply(pattern.ego_from_lidar, pattern.directions[found] * ranges[found, None])
