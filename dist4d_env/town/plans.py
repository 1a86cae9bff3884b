"""Street plans: which roads a layout has, how they run and where they meet, without kerbs and markings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dist4d_env.town.paths import ArcPath, rounded_polyline

HALF = 205.0
"""Roads end this far from the middle of a layout."""


@dataclass(frozen=True)
class Road:
    """A street between two nodes. path: the line that divides the directions, from node centre to node centre (or open end).

    forward / backward: lanes to the right / left of the line; parking_right / parking_left: width of the kerbside parking strip
    (0: none); begin / end: node indices, -1 for an open end at the border of the layout.
    """

    path: ArcPath
    forward: int
    backward: int
    lane_width: float
    parking_right: float
    parking_left: float
    begin: int
    end: int
    speed_limit: float

    @property
    def right(self) -> float:
        """Distance from the dividing line to the right kerb."""
        return self.forward * self.lane_width + self.parking_right + 0.3

    @property
    def left(self) -> float:
        return self.backward * self.lane_width + self.parking_left + 0.3


@dataclass(frozen=True)
class Plan:
    """nodes: (J, 2) junction centres; sidewalk: its width in metres; style: of trees and lamps along the streets."""

    family: str
    roads: tuple[Road, ...]
    nodes: np.ndarray
    sidewalk: float


@dataclass(frozen=True)
class _Section:
    """Cross-section of a street."""

    forward: int
    backward: int
    width: float
    parking: tuple[float, float]
    limit: float


FAMILIES = ("cross", "tee", "bend", "grid", "skew", "loop")
SPLIT_FAMILIES = {
    "train": ("cross", "bend", "grid", "tee"),
    "val": ("grid", "skew", "bend", "cross", "tee", "skew", "grid", "bend"),
    "test": ("loop", "cross", "skew", "grid", "bend", "loop", "tee", "grid"),
}
"""Layout families by split, taken in turn: "skew" and "loop" never occur in train."""


def make_plan(family: str, rng: np.random.Generator, origin: tuple[float, float]) -> Plan:
    """A street plan around ``origin`` (global metres)."""
    nodes, lines = _BUILDERS[family](rng)
    quarter = rng.integers(4) * np.pi / 2
    angle = quarter + rng.uniform(-0.12, 0.12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(points: np.ndarray) -> np.ndarray:
        return np.asarray(points, float) @ turn.T + origin

    roads = tuple(
        Road(
            rounded_polyline(place(points), radii), section.forward, section.backward, section.width,
            section.parking[0], section.parking[1], begin, end, section.limit,
        )
        for points, radii, section, begin, end in lines
    )  # fmt: skip
    return Plan(family, roads, place(nodes), float(np.round(rng.uniform(2.6, 4.0), 2)))


_Line = tuple[np.ndarray, list[float], _Section, int, int]


def _section(rng: np.random.Generator, kind: str) -> _Section:
    """A main street has one to three lanes a direction, a side street one (sometimes two)."""
    forward = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])) if kind == "main" else int(rng.choice([1, 2], p=[0.8, 0.2]))
    backward = forward if forward < 3 or rng.random() < 0.6 else forward - 1
    width = float(np.round(rng.uniform(3.2, 3.6), 2))
    left, right = (float(rng.choice([0.0, 2.3], p=[0.35, 0.65])) for _ in range(2))
    limit = {1: 10.5, 2: 12.0, 3: 13.5}[forward] if kind == "main" else 9.0
    return _Section(forward, backward, width, (left, right), limit)


def _arm(rng: np.random.Generator, node: np.ndarray, border: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """From a node to the border: often with a gentle bend on the way."""
    if rng.random() < 0.45:
        return np.stack([node, border]), []
    along = border - node
    length = np.hypot(*along)
    side = np.array([-along[1], along[0]]) / length
    middle = node + along * rng.uniform(0.5, 0.62) + side * rng.choice([-1, 1]) * length * rng.uniform(0.05, 0.11)
    return np.stack([node, middle, border]), [float(rng.uniform(60, 120))]


def _cross(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    node = rng.uniform(-25, 25, 2)
    main, side = _section(rng, "main"), _section(rng, "side" if rng.random() < 0.6 else "main")
    lines = []
    for border, section in (((-HALF, node[1]), main), ((HALF, node[1]), main), ((node[0], -HALF), side), ((node[0], HALF), side)):
        points, radii = _arm(rng, node, np.array(border) + rng.uniform(-8, 8, 2) * (np.abs(border) < HALF))
        lines.append(_towards(points, radii, section, 0, inwards=border[0] == -HALF or border[1] == -HALF))
    return node[None], lines


def _towards(points: np.ndarray, radii: list[float], section: _Section, node: int, inwards: bool) -> _Line:
    """An arm drawn from its node outwards, turned round where the street runs towards the node, so that a street's two arms
    keep the same lanes on the same side."""
    if inwards:
        return points[::-1], radii[::-1], section, -1, node
    return points, radii, section, node, -1


def _tee(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    node = np.array([rng.uniform(-40, 40), rng.uniform(-20, 20)])
    main, side = _section(rng, "main"), _section(rng, "side")
    second = np.array([node[0] + rng.choice([-1, 1]) * rng.uniform(95, 115), node[1]])
    left, right = (node, second) if node[0] < second[0] else (second, node)
    nodes = np.stack([left, right])
    lines = [
        _towards(*_arm(rng, left, np.array([-HALF, left[1]])), main, 0, inwards=True),
        (np.stack([left, right]), [], main, 0, 1),
        _towards(*_arm(rng, right, np.array([HALF, right[1]])), main, 1, inwards=False),
    ]
    side_of_first = rng.choice([-1, 1])
    for index, direction in ((0, side_of_first), (1, -side_of_first if rng.random() < 0.7 else side_of_first)):
        border = np.array([nodes[index, 0] + rng.uniform(-8, 8), direction * HALF])
        section = side if index == 0 else _section(rng, "side")
        lines.append(_towards(*_arm(rng, nodes[index], border), section, index, inwards=direction < 0))
    return nodes, lines


def _bend(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    corner = np.array([rng.uniform(50, 80), rng.uniform(-55, -20)])
    node = np.array([corner[0] - rng.uniform(115, 135), corner[1]])
    main, side = _section(rng, "main"), _section(rng, "side")
    top = np.array([corner[0] + rng.uniform(-25, 25), HALF])
    radius = float(rng.uniform(35, 60))
    lines = [
        _towards(*_arm(rng, node, np.array([-HALF, node[1]])), main, 0, inwards=True),
        (np.stack([node, corner, top]), [radius], main, 0, -1),
    ]
    directions = [-1, 1] if rng.random() < 0.4 else [int(rng.choice([-1, 1]))]
    for direction in directions:
        border = np.array([node[0] + rng.uniform(-8, 8), direction * HALF])
        lines.append(_towards(*_arm(rng, node, border), side, 0, inwards=direction < 0))
    return node[None], lines


def _grid(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    x = np.array([-rng.uniform(50, 68), rng.uniform(50, 68)])
    y = np.array([-rng.uniform(50, 68), rng.uniform(50, 68)])
    nodes = np.array([[x[0], y[0]], [x[1], y[0]], [x[0], y[1]], [x[1], y[1]]]) + rng.uniform(-4, 4, (4, 2))
    rows = [_section(rng, "main"), _section(rng, "side")]
    columns = [_section(rng, "side"), _section(rng, "main" if rng.random() < 0.4 else "side")]
    lines: list[_Line] = [
        (nodes[[0, 1]], [], rows[0], 0, 1), (nodes[[2, 3]], [], rows[1], 2, 3),
        (nodes[[0, 2]], [], columns[0], 0, 2), (nodes[[1, 3]], [], columns[1], 1, 3),
    ]  # fmt: skip
    dropped = {int(n) for n in rng.choice(4, size=int(rng.integers(0, 3)), replace=False)}  # these become T-junctions
    for n, (px, py) in enumerate(nodes):
        west, south = n in (0, 2), n in (0, 1)
        horizontal_dropped = n in dropped and rng.random() < 0.5
        if not horizontal_dropped:
            border = np.array([-HALF if west else HALF, py])
            lines.append(_towards(np.stack([nodes[n], border]), [], rows[0 if south else 1], n, inwards=west))
        if n not in dropped or horizontal_dropped:
            border = np.array([px, -HALF if south else HALF])
            lines.append(_towards(np.stack([nodes[n], border]), [], columns[0 if west else 1], n, inwards=south))
    return nodes, lines


def _skew(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    node = rng.uniform(-20, 20, 2)
    main, side = _section(rng, "main"), _section(rng, "side")
    angle = rng.choice([-1, 1]) * np.deg2rad(rng.uniform(60, 74))
    away = np.array([np.cos(angle), np.sin(angle)]) * HALF
    lines = [
        _towards(np.stack([node, [-HALF, node[1]]]), [], main, 0, inwards=True),
        _towards(np.stack([node, [HALF, node[1]]]), [], main, 0, inwards=False),
        _towards(np.stack([node, node - away]), [], side, 0, inwards=True),
        _towards(np.stack([node, node + away]), [], side, 0, inwards=False),
    ]
    return node[None], lines


def _loop(rng: np.random.Generator) -> tuple[np.ndarray, list[_Line]]:
    """A main street with a side street that leaves it, runs round a block and comes back."""
    width, depth = rng.uniform(125, 150), rng.uniform(85, 110)
    left = np.array([-width / 2 + rng.uniform(-15, 15), rng.uniform(-60, -40)])
    right = left + np.array([width, 0.0])
    main, side = _section(rng, "main"), _section(rng, "side")
    round_block = np.stack([left, left + np.array([0, depth]), right + np.array([0, depth]), right])
    radii = [float(rng.uniform(18, 30)), float(rng.uniform(18, 30))]
    lines: list[_Line] = [
        _towards(*_arm(rng, left, np.array([-HALF, left[1]])), main, 0, inwards=True),
        (np.stack([left, right]), [], main, 0, 1),
        _towards(*_arm(rng, right, np.array([HALF, right[1]])), main, 1, inwards=False),
        (round_block, radii, side, 0, 1),
    ]
    if rng.random() < 0.6:
        lines.append(_towards(*_arm(rng, right, np.array([right[0], -HALF])), side, 1, inwards=True))
    return np.stack([left, right]), lines


_BUILDERS: dict[str, Callable[[np.random.Generator], tuple[np.ndarray, list[_Line]]]] = {
    "cross": _cross, "tee": _tee, "bend": _bend, "grid": _grid, "skew": _skew, "loop": _loop,
}  # fmt: skip
