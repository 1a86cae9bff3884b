"""The ego's own body as its cameras see it, once for all frames, and its masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dist4d_env.data.body_masks import write_mask
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.town.render_surface import GRID, Shape, Surface
from dist4d_env.town.textures import TextureSet, TextureTable
from dist4d_env.town.wild.cameras import ego_body


@dataclass(frozen=True)
class BodyView:
    """The body in V pictures. depth: (V, H, W) float32 z-depth at pixel centres, 0 where it is not; and samples within pixels, in
    the ego frame: pixel: (N,) ascending index into V * H * W; point, normal: (3, N); ray: (3, N) from the camera to the point;
    albedo: (3, N)."""

    depth: np.ndarray
    pixel: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    ray: np.ndarray
    albedo: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(V, H, W) bool, whether a pixel shows any of it."""
        covered = self.depth.ravel() > 0
        covered[self.pixel] = True
        return covered.reshape(self.depth.shape)


def view_of_body(seed: int, rig: CameraRig) -> BodyView:
    """The body of the car of a data set's seed in the cameras of a rig; kept for the rigs that were asked for last."""
    return _view(
        seed,
        rig.names,
        rig.height,
        rig.width,
        *(np.ascontiguousarray(m, float).tobytes() for m in (rig.intrinsics, rig.ego_from_camera)),
    )


@lru_cache(maxsize=32)
def _view(seed: int, names: tuple[str, ...], height: int, width: int, intrinsics: bytes, poses: bytes) -> BodyView:
    views = len(names)
    ego_from_camera = np.frombuffer(poses).reshape(views, 4, 4)
    turn = ego_from_camera[:, :3, :3] @ np.linalg.inv(np.frombuffer(intrinsics).reshape(views, 3, 3))
    bodies = [_body(seed, name) for name in names]
    view, row, column = (part.ravel() for part in np.mgrid[:views, :height, :width])

    def cast(aside: float, down: float) -> tuple[np.ndarray, ...]:
        """Starts and directions (N, 3) of rays through all pixels, their distances (N,), inf where they meet nothing, and albedo
        and normals (3, N) there."""
        point = np.stack([column + 0.5 + aside, row + 0.5 + down, np.ones(len(row))], -1)
        rays = np.einsum("nij,nj->ni", turn[view], point).astype(np.float32)
        starts = ego_from_camera[view, :3, 3].astype(np.float32)
        distance, albedo, normal = np.full(len(rays), np.inf, np.float32), *np.zeros((2, 3, len(rays)), np.float32)
        for number, (surface, textures) in enumerate(bodies):
            mine = np.flatnonzero(view == number)
            face, far, u, v = surface.nearest(starts[mine], rays[mine], np.full(len(mine), 20, np.float32))
            hit = np.flatnonzero(face >= 0)
            at = mine[hit]
            distance[at] = far[hit]
            albedo[:, at], _, normal[:, at] = surface.at(face[hit], u[hit], v[hit], far[hit] * 0, textures)
        return starts, rays, distance, albedo, normal

    _, _, distance, *_ = cast(0, 0)
    depth = np.where(np.isfinite(distance), distance, 0).astype(np.float32).reshape(views, height, width)
    parts = []
    for offset in GRID:
        starts, rays, distance, albedo, normal = cast(*offset)
        at = np.flatnonzero(np.isfinite(distance))
        albedo, normal = albedo[:, at], normal[:, at]
        ray = (rays[at] * distance[at, None]).T
        normal = normal * np.where((normal * ray).sum(0) > 0, np.float32(-1), np.float32(1))
        parts.append((at, starts[at].T + ray, normal, ray, albedo))
    pixel, *arrays = (np.concatenate(part, -1) for part in zip(*parts, strict=True))
    order = np.argsort(pixel, kind="stable")
    return BodyView(depth, pixel[order], *(np.ascontiguousarray(part[:, order], np.float32) for part in arrays))


@lru_cache(maxsize=32)
def _body(seed: int, channel: str) -> tuple[Surface, TextureTable]:
    textures = TextureSet().freeze()
    return Surface.build([Shape.of(ego_body(seed, channel), textures.sizes)]), textures


def write_masks(folder: Path, rig: CameraRig, seed: int) -> None:
    """A mask of the body for each camera, 255 where it is, as ``<CHANNEL>.png``; also where it shows nothing."""
    seen = view_of_body(seed, rig)
    for name, mask in zip(rig.names, seen.mask, strict=True):
        write_mask(folder / f"{name}.png", mask)
