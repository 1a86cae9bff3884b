"""World states in parts, so that what both sides of a connection know already need not travel.

A state is a graph of immutable values. The large ones among them (frames, what they give to splats, chunks) are parts: packed
one by one, each under a key of its own. The state that follows shares most parts with the one before, so only new ones travel.
What can be had otherwise does not travel at all: scenes of a data set go by name, the geometry of a frame is worked out again.

This is pickle between processes of one Ray cluster, which trust each other as Ray's own transport does; no file is read.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.scenes.scene import Scene, Tracks
from dist4d_env.worlds.appearance_bank import AppearanceBank
from dist4d_env.worlds.chunk import Chunk
from dist4d_env.worlds.contract import WorldStart

SHARED = (RGBDFrame, SplatSource, Chunk, AppearanceBank, WorldStart, Tracks, Scene)
"""Values that successive states share and that are worth a key."""


@dataclass(frozen=True)
class Part:
    """A packed value. leads_to: keys of the parts that it holds directly."""

    content: bytes
    leads_to: tuple[str, ...]


@dataclass(frozen=True)
class Packed:
    """A value in parts. parts: by key, all that the root leads to, or of a reply the new ones among them."""

    root: Part
    parts: Mapping[str, Part]

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return len(self.root.content) + sum(len(part.content) for part in self.parts.values())

    def completed(self, older: Mapping[str, Part]) -> Packed:
        """With all parts that the root leads to, those that are not here taken from ``older``; no others."""
        there = {**older, **self.parts}
        return Packed(self.root, {key: there[key] for key in reached(self.root.leads_to, lambda key: there[key].leads_to)})


@dataclass(frozen=True)
class Loaded:
    """A value as objects. objects: by key, the shared values in it and the keys that each of them leads to."""

    value: Any
    objects: Mapping[str, tuple[Any, tuple[str, ...]]]


def reached(keys: Iterable[str], leads_to: Callable[[str], tuple[str, ...]]) -> list[str]:
    """All keys that can be reached from some."""
    found: dict[str, None] = {}
    todo = list(keys)
    while todo:
        key = todo.pop()
        if key not in found:
            found[key] = None
            todo += leads_to(key)
    return list(found)


def pack(value: Any, new_key: Callable[[], str], known: Loaded | None = None) -> tuple[Packed, Loaded]:
    """The value in parts, without those that it shares with ``known``, which the other side has; and the value to be known next.

    new_key: a key that nothing else has, at every call.
    """
    packing = _Packing(new_key, known.objects if known is not None else {})
    root = packing.part(value, within=False)
    there = {**packing.known, **packing.objects}
    objects = {key: there[key] for key in reached(root.leads_to, lambda key: there[key][1])}
    return Packed(root, packing.parts), Loaded(value, objects)


def unpack(packed: Packed) -> Loaded:
    """The value of a root with all its parts. Raises DataError where its scene is not on this machine."""
    objects: dict[str, tuple[Any, tuple[str, ...]]] = {}

    def load(part: Part) -> Any:
        return _Unpickler(io.BytesIO(part.content), get).load()

    def get(key: str) -> Any:
        if key not in objects:
            part = packed.parts[key]
            objects[key] = load(part), part.leads_to
        return objects[key][0]

    return Loaded(load(packed.root), objects)


class _Packing:
    """One value on its way out, part by part."""

    def __init__(self, new_key: Callable[[], str], known: Mapping[str, tuple[Any, tuple[str, ...]]]) -> None:
        self.new_key, self.known = new_key, known
        self.parts: dict[str, Part] = {}
        self.objects: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._keys = {id(value): key for key, (value, _) in known.items()}  # ``known`` keeps them alive: ids stay theirs

    def part(self, value: Any, within: bool) -> Part:
        """within: the value is the content of a part itself, not to be referred to."""
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, self.key, value if within else None)
        pickler.dump(value)
        return Part(buffer.getvalue(), tuple(pickler.leads_to))

    def key(self, value: Any) -> str:
        key = self._keys.get(id(value))
        if key is None:
            key = self._keys[id(value)] = self.new_key()
            part = self.parts[key] = self.part(value, within=True)
            self.objects[key] = value, part.leads_to
        return key


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, key: Callable[[Any], str], content: Any) -> None:
        super().__init__(buffer, protocol=5)
        self._key, self._content = key, content
        self.leads_to: dict[str, None] = {}

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Scene) and value.dataset is not None:
            edited = None
            if value.recorded_tracks is not None:
                edited = self._key(value.tracks)
                self.leads_to[edited] = None
            return "scene", (value.dataroot, value.version, value.dataset), value.name, value.map is not None, edited
        if isinstance(value, SHARED) and value is not self._content:
            key = self._key(value)
            self.leads_to[key] = None
            return "part", key
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, SplatSource):
            kept = value.frame, value.keep, value.owner, value.under, value.box_view, value.box_token, value.box_pose
            return _source, (*kept, value.generated)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, get: Callable[[str], Any]) -> None:
        super().__init__(buffer)
        self._get = get

    def persistent_load(self, reference: Any) -> Any:
        if reference[0] == "part":
            return self._get(reference[1])
        _, (dataroot, version, dataset), name, require_map, edited = reference
        scene = open_dataset(dataroot, version or None, dataset=dataset).load(name, require_map=require_map)
        return scene if edited is None else replace(scene, tracks=self._get(edited), recorded_tracks=scene.tracks)


def _source(
    frame: RGBDFrame,
    keep: np.ndarray,
    owner: np.ndarray,
    under: np.ndarray,
    box_view: np.ndarray,
    box_token: np.ndarray,
    box_pose: np.ndarray,
    generated: bool,
) -> SplatSource:
    """What a frame gives to a splat: its geometry from the frame alone, the rest as it was."""
    nobody = Boxes(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2)))
    return replace(
        SplatSource.from_frame(frame, nobody), keep=keep, owner=owner, under=under, box_view=box_view, box_token=box_token,
        box_pose=box_pose, generated=generated,
    )  # fmt: skip
