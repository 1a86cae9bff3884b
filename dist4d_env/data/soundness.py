"""Scenes of any reader, checked where they come in: a number that is not finite would pass unseen through every comparison."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from dist4d_env.data.contract import Dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.lights import STATES, TrafficLights
from dist4d_env.scenes.scene import TICK, EgoLog, Scene, Tracks

LONGEST = 200.0
"""Metres that an object may be long, wide or high."""


def load_scene(dataset: Dataset, name: str) -> Scene:
    """A scene of any reader. Raises DataError, naming the scene and the array, for one that is not as ``Scene`` documents it."""
    scene: Any = dataset.load(name)
    if not isinstance(scene, Scene) or scene.name != name:
        given = f"the scene {scene.name!r}" if isinstance(scene, Scene) else f"a {type(scene).__name__}"
        raise DataError(f"{type(dataset).__name__}.load({name!r}) gave {given}: a reader returns the Scene of that name")
    rows = len(scene.ego.time)
    for array, words in chain(
        _faults_of_ego(scene.ego), _faults_of_tracks(scene.tracks, rows), _faults_of_lights(scene.lights, rows)
    ):
        raise DataError(f"{name}: {array} {words}; mend the data, or the reader that made it")
    return scene


def _faults_of_ego(ego: EgoLog) -> Iterator[tuple[str, str]]:
    """Names of arrays and what is wrong with them."""
    rows = len(ego.time)
    shapes = {"time": (rows,), "global_from_ego": (rows, 4, 4), **dict.fromkeys(("speed", "acceleration", "yaw_rate"), (rows,))}
    for name, shape in shapes.items():
        array = getattr(ego, name)
        if np.shape(array) != shape:
            yield f"ego.{name}", f"has shape {np.shape(array)}, not {shape}"
        elif not np.isfinite(array).all():
            yield f"ego.{name}", "is not finite everywhere"
    if rows < 2 or not np.allclose(ego.time, np.arange(rows) * TICK, atol=1e-6):
        yield "ego.time", f"is not 0, {TICK}, {2 * TICK}, ... over two or more rows"
    turn = ego.global_from_ego[:, :3, :3]
    if not np.allclose(turn @ turn.transpose(0, 2, 1), np.eye(3), atol=1e-3):
        yield "ego.global_from_ego", "has rows that are no poses: their rotations are not orthonormal"


def _faults_of_tracks(tracks: Tracks, rows: int) -> Iterator[tuple[str, str]]:
    """Names of arrays and what is wrong with them. rows: of the ego's log."""
    count, there = len(tracks), tracks.valid
    shapes = {"name": (count,), "category": (count,), "size": (count, 3), "time": (rows,), "valid": (count, rows)}
    shapes |= {"position": (count, rows, 3), "yaw": (count, rows), "velocity": (count, rows, 2)}
    for name, shape in shapes.items():
        if np.shape(getattr(tracks, name)) != shape:
            yield f"tracks.{name}", f"has shape {np.shape(getattr(tracks, name))}, not {shape}"
    if there.dtype != bool:
        yield "tracks.valid", f"is of {there.dtype}, not of bool"
    if tracks.category.dtype.kind not in "iu" or not ((tracks.category >= 0) & (tracks.category < len(CATEGORIES))).all():
        yield "tracks.category", f"has values that are no indices of the {len(CATEGORIES)} CATEGORIES"
    if not ((tracks.size > 0) & (tracks.size <= LONGEST)).all():
        yield "tracks.size", f"has values that are not above 0 and up to {LONGEST:g} m"
    for name in ("position", "yaw", "velocity"):
        if not np.isfinite(getattr(tracks, name)[there]).all():
            yield f"tracks.{name}", "is not finite where an object is valid"


def _faults_of_lights(lights: TrafficLights, rows: int) -> Iterator[tuple[str, str]]:
    """Names of arrays and what is wrong with them. rows: of the ego's log."""
    count, heads = len(lights), len(lights.head_light)
    shapes = {"lanes": (count,), "stop_line": (count, 2, 2), "state": (count, rows), "heads": (heads, 4)}
    for name, shape in shapes.items() if count else ():
        found = (len(lights.lanes),) if name == "lanes" else np.shape(getattr(lights, name))
        if found != shape:
            yield f"lights.{name}", f"has shape {found}, not {shape}"
        elif name in ("stop_line", "heads") and not np.isfinite(getattr(lights, name)).all():
            yield f"lights.{name}", "is not finite everywhere"
    if lights.state.dtype.kind not in "iu" or not np.isin(lights.state, range(len(STATES))).all():
        yield "lights.state", f"has values that are no indices of the {len(STATES)} STATES"
    if not np.isin(lights.head_light, range(count)).all():
        yield "lights.head_light", f"has values that are no indices of the {count} lights"
