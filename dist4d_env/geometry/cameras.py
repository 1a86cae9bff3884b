"""Pinhole cameras of a vehicle and the one crop and resize that images, depth and intrinsics share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import apply


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "224x400". Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip(), re.ASCII)
    if match is None:
        raise ConfigError(f"image size {text!r} is not of the form HEIGHTxWIDTH, for example 224x400")
    return int(match[1]), int(match[2])


def optional_size(text: str | None) -> tuple[int, int] | None:
    """The same, None for None. Raises ConfigError."""
    return None if text is None else parse_size(text)


@dataclass(frozen=True)
class ImageTransform:
    """Scale, then crop: ``u_target = scale * u_source - offset`` for u = (column, row).

    Pixel (row r, column c) covers [c, c + 1) x [r, r + 1); its centre is (c + 0.5, r + 0.5).
    """

    scale: float
    offset: tuple[float, float]  # (column, row), target pixels
    height: int
    width: int

    @classmethod
    def cover(cls, source: tuple[int, int], target: tuple[int, int]) -> ImageTransform:
        """The smallest scaling of a source (height, width) that covers the target; cropped are both sides equally, or the top."""
        scale = max(target[0] / source[0], target[1] / source[1])
        return cls(scale, ((scale * source[1] - target[1]) / 2, scale * source[0] - target[0]), *target)

    def intrinsics(self, matrices: np.ndarray) -> np.ndarray:
        """Intrinsics (..., 3, 3) of the source image, for the target image."""
        affine = np.array([[self.scale, 0, -self.offset[0]], [0, self.scale, -self.offset[1]], [0, 0, 1.0]])
        return affine @ matrices


@dataclass(frozen=True)
class CameraRig:
    """Cameras of one vehicle, in the order of its data set.

    intrinsics: (V, 3, 3) float64 for images of (height, width); ego_from_camera: (V, 4, 4) float64; sizes: (height, width) of
    each camera's images where these differ, as they may on disk; ``height`` and ``width`` are then those of the largest.
    """

    names: tuple[str, ...]
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    height: int
    width: int
    sizes: tuple[tuple[int, int], ...] = ()

    @classmethod
    def stored(
        cls, names: tuple[str, ...], intrinsics: np.ndarray, ego_from_camera: np.ndarray, sizes: Sequence[tuple[int, int]]
    ) -> CameraRig:
        """A rig with one (height, width) per camera."""
        largest = max(sizes, key=lambda size: size[0] * size[1])
        return cls(names, intrinsics, ego_from_camera, *largest, tuple(sizes) if len(set(sizes)) > 1 else ())

    def at_size(self, height: int, width: int) -> CameraRig:
        """The same cameras, each seen through ``ImageTransform.cover``."""
        sizes = self.sizes or ((self.height, self.width),) * len(self.names)
        intrinsics = covering_intrinsics(self.intrinsics, sizes, (height, width))
        return replace(self, intrinsics=intrinsics, height=height, width=width, sizes=())


def covering_intrinsics(intrinsics: np.ndarray, sizes: Sequence[tuple[int, int]], target: tuple[int, int]) -> np.ndarray:
    """Intrinsics (V, 3, 3) of images of V sizes (height, width), for images of the target size by ``ImageTransform.cover``."""
    found = np.empty(intrinsics.shape)
    for size in dict.fromkeys(sizes):
        views = [view for view, other in enumerate(sizes) if other == size]
        found[views] = ImageTransform.cover(size, target).intrinsics(intrinsics[views])
    return found


def invert_intrinsics(intrinsics: np.ndarray) -> np.ndarray:
    """camera_from_pixel (..., 3, 3) of pinhole intrinsics (..., 3, 3) whose rows are (fx, s, cx), (0, fy, cy), (0, 0, 1).

    In closed form: a general inverse costs milliseconds where the linear algebra library starts threads for it.
    """
    fx, skew, cx = np.moveaxis(intrinsics[..., 0, :], -1, 0)
    fy, cy = intrinsics[..., 1, 1], intrinsics[..., 1, 2]
    inverse = np.zeros(intrinsics.shape)
    inverse[..., 0, 0], inverse[..., 1, 1], inverse[..., 2, 2] = 1 / fx, 1 / fy, 1.0
    inverse[..., 0, 1], inverse[..., 1, 2] = -skew / (fx * fy), -cy / fy
    inverse[..., 0, 2] = (skew * cy / fy - cx) / fx
    return inverse


def project(points: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera points (..., 3) to pixel coordinates (..., 2) and z-depth (...); points at or behind the camera give z <= 0."""
    depth = points[..., 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    pixels = (points @ np.swapaxes(intrinsics, -1, -2))[..., :2] / safe[..., None]
    return pixels, depth


def in_image(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which pixel coordinates (..., 2) lie in an image, (...) bool."""
    inside: np.ndarray = (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    return inside


def unproject(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """z-depth images (..., H, W) with intrinsics (..., 3, 3) to camera points (..., H, W, 3)."""
    height, width = depth.shape[-2:]
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    rays = np.einsum("...ij,hwj->...hwi", invert_intrinsics(intrinsics), pixels)
    return rays * depth[..., None]


def ego_points(depth: np.ndarray, intrinsics: np.ndarray, ego_from_camera: np.ndarray) -> np.ndarray:
    """z-depth images (V, H, W) of cameras with intrinsics (V, 3, 3) and poses (V, 4, 4) to points (V H W, 3) of the ego frame."""
    return apply(ego_from_camera, unproject(depth, intrinsics).reshape(len(depth), -1, 3)).reshape(-1, 3)
