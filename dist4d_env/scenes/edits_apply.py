"""Edits applied to a scene: each kind of edit as a pure function from tracks to tracks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatch

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.edit_tracks import (
    INSERTED,
    EditFrame,
    Motion,
    check_free,
    find_all,
    find_target,
    moving,
    with_motion,
    with_object,
    without,
)
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Remove, Slow, Stop
from dist4d_env.scenes.scene import TICK, Scene, Tracks

WALK_UP = 1.5
"""m/s^2 with which a pedestrian starts and stops."""
DOOR = (1.0, 0.12, 1.1)
"""Length, thickness and height of a car's door in metres."""
_HINGE = 0.45  # m ahead of the middle of the car, where the front edge of a driver's door is
_RECOVERY = 1.5  # m/s^2 with which an agent speeds up again
_CREEP = 1.0  # m/s at which an agent behind its schedule passes a place where the log has it standing


def apply(edit: Edit, scene: Scene, start: float = 0.0) -> Scene:
    """The scene with an edit in it, for a scenario that starts at ``start`` (seconds since the first keyframe).

    Recorded objects keep their rows, inserted ones are appended; ``scene.recorded`` stays what it is. Raises ConfigError where
    the edit does not fit the scene: no such target, a place that is taken, an ego that never gets there, an impossible motion.
    """
    return apply_all((edit,), scene, start)


def apply_all(edits: Iterable[Edit], scene: Scene, start: float = 0.0) -> Scene:
    """``apply`` for one edit after the other; each works on the result of those before it."""
    frame, tracks = EditFrame(scene, start), scene.tracks
    for edit in edits:
        tracks = edited_tracks(edit, frame, tracks)
    return scene if tracks is scene.tracks else replace(scene, tracks=tracks, recorded_tracks=scene.recorded.tracks)


@singledispatch
def edited_tracks(edit: Edit, frame: EditFrame, tracks: Tracks) -> Tracks:
    """Tracks changed by one edit. Raises ConfigError as ``apply`` does."""
    raise ConfigError(f"{edit!r} is no edit")


@edited_tracks.register
def _remove(edit: Remove, frame: EditFrame, tracks: Tracks) -> Tracks:
    return without(tracks, find_all(frame, tracks, edit.target, edit.kind))


@edited_tracks.register
def _slow(edit: Slow | Stop, frame: EditFrame, tracks: Tracks) -> Tracks:
    """The target keeps its recorded path, never gets ahead of the log, is never faster at a place than the log was there, and
    stays in the scene until it reaches the end of its path."""
    index = find_target(frame, tracks, edit.target, edit.kind)
    first = frame.row_after(edit.at)
    here = np.flatnonzero(tracks.valid[index])
    if not tracks.valid[index, first]:
        raise ConfigError(
            f"{edit.kind}: {tracks.name[index]} {tracks.instance[index]} is not there {edit.at:g} s after the start"
        )
    xy, yaw = tracks.position[index, here, :2], np.unwrap(tracks.yaw[index, here])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    rows = np.arange(len(tracks.time))
    schedule = np.interp(rows, here, arc)
    pace = np.diff(schedule, append=schedule[-1]) / TICK
    speed = edit.speed if isinstance(edit, Slow) else 0.0
    driven = _drive(schedule, pace, first, speed, edit.deceleration, edit.hold)
    valid = tracks.valid[index].copy()
    valid[first:] = (driven[first:] < arc[-1] - 1e-6) | tracks.valid[index, first:]
    distinct = np.concatenate([[True], np.diff(arc) > 1e-9])  # standing rows would make the yaw ambiguous
    path = np.column_stack([np.interp(driven, arc[distinct], column[distinct]) for column in (xy[:, 0], xy[:, 1], yaw)])
    return with_motion(frame, tracks, index, Motion(path[:, :2], path[:, 2], valid), first)


@edited_tracks.register
def _insert(edit: Insert, frame: EditFrame, tracks: Tracks) -> Tracks:
    what = f"insert: the {edit.category}"
    time, first = frame.time, frame.row_after(edit.at)
    valid = np.arange(len(time)) >= first
    driven = np.where(valid, _driven(edit, time, time[first]), 0.0)
    if edit.straight:
        x, y, heading = frame.place(np.array([frame.origin + edit.ahead]), np.array([edit.lateral]))[0]
        course = heading + edit.heading
        xy = np.column_stack([x + driven * math.cos(course), y + driven * math.sin(course)])
        motion = moving(xy, np.full(len(time), course), valid, what)
    else:
        direction = 1.0 if math.cos(edit.heading) >= 0 else -1.0
        poses = frame.place(frame.origin + edit.ahead + direction * driven, np.full(len(time), edit.lateral))
        motion = moving(poses[:, :2], poses[:, 2] + edit.heading, valid, what)
    return _added(frame, tracks, edit.category, edit.size, motion, what)


@edited_tracks.register
def _cut_in(edit: CutIn, frame: EditFrame, tracks: Tracks) -> Tracks:
    time, end = frame.time, edit.at + edit.duration
    blend = _smooth((time - edit.at) / edit.duration)
    if edit.target:
        return _moved_over(frame, tracks, edit, blend)
    what = f"cut_in: the {edit.category}"
    length = (edit.size or INSERTED[edit.category][1])[0]
    finish = frame.ego_arc_after(end) + frame.vehicle.length / 2 + edit.gap + length / 2
    slowing = min(max(edit.speed - edit.final_speed, 0.0) / edit.deceleration, 1e6) if edit.deceleration else 0.0
    after = np.clip(time - end, 0.0, None)
    braked = np.minimum(after, slowing)
    arc = finish + edit.speed * (np.minimum(time - end, 0.0) + braked) - edit.deceleration * braked**2 / 2
    arc += (edit.final_speed if slowing else edit.speed) * (after - braked)
    poses = frame.place(arc, edit.lateral * (1 - blend))
    motion = moving(poses[:, :2], poses[:, 2], time >= -1e-6, what)
    return _added(frame, tracks, edit.category, edit.size, motion, what)


@edited_tracks.register
def _jaywalk(edit: Jaywalk, frame: EditFrame, tracks: Tracks) -> Tracks:
    time, what = frame.time, "jaywalk: the pedestrian"
    goal = -edit.lateral if edit.to is None else edit.to
    middle = frame.arrival(edit.ahead, edit.kind) - edit.early
    side, distance = math.copysign(1.0, -edit.lateral), abs(goal - edit.lateral)
    start = middle - _time_until(abs(edit.lateral), edit.speed, distance)
    if start < 0:
        raise ConfigError(
            f"jaywalk: to be in the middle of the route {edit.early:g} s before the logged ego, the pedestrian would have to set "
            f"out {-start:.1f} s before the scenario starts: choose more ahead, more speed or less lateral"
        )
    walked = _walk(time - start, edit.speed, distance)
    poses = frame.place(np.full(len(time), frame.origin + edit.ahead), edit.lateral + side * walked)
    facing = poses[:, 2] + side * math.pi / 2
    motion = moving(poses[:, :2], facing, time >= -1e-6, what)
    return _added(frame, tracks, "pedestrian", edit.size, motion, what)


@edited_tracks.register
def _crossing(edit: Cross, frame: EditFrame, tracks: Tracks) -> Tracks:
    time, what = frame.time, f"cross: the {edit.category}"
    middle = frame.arrival(edit.ahead, edit.kind) - edit.early
    x, y, heading = frame.place(np.array([frame.origin + edit.ahead]), np.zeros(1))[0]
    course = heading + (edit.angle if edit.side == "right" else -edit.angle)
    driven = edit.speed * (time - middle)
    xy = np.column_stack([x + driven * math.cos(course), y + driven * math.sin(course)])
    motion = moving(xy, np.full(len(time), course), time >= -1e-6, what)
    return _added(frame, tracks, edit.category, edit.size, motion, what)


@edited_tracks.register
def _oncoming(edit: Oncoming, frame: EditFrame, tracks: Tracks) -> Tracks:
    time, what = frame.time, f"oncoming: the {edit.category}"
    begin = edit.meet - edit.early - edit.duration
    arc = frame.ego_arc_after(edit.meet) - edit.speed * (time - edit.meet)
    offset = edit.lateral + (edit.into - edit.lateral) * _smooth((time - begin) / edit.duration)
    poses = frame.place(arc, offset)
    motion = moving(poses[:, :2], poses[:, 2] + math.pi, time >= -1e-6, what)
    return _added(frame, tracks, edit.category, edit.size, motion, what)


@edited_tracks.register
def _door(edit: Door, frame: EditFrame, tracks: Tracks) -> Tracks:
    """Tracks with the parked car of ``Door``, if it is new, and its door: a thin box hinged at its front edge.

    The door is there from when it begins to open; it turns about its hinge, so its velocity is no motion along its yaw.
    """
    time = frame.time
    if edit.target:
        car = find_target(frame, tracks, edit.target, edit.kind)
        there = tracks.valid[car]
        if not there[frame.row] or np.ptp(tracks.position[car, there, :2], axis=0).max() >= 0.5:
            raise ConfigError(f"door: {tracks.name[car]} {tracks.instance[car]} is not parked there at the start")
    else:
        place = frame.place(np.array([frame.origin + edit.ahead]), np.array([edit.lateral]))[0]
        still = np.tile(place, (len(time), 1))
        motion = Motion(still[:, :2], still[:, 2], time >= -1e-6)
        tracks = _added(frame, tracks, "car", edit.size, motion, "door: the parked car")
        car = len(tracks) - 1
    x, y = tracks.position[car, frame.row, :2].tolist()
    yaw, (length, width, _) = float(tracks.yaw[car, frame.row]), tracks.size[car].tolist()
    arc, lateral, _ = frame.route.project(x, y)
    # The door is on the side of the car that faces the route.
    left_of_car = math.cos(yaw - frame.place(np.array([arc]), np.zeros(1))[0, 2]) * -lateral > 0
    side = 1.0 if left_of_car else -1.0
    along = min(_HINGE, length / 4)
    hinge = np.array([x, y]) + along * _unit(yaw) + side * width / 2 * _unit(yaw + math.pi / 2)
    opened = frame.arrival(arc - frame.origin, edit.kind) - edit.before
    turn = edit.angle * _smooth((time - opened + edit.duration) / edit.duration)
    course = yaw + math.pi - side * turn  # from the hinge backwards, swinging outwards
    xy = hinge + DOOR[0] / 2 * np.column_stack([deterministic.cos(course), deterministic.sin(course)])
    valid = time >= max(opened - edit.duration, 0.0) - 1e-6
    result = with_object(frame, tracks, "other", DOOR, Motion(xy, course, valid))
    result = replace(result, part_of={**result.part_of, len(result) - 1: car})
    check_free(frame, result, len(result) - 1, "door: the door", apart_from=(car,))
    return result


def _added(frame: EditFrame, tracks: Tracks, category: str, size: tuple[float, ...] | None, motion: Motion, what: str) -> Tracks:
    result = with_object(frame, tracks, category, size, motion)
    check_free(frame, result, len(result) - 1, what)
    return result


def _moved_over(frame: EditFrame, tracks: Tracks, edit: CutIn, blend: np.ndarray) -> Tracks:
    """A recorded vehicle keeps its pace along the route, also before and past its ends, while its offset fades."""
    index = find_target(frame, tracks, edit.target, edit.kind)
    if CATEGORIES[tracks.category[index]] == "pedestrian":
        raise ConfigError(f"cut_in: {tracks.instance[index]} is a pedestrian: choose a vehicle, or jaywalk")
    first = frame.row_after(edit.at)
    if not tracks.valid[index, first]:
        raise ConfigError(f"cut_in: {tracks.name[index]} {tracks.instance[index]} is not there {edit.at:g} s after the start")
    rows, what = np.arange(len(tracks.time)), f"cut_in: {tracks.instance[index]}"
    there = np.flatnonzero(tracks.valid[index] & (rows >= first))
    xy = tracks.position[index, :, :2].copy()
    xy[there] += blend[there, None] * (frame.beside(xy[there]) - xy[there])
    # With the rows before: how it leaves its recorded path counts, too.
    motion = moving(xy, tracks.yaw[index], tracks.valid[index] & (rows >= first - 2), what)
    result = with_motion(frame, tracks, index, replace(motion, valid=tracks.valid[index]), first)
    done = int(np.searchsorted(frame.time[there], edit.at + edit.duration - 1e-6))
    check_free(frame, result, index, what, since=int(there[min(done, len(there) - 1)]))
    return result


def _driven(edit: Insert, time: np.ndarray, begin: float) -> np.ndarray:
    """(T,) metres driven since ``begin`` at every row."""
    if not edit.profile:
        return edit.speed * (time - begin)
    at, speed = np.array(edit.profile, float).T
    pace = np.interp(time, at, speed)
    driven = np.concatenate([[0.0], np.cumsum((pace[1:] + pace[:-1]) / 2 * TICK)])
    return driven - np.interp(begin, time, driven)


def _smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 with no speed and no acceleration at either end (quintic)."""
    u = np.clip(share, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u**2)


def _time_for(distance: float, speed: float) -> float:
    """Seconds that a pedestrian who starts from rest takes for a distance."""
    ramp = speed**2 / (2 * WALK_UP)
    return math.sqrt(2 * distance / WALK_UP) if distance < ramp else speed / WALK_UP + (distance - ramp) / speed


def _time_until(part: float, speed: float, distance: float) -> float:
    """Seconds after setting out at which ``_walk`` has walked a part of its distance; it stops as it starts."""
    if part <= distance / 2:
        return _time_for(part, speed)
    return 2 * _time_for(distance / 2, speed) - _time_for(distance - part, speed)


def _walk(time: np.ndarray, speed: float, distance: float) -> np.ndarray:
    """(T,) metres walked of ``distance`` so long after setting out: from rest to ``speed`` and back to rest."""
    speed = min(speed, math.sqrt(WALK_UP * distance))
    ramp = speed / WALK_UP
    cruise = distance / speed - ramp
    t = np.clip(time, 0.0, 2 * ramp + cruise)
    up, level, down = np.minimum(t, ramp), np.clip(t - ramp, 0.0, cruise), np.clip(t - ramp - cruise, 0.0, ramp)
    return WALK_UP * up**2 / 2 + speed * level + speed * down - WALK_UP * down**2 / 2


def _unit(yaw: float) -> np.ndarray:
    return np.array([math.cos(yaw), math.sin(yaw)])


def _drive(
    schedule: np.ndarray, pace: np.ndarray, first: int, speed: float, deceleration: float, hold: float | None
) -> np.ndarray:
    """(T,) arc lengths that follow the schedule until row ``first`` and then the slower profile."""
    driven = schedule.copy()
    s, v = float(schedule[first]), float(pace[first])
    held = 0.0
    for row in range(first, len(schedule) - 1):
        behind = float(schedule[row]) - s
        braking = hold is None or held < hold
        if braking:
            held += TICK if v <= speed + 1e-9 else 0.0
        wish = max(v - deceleration * TICK, min(speed, v)) if braking else v + _RECOVERY * TICK
        s_log = float(schedule[row + 1])
        v = min(wish, _pace_at(s, schedule, pace, behind))
        v = min(v, (s_log - s) / TICK)
        s += v * TICK
        driven[row + 1] = s
    return driven


def _pace_at(s: float, schedule: np.ndarray, pace: np.ndarray, behind: float) -> float:
    """How fast the log was when it passed ``s``; an agent behind its schedule need not stand where the log stood."""
    row = int(np.searchsorted(schedule, s, side="right")) - 1
    row = min(max(row, 0), len(pace) - 1)
    logged = float(pace[row])
    return max(logged, _CREEP) if behind > 0.5 else (logged if behind > 1e-6 else math.inf)
