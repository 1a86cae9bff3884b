"""How far a frame can be believed, from what can be known without the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.cameras import invert_intrinsics
from dist4d_env.geometry.neighbours import neighbours
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class TrustConfig:
    """What halves the trust.

    colour: disagreement with confirmed pixels of the memory or with a neighbouring camera, as a share of the full range;
    share: of generated pixels; deviation: metres off the frame's path; distance: metres to the nearest real frame.
    """

    colour: float = 0.15
    share: float = 0.6
    deviation: float = 4.0
    distance: float = 25.0


def trust(
    frame: RGBDFrame,
    splat: Splat,
    share: np.ndarray,
    deviation: float,
    distance: float,
    config: TrustConfig = TrustConfig(),
) -> float:
    """Trust in [0, 1]: a product of halvings, one per reason to doubt.

    splat: the memory at the frame's cameras; share: (V, H, W) in [0, 1], generated part of each pixel; deviation: metres from the
    path the frame was generated on; distance: metres to the nearest real frame. The car's own body says nothing for the frame.
    """
    error = max(memory_disagreement(frame, splat), camera_disagreement(frame))
    doubts = (
        error / config.colour,
        float(np.mean(share if splat.body is None else share[~splat.body])) / config.share,
        deviation / config.deviation,
        distance / config.distance,
    )
    return float(2.0 ** -sum(doubts))


def memory_disagreement(frame: RGBDFrame, splat: Splat) -> float:
    """Mean absolute colour difference in [0, 1] to what real frames confirm at these pixels, standing things only; the car's own
    body always agrees and does not count."""
    sure = splat.valid & ~splat.moving & ~splat.generated & (splat.confidence > 0.3)
    if splat.body is not None:
        sure &= ~splat.body
    if not sure.any():
        return 0.0
    return float(np.mean(np.abs(frame.rgb[sure].astype(np.int16) - splat.rgb[sure]))) / 255


def camera_disagreement(frame: RGBDFrame, stride: int = 4) -> float:
    """Mean absolute colour difference in [0, 1] between neighbouring cameras where both show the same surface.

    Every ``stride``-th pixel is projected into the two neighbours of its camera; pairs whose depths differ by more than 10 %
    see different surfaces and do not count, nor does the car's own body.
    """
    views, height, width = frame.depth.shape
    depths = frame.depth if frame.body is None else np.where(frame.body, np.float32(FAR), frame.depth)
    columns, rows = (a.ravel() for a in np.meshgrid(np.arange(0, width, stride), np.arange(0, height, stride)))
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    beside = neighbours(frame.global_from_camera).tolist()
    total, count = 0.0, 0
    for view in range(views):
        depth = depths[view, rows, columns]
        near = depth < FAR
        points = (invert_intrinsics(frame.intrinsics[view]) @ pixels * depth)[:, near]
        for other in {*beside[view]} - {view}:
            pose = invert(frame.global_from_camera[other]) @ frame.global_from_camera[view]
            x, y, z = frame.intrinsics[other] @ (pose[:3, :3] @ points + pose[:3, 3:])
            z = np.maximum(z, 1e-6)
            seen = np.flatnonzero((z > 0.2) & (x >= 0) & (y >= 0) & (x < width * z) & (y < height * z))
            u, v = (x[seen] / z[seen]).astype(int), (y[seen] / z[seen]).astype(int)
            same = np.abs(depths[other, v, u] / z[seen] - 1) < 0.1
            mine = frame.rgb[view, rows[near][seen][same], columns[near][seen][same]]
            total += float(np.abs(frame.rgb[other, v[same], u[same]].astype(np.int16) - mine).sum())
            count += mine.size
    return total / count / 255 if count else 0.0
