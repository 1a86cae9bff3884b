"""Space carving: at outlines, what the sources look through is not there (Kutulakos and Seitz 2000).

A footprint reaches half a pixel beyond the surface that its pixel shows, and those of several sources further than one's. So thin
things grow and gaps close: poles, people, the space between two cars. A point at an outline is looked up in the images of all
sources. The four pixels around it vote with their bilinear weights: for it where they show its surface, against it where they see
something farther away; what hides it has no vote. Unlike the union of footprints, the majority is hardly wider than the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import carving_kernels as kernels
from dist4d_env.geometry.box_motion import MovedSource, highest_label
from dist4d_env.geometry.frustum import frustum_corners, ray_parts
from dist4d_env.geometry.source_cameras import SourceCameras
from dist4d_env.geometry.source_kernels import SKY_DEPTH
from dist4d_env.geometry.splat_source import widened


@dataclass(frozen=True)
class Carver:
    """Carves depth images of V target cameras by what sources show.

    focal: (V,) pixels; rays: along_row (V, 3, W) and along_column (V, 3, H) as ``frustum.ray_parts`` has them, and shift (V, 3)
    float32 from the centre of the cameras.
    """

    voters: list[SourceCameras]
    focal: np.ndarray
    rays: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls, sources: Sequence[MovedSource], intrinsics: np.ndarray, global_from_camera: np.ndarray, size: tuple[int, int]
    ) -> Carver:
        """For targets with intrinsics (V, 3, 3), poses (V, 4, 4) and images of (height, width)."""
        origin, views = global_from_camera[:, :3, 3].mean(0), len(intrinsics)
        along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, size)
        near, far = np.zeros(views, np.float32), np.full(views, SKY_DEPTH, np.float32)
        corners, highest = frustum_corners(intrinsics, global_from_camera, size, near, far, origin), highest_label(sources)
        shift = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
        voters = [SourceCameras.of(one, origin, corners, highest) for one in sources]
        return cls(voters, intrinsics[:, 0, 0].astype(np.float32), (along_row, along_column, shift))

    def floor(self, camera: int, depth: np.ndarray, label: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Of one target camera's depth (H, W), 0 in holes, and label (H, W): (H, W) float32, 0 where nothing is wrong, elsewhere
        the depth in metres beyond which the pixel's surface lies.

        Labels are those of the sources' boxes, or STATIC; changed: (H, W) bool, pixels that are new since it was last asked.
        """
        outline = kernels.outlines(depth, label) & widened(changed[None])[0]
        votes = np.zeros((2, *depth.shape), np.float32)
        rays = self.rays[0][camera], self.rays[1][camera], self.rays[2][camera]
        for voter in self.voters:
            one, pinholes = voter.one, voter.pinholes(camera)
            shown = one.label, one.source.inverse_depth, voter.focal
            whose = voter.motion, shown, one.source.generated
            kernels.vote(depth, label, outline, rays, self.focal[camera], pinholes, *whose, votes)
        wrong = votes[1] > np.float32(kernels.DOUBT) * votes[0]
        return np.where(wrong, np.float32(kernels.BEHIND) * depth, np.float32(0))
