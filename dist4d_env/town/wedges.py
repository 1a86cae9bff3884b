"""Fields of view in the ground plane, to cull actors outside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.cameras import CameraRig

_MARGIN = 0.02  # radians on each side: samples within a pixel, and rounding
_WIDEST = 1.4  # radians to a side; a wider one (a camera that looks down steeply) culls nothing


@dataclass(frozen=True)
class Wedges:
    """Horizontal fields of view of V cameras. apex: (V, 2); normals: (V, 2, 2) unit vectors from both sides inwards; everything:
    (V,) whether a camera's view has no sides."""

    apex: np.ndarray
    normals: np.ndarray
    everything: np.ndarray

    @classmethod
    def of(cls, rig: CameraRig, global_from_camera: np.ndarray) -> Wedges:
        """The views of cameras with ``rig``'s intrinsics at poses (V, 4, 4).

        A mirror image in the ground lies in the same wedge as what it mirrors.
        """
        corners = np.array([[0, 0, 1], [rig.width, 0, 1], [0, rig.height, 1], [rig.width, rig.height, 1]], float)
        rays = corners @ np.linalg.inv(rig.intrinsics).swapaxes(-1, -2)  # (V, 4, 3)
        heading = (rays @ global_from_camera[:, :3, :3].swapaxes(-1, -2))[..., :2]
        ahead = global_from_camera[:, None, :2, 2]
        cross = ahead[..., 0] * heading[..., 1] - ahead[..., 1] * heading[..., 0]
        turn = np.arctan2(cross, (ahead * heading).sum(-1))  # (V, 4), to the left of the optical axis
        centre = np.arctan2(ahead[:, 0, 1], ahead[:, 0, 0])
        left, right = centre + turn.max(1) + _MARGIN, centre + turn.min(1) - _MARGIN
        normals = np.stack([np.stack([np.sin(left), -np.cos(left)], -1), np.stack([-np.sin(right), np.cos(right)], -1)], 1)
        everything = (np.abs(turn).max(1) > _WIDEST) | (np.hypot(*ahead[:, 0].T) < 0.3)
        return cls(global_from_camera[:, :2, 3], normals, everything)

    def touch(self, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Whether any camera may see some of discs (N,) with ``centre`` (N, 2); never false for a visible one."""
        offset = centre - self.apex[:, None]  # (V, N, 2)
        inside = np.einsum("vni,vsi->vns", offset, self.normals) > -np.asarray(radius)[None, :, None]
        return (inside.all(-1) | self.everything[:, None]).any(0)
