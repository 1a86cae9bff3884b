"""Buildings and street furniture: buildings, trees, lamps, signs, hedges, bins and carparks."""

from __future__ import annotations

import numpy as np
from shapely import STRtree, contains_xy, prepare
from shapely.geometry import Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from dist4d_env.town.model import Building, Prop
from dist4d_env.town.paths import ArcPath
from dist4d_env.town.plans import Plan


class _Ground:
    """Keeps track of which ground is taken."""

    def __init__(self, blocked: BaseGeometry, cell: Polygon) -> None:
        self.blocked, self.cell = blocked, cell
        self.taken: list[tuple[Polygon, tuple[float, ...]]] = []
        prepare(self.blocked)

    def free(self, shape: Polygon, gap: float = 0.0) -> bool:
        if not self.cell.contains(shape) or self.blocked.intersects(shape):
            return False
        west, south, east, north = shape.bounds
        for other, bounds in self.taken:
            if bounds[0] < east + gap and bounds[2] > west - gap and bounds[1] < north + gap and bounds[3] > south - gap:
                if other.distance(shape) <= gap if gap else other.intersects(shape):
                    return False
        return True

    def take(self, shape: Polygon) -> None:
        self.taken.append((shape, shape.bounds))


def furnish(
    plan: Plan,
    cut: np.ndarray,
    drivable: BaseGeometry,
    walkways: list[Polygon],
    crossings: list[Polygon],
    cell: Polygon,
    rng: np.random.Generator,
) -> tuple[list[Building], list[Prop], list[Polygon]]:
    """Buildings, props and carparks of a layout; nothing overlaps the streets, the walkways' walking line or each other."""
    pavement = unary_union([drivable, *walkways])
    ground = _Ground(pavement.buffer(0.25), cell)
    buildings: list[Building] = []
    props: list[Prop] = []
    carparks: list[Polygon] = []
    for road in plan.roads:
        for pose in ([road.path.end] if road.end < 0 else []) + ([road.path.reverse().end] if road.begin < 0 else []):
            _close_vista(pose, ground, buildings, rng)
    sides = [(road, side) for road in plan.roads for side in (1, -1)]
    for road, side in sides:
        kerb = (road.left if side > 0 else road.right) + plan.sidewalk
        edge = road.path.offset(side * kerb) if side > 0 else road.path.offset(-kerb)
        _row_of_lots(edge if side > 0 else edge.reverse(), ground, buildings, props, carparks, rng)
    _background(ground, buildings, cell, rng)
    keep_clear = unary_union(crossings).buffer(2.5)
    prepare(keep_clear)
    style = int(rng.integers(1 << 30))
    for index, (road, side) in enumerate(sides):
        begin, end = cut[index // 2]
        kerb = road.left if side > 0 else road.right
        line = road.path.section(begin + 1.0, road.path.length - end - 1.0).offset(side * (kerb + 0.55))
        props += _kerbside(line, side, keep_clear, style, rng)
    return buildings, props, carparks


def _rectangle(path: ArcPath, s0: float, s1: float, near: float, far: float) -> Polygon:
    """A lot to the left of a path, squared to the path's direction in its middle."""
    x, y, yaw = path.at((s0 + s1) / 2)
    along, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    half = (s1 - s0) / 2
    points = [(x, y) + a * along + b * left for a, b in ((-half, near), (half, near), (half, far), (-half, far))]
    return Polygon(points)


def _row_of_lots(
    edge: ArcPath,
    ground: _Ground,
    buildings: list[Building],
    props: list[Prop],
    carparks: list[Polygon],
    rng: np.random.Generator,
) -> None:
    """Walk along the back of a walkway and fill the lots on its left; where nothing fits, try narrower and go on."""
    s, setback = 0.0, rng.uniform(0.3, 2.0)
    terrace = rng.random() < 0.5  # houses wall to wall
    while s < edge.length - 7:
        width = rng.uniform(9, 26)
        kind = rng.choice(["building", "green", "carpark"], p=[0.86, 0.09, 0.05])
        if kind == "carpark":
            lot = _rectangle(edge, s, s + 22, 0.5, 13.0)
            if ground.free(lot):
                ground.take(lot)
                carparks.append(lot)
                s += 23
                continue
            kind = "building"
        if kind == "green":
            lot = _rectangle(edge, s, s + width, 0.5, 10.0)
            if ground.free(lot):
                ground.take(lot)
                props += _garden(edge, s, width, rng)
                s += width + 1
                continue
        for attempt_width in (width, 9.0, 7.0):
            depth = rng.uniform(10, 18)
            height = rng.choice([rng.uniform(6, 10), rng.uniform(9, 16), rng.uniform(15, 26)], p=[0.3, 0.45, 0.25])
            lot = _rectangle(edge, s, s + attempt_width, setback, setback + depth)
            if ground.free(lot):
                ground.take(lot)
                buildings.append(Building(lot, float(height), int(rng.integers(1 << 30))))
                s += attempt_width + (0.02 if terrace else rng.choice([0.02, rng.uniform(1.5, 4.0)]))
                break
        else:
            s += 2.0
        if rng.random() < 0.15:
            setback = rng.uniform(0.3, 2.5)


def _close_vista(pose: tuple[float, float, float], ground: _Ground, buildings: list[Building], rng: np.random.Generator) -> None:
    """A building straight behind the open end of a street, as city vistas have."""
    across = ArcPath((pose[0] + 3 * np.cos(pose[2]) + 32 * np.sin(pose[2]), pose[1] + 3 * np.sin(pose[2]) - 32 * np.cos(pose[2]),
                      pose[2] + np.pi / 2), ((64.0, 0.0),)).reverse()  # fmt: skip
    s = 0.0
    while s < 60:
        width = rng.uniform(14, 24)
        lot = _rectangle(across, s, s + width, 2.0, 14.0)
        if ground.free(lot):
            ground.take(lot)
            buildings.append(Building(lot, float(rng.uniform(9, 24)), int(rng.integers(1 << 30))))
        s += width + 0.02


def _background(ground: _Ground, buildings: list[Building], cell: Polygon, rng: np.random.Generator) -> None:
    """Taller blocks inside the blocks, a skyline behind the first row."""
    west, south, east, north = cell.bounds
    tree = STRtree([b.footprint for b in buildings])
    for _ in range(220):
        x, y, yaw = rng.uniform(west + 20, east - 20), rng.uniform(south + 20, north - 20), rng.uniform(0, np.pi)
        size = rng.uniform(14, 24, 2)
        near = buildings[int(tree.nearest(Point(x, y)))].footprint
        if near.distance(Point(x, y)) > 30:
            continue
        corner = near.exterior.coords
        yaw = float(np.arctan2(corner[1][1] - corner[0][1], corner[1][0] - corner[0][0]))
        lot = _rectangle(ArcPath((x, y, yaw), ((1.0, 0.0),)), -size[0] / 2, size[0] / 2, -size[1] / 2, size[1] / 2)
        if ground.free(lot, 1.5):
            ground.take(lot)
            buildings.append(Building(lot, float(rng.uniform(12, 38)), int(rng.integers(1 << 30))))


def _garden(edge: ArcPath, s: float, width: float, rng: np.random.Generator) -> list[Prop]:
    """A hedge towards the street and trees behind it."""
    props = []
    x, y, yaw = edge.offset(1.0).at(s + width / 2)
    size = (float(width - 1.0), float(rng.uniform(0.6, 0.9)), float(rng.uniform(0.9, 1.5)))
    props.append(Prop("hedge", float(x), float(y), float(yaw), size, int(rng.integers(1 << 30))))
    for along in np.arange(3.0, width - 2.0, rng.uniform(5, 7)):
        x, y, _ = edge.offset(rng.uniform(4.5, 7.5)).at(s + along)
        props.append(_tree(x, y, rng, int(rng.integers(1 << 30)), rng.uniform(6, 10)))
    return props


def _tree(x: float, y: float, rng: np.random.Generator, style: int, height: float) -> Prop:
    crown = float(height * rng.uniform(0.5, 0.65))
    return Prop("tree", float(x), float(y), float(rng.uniform(-np.pi, np.pi)), (crown, crown, float(height)), style)


def _kerbside(line: ArcPath, side: int, keep_clear: BaseGeometry, style: int, rng: np.random.Generator) -> list[Prop]:
    """Trees, lamps, signs and bins in the strip beside the kerb; ``side`` is +1 left and -1 right of the road's line."""
    props: list[Prop] = []
    if line.length < 6:
        return props
    spacing, lamps = rng.uniform(9, 15), rng.uniform(24, 32)
    planted = rng.random() < 0.8
    species, size = style + int(rng.integers(2)), rng.uniform(5.5, 8.5)
    spots: list[tuple[float, str]] = []
    spots += [(s, "lamp") for s in np.arange(rng.uniform(2, 8), line.length, lamps)]
    spots += [(s, "sign") for s in (1.0, line.length - 1.0)] if line.length > 30 else []
    spots += [(s, "bin") for s in rng.uniform(5, line.length - 1, size=int(line.length // 60))]
    spots += [(s, "pole") for s in rng.uniform(5, line.length - 1, size=int(line.length // 70))]
    if planted:
        spots += [(s, "tree") for s in np.arange(rng.uniform(3, 8), line.length - 2, spacing)]
    used: list[float] = []
    for s, kind in spots:
        x, y, yaw = line.at(s)
        if contains_xy(keep_clear, x, y) or any(abs(s - other) < 2.2 for other in used):
            continue
        used.append(float(s))
        towards_street = float(yaw - side * np.pi / 2)
        if kind == "tree":
            props.append(_tree(x, y, rng, species, size * rng.uniform(0.85, 1.15)))
        elif kind == "lamp":
            props.append(Prop("lamp", float(x), float(y), towards_street, (2.2, 0.3, 7.5), style))
        elif kind == "sign":
            # Signs face the traffic that comes towards them on their side of the street.
            facing = float(yaw + np.pi if side < 0 else yaw)
            props.append(Prop("sign", float(x), float(y), facing, (0.1, 0.7, 2.6), int(rng.integers(1 << 30))))
        elif kind == "bin":
            props.append(Prop("bin", float(x), float(y), towards_street, (0.5, 0.5, 0.95), int(rng.integers(1 << 30))))
        else:
            props.append(Prop("pole", float(x), float(y), towards_street, (0.2, 0.2, 6.0), style))
    return props
