"""Which cameras can see anything of what other cameras saw."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.cameras import invert_intrinsics
from dist4d_env.geometry.jit import compiled


def pinhole_rows(intrinsics: np.ndarray, camera_from_global: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 ``linear`` (V, 3, 3) and ``offset`` (V, 3): ``linear @ point + offset`` is (u z, v z, z) of a point that is given
    from ``origin`` in global axes, where float32 is fine enough for it."""
    linear = intrinsics @ camera_from_global[:, :3, :3]
    offset = intrinsics @ (camera_from_global[:, :3, :3] @ origin + camera_from_global[:, :3, 3])[..., None]
    return linear.astype(np.float32), offset[..., 0].astype(np.float32)


def ray_parts(
    intrinsics: np.ndarray, global_from_camera: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays of pixels of V cameras in global axes, a metre of z-depth long: ``along_column[..., row] + along_row[..., column]``.

    Returns along_row (V, 3, W), along_column (V, 3, H) and their steps per pixel (V, 3, 2), all float64.
    """
    height, width = size
    axes = global_from_camera[:, :3, :3] @ invert_intrinsics(intrinsics)  # (V, 3, 3): ray = axes @ (u, v, 1)
    along_row = axes[:, :, :1] * (np.arange(width) + 0.5) + axes[:, :, 2:]
    return along_row, axes[:, :, 1:2] * (np.arange(height) + 0.5), axes[:, :, :2]


def frustum_corners(
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    near: np.ndarray,
    far: np.ndarray,
    origin: np.ndarray,
) -> np.ndarray:
    """Corners (V, 8, 3) from ``origin`` in global axes of what cameras show between z-depths ``near`` and ``far`` (V,)."""
    height, width = size
    pixels = np.array([[u, v, 1.0] for u in (0, width) for v in (0, height)])
    rays = pixels @ np.swapaxes(global_from_camera[:, :3, :3] @ invert_intrinsics(intrinsics), -1, -2)  # (V, 4, 3)
    points = np.concatenate([rays * near[:, None, None], rays * far[:, None, None]], 1)
    return points + (global_from_camera[:, :3, 3] - origin)[:, None]


def may_see(linear: np.ndarray, offset: np.ndarray, size: tuple[int, int], corners: np.ndarray) -> np.ndarray:
    """Whether camera c may show any point within the hull of corners (N, 8, 3): (V, N) bool, never False where it does.

    A pixel of slack around the image; linear and offset: ``pinhole_rows``. A hull is out of view when all of its corners are
    beyond the same plane of the view.
    """
    seen = np.empty((len(linear), len(corners)), bool)
    _find_seen(linear, offset, float(size[1] + 1), float(size[0] + 1), corners, seen)
    return seen


@compiled
def _find_seen(linear: np.ndarray, offset: np.ndarray, right: float, low: float, corners: np.ndarray, seen: np.ndarray) -> None:
    """Write ``may_see``; right, low: of the image, with the slack."""
    for camera in range(len(linear)):
        m, c = linear[camera], offset[camera]
        for hull in range(len(corners)):
            behind, beside, above, across, below = True, True, True, True, True
            for p in corners[hull]:
                x = m[0, 0] * p[0] + m[0, 1] * p[1] + m[0, 2] * p[2] + c[0]
                y = m[1, 0] * p[0] + m[1, 1] * p[1] + m[1, 2] * p[2] + c[1]
                z = m[2, 0] * p[0] + m[2, 1] * p[1] + m[2, 2] * p[2] + c[2]
                behind, beside, above = behind and z <= 0, beside and x <= -z, above and y <= -z
                across, below = across and x >= right * z, below and y >= low * z
            seen[camera, hull] = not (behind or beside or above or across or below)
