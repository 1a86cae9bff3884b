"""Sky, ground or object: what each pixel of an image shows, from LiDAR returns, missing returns and simple colour cues.

Heuristics. A return means ground or object. Above the horizon and within the LiDAR's vertical view, no return means sky (weakly:
glass and dark far things return nothing either). Where the LiDAR does not reach, smooth and bright or bluish pixels count as sky,
everything else as object. These seeds then spread along the image; a sky region has to reach the top of the image, or look like
sky where the LiDAR has no return. In the dark there is no colour cue and only missing returns count.
"""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.curation.completion import ImageGraph

SKY, GROUND, OBJECT = range(3)
SMOOTHNESS_ROWS = 450
"""Rows of the images that the bounds of smoothness below are meant for."""


LIDAR, NO_RETURN, SKY_COLOUR, OTHER_COLOUR = 20.0, 0.004, 0.02, 0.01
"""How much each kind of evidence counts against the flow along the image (whose weights are at most 1)."""


def sky_colour(image: np.ndarray, returned: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1]: how much an RGB image (H, W, 3) uint8 looks like sky, pixel by pixel: smooth, and bright or bluish.

    Bright is what outshines most of the pixels with a LiDAR return (H, W), which are no sky.
    """
    rgb = image.astype(np.float32) / 255
    grey = rgb.mean(-1)
    gradient = cv2.blur(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1)), (5, 5)) / 4
    gradient *= min(len(grey) / SMOOTHNESS_ROWS, 1.0)  # a pixel of a small image spans more of a cloud
    smooth = np.clip(1.5 - gradient / 0.02, 0, 1)
    smooth_cloud = np.clip(1.5 - gradient / 0.06, 0, 1) * np.clip((grey - 0.7) / 0.15, 0, 1)
    brightness = np.percentile(grey[returned], 85) + 0.05 if returned.any() else 1.0
    bright = np.clip((grey - np.clip(brightness, 0.35, 0.6)) / 0.2, 0, 1)
    bluish = np.clip((rgb[..., 2] - rgb[..., 0] - 0.03) / 0.06, 0, 1) * np.clip((grey - 0.42) / 0.12, 0, 1)
    return np.maximum(smooth, smooth_cloud) * np.maximum(bright, bluish)


def label_pixels(
    graph: ImageGraph, returned: np.ndarray, upright: np.ndarray, elevation: np.ndarray, silent: np.ndarray, lidar_top: float
) -> np.ndarray:
    """Labels (H, W) int8: SKY, GROUND or OBJECT.

    returned: (H, W) bool, pixels with a visible LiDAR return; upright: (H, W) bool, of those the ones above the ground;
    elevation: (H, W) radians of each pixel's ray above the ground plane's horizon; silent: (H, W) bool, pixels in the LiDAR's
    view with no return anywhere near; lidar_top: the highest beam's elevation in radians.
    """
    seeds = np.zeros((*returned.shape, 2))  # shares of sky and ground; the rest is object
    confidence = np.zeros(returned.shape)
    above = elevation > np.deg2rad(0.5)
    colour = sky_colour(graph.image, returned) * above
    beyond = elevation > lidar_top
    for mask, label, weight in (
        (silent & above, SKY, NO_RETURN + SKY_COLOUR * colour),
        (beyond, SKY, SKY_COLOUR * colour),
        (beyond, OBJECT, OTHER_COLOUR * (1 - colour)),
        (returned & upright, OBJECT, LIDAR),
        (returned & ~upright, GROUND, LIDAR),
    ):
        added = np.where(mask, weight, 0.0)
        if label != OBJECT:
            seeds[..., label] += added
        confidence += added
    share = graph.solve(seeds / np.maximum(confidence, 1e-12)[..., None], confidence, tolerance=2e-3)
    share = np.concatenate([share, 1 - share.sum(-1, keepdims=True)], -1)
    share[..., SKY] -= ~above  # nothing below the horizon is sky
    share[..., GROUND] -= elevation > np.deg2rad(4.0)  # steep roads exist, walls of road do not
    labels = share.argmax(-1).astype(np.int8)
    return _drop_enclosed_sky(labels, np.where(silent, colour, 0.0))


def _drop_enclosed_sky(labels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Sky regions that are small, or that neither reach the top nor are seen (H, W, 0 to 1) to be sky, are windows: OBJECT."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats((labels == SKY).astype(np.uint8), connectivity=4)
    for region in range(1, count):
        mask = regions == region
        large = stats[region, cv2.CC_STAT_AREA] > 0.003 * labels.size
        if not large or (stats[region, cv2.CC_STAT_TOP] > 2 and seen[mask].mean() < 0.4):
            labels[mask] = OBJECT
    return labels


def separations(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors for ``ImageGraph.cut``: depth does not flow between sky and anything else, nor down from ground into the object
    that hides it; an object standing on the ground below it touches it there, at the sides it may."""
    across, down = np.ones(labels[:, 1:].shape), np.ones(labels[1:].shape)
    across[(labels[:, 1:] == GROUND) != (labels[:, :-1] == GROUND)] = 0.1
    down[(labels[1:] == OBJECT) & (labels[:-1] == GROUND)] = 0.01
    across[(labels[:, 1:] == SKY) != (labels[:, :-1] == SKY)] = 0.0
    down[(labels[1:] == SKY) != (labels[:-1] == SKY)] = 0.0
    return across, down
