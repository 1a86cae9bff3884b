"""Regions of a true frame: pixels that are moving, disoccluded, never seen, at silhouettes, or known to the memory.

The car's own body, where the remembered frames know of it, is in none: worlds show it as it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import in_image, project, unproject
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.source_kernels import SKY_DEPTH
from dist4d_env.geometry.transforms import apply, invert

MOVING_SPEED = 0.5
"""m/s above which an agent counts as moving."""

REGIONS = ("all", "disoccluded", "never_seen", "moving", "silhouettes", "valid", "holes")
SILHOUETTE_STEP, SILHOUETTE_PIXELS = 0.2, 3
"""Relative step of inverse depth that is an outline, and how many pixels around it count as its silhouette."""


def regions(truth: RGBDFrame, boxes: Boxes, remembered: Sequence[RGBDFrame]) -> dict[str, np.ndarray]:
    """Masks (V, H, W) of a true frame.

    moving: inside the box of an agent faster than MOVING_SPEED; disoccluded: not moving, in the field of view of a remembered
    frame but hidden there by something nearer, in all of them; never_seen: not moving, outside the field of view of every
    remembered frame; silhouettes: see there. Boxes are those at the truth's time, in the global frame.
    """
    points = _global_points(truth)
    moving = _inside(points, boxes.select(np.linalg.norm(boxes.velocity, axis=1) > MOVING_SPEED)).reshape(truth.depth.shape)
    in_view = np.zeros(len(points), bool)
    body = next((frame.body for frame in remembered if frame.body is not None), np.zeros_like(moving))  # the same in all
    visible = (moving | body).ravel()  # moving surfaces are a region of their own
    position = truth.global_from_camera[:, :3, 3].mean(0)
    nearest_first = sorted(remembered, key=lambda f: float(np.linalg.norm(f.global_from_camera[:, :3, 3].mean(0) - position)))
    for frame in nearest_first:
        for camera in range(len(frame.depth)):
            open_points = np.flatnonzero(~visible)
            inside, reached = _visible(points[open_points], frame, camera)
            in_view[open_points[inside]] = True
            visible[open_points[reached]] = True
    visible, in_view = (mask.reshape(moving.shape) for mask in (visible, in_view))
    return {
        "all": ~body,
        "disoccluded": in_view & ~visible,
        "never_seen": ~in_view & ~visible,
        "moving": moving & ~body,
        "silhouettes": silhouettes(truth.depth) & ~body,
    }


def with_reach(masks: Mapping[str, np.ndarray], valid: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (V, H, W) of ``regions`` and of what a splat of the memory reaches, ``valid`` (V, H, W), and what not."""
    return {**masks, "valid": masks["all"] & valid, "holes": masks["all"] & ~valid}


def silhouettes(depth: np.ndarray) -> np.ndarray:
    """(V, H, W) bool: within SILHOUETTE_PIXELS pixels of an outline in depth (V, H, W).

    An outline runs between two neighbours whose inverse depths differ by SILHOUETTE_STEP of the smaller one, and by so much more
    or less than on either side of them: inverse depth is linear on a plane, so that neither a steep road nor the crease between
    road and wall is one.
    """
    inverse = 1 / np.where(depth < FAR - 1e-3, depth, SKY_DEPTH).astype(float)
    outline = np.zeros(depth.shape, np.uint8)
    for axis in (-2, -1):
        lines = np.moveaxis(inverse, axis, -1)
        here = np.moveaxis(outline, axis, -1)
        step = np.pad(np.diff(lines), ((0, 0), (0, 0), (1, 1)), mode="edge")
        unlike = SILHOUETTE_STEP * np.minimum(lines[..., :-1], lines[..., 1:])
        found = np.minimum(np.abs(step[..., 1:-1] - step[..., :-2]), np.abs(step[..., 1:-1] - step[..., 2:])) > unlike
        found &= np.abs(step[..., 1:-1]) > unlike
        here[..., :-1] |= found
        here[..., 1:] |= found
    window = np.ones((2 * SILHOUETTE_PIXELS - 1,) * 2, np.uint8)  # the pixels at the outline are the first of them
    return np.stack([cv2.dilate(one, window) for one in outline]) > 0


def _global_points(frame: RGBDFrame) -> np.ndarray:
    """(V H W, 3) global points of a frame, the sky's far away, where only rotation moves them."""
    depth = np.where(frame.depth < FAR - 1e-3, frame.depth, SKY_DEPTH).astype(float)
    camera = unproject(depth, frame.intrinsics)
    return apply(frame.global_from_camera, camera.reshape(len(depth), -1, 3)).reshape(-1, 3)


def _inside(points: np.ndarray, boxes: Boxes, margin: float = 0.1) -> np.ndarray:
    """Whether points (N, 3) lie in any of the boxes, grown by ``margin`` metres."""
    inside = np.zeros(len(points), bool)
    x, y = np.ascontiguousarray(points[:, :2].T)
    for pose, size, centre in zip(invert(boxes.poses), boxes.size, boxes.position, strict=True):
        reach = np.hypot(*size[:2]) / 2 + 2 * margin  # few points are near a box: the others need no closer look
        near = np.flatnonzero((np.abs(x - centre[0]) <= reach) & (np.abs(y - centre[1]) <= reach))
        inside[near] |= (np.abs(apply(pose, points[near])) <= size / 2 + margin).all(-1)
    return inside


def _visible(points: np.ndarray, frame: RGBDFrame, camera: int) -> tuple[np.ndarray, np.ndarray]:
    """Of points (N, 3) the indices of those in a camera's image, and of those whose surface it saw there (5 % and 0.2 m, one
    pixel around)."""
    pixels, z = project(apply(invert(frame.global_from_camera[camera]), points), frame.intrinsics[camera])
    height, width = frame.depth.shape[1:]
    inside = (z > 0.1) & in_image(pixels, height, width)
    index = np.flatnonzero(inside)
    z, column, row = z[index], pixels[index, 0].astype(int), pixels[index, 1].astype(int)
    matches = np.zeros(len(index), bool)
    tolerance = 0.05 * z + 0.2
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            surface = frame.depth[camera][np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)]
            matches |= np.abs(surface - np.minimum(z, FAR)) < tolerance
    return index, index[matches]
