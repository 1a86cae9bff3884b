"""Edits turned into tracks: pure functions from a scene to another one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch

from dist4d_env.errors import ConfigError
from dist4d_env.scenes import edits_insert
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Remove, Slow, Stop
from dist4d_env.scenes.edits_frame import EditFrame
from dist4d_env.scenes.edits_retime import slowed
from dist4d_env.scenes.edits_targets import find_all, find_target
from dist4d_env.scenes.edits_tracks import edited, with_motion, without
from dist4d_env.scenes.scene import Scene, Tracks


def apply(edit: Edit, scene: Scene, start: float = 0.0) -> Scene:
    """The scene with an edit in it, seen from a scenario's ``start`` (seconds since the first keyframe).

    Recorded objects keep their rows, inserted ones are appended; ``scene.recorded`` stays what it is. Raises ConfigError where
    the edit does not fit the scene: no such target, a place that is taken, an ego that never gets there, an impossible motion.
    """
    return apply_all((edit,), scene, start)


def apply_all(edits: Iterable[Edit], scene: Scene, start: float = 0.0) -> Scene:
    """``apply`` for one edit after the other; each sees what those before it have done."""
    frame, tracks = EditFrame(scene, start), scene.tracks
    for edit in edits:
        tracks = _changed(edit, frame, tracks)
    return scene if tracks is scene.tracks else edited(scene, tracks)


@singledispatch
def _changed(edit: Edit, frame: EditFrame, tracks: Tracks) -> Tracks:
    raise ConfigError(f"{edit!r} is no edit")


@_changed.register
def _(edit: Remove, frame: EditFrame, tracks: Tracks) -> Tracks:
    return without(tracks, find_all(frame, tracks, edit.target, edit.kind))


@_changed.register(Slow)
@_changed.register(Stop)
def _(edit: Slow | Stop, frame: EditFrame, tracks: Tracks) -> Tracks:
    speed = edit.speed if isinstance(edit, Slow) else 0.0
    index = find_target(frame, tracks, edit.target, edit.kind)
    motion, since = slowed(frame, tracks, index, edit.at, speed, edit.deceleration, edit.hold, edit.kind)
    return with_motion(frame, tracks, index, motion, since)


@_changed.register
def _(edit: Insert, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.inserted(frame, tracks, edit)


@_changed.register
def _(edit: CutIn, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.cut_in(frame, tracks, edit)


@_changed.register
def _(edit: Jaywalk, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.jaywalk(frame, tracks, edit)


@_changed.register
def _(edit: Cross, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.crossing(frame, tracks, edit)


@_changed.register
def _(edit: Oncoming, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.oncoming(frame, tracks, edit)


@_changed.register
def _(edit: Door, frame: EditFrame, tracks: Tracks) -> Tracks:
    return edits_insert.door(frame, tracks, edit)
