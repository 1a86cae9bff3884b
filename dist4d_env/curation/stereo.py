"""Depth of what stands still from several images: swept, checked against what the other images say, and fused with LiDAR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from dist4d_env.curation.points import boxes_when
from dist4d_env.curation.sources import choose_sources, keyframes_around, moving, pixel_from_pixel
from dist4d_env.curation.views import NEAR, View
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.geometry.cameras import ImageTransform, in_image, project, unproject
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.by_camera import one_thread
from dist4d_env.models.stereo import MULTIPLE, Pyramid, StereoNetwork, load_stereo
from dist4d_env.scenes.scene import Scene

ROWS = 112
"""Rows of the images that are swept."""
REACH = 80.0
"""Metres up to which depth from images is believed."""
PIXELS, RELATIVE = 1.0, 0.03
"""How far a point may come back from another image's depth, and by how much both depths may differ."""
CONFIDENT = 0.75
"""Confidence from which on a point is used."""
DISAGREE, COMPARED = 0.08, 50
"""Median relative difference from LiDAR beyond which an image's stereo isn't used; returns that it takes to tell."""
NEAR_RETURN = 112
"""Of the height of an image, the radius around a LiDAR return within which stereo adds nothing."""


@dataclass(frozen=True)
class StereoMap:
    """What one image says. depth: (H, W) metres; sure: (H, W) the network's probability; seen: (H, W) bool, what may be matched;
    sources: (keyframe, view) of the images it was compared with."""

    depth: np.ndarray
    sure: np.ndarray
    seen: np.ndarray
    intrinsics: np.ndarray
    pose: np.ndarray
    sources: tuple[tuple[int, int], ...]

    @property
    def points(self) -> np.ndarray:
        """(H, W, 3) global."""
        flat = unproject(self.depth.astype(float), self.intrinsics).reshape(-1, 3)
        return apply(self.pose, flat).reshape(*self.depth.shape, 3)


def confidence(one: StereoMap, others: Sequence[StereoMap]) -> np.ndarray:
    """(H, W) 0 to 1: the network's probability where at least one other image has the same point and more agree than don't, times
    the share that agrees; 0 elsewhere.

    A point agrees with an image whose depth, where the point falls, leads back to within ``PIXELS`` of where it came from and to
    within ``RELATIVE`` of its depth. An image that has something nearer there, or that nothing may be matched in, doesn't count.
    """
    height, width = one.depth.shape
    points = one.points.reshape(-1, 3)
    agree, against = np.zeros((2, len(points)))
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for other in others:
        pixels, z = project(apply(invert(other.pose), points), other.intrinsics)
        inside = (z > NEAR) & in_image(pixels, *other.depth.shape)
        at = np.flatnonzero(inside)
        c, r = pixels[at].astype(int).T
        back = other.points[r, c]  # nearest: depth is never interpolated across edges
        returned, depth = project(apply(invert(one.pose), back), one.intrinsics)
        away = np.hypot(returned[:, 0] - columns.ravel()[at], returned[:, 1] - rows.ravel()[at])
        off = np.abs(depth - one.depth.ravel()[at]) / one.depth.ravel()[at]
        usable = other.seen[r, c]
        same = (away < PIXELS) & (off < RELATIVE) & usable
        hidden = other.depth[r, c] < z[at] * (1 - 2 * RELATIVE)
        agree[at] += same
        against[at] += usable & ~same & ~hidden
    share = np.where(agree > 0, agree / np.maximum(agree + against, 1), 0.0)
    made = np.where(share > 0.5, share, 0).reshape(height, width) * one.sure
    return np.where(one.seen & (one.depth < REACH), made, 0).astype(np.float32)


class StereoMaps:
    """Stereo of a scene's keyframes, kept while their neighbours need it."""

    MOST = 16

    def __init__(self, scene: Scene, sensors: FileSensorLog, past: bool = False, root: Path | None = None) -> None:
        """past: images after a keyframe aren't used for it; root: where masks of the car's own body are, as of ``find_mask``."""
        self.scene, self.sensors, self.past, self.root = scene, sensors, past, root
        self.usable = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k)]
        self.positions = sensors.global_from_camera[self.usable, 0, :3, 3]
        self._maps: dict[int, list[StereoMap]] = {}
        self._images: dict[int, list[tuple[Pyramid, np.ndarray, np.ndarray]]] = {}

    def around(self, keyframe: int) -> list[int]:
        """The keyframes that one is compared with."""
        if keyframe not in self.usable:
            return []
        near = keyframes_around(self.positions, self.usable.index(keyframe), self.past)
        return [self.usable[index] for index in near]

    def points(self, keyframe: int, view: int) -> np.ndarray:
        """Global points (N, 3) of what stands still that a camera of a keyframe sees and other images confirm."""
        maps = self.maps(keyframe)
        return maps[view].points[self.confidence(keyframe, view) >= CONFIDENT] if maps else np.zeros((0, 3))

    def confidence(self, keyframe: int, view: int) -> np.ndarray:
        """``confidence`` (H, W) of a map, by those of its sources."""
        one = self.maps(keyframe)[view]
        return confidence(one, [found[v] for k, v in one.sources if (found := self.maps(k))])

    def forget(self, keyframe: int) -> None:
        """Of a keyframe, so that it is made anew."""
        self._maps.pop(keyframe, None)
        self._images.pop(keyframe, None)

    def maps(self, keyframe: int) -> list[StereoMap]:
        """A map for every camera of a keyframe; none where the car has seen the place from nowhere else."""
        if keyframe not in self._maps:
            around = self.around(keyframe)
            self._maps[keyframe] = self._sweep(keyframe, around) if around else []
            _forget(self._maps, keyframe, self.MOST)
        return self._maps[keyframe]

    def _sweep(self, keyframe: int, around: Sequence[int]) -> list[StereoMap]:
        ours = self._features(keyframe)
        named = [(k, v) for k in around for v in range(len(ours))]
        theirs = [self._features(k)[v] for k, v in named]
        poses = self.sensors.global_from_camera
        cameras = [(made[1], poses[k, v], made[2].shape) for made, (k, v) in zip(theirs, named, strict=True)]
        network, maps = _network(), []
        for view, (pyramid, intrinsics, seen) in enumerate(ours):
            pose = poses[keyframe, view]
            chosen = choose_sources(intrinsics, pose, seen.shape, cameras)
            depth, sure = np.full(seen.shape, np.float32(FAR)), np.zeros(seen.shape, np.float32)
            if chosen:
                pixels = [pixel_from_pixel(intrinsics, pose, *cameras[index][:2]) for index in chosen]
                matrices = torch.from_numpy(np.stack(pixels)[None].astype(np.float32)).to(network.device)
                with one_thread():
                    found = network.depth(pyramid, [theirs[index][0] for index in chosen], matrices)
                depth, sure = (field[0].cpu().numpy() for field in found)
            maps.append(StereoMap(depth, sure, seen, intrinsics, pose, tuple(named[index] for index in chosen)))
        return maps

    def _features(self, keyframe: int) -> list[tuple[Pyramid, np.ndarray, np.ndarray]]:
        """Features, intrinsics and what may be matched of each camera's image."""
        if keyframe not in self._images:
            self._images[keyframe] = [self._of_image(keyframe, view) for view in range(len(self.sensors.camera_names))]
            _forget(self._images, keyframe, self.MOST)
        return self._images[keyframe]

    def _of_image(self, keyframe: int, view: int) -> tuple[Pyramid, np.ndarray, np.ndarray]:
        sensors, network = self.sensors, _network()
        stored = sensors.image_size[view]
        size = ROWS, max(1, round(ROWS * stored[1] / stored[0] / MULTIPLE)) * MULTIPLE
        intrinsics = ImageTransform.cover(stored, size).intrinsics(sensors.intrinsics[keyframe, view])
        body = sensors.body(*size, self.root)
        boxes = boxes_when(self.scene, float(sensors.camera_time[keyframe, view]))
        seen = ~moving(boxes, intrinsics, sensors.global_from_camera[keyframe, view], size)
        if body is not None:
            seen &= ~body[view]
        image = torch.from_numpy(sensors.image(keyframe, view, *size).copy()).to(network.device)
        with torch.no_grad(), one_thread():
            images = image.permute(2, 0, 1)[None].float() / 127.5 - 1
            pyramid = network.features(images, torch.from_numpy(seen)[None, None].to(images))
        return pyramid, intrinsics, seen


def _forget(kept: dict[int, list], keyframe: int, most: int) -> None:
    """Drops what is farthest from a keyframe."""
    while len(kept) > most:
        kept.pop(max(kept, key=lambda other: abs(other - keyframe)))


@lru_cache(maxsize=1)
def _network() -> StereoNetwork:
    return load_stereo().to("cuda" if torch.cuda.is_available() else "cpu")


def fused(sparse: np.ndarray, points: np.ndarray, view: View) -> np.ndarray:
    """Depth (H, W) of stereo's global points (N, 3) where LiDAR's (H, W, 0 where there is none) leaves room for it, else 0; none
    of it where both are there and differ."""
    height, width = sparse.shape
    pixels, z = project(apply(invert(view.global_from_camera), points), view.intrinsics)
    inside = (z > NEAR) & in_image(pixels, height, width)
    order = np.flatnonzero(inside)[np.argsort(-z[inside], kind="stable")]  # the nearest is written last and stays
    c, r = pixels[order].astype(int).T
    found = np.zeros(sparse.shape, np.float32)
    found[r, c] = z[order]
    both = (found > 0) & (sparse > 0)
    if both.sum() >= COMPARED and np.median(np.abs(found - sparse)[both] / sparse[both]) > DISAGREE:
        return np.zeros_like(found)
    radius = max(1, round(height / NEAR_RETURN))
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    found[cv2.dilate((sparse > 0).astype(np.uint8), window) > 0] = 0
    return found
