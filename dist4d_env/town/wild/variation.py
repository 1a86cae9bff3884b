"""Variation of a layout for wild looks: fewer buildings and more street objects; lanes, kerbs and map stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from shapely import STRtree, contains_xy, prepare
from shapely.geometry import Point
from shapely.ops import unary_union

from dist4d_env.town.model import Building, Layout, Prop

_STEP = 4.0
"""Metres along a lane between two spots where something may stand."""
_ASIDE = np.arange(0.0, 9.0, 0.25)
_BESIDE = ("bush", "tree", "fence", "solid", "trailer", "board", "cable")


def varied(layout: Layout, rng: np.random.Generator) -> Layout:
    """A layout with fewer houses and more of everything else, nothing of it on roads or on the line where people walk."""
    share, tall = rng.uniform(0.15, 1.0), rng.uniform(0.7, 1.8)
    buildings = tuple(
        Building(b.footprint, float(np.clip(b.height * tall * rng.uniform(0.8, 1.25), 4.0, 70.0)), int(rng.integers(1 << 30)))
        for b in layout.buildings if rng.random() < share
    )  # fmt: skip
    keep = dict(zip(("tree", "pole", "lamp", "sign", "hedge", "bin"), rng.uniform(0.3, 1.0, 6), strict=True))
    props = [replace(p, style=int(rng.integers(1 << 30))) for p in layout.props if rng.random() < keep[p.kind]]
    spots = _spots(layout)
    props += _at_kerb(spots, props, rng)
    props += _beside(spots, layout, buildings, props, rng)
    return replace(layout, buildings=buildings, props=tuple(props))


def _spots(layout: Layout) -> np.ndarray:
    """Points of the kerb on the right of lanes and their headings (N, 3), away from crossings."""
    road = unary_union([*layout.road, *layout.intersections])
    clear = unary_union(layout.crossings).buffer(4.0)
    prepare(road)
    prepare(clear)
    lines = [lane.centerline[4 : -4 : round(_STEP)] for lane in layout.lanes if not lane.is_connector]
    at = np.concatenate([line for line in lines if len(line)] or [np.zeros((0, 3))])
    right = np.stack([np.sin(at[:, 2]), -np.cos(at[:, 2])], -1)
    points = at[:, None, :2] + right[:, None] * _ASIDE[:, None]
    outside = ~contains_xy(road, points[..., 0], points[..., 1])
    first = outside.argmax(1)
    kerb = points[np.arange(len(at)), first]
    good = outside.any(1) & ~contains_xy(clear, kerb[:, 0], kerb[:, 1])
    return np.concatenate([kerb, at[:, 2:]], 1)[good]


def _at_kerb(spots: np.ndarray, there: list[Prop], rng: np.random.Generator) -> list[Prop]:
    """Rails, posts, cabinets and planters in the half metre beside the kerb, where nobody walks."""
    props: list[Prop] = []
    dense, kinds = rng.uniform(0, 0.35), rng.dirichlet(np.ones(3))
    taken = STRtree([Point(p.x, p.y) for p in there]) if there else None
    for x, y, yaw in spots:
        if rng.random() > dense or (taken is not None and len(taken.query(Point(x, y).buffer(2.2), "intersects"))):
            continue
        kind = str(rng.choice(["rail", "solid", "bush"], p=kinds))
        size = {"rail": (_STEP, 0.2, rng.uniform(0.6, 1.1)), "solid": (0.45, 0.4, rng.uniform(0.5, 1.8)),
                "bush": (rng.uniform(0.6, 3.6), 0.45, rng.uniform(0.3, 1.0))}[kind]  # fmt: skip
        x, y = x + 0.35 * np.sin(yaw), y - 0.35 * np.cos(yaw)
        props.append(Prop(kind, float(x), float(y), float(yaw), size, int(rng.integers(1 << 30))))
    return props


def _beside(
    spots: np.ndarray, layout: Layout, buildings: tuple[Building, ...], there: list[Prop], rng: np.random.Generator
) -> list[Prop]:
    """Vegetation, fences, trailers, boards, cables and solids on the ground behind the walkways."""
    taken = [p for b in (*layout.road, *layout.intersections, *layout.walkways) for p in (b,)] + [b.footprint for b in buildings]
    tree = STRtree(taken)
    props: list[Prop] = []
    places = [np.array([p.x, p.y]) for p in there]
    weights = 0.8 * rng.dirichlet(np.array([2.0, 2.0, 1.2, 1.2, 0.5, 0.5, 0.4])) + 0.2 / len(_BESIDE)
    for x, y, yaw in np.repeat(spots, 3, 0):
        kind = str(rng.choice(_BESIDE, p=weights))
        size, along = _size(kind, rng)
        aside = rng.uniform(1.5, 22.0)
        x, y = float(x + aside * np.sin(yaw)), float(y - aside * np.cos(yaw))
        reach = min(max(size[:2]) / 2, 1.5)
        if len(tree.query(Point(x, y), "dwithin", distance=reach + 0.2)):
            continue
        if places and (np.hypot(*(np.array(places) - (x, y)).T) < 1.0 + reach).any():
            continue
        ends = np.array([np.cos(yaw), np.sin(yaw)]) * (size[0] / 2 if along else 0)
        if along and any(len(tree.query(Point(x + s * ends[0], y + s * ends[1]), "dwithin", distance=0.4)) for s in (-1, 1)):
            continue
        turn = yaw if along else yaw + np.pi * rng.uniform(-1, 1)
        if kind == "board":
            turn = yaw + np.pi * rng.choice([0.5, 1.0, 0.0])
        places.append(np.array([x, y]))
        props.append(Prop(kind, x, y, float(turn), size, int(rng.integers(1 << 30))))
    return props


def _size(kind: str, rng: np.random.Generator) -> tuple[tuple[float, float, float], bool]:
    """Length, width and height of a thing, and whether it lies along the street."""
    u = rng.uniform
    crown = u(2.5, 7.0)
    sizes: dict[str, tuple[float, float, float]] = {
        "bush": (u(1, 5), u(0.8, 2.0), u(0.5, 2.0)), "tree": (crown, crown, u(4, 14)), "fence": (u(3, 14), 0.1, u(0.8, 2.4)),
        "solid": (u(0.4, 3), u(0.4, 3), u(0.4, 3.5)), "trailer": (u(3, 12), u(2.0, 2.5), u(2.2, 3.9)),
        "board": (0.1, u(0.6, 4.0), u(2.0, 5.0)), "cable": (u(15, 32), 0.2, u(6, 9)),
    }  # fmt: skip
    size = sizes[kind]
    return (float(size[0]), float(size[1]), float(size[2])), kind in ("bush", "fence", "trailer", "cable")
