"""Dense depth by the completion network: fitted to the returns, and enlarged along the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from dist4d_env.curation.edges import sharpen_edges
from dist4d_env.curation.labels import GROUND, OBJECT, SKY
from dist4d_env.curation.prompt import ROWS, condition
from dist4d_env.curation.views import NEAR, View
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.models.by_camera import one_thread
from dist4d_env.models.depth_flow import DepthFlow, load_depth_flow

STEPS = 2
"""Evaluations of the flow."""
LEAST, ROUNDS, SOFT = 30, 5, 0.05
"""Returns that scale and shift need; rounds of their robust fit, and the relative error beyond which a return counts less."""
CELLS, LEVEL, PRIOR, FURTHEST = 56, 0.15, 0.2, 0.7
"""Of the grid along which errors at returns spread: cells over the height of the image, logarithm of depth per cell, trust in the
network against returns, and the largest error of a logarithm that is taken for the network's."""


@dataclass(frozen=True)
class Completed:
    """depth: (H, W) float32 metres; labels: (H, W) SKY, GROUND or OBJECT; confidence: (H, W) float32, 0 to 1, exp(-e) with the
    expected relative error e."""

    depth: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


def flow_depth(image: np.ndarray, sparse: np.ndarray, upright: np.ndarray, view: View) -> Completed:
    """Dense depth of an image (H, W, 3) uint8 from visible returns (H, W) in metres (0: none), of which ``upright`` (H, W) lie
    above the ground."""
    height, width = sparse.shape
    size = ROWS, round(ROWS * width / height)
    depth, error, shares = (_enlarged(field, image) for field in _predict(image, sparse, upright, view, size))
    depth = np.clip(spread_errors(fitted(depth, sparse), sparse), NEAR, FAR)
    shares, returned = np.clip(_refined(shares, image), 0, 1), sparse > 0
    labels = np.where(shares[..., GROUND] > shares[..., OBJECT], GROUND, OBJECT).astype(np.int8)
    depth = sharpen_edges(depth.astype(np.float32), image, (labels == GROUND) | returned, max(2, round(height / 112)), 1)
    labels[_sky(shares[..., SKY], depth) & ~returned] = SKY
    depth[labels == SKY] = FAR
    return Completed(depth, labels, np.exp(-error).astype(np.float32))


def _predict(
    image: np.ndarray, sparse: np.ndarray, upright: np.ndarray, view: View, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and its error (h, w), shares of the classes (h, w, 3), at the network's size."""
    scale = np.array(size) / sparse.shape
    way = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_LINEAR
    rows, columns = np.nonzero(sparse)
    order = np.argsort(-sparse[rows, columns], kind="stable")  # the nearest is written last and stays
    rows, columns = rows[order], columns[order]
    r, c = ((np.stack([rows, columns], 1) + 0.5) * scale).astype(int).T
    small, above = np.zeros(size, np.float32), np.zeros(size, bool)
    small[r, c], above[r, c] = sparse[rows, columns], upright[rows, columns]
    seen = replace(view, intrinsics=np.diag([scale[1], scale[0], 1.0]) @ view.intrinsics)
    inputs = condition(cv2.resize(image, size[::-1], interpolation=way), small, above, seen)
    network = _network()
    with one_thread():
        depth, error, shares = network.sample(torch.from_numpy(inputs)[None].to(network.device), STEPS)
    return depth[0].cpu().numpy(), error[0].cpu().numpy(), shares[0].permute(1, 2, 0).cpu().numpy()


@lru_cache(maxsize=1)
def _network() -> DepthFlow:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_depth_flow().to(device=device, memory_format=torch.channels_last)


def _enlarged(field: np.ndarray, image: np.ndarray) -> np.ndarray:
    return cv2.resize(field, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _sky(share: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Which pixels (H, W) to take for sky, from their share of sky and their depth if they are none: the choice whose expected
    relative error is the least, as a wall of depth d at FAR errs by FAR / d - 1, sky at d by 1 - d / FAR."""
    return share * depth > (1 - share) * FAR


def _refined(shares: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Shares (H, W, C) with the image's edges: a guided filter (He et al. 2010) with its brightness as guide."""
    guide = image.astype(np.float32).mean(-1, keepdims=True) / 255
    size = (2 * max(2, round(len(image) / 56)) + 1,) * 2

    def mean(field: np.ndarray) -> np.ndarray:
        return cv2.blur(field, size).reshape(field.shape)

    middle, level = mean(guide), mean(shares)
    slope = (mean(guide * shares) - middle * level) / (mean(guide * guide) - middle * middle + 1e-3)
    return mean(slope) * guide + mean(level - slope * middle)


def fitted(depth: np.ndarray, sparse: np.ndarray) -> np.ndarray:
    """Depth (H, W), scaled and shifted to meet the returns (H, W): the least relative errors, robustly."""
    there = sparse > 0
    if there.sum() < LEAST:
        return depth
    found, true = depth[there].astype(float), sparse[there].astype(float)
    scale, shift = 1.0, 0.0
    for _ in range(ROUNDS):
        relative = np.abs(scale * found + shift - true) / true
        weight = np.minimum(1, SOFT / np.maximum(relative, 1e-9)) / true**2
        columns = np.stack([found, np.ones_like(found)], 1)
        normal = columns.T @ (columns * weight[:, None]) + np.diag([1e-6, 1e-3])
        scale, shift = np.linalg.solve(normal, columns.T @ (weight * true) + np.array([1e-6, 0.0]))
    return np.maximum(np.clip(scale, 0.5, 2.0) * depth + np.clip(shift, -2.0, 2.0), NEAR)


def spread_errors(depth: np.ndarray, sparse: np.ndarray) -> np.ndarray:
    """Depth (H, W) corrected by what it misses at returns (H, W), spread over near pixels of like depth (a bilateral grid)."""
    there = sparse > 0
    log = np.log(np.maximum(depth, NEAR))
    missed = np.log(np.maximum(sparse[there], NEAR)) - log[there]
    ours = np.abs(missed) < FURTHEST
    rows, columns = np.nonzero(there)
    cell = depth.shape[0] / CELLS
    place = np.stack([rows[ours] / cell, columns[ours] / cell, log[there][ours] / LEVEL])
    shape = (*(int(np.ceil(side / cell)) + 2 for side in depth.shape), int(np.log(2 * FAR) / LEVEL) + 8)
    offset = np.array([0.5, 0.5, 6])[:, None]
    flat = np.ravel_multi_index(tuple((place + offset).round().astype(int)), shape, mode="clip")
    size = int(np.prod(shape))
    total, weight = (np.bincount(flat, by, size).reshape(shape) for by in (missed[ours], np.ones(ours.sum())))
    total, weight = gaussian_filter(total, 1.0), gaussian_filter(weight, 1.0)
    field = (total / (weight + PRIOR * 0.06)).astype(np.float32)  # 0.06: what the filter leaves of a single return
    r, c = np.mgrid[: depth.shape[0], : depth.shape[1]]
    at = np.stack([r / cell, c / cell, log / LEVEL]) + offset[..., None]
    return np.exp(log + map_coordinates(field, at, order=1, mode="nearest"))
