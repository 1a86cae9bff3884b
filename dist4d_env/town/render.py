"""Ray-cast pictures of a town scene: RGB, exact depth and semantics of any cameras at any time."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dist4d_env.data.nuscenes import category_index
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import invert, wrap_angle
from dist4d_env.scenes.scene import TICK
from dist4d_env.town.light import light_of
from dist4d_env.town.meshes import Mesh, join
from dist4d_env.town.meshes_actors import actor_mesh, poses
from dist4d_env.town.meshes_signals import signal_mesh, switched
from dist4d_env.town.meshes_street import street_mesh
from dist4d_env.town.model import Actor, TownScene
from dist4d_env.town.render_shade import LightPools, Shading
from dist4d_env.town.render_surface import GRID, SEMANTIC_ROW, Shape, Surface, dot
from dist4d_env.town.sensors import town_rig
from dist4d_env.town.signals import states_of
from dist4d_env.town.textures import TextureSet
from dist4d_env.town.textures_ground import SKY, VEHICLE, draw_ground
from dist4d_env.town.wedges import Wedges
from dist4d_env.town.wild.lens import HEADROOM
from dist4d_env.town.wild.scenery import WildScenery

_CONTRAST = 18
"""Difference of neighbouring pixels, in 8-bit steps, above which a pixel is sampled again."""

_REACH = 400.0
"""Length of rays, in units of z-depth."""

_ACTORS_WITHIN = 160.0
"""Actors farther than this from the cameras, in metres, are not drawn."""

_POSES = 16
"""Phases of a walker's gait."""

_CADENCE = 0.95
"""Double steps a second of people who walk."""

_ABOVE, _FLIP = np.array([0, 0, 0.01], np.float32), np.array([1, 1, -1], np.float32)


@dataclass(frozen=True)
class TownImages:
    """rgb: (V, H, W, 3) uint8; depth: (V, H, W) float32 z-depth at pixel centres, FAR for sky; semantics: (V, H, W) uint8 into
    SEMANTICS, at pixel centres too."""

    rgb: np.ndarray
    depth: np.ndarray
    semantics: np.ndarray


@dataclass(frozen=True)
class Placed:
    """The actors of one instant: meshes for rays, and what they do to the light on the ground. street: as it looks then, where
    that changes."""

    surfaces: tuple[Surface, ...]
    pools: LightPools
    street: Surface | None = None


@dataclass(frozen=True)
class Hits:
    """First hits of N rays. distance: in units of the direction, inf for sky; surface: -1 sky, 0 ground, 1 street, 2 actors."""

    distance: np.ndarray
    surface: np.ndarray
    face: np.ndarray
    u: np.ndarray
    v: np.ndarray


class TownRenderer:
    """Renders one scene. Streets are prepared once (two seconds or so); actors are placed by each call's boxes."""

    def __init__(self, scene: TownScene) -> None:
        self.scene = scene
        self._origin = np.array([*np.rint(scene.ego_pose[:, :2, 3].mean(0)), 0.0])  # float32 is exact enough near zero only
        textures = TextureSet()
        self._wild = WildScenery(scene, textures) if scene.looks == "wild" else None
        street = self._wild.street(self._origin[:2]) if self._wild else street_mesh(scene.layout, textures, self._origin[:2])
        if scene.layout.signals:
            signals, self._lamps = signal_mesh(scene.layout.signals, self._origin[:2])
            street = join([street, signals]) if street is not None else signals
        self._signal_states = states_of(scene, len(scene.time))
        still = [self._actor_mesh(actor, textures) for actor in scene.actors]
        self._textures, self._table = textures, textures.freeze()
        sizes = self._table.sizes
        self._street = Surface.build([Shape.of(street, sizes, shared=False)]) if street is not None else None
        self._still = [Shape.of(mesh, sizes) for mesh in still]
        self._strides: dict[tuple[int, int], Shape] = {}
        self._standing: tuple[bytes, Surface] | None = None
        self._switched: tuple[bytes, Surface] | None = None
        self._ground = self._wild.ground() if self._wild else draw_ground(scene.layout, scene.ego_pose[:, :2, 3])
        light, headroom = (self._wild.light, HEADROOM) if self._wild else (light_of(scene.light, scene.seed), 1.0)
        self._shading = Shading(scene, light, self._ground, self._origin[:2], headroom)
        if self._wild:
            self._wild.meter(self._light_along_the_way())

    def _light_along_the_way(self) -> np.ndarray:
        """What the ego's cameras see (N, 3) here and there, in small, 255 times the root of light."""
        rig = town_rig(12, 20)
        columns, rows = (part.ravel().astype(np.float32) + 0.5 for part in np.meshgrid(np.arange(20), np.arange(12)))
        seen = []
        for ego in self.scene.ego_pose[:: max(len(self.scene.ego_pose) // 4, 1)]:
            cast = _Cast(rig.intrinsics, ego @ rig.ego_from_camera, self._origin)
            views = len(rig.names)
            rays = cast(np.repeat(np.arange(views), len(rows)), np.tile(columns, views), np.tile(rows, views))
            seen.append(self._colours(*rays, self.trace(*rays[:2], (), _REACH), Placed((), LightPools.none())).T)
        return np.concatenate(seen)

    def _actor_mesh(self, actor: Actor, textures: TextureSet, phase: float = 0.0, walking: bool = False) -> Mesh:
        mesh = actor_mesh(actor, textures, phase, walking)
        return self._wild.worn(mesh, actor.style) if self._wild else mesh

    def with_actors(self, actors: Sequence[Actor]) -> TownRenderer:
        """A renderer that knows more actors, numbered after those of the scene; it shares street and ground with this one."""
        other = copy(self)
        other.scene = replace(self.scene, actors=(*self.scene.actors, *actors))
        meshes = [self._actor_mesh(actor, self._textures) for actor in actors]  # may add textures; those known keep their numbers
        if len(self._textures.sizes) > len(self._table.sizes):
            other._table = self._textures.freeze()
        other._still = [*self._still, *(Shape.of(mesh, other._table.sizes) for mesh in meshes)]
        other._strides, other._standing = {}, None
        return other

    def render(
        self,
        rig: CameraRig,
        global_from_camera: np.ndarray,
        boxes: Boxes | None,
        time: float,
        lights: np.ndarray | None = None,
    ) -> TownImages:
        """Pictures of V cameras with ``rig``'s intrinsics at poses (V, 4, 4), all at one instant.

        ``boxes`` (global frame) place the actors: ``Boxes.token`` is the index into ``scene.actors``; None shows empty streets.
        ``time`` (seconds) swings the limbs of those who walk. ``lights`` (G,): states of the traffic lights, those of the scene
        at that time where they are not given.
        """
        placed = replace(self._placed(rig, global_from_camera, boxes, time), street=self._street_at(time, lights))
        views, height, width = len(global_from_camera), rig.height, rig.width
        cast = _Cast(rig.intrinsics, global_from_camera, self._origin)
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5)
        view = np.repeat(np.arange(views), height * width)
        column, row = np.tile(columns.ravel(), views), np.tile(rows.ravel(), views)
        rays = cast(view, column, row)
        hits = self.trace(*rays[:2], placed.surfaces, _REACH)
        image = self._colours(*rays, hits, placed)
        again = np.flatnonzero(_contrast(image.reshape(3, views, height, width)) > _CONTRAST * (2 if self._wild else 1))
        if len(again):
            across, down = column[again, None] + GRID[:, 0], row[again, None] + GRID[:, 1]
            fine = cast(np.repeat(view[again], 4), across.ravel(), down.ravel())
            samples = self._colours(*fine, self.trace(*fine[:2], placed.surfaces, _REACH), placed).reshape(3, -1, 4)
            image[:, again] = (samples[..., 0] + samples[..., 1] + samples[..., 2] + samples[..., 3]) / 4
        depth = np.minimum(hits.distance, np.float32(FAR)).reshape(views, height, width)
        classes = self.semantics(*rays[:2], hits, placed.surfaces).reshape(views, height, width)
        if self._wild:
            ego = global_from_camera[0] @ invert(rig.ego_from_camera[0])
            self._draw_body(image, depth, classes, rig, ego, placed)
            light = np.ascontiguousarray(image.T).reshape(views, height, width, 3)
            return TownImages(self._wild.develop(light, rig.names, time, depth), depth, classes)
        return TownImages(
            np.ascontiguousarray(np.rint(image).astype(np.uint8).T).reshape(views, height, width, 3), depth, classes
        )

    def jpeg(self, channel: str) -> list[int]:
        """How a camera's pictures are stored, as options of OpenCV."""
        quality, sampling = self._wild.jpeg(channel) if self._wild else (95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        return [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]

    def _draw_body(
        self,
        image: np.ndarray,
        depth: np.ndarray,
        classes: np.ndarray,
        rig: CameraRig,
        global_from_ego: np.ndarray,
        placed: Placed,
    ) -> None:
        """The ego's own body over light (3, V * H * W), depth and classes (V, H, W), with the street mirrored in its paint."""
        assert self._wild is not None
        seen = self._wild.body(rig)
        middle = seen.depth > 0
        depth[middle], classes[middle] = seen.depth[middle], VEHICLE
        if not len(seen.pixel):
            return
        turn = global_from_ego[:3, :3].astype(np.float32)
        point = turn @ seen.point + (global_from_ego[:3, 3] - self._origin).astype(np.float32)[:, None]
        normal, ray = turn @ seen.normal, turn @ seen.ray
        blockers = [mesh for _, mesh in self._numbered(placed.surfaces)]
        length, glow = np.sqrt(dot(ray, ray)), np.zeros(len(seen.pixel), np.float32)
        light = self._shading.solid(point, ray, length, seen.albedo, glow, normal, placed.pools, blockers)
        out = ray / length
        back = out - 2 * dot(out, normal) * normal
        rays, starts = np.ascontiguousarray(back.T), np.ascontiguousarray((point + np.float32(0.02) * normal).T)
        width = np.full(len(starts), 0.02, np.float32)
        mirrored = self._colours(starts, rays, width, self.trace(starts, rays, placed.surfaces, _REACH), placed, mirrored=True)
        share = np.float32(0.05) + np.float32(0.75) * (1 - np.abs(dot(out, normal))) ** 5
        colour = self._shading.develop(light + share * (mirrored - light))
        at, first, number = np.unique(seen.pixel, return_index=True, return_counts=True)
        total = np.add.reduceat(colour, first, axis=1)
        image[:, at] += (total - number * image[:, at]) / len(GRID)

    def _placed(self, rig: CameraRig, global_from_camera: np.ndarray, boxes: Boxes | None, time: float) -> Placed:
        """The actors that cameras may see, or whose shadows they may see, and the light they throw."""
        if boxes is None or not len(boxes):
            return Placed((), LightPools.none())
        around, view = global_from_camera[:, :3, 3].mean(0), Wedges.of(rig, global_from_camera)
        middle, radius = self._shading.shadowed(boxes)
        surfaces = self.place(boxes, time, around, view.touch(middle, radius))
        boxes = boxes.select(np.hypot(*(boxes.position[:, :2] - around[:2]).T) < _ACTORS_WITHIN)
        return Placed(surfaces, self._shading.pools(boxes, around[:2], view, self._origin[:2]))

    def _street_at(self, time: float, lights: np.ndarray | None) -> Surface | None:
        """The street with its traffic lights on, kept from one call to the next as long as they don't change."""
        if not self.scene.layout.signals or self._street is None:
            return None
        if lights is None:
            row = int(np.clip(np.floor(time / TICK + 1e-4), 0, self._signal_states.shape[1] - 1))
            lights = self._signal_states[:, row]
        if len(lights) != len(self.scene.layout.signals):
            raise DataError(
                f"{self.scene.name} has {len(self.scene.layout.signals)} traffic lights, but states of {len(lights)} are given: "
                "its file in traffic_lights/ was changed after it was written; write the town again"
            )
        key = lights.tobytes()
        if self._switched is None or key != self._switched[0]:
            self._switched = (key, Surface(self._street.scene, switched(self._street.faces, self._lamps, lights)))
        return self._switched[1]

    def place(
        self, boxes: Boxes | None, time: float, around: np.ndarray, wanted: np.ndarray | None = None
    ) -> tuple[Surface, ...]:
        """The actors at the poses of their boxes, ready for rays from near a point (2 or 3,).

        ``wanted`` (N,) bool: the others may be left out, because no ray can meet them.
        """
        if boxes is None or not len(boxes):
            return ()
        near = np.hypot(*(boxes.position[:, :2] - around[:2]).T) < _ACTORS_WITHIN
        speed = np.hypot(*boxes.velocity.T)
        parked = near & (speed < 1e-3)
        moving = np.flatnonzero(near & ~parked if wanted is None else near & ~parked & wanted)
        boxes = replace(boxes, position=boxes.position - self._origin)
        surfaces = [self._stand(boxes.select(parked))] if parked.any() else []
        parts = []
        for token, pose, v in zip(boxes.token[moving], boxes.poses[moving], speed[moving], strict=True):
            walks = poses(self.scene.actors[token]) and v > 0.15
            parts.append((self._stride(int(token), time) if walks else self._still[token]).moved(pose))
        if parts:
            surfaces.append(Surface.build(parts))
        return tuple(surfaces)

    def _stand(self, boxes: Boxes) -> Surface:
        """Everything that does not move, kept from one call to the next as long as it stays the same."""
        # interpolation leaves noise in what stands still
        boxes = replace(boxes, position=boxes.position.round(4), yaw=boxes.yaw.round(5))
        key = b"".join(part.tobytes() for part in (boxes.token, boxes.position, boxes.yaw))
        if self._standing is None or key != self._standing[0]:
            shapes = [self._still[token].moved(pose) for token, pose in zip(boxes.token, boxes.poses, strict=True)]
            self._standing = (key, Surface.build(shapes))
        return self._standing[1]

    def _stride(self, token: int, time: float) -> Shape:
        """A walking actor in one of _POSES phases of its gait (kept once made: limbs are slow to build)."""
        actor = self.scene.actors[token]
        phase = int((_CADENCE * time + actor.style % 17 / 17) * _POSES + 0.37) % _POSES
        if (token, phase) not in self._strides:
            mesh = self._actor_mesh(actor, self._textures, 2 * np.pi * phase / _POSES, walking=True)
            self._strides[token, phase] = Shape.of(mesh, self._table.sizes)
        return self._strides[token, phase]

    def _numbered(self, actors: tuple[Surface, ...], street: Surface | None = None) -> list[tuple[int, Surface]]:
        """All meshes with the number by which hits name them. street: how it looks, if it isn't as built."""
        street = street or self._street
        return ([(1, street)] if street is not None else []) + list(enumerate(actors, start=2))

    def rays(self, global_from_sensor: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions (N, 3) float32 in the local frame, for ``trace``, of directions (N, 3) in a sensor's frame."""
        turned = (directions @ global_from_sensor[:3, :3].T).astype(np.float32)
        origin = (global_from_sensor[:3, 3] - self._origin).astype(np.float32)
        return np.tile(origin, (len(turned), 1)), turned

    def trace(self, origins: np.ndarray, directions: np.ndarray, actors: tuple[Surface, ...], reach: float) -> Hits:
        """Nearest hits of rays (N, 3) float32 (local frame), no farther than ``reach`` in units of the directions.

        ``actors`` comes from ``place``.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(directions[:, 2] < -1e-6, -origins[:, 2] / directions[:, 2], np.inf).astype(np.float32)
        distance[distance > reach] = np.inf
        surface = np.where(np.isfinite(distance), 0, -1).astype(np.int8)
        face, u, v = np.zeros(len(origins), np.int32), np.zeros(len(origins), np.float32), np.zeros(len(origins), np.float32)
        for number, mesh in self._numbered(actors):
            prim, t, hit_u, hit_v = mesh.nearest(origins, directions, np.minimum(distance, np.float32(reach)))
            hit = np.flatnonzero(prim >= 0)
            distance[hit], surface[hit], face[hit], u[hit], v[hit] = t[hit], number, prim[hit], hit_u[hit], hit_v[hit]
        return Hits(distance, surface, face, u, v)

    def semantics(self, origins: np.ndarray, directions: np.ndarray, hits: Hits, actors: tuple[Surface, ...]) -> np.ndarray:
        """Class ids (N,) uint8 of hits."""
        result = np.full(len(origins), SKY, np.uint8)
        for number, mesh in self._numbered(actors):
            at = np.flatnonzero(hits.surface == number)
            result[at] = mesh.faces[SEMANTIC_ROW, hits.face[at]].astype(np.uint8)
        at = np.flatnonzero(hits.surface == 0)
        point = origins[at, :2] + directions[at, :2] * hits.distance[at, None] + (self._origin[:2] - self._ground.origin)
        result[at] = self._ground.semantic(point[:, 0], point[:, 1])
        return result

    def _colours(
        self, origins: np.ndarray, directions: np.ndarray, pixel: np.ndarray, hits: Hits, placed: Placed, mirrored: bool = False
    ) -> np.ndarray:
        """Colours (3, N) float32 in [0, 255] of hits; ``pixel``: (N,) its width at distance 1. Mirrored ones stay linear."""
        shading, meshes = self._shading, self._numbered(placed.surfaces, placed.street)
        blockers = [mesh for _, mesh in meshes]
        rgb = np.empty((3, len(origins)), np.float32)
        sky = np.flatnonzero(hits.surface < 0)
        _put(rgb, sky, shading.sky(np.ascontiguousarray(directions.take(sky, 0).T)))
        for number, mesh in meshes:
            at = np.flatnonzero(hits.surface == number)
            if len(at):
                distance, d = hits.distance[at], np.ascontiguousarray(directions.take(at, 0).T)
                albedo, glow, normal = mesh.at(hits.face[at], hits.u[at], hits.v[at], distance * pixel[at], self._table)
                point, length = origins.take(at, 0).T + d * distance, distance * np.sqrt(dot(d, d))
                shadows = () if mirrored else blockers
                _put(rgb, at, shading.solid(point, d, length, albedo, glow, normal, placed.pools, shadows))
        at = np.flatnonzero(hits.surface == 0)
        if len(at):
            rays = directions.take(at, 0)
            distance, d = hits.distance[at], np.ascontiguousarray(rays.T)
            point, norm = origins.take(at, 0).T + d * distance, np.sqrt(dot(d, d))
            slant = -d[2] / norm
            wide, (x, y) = distance * pixel[at] / np.sqrt(slant), (self._origin[:2] - self._ground.origin)
            colour = self._ground.colour(point[0] + x, point[1] + y, wide) * np.float32(1 / 255)
            seen = shading.ground(point, distance * norm, colour, placed.pools, blockers)
            if shading.light.wet:
                share = shading.mirror(slant, colour[3])
                back, up = np.ascontiguousarray(point.T) + _ABOVE, rays * _FLIP
                hits = self.trace(back, up, placed.surfaces, _REACH)
                seen += share * (self._colours(back, up, pixel[at] * 3, hits, placed, mirrored=True) - seen)
            _put(rgb, at, seen)
        return rgb if mirrored else shading.develop(rgb)


def _put(rgb: np.ndarray, at: np.ndarray, colours: np.ndarray) -> None:
    """Sets colours (3, N) at columns (N,); one channel after the other is twice as fast as all at once."""
    for channel, values in zip(rgb, colours, strict=True):
        channel[at] = values


class _Cast:
    """Image points to rays whose direction has z = 1 in the camera, so that ray length is z-depth."""

    def __init__(self, intrinsics: np.ndarray, global_from_camera: np.ndarray, origin: np.ndarray) -> None:
        self._turn = (global_from_camera[:, :3, :3] @ np.linalg.inv(intrinsics)).astype(np.float32)
        self._origin = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
        self._pixel = (1 / intrinsics[:, 0, 0]).astype(np.float32)

    def __call__(self, view: np.ndarray, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Origins and directions (N, 3) and pixel widths (N,) of image points of ascending views (N,)."""
        directions = np.empty((len(view), 3), np.float32)
        cuts = np.searchsorted(view, np.arange(len(self._turn) + 1))
        for turn, start, end in zip(self._turn, cuts[:-1], cuts[1:], strict=True):
            for axis in range(3):
                directions[start:end, axis] = column[start:end] * turn[axis, 0] + row[start:end] * turn[axis, 1] + turn[axis, 2]
        return self._origin[view], directions, self._pixel[view]


def _contrast(image: np.ndarray) -> np.ndarray:
    """Largest difference (V * H * W,) of a pixel of images (3, V, H, W) to its four neighbours in any channel."""
    result = np.zeros(image.shape[1:], np.float32)
    for axis in (1, 2):
        step = np.abs(np.diff(image, axis=axis + 1)).max(0)
        first, last = [slice(None)] * 3, [slice(None)] * 3
        first[axis], last[axis] = slice(None, -1), slice(1, None)
        result[tuple(first)] = np.maximum(result[tuple(first)], step)
        result[tuple(last)] = np.maximum(result[tuple(last)], step)
    return result.ravel()


def scene_boxes(scene: TownScene, time: float) -> Boxes:
    """The recorded actors at any time of the scene (seconds), linear between the rows of its 10 Hz grid; token indexes actors."""
    at = float(np.clip(time, scene.time[0], scene.time[-1]))
    row = int(np.clip(np.searchsorted(scene.time, at, side="right") - 1, 0, len(scene.time) - 2))
    share = (at - scene.time[row]) / (scene.time[row + 1] - scene.time[row])
    count = len(scene.actors)
    here, there = np.array([actor.valid[row : row + 2] for actor in scene.actors], bool).reshape(count, 2).T
    token = np.flatnonzero((here | (share >= 1 - 1e-9)) & (there | (share <= 1e-9)))
    actors = [scene.actors[i] for i in token]
    a, b = np.where(here, row, row + 1)[token], np.where(there, row + 1, row)[token]  # who is there at one end only stands still
    start = np.array([actor.position[i] for actor, i in zip(actors, a, strict=True)], float).reshape(-1, 3)
    step = np.array([actor.position[i] for actor, i in zip(actors, b, strict=True)], float).reshape(-1, 3) - start
    yaw = np.array([actor.yaw[i] for actor, i in zip(actors, a, strict=True)], float)
    turn = wrap_angle(np.array([actor.yaw[i] for actor, i in zip(actors, b, strict=True)], float) - yaw)
    return Boxes(
        token, np.array([category_index(actor.name) for actor in actors], np.int8), start + share * step,
        np.array([actor.size for actor in actors], float).reshape(-1, 3), yaw + share * turn,
        step[:, :2] / (scene.time[row + 1] - scene.time[row]),
    )  # fmt: skip
