"""Whom an edit means."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.edits_frame import EditFrame
from dist4d_env.scenes.scene import Tracks

_ON_WHEELS = tuple(CATEGORIES.index(name) for name in (
    "car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle"
))  # fmt: skip
_MOVABLE = (*_ON_WHEELS, CATEGORIES.index("pedestrian"))
_SIGHT = 80.0  # m along the route within which somebody can be a lead
_SAME_WAY = math.radians(60)


def find_target(frame: EditFrame, tracks: Tracks, target: str, edit: str) -> int:
    """The row of an instance token, of "lead", "nearest" or "nearest CATEGORY". Raises ConfigError if there is none."""
    if target == "lead":
        return _lead(frame, tracks, edit)
    if target == "nearest" or target.startswith("nearest "):
        kinds = _MOVABLE if target == "nearest" else (_category(target.removeprefix("nearest "), edit),)
        here = np.flatnonzero(tracks.valid[:, frame.row] & np.isin(tracks.category, kinds))
        if not len(here):
            raise ConfigError(f"{edit}: target {target!r}: there is none in {frame.scene.name} at the start")
        distance = np.linalg.norm(tracks.position[here, frame.row, :2] - frame.ego[frame.row, :2], axis=1)
        return int(here[np.argmin(distance)])
    if target not in tracks.instance:
        raise ConfigError(
            f"{edit}: {frame.scene.name} has no instance {target!r}: give a token of the scene, edit-N of an earlier insertion, "
            "lead, nearest or nearest CATEGORY"
        )
    return tracks.instance.index(target)


def find_all(frame: EditFrame, tracks: Tracks, target: str, edit: str) -> np.ndarray:
    """The rows of "all", "all CATEGORY" or of the one that ``find_target`` finds. Raises ConfigError if there is none."""
    if target == "all":
        return np.arange(len(tracks))
    if not target.startswith("all "):
        return np.array([find_target(frame, tracks, target, edit)])
    found = np.flatnonzero(tracks.category == _category(target.removeprefix("all "), edit))
    if not len(found):
        raise ConfigError(f"{edit}: target {target!r}: there is none in {frame.scene.name}")
    return found


def _category(name: str, edit: str) -> int:
    if name not in CATEGORIES:
        raise ConfigError(f"{edit}: target: {name!r} is no category: choose one of {', '.join(CATEGORIES)}")
    return CATEGORIES.index(name)


def _lead(frame: EditFrame, tracks: Tracks, edit: str) -> int:
    """The nearest vehicle ahead whose box reaches into the ego's corridor along the route and that faces the same way."""
    row, best = frame.row, None
    front = frame.origin + frame.vehicle.length / 2
    for index in np.flatnonzero(tracks.valid[:, row] & np.isin(tracks.category, _ON_WHEELS)).tolist():
        x, y = tracks.position[index, row, :2].tolist()
        arc, lateral, heading = frame.route.project(x, y)
        turn = (float(tracks.yaw[index, row]) - heading + math.pi) % (2 * math.pi) - math.pi
        corridor = (frame.vehicle.width + float(tracks.size[index, 1])) / 2
        ahead = arc - float(tracks.size[index, 0]) / 2 - front
        if -1.0 < ahead < _SIGHT and abs(lateral) < corridor and abs(turn) < _SAME_WAY and (best is None or ahead < best[0]):
            best = (ahead, index)
    if best is None:
        raise ConfigError(
            f"{edit}: target 'lead': nobody drives within {_SIGHT:g} m ahead on the route of {frame.scene.name} at the start: "
            "choose another start or target"
        )
    return best[1]
