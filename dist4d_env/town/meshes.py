"""Triangles with texture coordinates, normals, tint and class: the town's geometry, which ``render`` casts rays at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Material = dict[str, Any]
"""Material of a shape: ``texture``, ``tint``, ``semantic`` and ``glow`` of ``flat``."""


@dataclass(frozen=True)
class Mesh:
    """corners, normals: (N, 3, 3) float32; uv: (N, 3, 2) texture tiles; texture: (N,) int32; tint: (N, 3) albedo factor;
    semantic: (N,) uint8; glow: (N,) self-illumination of the whole face (textures add their own)."""

    corners: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    tint: np.ndarray
    semantic: np.ndarray
    glow: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)

    def moved(self, pose: np.ndarray) -> Mesh:
        """The mesh moved by a rigid pose (4, 4)."""
        rotation = pose[:3, :3].astype(np.float32)
        return replace(
            self, corners=self.corners @ rotation.T + pose[:3, 3].astype(np.float32), normals=self.normals @ rotation.T
        )

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """The mesh stretched along its axes."""
        normals = self.normals / np.array([x, y, z], np.float32)
        return replace(
            self, corners=self.corners * np.array([x, y, z], np.float32),
            normals=normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9),
        )  # fmt: skip


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many; at least one is needed."""
    return Mesh(*(np.concatenate([getattr(m, name) for m in meshes]) for name in Mesh.__dataclass_fields__))


def flat(
    corners: ArrayLike, uv: np.ndarray | None = None, texture: int = 0, tint: ArrayLike = (1, 1, 1), semantic: int = 0,
    glow: float = 0.0, normals: np.ndarray | None = None,
) -> Mesh:  # fmt: skip
    """Triangles (N, 3, 3) of one material (``tint`` may be (N, 3)); normals face by face unless given (N, 3, 3)."""
    corners = np.asarray(corners, np.float32)
    if normals is None:
        normals = _face_normals(corners)
    count = len(corners)
    uv = np.zeros((count, 3, 2), np.float32) if uv is None else np.asarray(uv, np.float32)
    return Mesh(
        corners, np.asarray(normals, np.float32), uv, np.full(count, texture, np.int32),
        np.broadcast_to(np.asarray(tint, np.float32), (count, 3)).copy(), np.full(count, semantic, np.uint8),
        np.full(count, glow, np.float32),
    )  # fmt: skip


def quads(corners: ArrayLike, uv: np.ndarray | None = None, **material: Any) -> Mesh:
    """Quadrilaterals (N, 4, 3), counter-clockwise from outside, with uv (N, 4, 2)."""
    corners = np.asarray(corners, np.float32)
    pick = np.array([[0, 1, 2], [0, 2, 3]])
    split = corners[:, pick].reshape(-1, 3, 3)
    return flat(split, None if uv is None else np.asarray(uv, np.float32)[:, pick].reshape(-1, 3, 2), **material)


_CUBE = np.array(
    [
        [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],  # front
        [[-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]],  # back
        [[1, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]],  # left
        [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],  # right
        [[1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]],  # top
        [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [1, -1, -1]],  # bottom
    ],
    np.float32,
)
_UNIT_UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def box(low: ArrayLike, high: ArrayLike, **material: Any) -> Mesh:
    """An axis-aligned box between two corners, each face one texture tile."""
    first, last = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return quads((first + last) / 2 + _CUBE * (last - first) / 2, np.tile(_UNIT_UV, (6, 1, 1)), **material)


def tube(rings: np.ndarray, tiles: tuple[float, float] = (1, 1), caps: bool = True, **material: Any) -> Mesh:
    """Smooth skin over rings (R, S, 3) of points counter-clockwise about the axis, lowest first; caps close the ends."""
    return tubes(np.asarray(rings)[None], tiles, caps, **material)


def tubes(rings: np.ndarray, tiles: tuple[float, float] = (1, 1), caps: bool = True, **material: Any) -> Mesh:
    """Skins over rings (L, R, S, 3), each as ``tube`` makes it; ``tint`` may be (L, 3)."""
    rings = np.asarray(rings, np.float32)
    count = len(rings)
    vertex, uv = _tube_faces(*rings.shape[1:3])
    around = rings - rings.mean(2, keepdims=True)
    outward = around / np.maximum(_length(around), 1e-9)
    corners, normals, uv = rings.reshape(count, -1, 3)[:, vertex], outward.reshape(count, -1, 3)[:, vertex], uv * tiles
    if caps:
        low, high = rings[:, 0], rings[:, -1]
        below = np.stack([np.broadcast_to(low.mean(1, keepdims=True), low.shape), np.roll(low, -1, 1), low], 2)
        above = np.stack([np.broadcast_to(high.mean(1, keepdims=True), high.shape), high, np.roll(high, -1, 1)], 2)
        ends = np.concatenate([below, above], 1)  # (L, 2 S, 3, 3)
        corners = np.concatenate([corners, ends], 1)
        normals = np.concatenate([normals, _face_normals(ends.reshape(-1, 3, 3)).reshape(ends.shape)], 1)
        uv = np.concatenate([uv, np.zeros((ends.shape[1], 3, 2))])
    if np.ndim(material.get("tint", 1)) == 2:
        material["tint"] = np.repeat(material["tint"], corners.shape[1], 0)
    return flat(corners.reshape(-1, 3, 3), np.tile(uv, (count, 1, 1)), normals=normals.reshape(-1, 3, 3), **material)


@cache
def _tube_faces(count: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces (F, 3) of a skin over count x sides vertices, and their place (F, 3, 2) around and along it, from 0 to 1."""
    ring, at = (part[..., None] for part in np.mgrid[: count - 1, :sides])
    ring, at = ring + np.array([0, 0, 1, 1]), at + np.array([0, 1, 1, 0])
    pick = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.stack([at / sides, ring / (count - 1)], -1)
    return (ring * sides + at % sides)[..., pick].reshape(-1, 3), uv[:, :, pick].reshape(-1, 3, 2)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths (..., 1) of vectors (..., 3)."""
    return np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _face_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3, 3) of triangles (N, 3, 3), the same at all three corners. (numpy's cross is slow for few faces.)"""
    (ax, ay, az), (bx, by, bz) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    cross = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)
    return np.repeat((cross / np.maximum(_length(cross), 1e-12))[:, None], 3, 1)


def cylinder(
    x: float, y: float, low: float, high: float, radius: float, top: float | None = None, sides: int = 8, **material: Any
) -> Mesh:
    """An upright cylinder or cone frustum."""
    angle = np.arange(sides) / sides * 2 * np.pi
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    top = radius if top is None else top
    rings = [np.concatenate([circle * r + (x, y), np.full((sides, 1), z)], -1) for r, z in ((radius, low), (top, high))]
    return tube(np.stack(rings), **material)


def blob(centre: ArrayLike, radius: ArrayLike, lumps: np.ndarray | None = None, **material: Any) -> Mesh:
    """An ellipsoid of 80 triangles, smooth; ``lumps`` (42,) scales the distance of its vertices from the centre."""
    points, faces, uv = _icosphere()
    shape = points if lumps is None else points * lumps[:, None]
    radii = np.asarray(radius, np.float32)
    normal = points / radii
    normal = normal / _length(normal)
    return flat((shape * radii + np.asarray(centre))[faces], uv, normals=normal[faces], **material)


@cache
def _icosphere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vertices (42, 3), faces (80, 3) and texture coordinates (80, 3, 2) of an icosahedron whose faces are split once."""
    g = (1 + 5**0.5) / 2
    points = [
        (-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g), (0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1),
        (-g, 0, -1), (-g, 0, 1),
    ]  # fmt: skip
    faces = [
        (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8),
        (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1),
    ]  # fmt: skip
    vertices = [np.array(p, float) / np.hypot(1, g) for p in points]
    middle: dict[tuple[int, int], int] = {}

    def between(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middle:
            point = vertices[a] + vertices[b]
            vertices.append(point / np.linalg.norm(point))
            middle[key] = len(vertices) - 1
        return middle[key]

    split = []
    for a, b, c in faces:
        ab, bc, ca = between(a, b), between(b, c), between(c, a)
        split += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    sphere, fine = np.array(vertices, np.float32), np.array(split)
    uv = np.stack([np.arctan2(sphere[:, 1], sphere[:, 0]) / np.pi, sphere[:, 2]], -1)[fine]
    jump = uv[..., 0].max(1) - uv[..., 0].min(1) > 1  # faces across the seam of the longitude
    uv[jump, :, 0] = np.where(uv[jump, :, 0] < 0, uv[jump, :, 0] + 2, uv[jump, :, 0])
    return sphere, fine, uv
