"""Tracks with rows changed, added or ended: what every edit comes down to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, rectangle_corners
from dist4d_env.scenes.edits_frame import EditFrame
from dist4d_env.scenes.scene import TICK, Scene, Tracks

MOST_ACCELERATION = 10.0
"""m/s^2 beyond which a motion is no driving or walking; about what tyres hold."""
_SLOWEST = 0.1  # m/s below which a heading says nothing

NAMES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
    "other": "movable_object.debris",
}
"""The nuScenes category that an inserted object of each detection class gets."""

SIZES = {
    "car": (4.62, 1.93, 1.68),
    "truck": (7.0, 2.45, 2.9),
    "bus": (10.8, 2.85, 3.4),
    "trailer": (11.0, 2.7, 3.6),
    "construction_vehicle": (6.4, 2.8, 3.2),
    "motorcycle": (2.1, 0.78, 1.5),
    "bicycle": (1.75, 0.62, 1.4),
    "pedestrian": (0.7, 0.68, 1.75),
    "traffic_cone": (0.4, 0.4, 0.9),
    "barrier": (2.0, 0.5, 1.0),
    "other": (1.0, 0.6, 0.6),
}
"""Length, width and height in metres of what is inserted without a size: about nuScenes' means."""


@dataclass(frozen=True)
class Motion:
    """What one object does over the T rows of the log: xy (T, 2) box centres, yaw (T,), valid (T,)."""

    xy: np.ndarray
    yaw: np.ndarray
    valid: np.ndarray


def moving(xy: np.ndarray, yaw: np.ndarray, valid: np.ndarray, what: str) -> Motion:
    """The motion through centres (T, 2) that faces where it goes; where it stands, as it stood before (first: ``yaw`` (T,)).

    Raises ConfigError, naming ``what`` it is, for accelerations beyond MOST_ACCELERATION.
    """
    rows = np.flatnonzero(valid)
    here = xy[rows]
    if len(rows) > 2:
        steps = np.diff(here, axis=0) / TICK
        most = float(np.hypot(*(np.diff(steps, axis=0) / TICK).T).max())
        if most > MOST_ACCELERATION:
            raise ConfigError(f"{what}: it would accelerate with {most:.0f} m/s²: take more time or less speed")
    velocity = np.gradient(here, TICK, axis=0) if len(rows) > 1 else np.zeros_like(here)
    drives = np.hypot(*velocity.T) > _SLOWEST
    course = np.where(drives, deterministic.arctan2(velocity[:, 1], velocity[:, 0]), yaw[rows])
    last = np.maximum.accumulate(np.where(drives, np.arange(len(rows)), -1))
    first = int(np.argmax(drives)) if drives.any() else 0
    # Before it first moves it already faces where it will go.
    facing = np.where(last >= 0, course[np.maximum(last, 0)], course[first])
    turned = np.zeros(len(xy))
    turned[rows] = facing
    return Motion(xy, turned, valid)


def with_motion(frame: EditFrame, tracks: Tracks, index: int, motion: Motion, since: int) -> Tracks:
    """Tracks whose object ``index`` moves so from row ``since`` on; before, everything is as it was."""
    rows = np.arange(len(tracks.time)) >= since
    valid = np.where(rows, motion.valid, tracks.valid[index])
    xy = np.where(rows[:, None], motion.xy, tracks.position[index, :, :2])
    yaw = np.where(rows, motion.yaw, tracks.yaw[index])
    height = tracks.size[index, 2] / 2
    z = np.where(rows, frame.ground(motion.xy) + height, tracks.position[index, :, 2])
    known = tracks.valid[index] & rows
    if known.any():  # a recorded object keeps its own height above the ground where the log knows it
        first = int(np.flatnonzero(known)[0])
        z = np.where(rows, z + tracks.position[index, first, 2] - z[first], z)
    velocity = tracks.velocity[index].copy()
    velocity[rows] = _velocity(xy, valid)[rows]
    return replace(
        tracks,
        position=_with_row(tracks.position, index, np.where(valid[:, None], np.column_stack([xy, z]), 0.0)),
        yaw=_with_row(tracks.yaw, index, np.where(valid, (yaw + np.pi) % (2 * np.pi) - np.pi, 0.0)),
        velocity=_with_row(tracks.velocity, index, np.where(valid[:, None], velocity, 0.0)),
        valid=_with_row(tracks.valid, index, valid),
    )


def without(tracks: Tracks, indices: np.ndarray) -> Tracks:
    """Tracks whose objects at ``indices`` are never there; their rows stay, so that everybody else's number does, too."""
    valid = tracks.valid.copy()
    valid[indices] = False
    gone = ~valid
    return replace(
        tracks,
        position=np.where(gone[..., None], 0.0, tracks.position),
        yaw=np.where(gone, 0.0, tracks.yaw),
        velocity=np.where(gone[..., None], 0.0, tracks.velocity),
        valid=valid,
    )


def with_object(frame: EditFrame, tracks: Tracks, category: str, size: tuple[float, ...] | None, motion: Motion) -> Tracks:
    """Tracks with one more object, in the last row."""
    number = len(tracks) - len(frame.scene.recorded.tracks)
    rows = len(tracks.time)
    grown = replace(
        tracks,
        instance=(*tracks.instance, f"edit-{number}"),
        name=(*tracks.name, NAMES[category]),
        category=np.append(tracks.category, np.int8(CATEGORIES.index(category))),
        size=np.concatenate([tracks.size, np.array([size or SIZES[category]], float)]),
        position=np.concatenate([tracks.position, np.zeros((1, rows, 3))]),
        yaw=np.concatenate([tracks.yaw, np.zeros((1, rows))]),
        velocity=np.concatenate([tracks.velocity, np.zeros((1, rows, 2))]),
        valid=np.concatenate([tracks.valid, np.zeros((1, rows), bool)]),
    )
    return with_motion(frame, grown, len(tracks), motion, 0)


def edited(scene: Scene, tracks: Tracks) -> Scene:
    """The scene with these tracks, remembering what was recorded."""
    return replace(scene, tracks=tracks, recorded_tracks=scene.recorded.tracks)


def check_free(frame: EditFrame, tracks: Tracks, index: int, what: str, apart_from: tuple[int, ...] = ()) -> None:
    """Raises ConfigError if object ``index`` overlaps another, or the logged ego, where it first appears from the start on."""
    there = np.flatnonzero(tracks.valid[index, frame.row :])
    if not len(there):
        raise ConfigError(f"{what}: it would never be there between the start and the end of {frame.scene.name}")
    row = frame.row + int(there[0])
    others = [i for i in np.flatnonzero(tracks.valid[:, row]).tolist() if i != index and i not in apart_from]
    outline = footprints(tracks, [index], row)[0]
    met = np.flatnonzero(shapely.area(shapely.intersection(footprints(tracks, others, row), outline)) > 1e-6)
    seconds = (row - frame.row) * TICK
    if len(met):
        other = others[int(met[0])]
        raise ConfigError(
            f"{what}: {seconds:.1f} s after the start its place is taken by {tracks.name[other]} {tracks.instance[other]}: "
            "choose another place, or remove that one first"
        )
    vehicle, (x, y, yaw) = frame.vehicle, frame.ego[row]
    ego = shapely.polygons(rectangle_corners(x, y, yaw, vehicle.length, vehicle.width))
    if shapely.area(shapely.intersection(ego, outline)) > 1e-6:
        raise ConfigError(f"{what}: {seconds:.1f} s after the start its place is taken by the logged ego: choose another place")


def footprints(tracks: Tracks, indices: list[int], row: int) -> np.ndarray:
    """(N,) shapely polygons of some objects at a row."""
    position, size = tracks.position[indices, row], tracks.size[indices]
    corners = rectangle_corners(position[:, 0], position[:, 1], tracks.yaw[indices, row], size[:, 0], size[:, 1])
    return shapely.polygons(corners) if len(indices) else np.zeros(0, object)


def _with_row(values: np.ndarray, index: int, row: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[index] = row
    return changed


def _velocity(xy: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(T, 2) centred differences of positions over neighbouring valid rows, one-sided at the ends of a stretch."""
    velocity = np.zeros_like(xy)
    rows = np.flatnonzero(valid)
    for stretch in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        if len(stretch) > 1:
            velocity[stretch] = np.gradient(xy[stretch], TICK, axis=0)
    return velocity
