"""Cameras that are no plain pinholes: lenses that bend straight lines, fisheyes, f-theta. Their images are made those of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import invert_intrinsics

WIDEST = np.radians(60)
"""Half the angle of view, from the left to the right, that is left of a fisheye at most."""
_NARROWER = 1.02


@dataclass(frozen=True)
class Lens:
    """How a camera's image becomes that of a pinhole of the same size.

    intrinsics: (3, 3) of the pinhole; bent: the camera in py123d's words where its images have to be resampled, "" where they are
    a pinhole's already.
    """

    intrinsics: np.ndarray
    bent: str = ""

    @classmethod
    def of(cls, camera: Any) -> Lens:
        """The lens of a camera by py123d's metadata of it.

        What is resampled keeps the camera's own axis and size; its angle of view is the widest, up to 120 degrees or what its
        intrinsics say, at which every pixel was seen. Raises DataError for a camera without intrinsics, and for one whose axis
        is outside its own image.
        """
        width, height = camera.width, camera.height
        plain = camera.camera_model.name == "PINHOLE"
        if plain and camera.intrinsics is None:
            raise DataError(f"camera {camera.camera_name} has no intrinsics: convert the log again, or leave this camera out")
        if plain:
            matrix = np.array(camera.intrinsics.camera_matrix, float)
            if camera.is_undistorted or camera.distortion is None or not np.any(camera.distortion.array):
                return cls(matrix)
            matrix[:2, 2] += 0.5  # lens models count from the middle of the first pixel, ``geometry.cameras`` from its corner
        else:
            focal = width / 2 / np.tan(WIDEST)
            matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        edge = np.concatenate(
            [[(c, r) for c in range(width) for r in (0, height - 1)], [(c, r) for r in range(height) for c in (0, width - 1)]]
        )
        for _ in range(150):
            if _seen(camera, matrix, edge)[1].all():
                return cls(matrix, json.dumps(camera.to_dict()))
            matrix[[0, 1], [0, 1]] *= _NARROWER
        raise DataError(
            f"camera {camera.camera_name} ({camera.camera_model.name}) shows no pinhole's view: leave it out of the conversion"
        )

    def straighten(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 of the camera's own image as the pinhole's."""
        if not self.bent:
            return pixels
        import cv2

        return cv2.remap(pixels, *_grid(self.bent, self.intrinsics.tobytes()), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _seen(camera: Any, matrix: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a camera sees what a pinhole has in pixels (N, 2) column, row: (N, 2), and whether it does."""
    rays = np.column_stack([pixels + 0.5, np.ones(len(pixels))]) @ invert_intrinsics(matrix).T
    place, _, _ = camera.project_to_image(rays)
    last = np.array([camera.width - 1, camera.height - 1])
    return place, ((place >= -0.5) & (place <= last + 0.5)).all(1)


@lru_cache(maxsize=16)
def _grid(bent: str, intrinsics: bytes) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's maps for resampling, in fixed point."""
    import cv2
    from py123d.datatypes.sensors.base_camera import camera_metadata_from_dict

    camera, matrix = camera_metadata_from_dict(json.loads(bent)), np.frombuffer(intrinsics).reshape(3, 3)
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    place, _ = _seen(camera, matrix, np.stack([columns.ravel(), rows.ravel()], -1))
    return cv2.convertMaps(place.reshape(camera.height, camera.width, 2).astype(np.float32), None, cv2.CV_16SC2)
