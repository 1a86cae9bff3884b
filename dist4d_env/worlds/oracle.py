"""The town's true pictures from wherever the ego is, with every agent where the simulator has it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.lidar import LidarPattern
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import apply
from dist4d_env.scenes.scene import Scene, Tracks
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.town.dataset import SceneKey, town_scene
from dist4d_env.town.generate import generate_scene
from dist4d_env.town.lidar import scan
from dist4d_env.town.model import Actor
from dist4d_env.town.render import TownRenderer
from dist4d_env.worlds.contract import WorldInfo, WorldStart
from dist4d_env.worlds.stopwatch import Stopwatch

_KEPT = 8
"""Scenes kept ready to render, about 100 MB each: as many as the validation split has, so that the next driver finds them."""


@dataclass(frozen=True)
class Inserted:
    """An object that the town has not generated. name: its nuScenes category; size: length, width, height; drives: whether it
    ever moves, for what stands has its lights off; style: number that its look follows from."""

    instance: str
    name: str
    size: tuple[float, float, float]
    drives: bool
    style: int

    @classmethod
    def of(cls, tracks: Tracks, index: int, styles: Mapping[str, int]) -> Inserted:
        """styles: of the town's own actors, by instance. A part of something looks like it, others as their name and size say."""
        length, width, height = tracks.size[index].tolist()
        instance, name, size = tracks.instance[index], tracks.name[index], (length, width, height)
        if index in tracks.part_of:
            whole = tracks.part_of[index]
            style = styles[tracks.instance[whole]] if tracks.instance[whole] in styles else cls.of(tracks, whole, styles).style
        else:
            style = zlib.crc32(repr((instance, name, size)).encode()) & 0x3FFFFFFF
        return cls(instance, name, size, tracks.moves(index), style)

    def actor(self) -> Actor:
        """The town's actor for it."""
        reach = np.array([[0.0, 0.0, 0.0], [2.0 * self.drives, 0.0, 0.0]])
        return Actor(self.instance, self.name, self.size, self.style, reach, np.zeros(2), np.ones(2, bool))


@dataclass(frozen=True)
class OracleState:
    """key: the town scene; inserted: what a scenario put into it; actors: (N,) index into the town's
    actors, and after them the inserted ones, of each track of the scene."""

    start: WorldStart
    key: SceneKey
    inserted: tuple[Inserted, ...]
    actors: np.ndarray


class OracleWorld:
    """Renders the geometry that the town's data sets were made of: ground truth to judge the other worlds by."""

    recalls = False

    def reset(self, starts: Sequence[WorldStart]) -> list[OracleState]:
        """Raises DataError for scenes that this version of the town generator did not write."""
        return [self._state(start) for start in starts]

    def step(self, states: Sequence[OracleState], scenes: Sequence[SceneAt]) -> list[tuple[OracleState, RGBDFrame, WorldInfo]]:
        """The true frame at each ego pose; all cameras expose at the scene's time. States never change."""
        return [(state, *self._show(state, now)) for state, now in zip(states, scenes, strict=True)]

    def lidar(self, states: Sequence[OracleState], scenes: Sequence[SceneAt], pattern: LidarPattern) -> list[np.ndarray]:
        """One exact turn at each ego pose against the true geometry, (P, 4): x, y, z in the ego frame, intensity."""
        return [self._scan(state, now, pattern) for state, now in zip(states, scenes, strict=True)]

    @staticmethod
    def _scan(state: OracleState, now: SceneAt, pattern: LidarPattern) -> np.ndarray:
        renderer, pose = town_renderer(state), now.global_from_ego @ pattern.ego_from_lidar
        points = scan(renderer, pose, actor_boxes(now.boxes, state.actors), now.time, pattern=pattern)
        return np.concatenate([apply(pattern.ego_from_lidar, points[:, :3].astype(float)), points[:, 3:4]], 1)

    def _state(self, start: WorldStart) -> OracleState:
        key, tracks, recorded = _town_key(start.scene), start.scene.tracks, len(start.scene.recorded.tracks)
        actors = _renderer(key, ()).scene.actors
        index = {actor.instance: i for i, actor in enumerate(actors)}
        unknown = [token for token in tracks.instance[:recorded] if token not in index]
        if unknown:
            raise DataError(
                f"{start.scene.name} in {start.scene.dataroot} annotates {unknown[0]}, which the town generator does not know: "
                "the tables were changed after they were written; write the town again"
            )
        styles = {actor.instance: actor.style for actor in actors}
        inserted = tuple(Inserted.of(tracks, row, styles) for row in range(recorded, len(tracks)))
        known = [index[token] for token in tracks.instance[:recorded]]
        numbers = np.array([*known, *range(len(actors), len(actors) + len(inserted))], np.int64)
        return OracleState(start, key, inserted, numbers)

    def _show(self, state: OracleState, now: SceneAt) -> tuple[RGBDFrame, WorldInfo]:
        renderer, rig = town_renderer(state), state.start.rig
        watch = Stopwatch()
        poses = now.global_from_ego @ rig.ego_from_camera
        images = renderer.render(rig, poses, actor_boxes(now.boxes, state.actors), now.time, now.lights)
        frame = RGBDFrame(images.rgb, images.depth, rig.intrinsics, poses, np.full(len(rig.names), float(now.time)))
        return frame, WorldInfo(("oracle",) * len(rig.names), 0.0, 1.0, {"oracle": watch.total()})


def town_renderer(state: OracleState) -> TownRenderer:
    """What draws the scene of an episode; shared, and changed by nothing."""
    return _renderer(state.key, state.inserted)


def actor_boxes(boxes: Boxes, actors: np.ndarray) -> Boxes:
    """Boxes whose tokens are rows of ``Scene.tracks``, with tokens that index ``TownScene.actors`` instead."""
    return replace(boxes, token=actors[boxes.token])


@lru_cache(maxsize=_KEPT)
def _renderer(key: SceneKey, inserted: tuple[Inserted, ...]) -> TownRenderer:
    """The renderer of a town scene, which takes seconds to make: shared by all worlds of the process, for drawing changes nothing
    in it; the least recently used one is forgotten. One with inserted objects shares all but these with the one without."""
    if inserted:
        return _renderer(key, ()).with_actors([thing.actor() for thing in inserted])
    return TownRenderer(generate_scene(*key))


def _town_key(scene: Scene) -> SceneKey:
    if not Path(scene.dataroot, "town.json").is_file():
        raise DataError(
            f"world='oracle' knows the built-in town only, and {scene.dataroot} has no town.json: choose world='dist4d' or "
            "'replay', or a data set written by `python -m dist4d_env town`"
        )
    return town_scene(scene.dataroot, scene.name)
