"""A ray-traceable mesh: an Embree scene and, row by row, what shading needs to know of each face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from dist4d_env.town.meshes import Mesh
from dist4d_env.town.textures import TextureTable

GRID = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]], np.float32)
"""Where in a pixel the samples lie that edges are smoothed with: column and row from its centre."""

SEMANTIC_ROW = 21


@dataclass(frozen=True)
class Shape:
    """vertices: (V, 3) float32; index: (F, 3) vertices of each face; faces: (F, 22) rows as ``face_rows`` makes them."""

    vertices: np.ndarray
    index: np.ndarray
    faces: np.ndarray

    @classmethod
    def of(cls, mesh: Mesh, sizes: np.ndarray, shared: bool = True) -> Shape:
        """A mesh; with ``shared`` vertices it is stored, moved and handed to Embree faster, but takes time to make."""
        corners, index = mesh.corners.reshape(-1, 3), np.arange(3 * len(mesh))
        if shared:
            corners, index = np.unique(corners, axis=0, return_inverse=True)
        return cls(np.ascontiguousarray(corners, np.float32), index.reshape(-1, 3), face_rows(mesh, sizes))

    def moved(self, pose: np.ndarray) -> Shape:
        """The shape moved by a rigid pose (4, 4)."""
        turn = pose[:3, :3].T.astype(np.float32)
        faces = self.faces.copy()
        faces[:, :9] = (faces[:, :9].reshape(-1, 3) @ turn).reshape(-1, 9)
        return Shape(self.vertices @ turn + pose[:3, 3].astype(np.float32), self.index, faces)


@dataclass(frozen=True)
class Surface:
    """scene: Embree's; faces: (22, F) float32: 3 normals, 3 uv pairs, tint, glow, texels a metre, texture, semantic id.

    Here and in ``render_shade`` hits lie along the last axis, (3, N): numpy is several times slower on rows of three.
    """

    scene: EmbreeScene
    faces: np.ndarray

    @classmethod
    def build(cls, shapes: Sequence[Shape]) -> Surface:
        """All of some shapes as one."""
        scene = EmbreeScene()
        first = np.cumsum([0, *(len(shape.vertices) for shape in shapes)])
        index = np.concatenate([shape.index + start for shape, start in zip(shapes, first, strict=False)])
        TriangleMesh(scene, np.concatenate([shape.vertices for shape in shapes]), index.astype(np.int32))
        return cls(scene, np.ascontiguousarray(np.concatenate([shape.faces for shape in shapes]).T))

    def nearest(self, origins: np.ndarray, directions: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, ...]:
        """First hits of rays (N, 3) closer than ``limit`` (N,): face (N,) or -1, distance in units of the direction, u, v."""
        hit = self.scene.run(origins, directions, dists=limit, output=1)
        return hit["primID"], hit["tfar"], hit["u"], hit["v"]

    def blocked(self, origins: np.ndarray, direction: np.ndarray, reach: float) -> np.ndarray:
        """Whether anything lies within ``reach`` metres of points (N, 3) along a unit direction (3,)."""
        return self.scene.run(origins, direction.astype(np.float32)[None], dists=reach, query="OCCLUDED") >= 0

    def at(
        self, face: np.ndarray, u: np.ndarray, v: np.ndarray, footprint: np.ndarray, textures: TextureTable
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hits (N,) to albedo (3, N) in perceptual units, glow (N,) and normal (3, N)."""
        row = self.faces.take(face, 1)
        w = 1 - u - v
        normal = row[0:3] * w + row[3:6] * u + row[6:9] * v
        normal /= np.maximum(np.sqrt(dot(normal, normal)), 1e-6)
        albedo, glow = row[15:18], row[18]
        textured = np.flatnonzero(row[20] > 0)
        if len(textured):
            row, u, v, w = row.take(textured, 1), u[textured], v[textured], w[textured]
            across, up = row[9:11] * w + row[11:13] * u + row[13:15] * v
            level = np.log2(np.maximum(footprint[textured] * row[19], 1e-6))
            colour = textures.sample(row[20].astype(np.int64), across, up, level) * np.float32(1 / 255)
            albedo[:, textured] *= colour[:3]
            glow[textured] += colour[3]
        return albedo, glow, normal


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products (N,) of vectors (3, N), or of one vector (3,) with many."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def face_rows(mesh: Mesh, sizes: np.ndarray) -> np.ndarray:
    """Shading attributes of each face (F, 22); ``sizes``: (K, 2) of the textures, for the density of texels."""
    edge, other = mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0]
    area = np.linalg.norm(np.cross(edge, other), axis=-1)
    uv = (mesh.uv - mesh.uv[:, :1])[:, 1:] * sizes[mesh.texture][:, None]
    texels = np.abs(uv[:, 0, 0] * uv[:, 1, 1] - uv[:, 0, 1] * uv[:, 1, 0])
    density = np.sqrt(texels / np.maximum(area, 1e-9))
    count = len(mesh)
    columns = (
        mesh.normals.reshape(count, 9), mesh.uv.reshape(count, 6), mesh.tint,
        *(column[:, None] for column in (mesh.glow, density, mesh.texture, mesh.semantic)),
    )  # fmt: skip
    return np.concatenate(columns, 1).astype(np.float32)
