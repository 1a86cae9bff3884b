"""Measures of difficulty: what it takes to come through a scenario on the recorded path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.metrics.driving.rectangles import ego_centers, overlap
from dist4d_env.scenes.scene import TICK, Scene

REACTION = 1.0
"""Seconds between the moment when something goes wrong and the ego's braking."""
HARDEST = 8.0
"""m/s^2 beyond which no braking is expected."""
_STEP = 0.1  # m/s^2, resolution of the required deceleration
_BEHIND = math.radians(150)


@dataclass(frozen=True)
class Window:
    """The part of a scene that a scenario plays in: rows ``first`` to ``last`` of the 10 Hz log, both included."""

    first: int
    last: int

    @classmethod
    def of(cls, scene: Scene, start: float, horizon: float) -> Window:
        first = round(start / TICK)
        return cls(first, min(first + round(horizon / TICK), len(scene.ego.time) - 1))

    @property
    def rows(self) -> slice:
        return slice(self.first, self.last + 1)


def edited_tracks(scene: Scene) -> np.ndarray:
    """Rows of the objects that edits have changed or added and not taken away."""
    return np.flatnonzero(scene.edited & scene.tracks.valid.any(1))


def required_deceleration(scene: Scene, window: Window, onset: float, reaction: float = REACTION) -> float:
    """The smallest constant deceleration (m/s^2) on the recorded path that avoids the edited agents.

    The ego drives as recorded until ``reaction`` seconds after ``onset`` (seconds since the window's start), then brakes. 0 where
    the recorded drive itself touches none of them, inf where HARDEST does not suffice. Agents that run into a standing ego, or
    into its back, do not count.
    """
    decelerations = np.arange(0.0, HARDEST + _STEP / 2, _STEP)
    safe = ~contacts(scene, window, braked(scene, window, onset + reaction, decelerations), edited_tracks(scene)).any(1)
    # The answer must hold for everything harder, too: braking a little may let a crossing agent by in front, by luck.
    harder = np.logical_and.accumulate(safe[::-1])[::-1]
    if safe[0]:
        return 0.0
    return float(decelerations[np.argmax(harder)]) if harder.any() else math.inf


def braked(scene: Scene, window: Window, begin: float, decelerations: np.ndarray) -> np.ndarray:
    """Ego rows (D, T, 7) that follow the recorded path and brake with each of (D,) from ``begin`` seconds on."""
    log = scene.ego
    poses = log.global_from_ego[window.rows]
    xy, yaw = poses[:, :2, 3], np.unwrap(yaw_of(poses))
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    time = np.arange(len(arc)) * TICK
    at = float(np.interp(begin, time, arc))
    speed = max(float(np.interp(begin, time, log.speed[window.rows])), 0.0)
    since = np.maximum(time - begin, 0.0)
    with np.errstate(divide="ignore"):
        stop = np.where(decelerations > 0, speed / decelerations, np.inf)[:, None]
    driving = np.minimum(since, stop)
    d = decelerations[:, None]
    driven = np.minimum(np.where(time < begin, arc, at + speed * driving - d * driving**2 / 2), arc)
    driven[decelerations == 0] = arc  # no braking at all is the log itself
    distinct = np.concatenate([[True], np.diff(arc) > 1e-6])
    rows = np.zeros((len(decelerations), len(time), 7))
    for column, values in enumerate((xy[:, 0], xy[:, 1], yaw)):
        rows[..., column] = np.interp(driven, arc[distinct], values[distinct])
    rows[..., 3] = np.gradient(driven, TICK, axis=1)
    return rows


def contacts(scene: Scene, window: Window, ego: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(D, T) whether ego rows (D, T, 7) touch one of some tracks while they move and not from behind."""
    vehicle, tracks = VehicleParameters(), scene.tracks
    own, centre = np.array([vehicle.length, vehicle.width]), ego_centers(ego, vehicle)
    hit = np.zeros(ego.shape[:2], bool)
    for index in indices.tolist():
        position, yaw = tracks.position[index, window.rows, :2], tracks.yaw[index, window.rows]
        touch = overlap(centre, ego[..., 2], own, position, yaw, tracks.size[index, :2]) & tracks.valid[index, window.rows]
        toward = np.arctan2(position[:, 1] - ego[..., 1], position[:, 0] - ego[..., 0])
        behind = np.abs((toward - ego[..., 2] + np.pi) % (2 * np.pi) - np.pi) > _BEHIND
        hit |= touch & (ego[..., 3] > 0.05) & ~behind
    return hit


def time_to_road_edge(scene: Scene, x: float, y: float, yaw: float, speed: float, longest: float = 8.0) -> float:
    """Seconds until an ego that keeps its heading and speed has a corner off the drivable area, at most ``longest``."""
    assert scene.map is not None
    time = np.arange(0.0, longest + TICK / 2, TICK)
    rows = np.zeros((len(time), 7))
    rows[:, 0], rows[:, 1] = x + speed * time * math.cos(yaw), y + speed * time * math.sin(yaw)
    rows[:, 2], rows[:, 3] = yaw, speed
    off = off_drivable(scene.map, ego_corners(rows, VehicleParameters()))
    return float(time[np.argmax(off)]) if off.any() else longest


def strongest_demand(scene: Scene, window: Window) -> float:
    """The largest acceleration (m/s^2) of the recorded ego in the window, along and across together."""
    log = scene.ego
    along, across = log.acceleration[window.rows], log.speed[window.rows] * log.yaw_rate[window.rows]
    return float(np.hypot(along, across).max())


def overlapping(scene: Scene, window: Window) -> str | None:
    """The instance token of an object that an edited one meets in the window, None where none does: edits must not break the
    traffic. Edited ones among themselves are what the edits want."""
    tracks, edited = scene.tracks, edited_tracks(scene)
    for index in edited.tolist():
        own = tracks.position[index, window.rows, :2]
        for other in range(len(tracks)):
            if other == index or {index, other} <= set(edited.tolist()):
                continue
            both = tracks.valid[index, window.rows] & tracks.valid[other, window.rows]
            theirs = tracks.position[other, window.rows, :2]
            near = both & (np.hypot(*(own - theirs).T) < np.hypot(*(tracks.size[index, :2] + tracks.size[other, :2])) / 2)
            if not near.any():
                continue
            yaw, other_yaw = tracks.yaw[index, window.rows], tracks.yaw[other, window.rows]
            meets = near & overlap(own, yaw, tracks.size[index, :2], theirs, other_yaw, tracks.size[other, :2])
            if meets.any():
                return tracks.instance[other]
    return None


def off_the_road(scene: Scene, window: Window, radius: float = 50.0) -> bool:
    """Whether an inserted vehicle's centre leaves the drivable area in the window, within a radius of the recorded ego."""
    assert scene.map is not None
    tracks, ego = scene.tracks, scene.ego.global_from_ego[window.rows, :2, 3]
    for index in range(len(scene.recorded.tracks), len(tracks)):
        if not tracks.name[index].startswith("vehicle."):
            continue
        position = tracks.position[index, window.rows, :2]
        near = tracks.valid[index, window.rows] & (np.hypot(*(position - ego).T) < radius)
        if near.any() and off_drivable(scene.map, np.repeat(position[near, None], 4, 1)).any():
            return True
    return False
