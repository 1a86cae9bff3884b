"""Dense metric depth of one camera image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from dist4d_env.curation.completion import ImageGraph
from dist4d_env.curation.edges import sharpen_edges
from dist4d_env.curation.flow import flow_depth
from dist4d_env.curation.labels import GROUND, OBJECT, SKY, label_pixels, separations
from dist4d_env.curation.stereo import fused
from dist4d_env.curation.views import NEAR, View, ground_depth
from dist4d_env.curation.visibility import height_above, visible_depth
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.cameras import in_image, project, unproject
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import apply, invert

Completion = Literal["flow", "least_squares"]
"""How depth is made dense: by the network that ships, or along the image without any."""
FEWEST = 30
"""Pixels with a LiDAR return without which nothing says how far away an image is."""


class TooFewReturns(DataError):
    """An image into which the LiDAR does not look."""


@dataclass(frozen=True)
class CurationConfig:
    """How depth is made. height: rows of the depth images, at most those of the image; before, after: sweeps gathered around each
    keyframe; upright_above: metres above the ground from which a return belongs to an object; data_weight: trust in a return
    against the flow along the image, of least squares; completion: how returns are made dense; stereo: whether depth from several
    images, where they agree, is added to the returns."""

    height: int = 450
    before: int = 5
    after: int = 5
    upright_above: float = 0.25
    data_weight: float = 20.0
    completion: Completion = "flow"
    stereo: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.completion not in get_args(Completion):
            raise ConfigError(f"completion must be one of {', '.join(get_args(Completion))}, not {self.completion!r}")
        if self.height < 16:
            raise ConfigError(f"height {self.height}: depth images have at least 16 rows")
        if self.before < 0 or self.after < 0:
            raise ConfigError(f"sweeps {min(self.before, self.after)}: 0 or more are gathered before and after a keyframe")

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the depth for an image of (rows, columns): same shape, never larger than the image."""
        rows = min(self.height, image[0])
        return rows, round(rows * image[1] / image[0])


def silent_pixels(directions: np.ndarray, view: View, elevation: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels inside the LiDAR's vertical view with none of its returns (N, 3, global, of one sweep or more) near."""
    height, width = elevation.shape
    pixels, z = project(apply(invert(view.global_from_camera), directions), view.intrinsics)
    seen = (z > NEAR) & in_image(pixels, height, width)
    hit = np.zeros((height, width), np.uint8)
    hit[pixels[seen, 1].astype(int), pixels[seen, 0].astype(int)] = 1
    # Twice the beam spacing: one missing return between two is no gap.
    focal = view.intrinsics[0, 0], view.intrinsics[1, 1]
    reach = [2 * max(1, round(f * np.deg2rad(angle))) + 1 for f, angle in zip(focal, (0.9, 1.6), strict=True)]
    near = cv2.dilate(hit, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, tuple(reach)))
    return (near == 0) & (elevation < view.field[1] - np.deg2rad(0.5)) & (elevation > view.field[0])


def dense_depth(
    image: np.ndarray,
    points: np.ndarray,
    boxed: np.ndarray,
    view: View,
    config: CurationConfig,
    stereo: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Metric depth (H, W) float32 and labels (H, W) of one RGB image (H, W, 3) uint8.

    points: (N, 3) global, at the image's exposure; boxed: (N,) bool, those that belong to annotated objects; stereo: (M, 3)
    global points of depth from several images. Raises ``TooFewReturns``.
    """
    height, width = image.shape[:2]
    sparse, upright = visible_returns(points, boxed, view, height, width, config)
    if stereo is not None and len(stereo):
        sparse, upright = with_stereo(sparse, upright, stereo, view, config)
    if (sparse > 0).sum() < FEWEST:
        raise TooFewReturns(f"depth takes {FEWEST} pixels with a LiDAR return, the image has {(sparse > 0).sum()}")
    if config.completion == "flow":
        made = flow_depth(image, sparse, upright, view)
        return made.depth, made.labels
    plane_depth, elevation = ground_depth(view, height, width)
    graph = ImageGraph(image)
    silent = silent_pixels(points, view, elevation)
    labels = label_pixels(graph, sparse > 0, upright, elevation, silent, view.field[1])
    return complete(graph, sparse, labels, plane_depth, config), labels


def with_stereo(
    sparse: np.ndarray, upright: np.ndarray, stereo: np.ndarray, view: View, config: CurationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Visible returns, as ``visible_returns`` gives them, with stereo's global points (M, 3) between them."""
    added = fused(sparse, stereo, view)
    there = added > 0
    found = apply(view.global_from_camera, unproject(added.astype(float), view.intrinsics)[there])
    upright = upright.copy()
    upright[there] |= _upright(found, view, config)
    return sparse + added, upright


def _upright(points: np.ndarray, view: View, config: CurationConfig) -> np.ndarray:
    """Which global points (N, 3) lie above the ground."""
    over = height_above(points, view.plane, view.global_from_ego)
    ego = apply(invert(view.global_from_ego), points)
    # Roads bend away from a plane: the farther, the higher a return may lie and still be road.
    return over > config.upright_above + 0.01 * np.linalg.norm(ego[:, :2], axis=1)


def visible_returns(
    points: np.ndarray, boxed: np.ndarray, view: View, height: int, width: int, config: CurationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) float32 of the LiDAR points that a camera sees, 0 where there is none, and which pixels (H, W) hold one above
    the ground. Points and boxed as in ``dense_depth``."""
    upright = boxed | _upright(points, view, config)
    sparse, index = visible_depth(points, upright, view.global_from_camera, view.intrinsics, height, width)
    return sparse, (sparse > 0) & np.append(upright, False)[index]  # -1, where there is none, is the one appended


def complete(
    graph: ImageGraph, sparse: np.ndarray, labels: np.ndarray, plane_depth: np.ndarray, config: CurationConfig
) -> np.ndarray:
    """Fills sparse depth (H, W, 0 = unknown) by least squares on log depth: flat on objects, sloped like the plane on ground."""
    returned = sparse > 0
    value = np.log(np.maximum(sparse, NEAR)).astype(np.float64)
    confidence = np.where(returned & (labels != SKY), config.data_weight, 0.0)
    lonely = (labels == GROUND) & ~returned
    confidence = confidence + np.where(lonely, 1e-4, 0.0)  # where no return is near, the plane itself
    slope = np.log(plane_depth)
    value = np.where(lonely, slope, value)
    dense = graph.cut(*separations(labels)).solve(value[..., None], confidence, slope, labels == GROUND)[..., 0]
    depth = np.exp(np.clip(dense, np.log(NEAR), np.log(FAR)))
    depth[labels == SKY] = FAR  # before edges are sharpened: nothing anchors the sky's own solution, and edges would take it over
    radius = max(2, round(graph.height / 60))
    depth = sharpen_edges(depth.astype(np.float32), graph.image, (labels != OBJECT) | returned, radius)
    depth[labels == SKY] = FAR
    return depth
