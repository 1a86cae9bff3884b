"""RGB-D frames of several cameras: what worlds produce and what the memory holds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

FAR = 100.0
"""Depth of the sky and of everything beyond, in metres."""


@dataclass(frozen=True)
class RGBDFrame:
    """Images of V cameras with metric depth and poses.

    rgb: (V, H, W, 3) uint8; depth: (V, H, W) float32 z-depth in metres, clipped to FAR; intrinsics: (V, 3, 3);
    global_from_camera: (V, 4, 4), each camera at its own exposure; time: (V,) seconds of the exposures since the scene's
    first keyframe; body: (V, H, W) bool, pixels that show the car that the cameras are mounted on, None where nothing is known of
    them.
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    global_from_camera: np.ndarray
    time: np.ndarray
    body: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.rgb.shape[:3] != self.depth.shape or self.rgb.dtype != np.uint8 or self.depth.dtype != np.float32:
            raise ValueError(
                f"an RGB-D frame needs (V, H, W, 3) uint8 and (V, H, W) float32, not {self.rgb.shape} {self.rgb.dtype} "
                f"and {self.depth.shape} {self.depth.dtype}"
            )
        views = len(self.depth)
        placed = np.shape(self.intrinsics), np.shape(self.global_from_camera), np.shape(self.time)
        if placed != ((views, 3, 3), (views, 4, 4), (views,)):
            raise ValueError(
                f"a frame of {views} cameras needs intrinsics (V, 3, 3), poses (V, 4, 4) and times (V,), not {placed}"
            )
        if self.body is not None and (self.body.shape != self.depth.shape or self.body.dtype != bool):
            raise ValueError(f"a mask of the body needs {self.depth.shape} bool, not {self.body.shape} {self.body.dtype}")


def array_bytes(value: Any) -> int:
    """Bytes of the arrays that are fields of a dataclass."""
    arrays = (getattr(value, field.name) for field in fields(value))
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
