"""A source's cameras as points of target cameras are looked up in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.box_motion import MovedSource, motion_about
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class SourceCameras:
    """S cameras of a moved source, and where points of T target cameras lie in their images.

    linear, offset: ``frustum.pinhole_rows``; visible: (S, T) bool, may see any of a target's points; motion: the source's
    ``MovedSource.entries``, and the linear parts (B, 3, 3) and shifts (B, 3) that take its boxes back to its own time;
    focal: (S,) float32 pixels.
    """

    one: MovedSource
    linear: np.ndarray
    offset: np.ndarray
    visible: np.ndarray
    motion: tuple[np.ndarray, np.ndarray, np.ndarray]
    focal: np.ndarray

    @classmethod
    def of(cls, one: MovedSource, origin: np.ndarray, corners: np.ndarray, highest: int) -> SourceCameras:
        """For points given from ``origin`` (3,) within the hulls of corners (T, 8, 3), of labels up to ``highest``."""
        frame = one.source.frame
        linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), origin)
        visible = may_see(linear, offset, _size(one), corners)
        motion = (one.entries(highest), *motion_about(one.motion.back, origin))
        return cls(one, linear, offset, visible, motion, frame.intrinsics[:, 0, 0].astype(np.float32))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the source's images."""
        return _size(self.one)

    def pinholes(self, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
        """``colour_kernels.Pinholes`` for a target."""
        return self.linear, self.offset, self.visible[:, target], *self.size


def _size(one: MovedSource) -> tuple[int, int]:
    _, height, width = one.source.frame.depth.shape
    return height, width
