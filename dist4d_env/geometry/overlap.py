"""Overlap of several frames: of a place that a more useful frame shows as finely, the others' points are left out.

Poses and depth of recorded frames are never exact. Where the points of all frames compete for the nearest depth, errors win:
what one frame puts a little too near covers what another has right, and outlines grow with every frame. Where a more useful
frame shows a point or looks through it, only its own depth counts. A sky that it shows is doubted: what is bright is taken for
sky, too. The sky of all frames counts: there is no error in its place, and its points close the gaps along roofs (leaving the
doubled ones out costs up to .1 dB in the town). Agents are left as they are: of one that is a few pixels wide each frame shows
other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np

from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.jit import compiled, float32, int32
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import invert

TOLERANCE = 0.03
"""Relative depth up to which a point behind what a frame shows counts as shown by it."""
COARSER = 1.25
"""How many times as coarse as a point's own pixel that of the other frame may be."""
NEAR = 0.1
"""Metres before a camera nearer than which it shows nothing."""

_HALF, _TOLERANCE, _COARSER, _NEAR = float32(0.5), float32(1 + TOLERANCE), float32(COARSER), float32(NEAR)
_SKY, _BEYOND = float32(FAR), float32(FAR * 0.999)

_lock = Lock()
_known: WeakKeyDictionary[SplatSource, WeakKeyDictionary[SplatSource, np.ndarray]] = WeakKeyDictionary()
"""``_shown`` of pairs of sources, as long as both are held: it does not depend on what is rendered."""


def overlap(sources: Sequence[SplatSource]) -> list[np.ndarray]:
    """For each source the pixels (V, H, W) bool whose place one of the sources before it shows."""
    masks = []
    for number, source in enumerate(sources):
        mask = np.zeros(source.keep.shape, bool)
        for other in sources[:number]:
            with _lock:  # frames of a chunk are splatted side by side, from the same sources
                pairs = _known.setdefault(other, WeakKeyDictionary())
                if source not in pairs:
                    pairs[source] = _shown(source, other)
                mask |= pairs[source]
        masks.append(mask)
    return masks


def _shown(source: SplatSource, other: SplatSource) -> np.ndarray:
    """Which pixels (V, H, W) of ``source``'s standing world another one shows or looks through."""
    frame = other.frame
    size = frame.depth.shape[1], frame.depth.shape[2]
    linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), source.origin)
    shown = np.zeros(source.keep.shape, bool)
    _find_shown(
        source.keep, source.points, source.frame.depth, source.frame.intrinsics[:, 0, 0].astype(np.float32), source.owner,
        linear, offset, may_see(linear, offset, size, source.corners),
        other.keep, np.require(frame.depth, np.float32, ["C"]), frame.intrinsics[:, 0, 0].astype(np.float32), shown,
    )  # fmt: skip
    return shown


@compiled
def _find_shown(
    keep: np.ndarray, points: np.ndarray, depth: np.ndarray, focal: np.ndarray, owner: np.ndarray,
    linear: np.ndarray, offset: np.ndarray, visible: np.ndarray,
    other_keep: np.ndarray, other_depth: np.ndarray, other_focal: np.ndarray, shown: np.ndarray,
) -> None:  # fmt: skip
    """Write to ``shown`` (V, H, W) which of the kept pixels of one source another one shows."""
    views, height, width = keep.shape
    rows, columns = other_depth.shape[1], other_depth.shape[2]
    right_end, lower_end = float32(columns), float32(rows)
    for view in range(views):
        for row in range(height):
            for column in range(width):
                if not keep[view, row, column] or owner[view, row, column] >= 0:
                    continue
                own = depth[view, row, column]
                if own >= _BEYOND:
                    continue
                i = (view * height + row) * width + column
                fineness = focal[view] / own
                px, py, pz = points[0, i], points[1, i], points[2, i]
                for camera in range(len(linear)):
                    if not visible[camera, view]:
                        continue
                    m, c = linear[camera], offset[camera]
                    z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + c[2]
                    if not z > _NEAR or other_focal[camera] * _COARSER < fineness * z:
                        continue
                    x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + c[0]
                    y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + c[1]
                    if not (x >= _HALF * z and y >= _HALF * z and x <= (right_end - _HALF) * z and y <= (lower_end - _HALF) * z):
                        continue
                    line, place = min(int32(y / z), rows - 1), min(int32(x / z), columns - 1)
                    there = other_depth[camera, line, place]
                    if other_keep[camera, line, place] and (z <= _TOLERANCE * there if there < _SKY else z > _HALF * _SKY):
                        shown[view, row, column] = True
                        break
