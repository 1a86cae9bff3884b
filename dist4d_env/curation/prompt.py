"""What the completion network is told of a camera: the image, its LiDAR returns, the ground plane and the LiDAR's view."""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.curation.completion import ImageGraph, halve
from dist4d_env.curation.views import View, ground_depth
from dist4d_env.models.depth_flow import MIDDLE

ROWS = 112
"""Rows of the images that the network works on."""
REACH = 0.5
"""Radians beyond which it doesn't matter how far a ray is above or below the LiDAR's view."""

TRUST = 80.0
"""How much a return counts against the flow along the image."""


def along(graph: ImageGraph, code: np.ndarray, returned: np.ndarray) -> np.ndarray:
    """A first guess (H, W): codes of returns (mask (H, W)) flow along the image of half the size; 0 where there are none."""
    height, width = code.shape
    weight = halve(returned.astype(float))
    value = halve(np.where(returned, code, 0)) / np.maximum(weight, 1e-12)
    found = graph.solve(value[..., None], TRUST * weight)[..., 0]
    return np.repeat(np.repeat(found, 2, 0), 2, 1)[:height, :width]


def condition(image: np.ndarray, sparse: np.ndarray, upright: np.ndarray, view: View) -> np.ndarray:
    """``models.depth_flow.CONDITIONS`` (14, H, W) float32 of an image (H, W, 3) uint8 with returns.

    sparse: (H, W) metres, 0 where there is no return; upright: (H, W) bool, those above the ground; view: for this size.
    """
    height, width = sparse.shape
    returned = sparse > 0
    code = np.log(np.maximum(sparse, 1e-3)) - MIDDLE
    plane, elevation = ground_depth(view, height, width)
    slope = np.log(plane) - MIDDLE
    away = cv2.distanceTransform((~returned).astype(np.uint8), cv2.DIST_L2, 3) if returned.any() else np.full(sparse.shape, 1e3)
    bottom, top = view.field
    half = cv2.resize(image, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    graph = ImageGraph(half)
    channels = [
        *(image.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1),
        np.where(returned, code, 0),
        returned,
        np.where(returned, np.where(upright, 1.0, -1.0), 0),
        along(graph, code, returned & upright if (returned & upright).any() else returned),
        slope + along(graph, code - slope, returned & ~upright),
        np.minimum(np.log1p(away), 4) / 2,
        slope,
        2 * elevation,
        2 * np.clip(top - elevation, -REACH, REACH),
        2 * np.clip(elevation - bottom, -REACH, REACH),
        np.full(sparse.shape, np.log(view.intrinsics[1, 1] / ROWS)),
    ]
    return np.stack([np.asarray(channel, np.float32) for channel in channels])
