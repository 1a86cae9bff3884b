"""What lane traffic knows of a scene: drivers, their ways along the map, the lanes beside them, and where they stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, VULNERABLE, rectangle_corners
from dist4d_env.scenes.lights import GREEN, RED
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.routing import along_graph
from dist4d_env.scenes.scene import TICK, Scene, Tracks
from dist4d_env.simulation import lane_kernels as kernels
from dist4d_env.simulation.kernels import records
from dist4d_env.simulation.lane_kernels import DRIVER, DRIVERS, GATE, LOGGED, SCENE, STILL, TRACK, Tables
from dist4d_env.simulation.paths import SPACING, Paths

EXTENSION = 100.0
"""Metres that a driver goes on along the lane graph beyond its log."""
LEAST_TRAVEL = 2.0  # m; what moved less is furniture and stays as logged
COLUMNS = 14
_JOINS = 2.5, 0.6  # m and rad between the end of a log and the lane that carries it on
_BEND = 4.0  # m before and after a place over which its bend is measured
_TIGHTEST = 0.04  # 1/m, the sharpest bend in which there are lanes beside
_SHORTEST_RUN = 30.0  # m, of lanes beside that count
_BREAK = 0.3  # m; a lane beside that is so much farther off half a metre on is another one
_AREA = 0.2  # m by which a body on a made way may stand out of the drivable area
_STANDS, _WAITS = 0.3, 15  # m/s, and ticks below it that make a wait
_FREE_ROAD = 8.0, 1.5  # m ahead and to either side without anybody: a wait is not for who stands in front
_BEFORE_CROSSING, _BESIDE_CROSSING = 1.0, 5.0  # m
_DRIVES = np.array([name in (*VEHICLES, "motorcycle") and name != "trailer" for name in CATEGORIES])
_VULNERABLE = np.array([name in VULNERABLE and name != "motorcycle" for name in CATEGORIES])

NO_SCENES = Tables(
    np.zeros(0, SCENE),
    np.zeros(0, TRACK),
    np.zeros(0, DRIVERS),
    np.zeros(0, GATE),
    np.zeros(0, kernels.PARAMETERS),
    schedule=np.zeros((0, 2)),
    samples=np.zeros((0, COLUMNS)),
    states=np.zeros(0, np.int8),
    log=np.zeros((0, 6)),
    logged=np.zeros(0, bool),
)


def tables_of(scene: Scene, sideways: float, braking: float) -> Tables:
    """A scene's drivers, their ways and its log; parameters as in ``lanes.LaneParameters`` and left out of the tables."""
    tracks, rows, count = scene.tracks, len(scene.tracks.time), len(scene.tracks)
    moves = np.array([_moves(tracks, index) for index in range(count)], bool)
    edited = scene.edited
    drives = moves & _DRIVES[tracks.category] & ~edited
    driving = np.flatnonzero(drives)
    paths = Paths.of(tracks, driving)
    crossings = _occupied_crossings(scene)
    ways, gates, states = [], [], [np.zeros(0, np.int8)]
    for number, index in enumerate(driving.tolist()):
        way = _way(scene, paths, number, tracks.size[index, :2])
        way[:, kernels.LIMIT] = _limits(way, paths, number, sideways, braking)
        own, closed = _gates(scene, paths, number, index, way, crossings)
        ways.append(way)
        gates.append(records(GATE, len(own), at=own, states=sum(map(len, states)) + np.arange(len(own)) * rows))
        states.append(closed.ravel())
    lengths, met = np.array([len(way) for way in ways], int), np.array([len(own) for own in gates], int)
    drivers = records(
        DRIVERS,
        len(driving),
        length=tracks.size[driving, 0],
        width=tracks.size[driving, 1],
        fastest=_fastest(paths),
        end=np.where(lengths * SPACING > paths.end + 2.0, (lengths - 1) * SPACING, paths.end),
        logged_end=paths.end,
        track=driving,
        first=paths.first,
        last=paths.last,
        schedule=np.arange(len(driving)) * rows,
        samples=np.cumsum(lengths) - lengths,
        samples_last=lengths - 2,
        gates=np.cumsum(met) - met,
        gate_count=met,
    )
    logged = np.concatenate([tracks.position, (tracks.yaw[..., None] + np.pi) % (2 * np.pi) - np.pi, tracks.velocity], -1)
    return Tables(
        scenes=records(SCENE, 1, driver_count=len(driving), track_count=count, rows=rows),
        tracks=_track_records(tracks, drives, np.where(moves | edited, LOGGED, STILL)),
        drivers=drivers,
        gates=np.concatenate([NO_SCENES.gates, *gates]),
        parameters=NO_SCENES.parameters,
        schedule=np.stack([paths.schedule, paths.pace], -1).reshape(-1, 2),
        samples=np.concatenate([NO_SCENES.samples, *ways]),
        states=np.concatenate(states),
        log=logged.swapaxes(0, 1).reshape(-1, 6),
        logged=tracks.valid.T.ravel(),
    )


def joined(tables: Tables, added: list[Tables]) -> Tables:
    """The tables of all scenes one behind the other."""
    parts = [tables]
    for each in added:
        scenes, drivers, gates = each.scenes.copy(), each.drivers.copy(), each.gates.copy()
        had = {name: sum(len(getattr(part, name)) for part in parts) for name in Tables._fields}
        for name in ("drivers", "tracks", "log"):
            scenes[name] = had[name]
        for name in ("schedule", "samples", "gates"):
            drivers[name] += had[name]
        gates["states"] += had["states"]
        parts.append(each._replace(scenes=scenes, drivers=drivers, gates=gates))
    return Tables(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _moves(tracks: Tracks, index: int) -> bool:
    points = tracks.position[index, tracks.valid[index], :2]
    return len(points) > 1 and bool(np.linalg.norm(points - points[0], axis=1).max() > LEAST_TRAVEL)


def _track_records(tracks: Tracks, drives: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Who drives, who moves as logged and what stands, and where that is whether or not anybody sees it at the time."""
    first = tracks.valid.argmax(1) if len(tracks) else np.zeros(0, int)
    index = np.arange(len(tracks))
    yaw = tracks.yaw[index, first]
    never = ~tracks.valid.any(1)
    return records(
        TRACK,
        len(tracks),
        length=tracks.size[:, 0],
        width=tracks.size[:, 1],
        x=np.where(never, 1e9, tracks.position[index, first, 0]),
        y=tracks.position[index, first, 1],
        cos=deterministic.cos(yaw),
        sin=deterministic.sin(yaw),
        driver=np.where(drives, np.cumsum(drives) - 1, -1),
        kind=np.where(drives, DRIVER, kind),
        vulnerable=_VULNERABLE[tracks.category],
    )


def _fastest(paths: Paths) -> np.ndarray:
    """m/s of each path's fastest second."""
    if not len(paths.end):
        return np.zeros(0)
    second = np.diff(paths.schedule[:, :: round(1 / TICK)], axis=1) if paths.schedule.shape[1] > 10 else paths.pace
    return np.asarray(np.maximum(second.max(axis=1, initial=0.0), np.median(paths.pace, axis=1)))


def _way(scene: Scene, paths: Paths, number: int, size: np.ndarray) -> np.ndarray:
    """(P, 14) samples of a driver's way: its logged path, the lane graph beyond it and the lanes beside both."""
    count = int(np.ceil(paths.end[number] / SPACING - 1e-6)) + 1
    samples = paths.samples[number, : max(count, 2)]
    way = np.zeros((len(samples), COLUMNS))
    way[:, :6] = samples
    if scene.map is not None and scene.map.lanes:
        way = np.concatenate([way, _carried_on(way, paths.end[number], scene.map, size)])
    way[:, kernels.COS], way[:, kernels.SIN] = deterministic.cos(way[:, 3]), deterministic.sin(way[:, 3])
    way[:, kernels.CALM_RUN] = np.inf
    if scene.map is not None and scene.map.lanes:
        _lanes_beside(way, scene.map, size)
    return way


def _carried_on(way: np.ndarray, end: float, lane_map: SceneMap, size: np.ndarray) -> np.ndarray:
    """Samples of the way beyond the logged path, as far as the body stays on the drivable area; none where no lane is near."""
    x, y, z, yaw = way[-1, :4]
    found = lane_map.nearest_lane_point(x, y, yaw, _JOINS[0])
    none = np.zeros((0, COLUMNS))
    if found is None or abs((found[0].centerline[found[1], 2] - yaw + np.pi) % (2 * np.pi) - np.pi) > _JOINS[1]:
        return none
    forward = way[-1, 4] * deterministic.cos(yaw) + way[-1, 5] * deterministic.sin(yaw)
    points, _ = along_graph(np.array([x, y]), lane_map, found[0].token, EXTENSION)
    if forward < 0.5 or len(points) < 5:
        return none
    points = np.concatenate([way[-1:, :2], points])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.arange(1, int(arc[-1] / SPACING)) * SPACING
    place = np.stack([np.interp(at, arc, points[:, 0]), np.interp(at, arc, points[:, 1])], -1)
    step = np.gradient(np.concatenate([way[-3:, :2], place]), axis=0)[3:]
    turn = _smooth(np.unwrap(np.concatenate([[yaw], deterministic.arctan2(step[:, 1], step[:, 0])])))[1:]
    added = np.zeros((len(at), COLUMNS))
    added[:, :2], added[:, 2], added[:, 3] = place, z, turn + _blend_out(yaw - turn[0], at)
    added[:, 4], added[:, 5] = deterministic.cos(turn), deterministic.sin(turn)
    off = ~_within(lane_map, place, added[:, 3], size)
    return added[: int(off.argmax())] if off.any() else added


def _blend_out(change: float, at: np.ndarray) -> np.ndarray:
    """A turn (rad) that fades out over ten metres."""
    return np.asarray(((change + np.pi) % (2 * np.pi) - np.pi) * np.clip(1 - at / 10.0, 0.0, 1.0))


def _smooth(values: np.ndarray, reach: int = 4) -> np.ndarray:
    """Means over ``reach`` samples to either side, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), reach)
    return np.asarray((total[index + half + 1] - total[index - half]) / (2 * half + 1))


def _within(lane_map: SceneMap, place: np.ndarray, yaw: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(P,) whether a body at places (P, 2) is on the drivable area; true where there is none."""
    if lane_map.drivable.is_empty:
        return np.ones(len(place), bool)
    inner = np.maximum(size - 2 * _AREA, 0.1)
    corners = rectangle_corners(place[:, 0], place[:, 1], yaw, np.full(len(place), inner[0]), np.full(len(place), inner[1]))
    return np.asarray(lane_map.on_drivable(corners).all(-1))


def _lanes_beside(way: np.ndarray, lane_map: SceneMap, size: np.ndarray) -> None:
    """Fills in the columns of the lanes beside a way, and how far it is to the next junction."""
    place, yaw = way[:, :2], way[:, 3]
    beside = lane_map.lanes_beside(way[:, [0, 1, 3]])
    backwards = (way[:, 4:6] * way[:, [kernels.COS, kernels.SIN]]).sum(1) < 0.5
    beside[backwards | (np.abs(_bends(way)) > _TIGHTEST)] = np.nan
    normal = np.stack([-way[:, kernels.SIN], way[:, kernels.COS]], -1)
    for side, (column, run) in enumerate(((kernels.LEFT, kernels.LEFT_RUN), (kernels.RIGHT, kernels.RIGHT_RUN))):
        offset = beside[:, side]
        for part in (1.0, 0.5):
            known = np.isfinite(offset)
            there = place[known] + part * offset[known, None] * normal[known]
            offset[np.flatnonzero(known)[~_within(lane_map, there, yaw[known], size)]] = np.nan
        way[:, column], way[:, run] = _runs(offset)
    way[:, kernels.CALM_RUN] = _ahead(~lane_map.in_intersection(place))


def _runs(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (P,) smoothed within stretches without a gap and held in between, and how many metres each stretch goes on."""
    known = np.isfinite(offset)
    breaks = np.flatnonzero(~known | ~(np.abs(np.diff(offset, prepend=offset[:1])) < _BREAK))
    smooth, ahead = np.full(len(offset), np.nan), np.zeros(len(offset))
    for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(offset)], strict=True):
        begin += not known[begin] if begin < len(offset) else 0
        if (end - begin) * SPACING >= _SHORTEST_RUN and known[begin:end].all():
            smooth[begin:end] = _smooth(offset[begin:end], 12)
            ahead[begin:end] = (end - np.arange(begin, end)) * SPACING
    there = np.flatnonzero(np.isfinite(smooth))
    if not len(there):
        return np.zeros(len(offset)), ahead
    nearest = there[np.clip(np.searchsorted(there, np.arange(len(offset)), side="right") - 1, 0, None)]
    return smooth[nearest], ahead


def _ahead(fine: np.ndarray) -> np.ndarray:
    """(P,) metres for which it goes on being fine."""
    last = np.where(fine, len(fine), np.arange(len(fine)))
    return np.asarray((np.minimum.accumulate(last[::-1])[::-1] - np.arange(len(fine))) * SPACING)


def _bends(way: np.ndarray) -> np.ndarray:
    """(P,) curvature in 1/m."""
    reach = round(_BEND / SPACING)
    index = np.arange(len(way))
    before, after = np.maximum(index - reach, 0), np.minimum(index + reach, len(way) - 1)
    return np.asarray((way[after, 3] - way[before, 3]) / np.maximum((after - before) * SPACING, SPACING))


def _limits(way: np.ndarray, paths: Paths, number: int, sideways: float, braking: float) -> np.ndarray:
    """(P,) m/s: what bends allow, or more where the log drove faster, so that slowing down for it is comfortable."""
    rows = slice(paths.first[number], paths.last[number] + 1)
    at = np.arange(len(way)) * SPACING
    own = np.interp(at, paths.schedule[number, rows], paths.pace[number, rows], right=0.0)
    limit = np.maximum(np.sqrt(sideways / np.maximum(np.abs(_bends(way)), 1e-4)), own)
    for index in range(len(limit) - 2, -1, -1):
        limit[index] = min(limit[index], np.sqrt(limit[index + 1] ** 2 + 2 * braking * SPACING))
    return limit


def _gates(
    scene: Scene, paths: Paths, number: int, index: int, way: np.ndarray, crossings: list[tuple[Any, np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Metres (G,) along a way of the lines on it and their states (G, rows): lights, crossings, and waits of the log."""
    rows, path = len(scene.tracks.time), way[:, :2]
    at, states = [], []
    place, light = scene.lights.met(path)
    steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    for metres, which in zip(place.tolist(), light.tolist(), strict=True):
        at.append(float(np.interp(metres, steps, np.arange(len(way)) * SPACING)))
        states.append(scene.lights.rows(np.arange(rows))[which])
    line = shapely.LineString(path)
    for polygon, row, people in crossings:
        if not line.intersects(polygon):
            continue
        near = shapely.distance(line, shapely.points(people)) < _BESIDE_CROSSING
        if near.any():
            inside = shapely.intersects_xy(polygon, path[:, 0], path[:, 1])
            first = float(np.flatnonzero(inside)[0] if inside.any() else 0) * SPACING
            at.append(max(first - _BEFORE_CROSSING, 0.0))
            state = np.full(rows, GREEN, np.int8)
            state[row[near]] = RED
            states.append(state)
    if not len(scene.lights):
        for metres, until in _waits(scene, paths, number, index):
            at.append(metres)
            states.append(np.where(np.arange(rows) < until, RED, GREEN).astype(np.int8))
    return np.array(at), np.array(states, np.int8).reshape(-1, rows)


def _occupied_crossings(scene: Scene) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Pedestrian crossings with the rows (K,) at which somebody is on them, and where (K, 2)."""
    polygons = () if scene.map is None else scene.map.layers["ped_crossing"]
    tracks = scene.tracks
    there = tracks.valid & _VULNERABLE[tracks.category][:, None]
    there &= np.hypot(*np.moveaxis(tracks.velocity, -1, 0)) > _STANDS
    who, row = np.nonzero(there)
    people = tracks.position[who, row, :2]
    found = []
    for polygon in polygons:
        grown = polygon.buffer(0.5)
        on = shapely.intersects_xy(grown, people[:, 0], people[:, 1])
        if on.any():
            found.append((grown, row[on], people[on]))
    return found


def _waits(scene: Scene, paths: Paths, number: int, index: int) -> list[tuple[float, int]]:
    """Where the front of a logged driver waited with a free road (m along its path) and until which row."""
    tracks, edited, found = scene.tracks, scene.edited, []
    ahead, beside = _FREE_ROAD
    stands = paths.pace[number] < _STANDS
    row, last = int(paths.first[number]), int(paths.last[number])
    while row < last:
        end = row
        while end < last and stands[end]:
            end += 1
        if end - row >= _WAITS and end < last:
            middle = (row + end) // 2
            others = tracks.valid[:, middle] & ~edited & (np.arange(len(tracks)) != index)
            place = np.vstack([tracks.position[others, middle, :2], scene.ego.global_from_ego[middle, :2, 3]])
            dx, dy = (place - tracks.position[index, middle, :2]).T
            yaw = tracks.yaw[index, middle]
            cos, sin, half = deterministic.cos(yaw), deterministic.sin(yaw), tracks.size[index, 0] / 2
            along, left = cos * dx + sin * dy, cos * dy - sin * dx
            if not ((along > half) & (along < half + ahead) & (np.abs(left) < beside)).any():
                found.append((float(paths.schedule[number, end]) + half + kernels.SHORT_OF_LINE, end))
        row = max(end, row + 1)
    return found
