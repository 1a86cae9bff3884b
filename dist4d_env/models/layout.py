"""Projected layout: boxes and map drawn into each camera."""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, VULNERABLE, Boxes
from dist4d_env.geometry.frustum import ray_parts
from dist4d_env.geometry.transforms import invert

LAYOUT_CHANNELS = ("drivable", "crossing", "walkway", "divider", "vehicle", "vulnerable", "object", "nearness")
"""Map on the ground plane (0-3), agents by kind (4-6) and the nearness of the nearest box (7), 255 / (1 + metres / 10)."""

NEAR_PLANE = 0.3
BEV_RANGE = 50.0
"""Metres from the ego to the borders of ``SceneMap.bev``."""
# Edges of ``Boxes.corners()``: front face, back face, and the lines between them.
EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]])
KIND = np.array([4 if name in VEHICLES else 5 if name in VULNERABLE else 6 for name in CATEGORIES])


def map_layout(
    bev: np.ndarray, global_from_ego: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray, height: int, width: int
) -> np.ndarray:
    """The map where each pixel's ray meets the ego's ground plane, (V, H, W, 4) uint8 0 or 255.

    bev: (8, R, R) of ``SceneMap.bev`` at ``global_from_ego``: row 0 is 50 m ahead, column 0 is 50 m to the left.
    Pixels above the horizon or beyond the raster are zero.
    """
    cells = bev.shape[-1]
    views, per_metre = len(intrinsics), cells / (2 * BEV_RANGE)
    ego_from_camera = invert(global_from_ego) @ global_from_camera
    along_row, along_column, _ = ray_parts(intrinsics, ego_from_camera, (height, width))
    rays = along_column[..., None] + along_row[:, :, None]  # (V, 3, H, W)
    pixel = np.flatnonzero(rays[:, 2].ravel() < -1e-4)  # the others look up
    view = pixel // (height * width)
    forward, left, up = (rays[:, axis].ravel().take(pixel) for axis in range(3))
    start = ego_from_camera[:, :3, 3].take(view, 0).T
    reach = -start[2] / up
    row = np.floor((BEV_RANGE - (start[0] + reach * forward)) * per_metre)
    column = np.floor((BEV_RANGE - (start[1] + reach * left)) * per_metre)
    inside = np.flatnonzero((row >= 0) & (row < cells) & (column >= 0) & (column < cells))
    layers = np.stack([bev[0], bev[1], bev[2], np.maximum(bev[5], bev[6])], -1).astype(bool)  # (R, R, 4)
    picked = layers.reshape(-1, 4).take((row[inside] * cells + column[inside]).astype(int), 0)
    image = np.zeros((views * height * width, 4), np.uint8)
    image[pixel[inside]] = picked.view(np.uint8) * np.uint8(255)
    return image.reshape(views, height, width, 4)


def box_layout(boxes: Boxes, intrinsics: np.ndarray, global_from_camera: np.ndarray, height: int, width: int) -> np.ndarray:
    """The convex outline of every box in every camera, (V, H, W, 4) uint8, nearer boxes over farther ones.

    boxes: in the global frame. Boxes that cross the image plane are cut at 0.3 m before it.
    """
    views = len(intrinsics)
    image = np.zeros((views, height, width, 4), np.uint8)
    if len(boxes) == 0:
        return image
    corners = boxes.corners()  # (N, 8, 3)
    camera_from_global = invert(global_from_camera)
    points = np.einsum("vij,nkj->vnki", camera_from_global[:, :3, :3], corners) + camera_from_global[:, None, None, :3, 3]
    kinds = KIND[boxes.category] - 4
    shown = _may_be_seen(points, intrinsics, height, width)
    for view in range(views):
        drawn = np.zeros((height, width, 4), np.uint8)
        nearest = points[view, :, :, 2].min(1)
        order = np.argsort(-nearest, kind="stable")
        for index in order[shown[view, order]]:
            outline = _outline(points[view, index], intrinsics[view], height, width)
            if outline is None:
                continue
            colour = [0, 0, 0, int(255 / (1 + max(nearest[index], 0.0) / 10))]
            colour[kinds[index]] = 255
            cv2.fillConvexPoly(drawn, outline, colour, shift=4)
        image[view] = drawn
    return image


def _may_be_seen(points: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray:
    """(V, N) bool: False for boxes whose camera points (V, N, 8, 3) all lie beyond the same plane of the view."""
    x, y, z = np.moveaxis(np.einsum("vij,vnkj->vnki", intrinsics, points), -1, 0)
    beyond = np.stack([z <= NEAR_PLANE, x < -z, y < -z, x > (width + 1) * z, y > (height + 1) * z])  # a pixel of slack
    return ~beyond.all(-1).any(0)


def _outline(points: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """The image outline of a box from its eight camera points, in sixteenths of a pixel; None where it is out of view."""
    ahead = points[:, 2] > NEAR_PLANE
    if not ahead.any():
        return None
    if not ahead.all():
        start, end = points[EDGES[:, 0]], points[EDGES[:, 1]]
        cut = ahead[EDGES[:, 0]] != ahead[EDGES[:, 1]]
        start, end = start[cut], end[cut]
        along = (NEAR_PLANE - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
        points = np.concatenate([points[ahead], start + along * (end - start)])
    pixels = points @ intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = pixels.min(0), pixels.max(0)
    if high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height:
        return None
    # Pixel (0, 0) of OpenCV is the centre of ours; clipping keeps the fixed-point numbers small.
    pixels = np.clip(pixels - 0.5, -4 * width, 5 * width)
    hull = cv2.convexHull(pixels.astype(np.float32))
    return np.round(hull * 16).astype(np.int32)
