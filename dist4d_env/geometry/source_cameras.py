"""A source's cameras as points of target cameras are looked up in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.box_motion import MovedSource, motion_about
from dist4d_env.geometry.colour_kernels import Motion, Pinholes
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class SourceCameras:
    """S cameras of a moved source, and where points of T target cameras lie in their images.

    linear, offset: ``frustum.pinhole_rows``; visible: (S, T) bool, may see any of a target's points; size: height and width of
    the images; motion: back to the source's own time; focal: (S,) float32 pixels.
    """

    one: MovedSource
    linear: np.ndarray
    offset: np.ndarray
    visible: np.ndarray
    size: tuple[int, int]
    motion: Motion
    focal: np.ndarray

    @classmethod
    def of(cls, one: MovedSource, origin: np.ndarray, corners: np.ndarray, highest: int) -> SourceCameras:
        """For points given from ``origin`` (3,) within the hulls of corners (T, 8, 3), of labels up to ``highest``."""
        frame = one.source.frame
        size = frame.depth.shape[1], frame.depth.shape[2]
        linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), origin)
        motion = (one.entries(highest), *motion_about(one.motion.back, origin))
        focal = frame.intrinsics[:, 0, 0].astype(np.float32)
        return cls(one, linear, offset, may_see(linear, offset, size, corners), size, motion, focal)

    def pinholes(self, target: int) -> Pinholes:
        """What they are for a target."""
        return self.linear, self.offset, self.visible[:, target], *self.size
