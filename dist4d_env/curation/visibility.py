"""Which LiDAR points a camera sees: the two sensors sit apart, so points behind an edge for one are in view of the other."""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.geometry.cameras import in_image, project
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import apply, invert

BEAM_HALF_WIDTH = (np.deg2rad(0.30), np.deg2rad(0.80))
"""Half the angle (horizontal, vertical) between neighbouring returns: a point of an upright surface hides that much around it."""


def ground_plane(points: np.ndarray, global_from_ego: np.ndarray) -> np.ndarray:
    """The plane (a, b, c) of ``z = a x + b y + c`` in the ego frame that the road near the ego lies in.

    Least squares on points (N, 3, global) within 40 m and near the plane found so far, tightened in three rounds; a flat
    road at the ego's own height when fewer than 50 points lie near it.
    """
    local = apply(invert(global_from_ego), points)
    near = local[(np.abs(local[:, :2]) < 40).all(1) & (np.abs(local[:, 2]) < 1.5)]
    plane = np.zeros(3)
    for tolerance in (0.5, 0.3, 0.15):
        above = near[:, 2] - near[:, :2] @ plane[:2] - plane[2]
        fit = near[np.abs(above) < tolerance + 0.01 * np.linalg.norm(near[:, :2], axis=1)]
        if len(fit) < 50:
            break
        plane = np.linalg.lstsq(np.column_stack([fit[:, :2], np.ones(len(fit))]), fit[:, 2], rcond=None)[0]
    return plane


def height_above(points: np.ndarray, plane: np.ndarray, global_from_ego: np.ndarray) -> np.ndarray:
    """Metres (...) of global points (..., 3) above the ground plane."""
    local = apply(invert(global_from_ego), points.reshape(-1, 3)).reshape(points.shape)
    return local[..., 2] - local[..., :2] @ plane[:2] - plane[2]


def visible_depth(
    points: np.ndarray, upright: np.ndarray, global_from_camera: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Projects global points (N, 3) and keeps what the camera sees.

    Upright points (mask (N,): not on the ground) hide a window of half a beam spacing around them; the ground hides only the
    pixel it falls on, for one sees over it. A point much farther than what hides its pixel is dropped.
    Returns sparse depth (H, W) float32, 0 where nothing is known, and the kept points' indices as an image (H, W), -1 elsewhere.
    """
    pixels, z = project(apply(invert(global_from_camera), points), intrinsics)
    inside = in_image(pixels, height, width)
    seen = np.flatnonzero((z > 0.5) & (z < FAR) & inside)
    seen = seen[np.argsort(-z[seen], kind="stable")]  # the nearest is written last and stays
    columns, rows = np.zeros((2, len(z)), int)
    columns[seen], rows[seen] = pixels[seen].astype(int).T
    nearest = np.full((height, width), np.float32(FAR))
    walls = seen[upright[seen]]
    nearest[rows[walls], columns[walls]] = z[walls]
    reach = [2 * max(1, round(float(intrinsics[axis, axis]) * BEAM_HALF_WIDTH[axis])) + 1 for axis in (0, 1)]
    hidden_beyond = cv2.erode(nearest, np.ones((reach[1], reach[0]), np.uint8))  # minimum over the window
    kept = seen[z[seen] < hidden_beyond[rows[seen], columns[seen]] * 1.08 + 0.4]
    depth = np.zeros((height, width), np.float32)
    index = np.full((height, width), -1)
    depth[rows[kept], columns[kept]] = z[kept]
    index[rows[kept], columns[kept]] = kept
    return depth, index
