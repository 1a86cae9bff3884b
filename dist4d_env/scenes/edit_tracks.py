"""Building blocks of edits: the frame they measure in, resolving an edit's target, and tracks with objects changed or added."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, ON_WHEELS, rectangle_corners
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Scene, Tracks

MOST_ACCELERATION = 10.0
"""m/s^2 beyond which a motion is no driving or walking; about what tyres hold."""
_SLOWEST = 0.1  # m/s below which the direction of motion is noise

INSERTED = {
    "car": ("vehicle.car", (4.62, 1.93, 1.68)),
    "truck": ("vehicle.truck", (7.0, 2.45, 2.9)),
    "bus": ("vehicle.bus.rigid", (10.8, 2.85, 3.4)),
    "trailer": ("vehicle.trailer", (11.0, 2.7, 3.6)),
    "construction_vehicle": ("vehicle.construction", (6.4, 2.8, 3.2)),
    "motorcycle": ("vehicle.motorcycle", (2.1, 0.78, 1.5)),
    "bicycle": ("vehicle.bicycle", (1.75, 0.62, 1.4)),
    "pedestrian": ("human.pedestrian.adult", (0.7, 0.68, 1.75)),
    "traffic_cone": ("movable_object.trafficcone", (0.4, 0.4, 0.9)),
    "barrier": ("movable_object.barrier", (2.0, 0.5, 1.0)),
    "other": ("movable_object.debris", (1.0, 0.6, 0.6)),
}
"""Per category of an inserted object its full name, and its length, width and height in metres (about nuScenes' means) where an
edit gives none."""

_GROUND_NEIGHBOURS = 6
_ON_WHEELS = tuple(CATEGORIES.index(name) for name in ON_WHEELS)
_MOVABLE = (*_ON_WHEELS, CATEGORIES.index("pedestrian"))
_LEAD = 80.0  # m along the route within which a vehicle can be the lead
_ALIGNED = math.radians(60)


class EditFrame:
    """A scene relative to a scenario's start. ``start``: seconds since the scene's first keyframe, on its 10 Hz grid.

    row: the row of the start; time: (T,) seconds after the start of every row of the log.
    """

    def __init__(self, scene: Scene, start: float, vehicle: VehicleParameters | None = None) -> None:
        self.scene, self.route, self.vehicle = scene, scene.route, vehicle or VehicleParameters()
        self.row = round(start / TICK)
        if not 0 <= self.row < len(scene.ego.time):
            raise ConfigError(f"start={start} s lies outside {scene.name}, which lasts {scene.duration:.1f} s")
        self.time = (np.arange(len(scene.ego.time)) - self.row) * TICK

    @cached_property
    def ego(self) -> np.ndarray:
        """(T, 3) x, y, yaw of the centre of the logged ego's box."""
        pose = self.scene.ego.global_from_ego
        yaw = yaw_of(pose)
        ahead = self.vehicle.rear_axle_to_center
        return np.column_stack(
            [pose[:, 0, 3] + ahead * deterministic.cos(yaw), pose[:, 1, 3] + ahead * deterministic.sin(yaw), yaw]
        )

    @cached_property
    def ego_arc(self) -> np.ndarray:
        """(T,) arc length on the route of the centre of the logged ego's box."""
        return self.route.follow(self.ego[:, :2])

    @property
    def origin(self) -> float:
        """Arc length that ``ahead`` is counted from."""
        return float(self.ego_arc[self.row])

    def row_after(self, seconds: float) -> int:
        """The first row not earlier than so many seconds after the start. Raises ConfigError past the log's end."""
        row = self.row + math.ceil(seconds / TICK - 1e-6)
        if row >= len(self.time):
            raise ConfigError(f"{seconds:g} s after the start is past the end of {self.scene.name} ({self.time[-1]:.1f} s)")
        return row

    def ego_arc_after(self, seconds: float) -> float:
        """Arc length of the logged ego so many seconds after the start, at its last speed past the log's end."""
        beyond = max(seconds - float(self.time[-1]), 0.0)
        return float(np.interp(seconds, self.time, self.ego_arc)) + beyond * max(float(self.scene.ego.speed[-1]), 0.0)

    def arrival(self, ahead: float, edit: str) -> float:
        """Seconds after the start at which the front of the logged ego is ``ahead`` metres along the route.

        Raises ConfigError, naming the edit, where it never gets there.
        """
        arc = np.maximum.accumulate(self.ego_arc[self.row :]) + self.vehicle.length / 2
        wanted = self.origin + ahead
        if not arc[0] < wanted <= arc[-1]:
            raise ConfigError(
                f"{edit}: the logged ego of {self.scene.name} does not pass {ahead:g} m ahead of the start (its front covers "
                f"{arc[0] - self.origin:.1f} to {arc[-1] - self.origin:.1f} m): choose ahead between them"
            )
        return float(np.interp(wanted, arc + 1e-9 * np.arange(len(arc)), self.time[self.row :]))

    def place(self, arc: np.ndarray, lateral: np.ndarray) -> np.ndarray:
        """(N, 3) x, y and the route's heading at arc lengths (N,) and offsets to the left (N,); past its ends straight on."""
        arc, lateral = np.broadcast_arrays(np.asarray(arc, float), np.asarray(lateral, float))
        poses = self.route.sample(arc)
        beyond = arc - np.clip(arc, 0.0, self.route.length)
        cos, sin = deterministic.cos(poses[:, 2]), deterministic.sin(poses[:, 2])
        x = poses[:, 0] + cos * beyond - sin * lateral
        y = poses[:, 1] + sin * beyond + cos * lateral
        return np.column_stack([x, y, poses[:, 2]])

    def beside(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) the places in the middle of the route beside the points (N, 2) of a path; past its ends straight on."""
        arc = self.route.follow(xy)
        middle, heading = np.split(self.place(arc, np.zeros(len(arc))), [2], axis=1)
        course = np.column_stack([deterministic.cos(heading[:, 0]), deterministic.sin(heading[:, 0])])
        outside = (arc < 1e-6) | (arc > self.route.length - 1e-6)
        return middle + course * np.where(outside, ((xy - middle) * course).sum(1), 0.0)[:, None]

    def ground(self, xy: np.ndarray) -> np.ndarray:
        """(N,) height of the ground at points (N, 2): that below the logged ego and below the nearest standing boxes.

        The nearest samples count with the inverse of their squared distance.
        """
        spots = self._ground_samples
        square = ((xy[:, None] - spots[:, :2]) ** 2).sum(-1)  # (N, S)
        nearest = np.argsort(square, axis=1, kind="stable")[:, :_GROUND_NEIGHBOURS]
        weight = 1 / (np.take_along_axis(square, nearest, 1) + 0.01)
        return (weight * spots[nearest, 2]).sum(1) / weight.sum(1)

    @cached_property
    def _ground_samples(self) -> np.ndarray:
        """(S, 3) points known to be on the ground: below the logged ego every half second and below boxes at the start."""
        log = self.scene.ego.global_from_ego[::5, :3, 3]
        tracks = self.scene.recorded.tracks
        here = np.flatnonzero(tracks.valid[:, self.row])
        below = tracks.position[here, self.row] - np.array([0, 0, 0.5]) * tracks.size[here, 2:]
        return np.concatenate([log, below])


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
        if -1.0 < ahead < _LEAD and abs(lateral) < corridor and abs(turn) < _ALIGNED and (best is None or ahead < best[0]):
            best = (ahead, index)
    if best is None:
        raise ConfigError(
            f"{edit}: target 'lead': no vehicle drives within {_LEAD:g} m ahead on the route of {frame.scene.name} at the start: "
            "choose another start or target"
        )
    return best[1]


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
        took = np.diff(rows)[:, None] * TICK  # longer where the log does not know it for a while
        steps = np.diff(here, axis=0) / took
        most = float(np.hypot(*(np.diff(steps, axis=0) / ((took[1:] + took[:-1]) / 2)).T).max())
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
    """Tracks whose objects at ``indices`` are never there; their rows stay, so that the others keep theirs."""
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
    number, rows = len(tracks) - len(frame.scene.recorded.tracks), len(tracks.time)
    name, mean_size = INSERTED[category]
    grown = replace(
        tracks,
        instance=(*tracks.instance, f"edit-{number}"),
        name=(*tracks.name, name),
        category=np.append(tracks.category, np.int8(CATEGORIES.index(category))),
        size=np.concatenate([tracks.size, np.array([size or mean_size], float)]),
        position=np.concatenate([tracks.position, np.zeros((1, rows, 3))]),
        yaw=np.concatenate([tracks.yaw, np.zeros((1, rows))]),
        velocity=np.concatenate([tracks.velocity, np.zeros((1, rows, 2))]),
        valid=np.concatenate([tracks.valid, np.zeros((1, rows), bool)]),
    )
    return with_motion(frame, grown, len(tracks), motion, 0)


def check_free(
    frame: EditFrame, tracks: Tracks, index: int, what: str, apart_from: tuple[int, ...] = (), since: int | None = None
) -> None:
    """Raises ConfigError if object ``index`` overlaps another, or the logged ego, where it first appears from the start, or from
    row ``since``, on."""
    begin = frame.row if since is None else since
    there = np.flatnonzero(tracks.valid[index, begin:])
    if not len(there):
        raise ConfigError(f"{what}: it would never be there between the start and the end of {frame.scene.name}")
    row = begin + int(there[0])
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
