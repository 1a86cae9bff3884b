"""Inputs of the renderer for a scene in wild looks: its meshes, its ground, its light, and what its cameras make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from shapely.affinity import translate

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.town.light import Light, light_of
from dist4d_env.town.meshes import Mesh, join
from dist4d_env.town.meshes_street import prop_mesh
from dist4d_env.town.model import SPLITS, TownScene
from dist4d_env.town.textures import TextureSet
from dist4d_env.town.textures_ground import Ground, draw_ground
from dist4d_env.town.wild.body import BodyView, view_of_body
from dist4d_env.town.wild.ground import grainy, wild_materials
from dist4d_env.town.wild.lens import camera_of, developed
from dist4d_env.town.wild.pictures import WildPictures
from dist4d_env.town.wild.things import WILD_MAKERS, grimy, wild_building


class WildScenery:
    """The looks of one scene, drawn from streams of its own: split, index and seed decide."""

    def __init__(self, scene: TownScene, textures: TextureSet) -> None:
        self.scene = scene
        self.key = (scene.seed, SPLITS.index(scene.split), scene.index)
        number = int(np.random.default_rng([*self.key, 69]).integers(1 << 30))
        self._textures, self._pictures, self._number = textures, WildPictures(number), number
        rng = np.random.default_rng([number, 88])
        self.light = varied(light_of(scene.light, number), rng)
        self.exposure = 1.0
        self._target = float(rng.uniform(0.16, 0.30) if scene.light == "night" else rng.uniform(0.36, 0.52))
        self._rain = float(rng.uniform(0.2, 1.2)) if scene.light == "wet" and rng.random() < 0.7 else 0.0

    def street(self, origin: np.ndarray) -> Mesh | None:
        """See ``street_mesh``."""
        x, y = map(float, origin)
        layout, textures = self.scene.layout, self._textures
        buildings = [replace(b, footprint=translate(b.footprint, -x, -y)) for b in layout.buildings]
        props = [replace(p, x=p.x - x, y=p.y - y) for p in layout.props]
        meshes = [wild_building(b, textures, self._pictures) for b in buildings]
        meshes += [prop_mesh(p, textures, self._pictures, WILD_MAKERS) for p in props]
        return join([self.worn(mesh, i) for i, mesh in enumerate(meshes)]) if meshes else None

    def worn(self, mesh: Mesh, style: int) -> Mesh:
        """A mesh whose plain faces look used."""
        kind = style % 6
        return grimy(mesh, self._textures.get(("grime", kind), lambda: self._pictures.grime(kind)))

    def ground(self) -> Ground:
        """See ``draw_ground``."""
        scene = self.scene
        return grainy(draw_ground(scene.layout, scene.ego_pose[:, :2, 3], wild_materials(self._number)), self._number)

    def body(self, rig: CameraRig) -> BodyView:
        """What the cameras of a rig see of the ego's own body; kept for the rigs that were asked for last."""
        return view_of_body(self.scene.seed, rig)

    def jpeg(self, name: str) -> tuple[int, int]:
        """Quality and sampling of the colours in the JPEGs of a camera."""
        quality = camera_of(self.key, name, self.scene.light).quality
        return quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if quality > 90 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420

    def meter(self, light: np.ndarray) -> None:
        """Sets the scene's exposure so that such light (..., 3), 255 times its square root, becomes a middling picture."""
        grey = np.minimum(np.square(light / 255) @ np.array([0.3, 0.6, 0.1]), 3.0)
        self.exposure = float(np.clip(self._target**2 / max(float(np.exp(np.log(grey + 1e-3).mean())), 1e-3), 0.3, 12.0))

    def develop(self, image: np.ndarray, names: Sequence[str], time: float, depth: np.ndarray) -> np.ndarray:
        """Pictures (V, H, W, 3) uint8 that cameras make of light, as ``lens.developed`` takes it, before depth (V, H, W)."""
        cameras = [camera_of(self.key, name, self.scene.light) for name in names]
        return np.stack([
            developed(image[v], cameras[v], self.key, name, time, self._rain, depth[v], self.exposure)
            for v, name in enumerate(names)
        ])  # fmt: skip


def varied(light: Light, rng: np.random.Generator) -> Light:
    """A light with another elevation and colour of the sun, other sky, clouds and haze."""
    lit = bool(light.sun.any())
    rise = float(np.arcsin(np.clip(light.to_sun[2], 0, 1)))
    rise = float(np.clip(rise * rng.uniform(0.5, 1.5), 0.14, 1.35)) if lit else rise
    flat = light.to_sun[:2] / max(float(np.hypot(*light.to_sun[:2])), 1e-6)
    to_sun = np.array([*(np.cos(rise) * flat), np.sin(rise)], np.float32)
    warm, dim = rng.normal(0, 0.05), float(np.exp(rng.normal(0, 0.15)))
    hue = np.exp(np.array([warm, 0, -warm])).astype(np.float32)

    def mixed(colour: np.ndarray, share: float) -> np.ndarray:
        grey = np.float32(colour @ np.array([0.3, 0.6, 0.1], np.float32))
        return ((grey + (colour - grey) * np.float32(share)) * hue).astype(np.float32)

    blue, bright = rng.uniform(0.25, 0.95), np.float32(np.exp(rng.normal(0.2, 0.3)) if light.glow < 0.9 else 1)
    return replace(
        light, to_sun=to_sun, sun=(light.sun * hue * np.float32(rng.uniform(0.7, 1.8))).astype(np.float32),
        sky=mixed(light.sky, 0.7) * np.float32(dim), ground=mixed(light.ground, 0.6) * np.float32(dim),
        zenith=mixed(light.zenith, blue) * bright, horizon=mixed(light.horizon, blue) * bright,
        cloud=mixed(light.cloud, 0.5) * bright * np.float32(rng.uniform(1.0, 1.5)),
        cover=float(np.clip(light.cover + rng.normal(0, 0.3), 0, 1)), haze_m=float(light.haze_m * np.exp(rng.normal(0.3, 0.6))),
        wet=float(np.clip(light.wet * rng.uniform(0.5, 1.0), 0, 1)),
    )  # fmt: skip
