"""Bullet-time rendering: several RGB-D frames seen from other cameras at another time, without a network.

Depth goes forwards: every source pixel lands in the target as a tent as large as its footprint there, the nearest surface
wins, and the winners' inverse depths are averaged. Colour comes backwards: each target point is looked up in the source images
that saw it best, one before and one after. Points inside an agent's box travel with the box. All arithmetic is sequential (loops
compiled by numba), so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, move_sources
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.colour import Lookup, look_up_colours
from dist4d_env.geometry.depth import BEST, SplatConfig, splat_depth
from dist4d_env.geometry.fill import fill_background, fill_telea
from dist4d_env.geometry.overlap import overlap
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""rgb, depth and what of them is known, to rgb and depth without holes."""


@dataclass(frozen=True)
class Splat:
    """Sources seen from V target cameras.

    rgb: (V, H, W, 3) uint8 and depth: (V, H, W) float32 z-depth in metres, both 0 in holes; valid: (V, H, W) bool;
    moving: (V, H, W) bool, the pixel shows a point that lies in an agent's box; confidence: (V, H, W) float32 in [0, 1], 1
    where a source image at least as fine as the target confirms depth and colour, 0 in holes; age: (V, H, W) float32, seconds
    between the target and the source that gave the colour, 0 in holes; generated: (V, H, W) bool, that source is a generated
    frame; body: (V, H, W) bool, pixels that ``with_body`` has put on top, None where there are none.
    """

    rgb: np.ndarray
    depth: np.ndarray
    valid: np.ndarray
    moving: np.ndarray
    confidence: np.ndarray
    age: np.ndarray
    generated: np.ndarray
    body: np.ndarray | None = None

    def with_body(self, frame: RGBDFrame) -> Splat:
        """The car's own body on top, as a frame of the same cameras shows it: it goes where they go, so its pixels stay its own.

        They count as seen just now, in full detail. The splat itself where the frame knows of no body.
        """
        body = frame.body
        if body is None:
            return self
        return Splat(
            rgb=np.where(body[..., None], frame.rgb, self.rgb),
            depth=np.where(body, np.minimum(frame.depth, np.float32(FAR)), self.depth),
            valid=self.valid | body,
            moving=self.moving & ~body,
            confidence=np.where(body, np.float32(1), self.confidence),
            age=np.where(body, np.float32(0), self.age),
            generated=self.generated & ~body,
            body=body,
        )

    def over(self, frame: RGBDFrame) -> RGBDFrame:
        """A frame of the splat's cameras with the body of the splat on top; the frame itself where there is none."""
        if self.body is None:
            return frame
        rgb = np.where(self.body[..., None], self.rgb, frame.rgb)
        return replace(frame, rgb=rgb, depth=np.where(self.body, self.depth, frame.depth), body=self.body)

    def background(self) -> tuple[np.ndarray, np.ndarray]:
        """rgb and depth with each hole continued from its farther side."""
        return self._filled(fill_background)

    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """The best rgb and depth that take no parameters, the baseline that every model must beat: rgb with holes inpainted
        smoothly from their rims (Telea 2004), depth as in ``background``."""
        return self._filled(fill_telea)

    def _filled(self, fill: Fill) -> tuple[np.ndarray, np.ndarray]:
        """Without the body, from which nothing goes on, then with it."""
        if self.body is None:
            return fill(self.rgb, self.depth, self.valid)
        rgb, depth = fill(self.rgb, self.depth, self.valid & ~self.body)
        return np.where(self.body[..., None], self.rgb, rgb), np.where(self.body, self.depth, depth)


def splat(
    sources: Sequence[SplatSource],
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    boxes: Boxes,
    time: float,
    config: SplatConfig = BEST,
) -> Splat:
    """Render sources, the most useful first, from cameras with intrinsics (V, 3, 3) and poses (V, 4, 4) at (height, width).

    boxes: the agents at ``time`` (seconds), global frame; points of boxes that no longer exist are left out.
    """
    shape = (len(intrinsics), *size)
    moved = move_sources(sources, boxes, config.motion_threshold, overlap(sources) if config.overlap else None)
    depth, label = splat_depth(moved, intrinsics, global_from_camera, size, config)
    lookup = look_up_colours(moved, depth.reshape(shape), label, intrinsics, global_from_camera, time)
    return _assemble(depth, label, lookup, shape)


def _assemble(depth: np.ndarray, label: np.ndarray, lookup: Lookup, shape: tuple[int, int, int]) -> Splat:
    """Pixels that have a depth and a colour."""
    valid = lookup.found
    return Splat(
        rgb=lookup.rgb.reshape(*shape, 3),
        depth=np.where(valid, np.minimum(depth, np.float32(FAR)), np.float32(0)).reshape(shape),
        valid=valid.reshape(shape),
        moving=(valid & (label != STATIC)).reshape(shape),
        confidence=lookup.confidence.reshape(shape),
        age=lookup.age.reshape(shape),
        generated=lookup.generated.reshape(shape),
    )
