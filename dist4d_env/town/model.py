"""Data classes of a town scene: streets, props beside them, actors, light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Polygon

LIGHTS = ("day", "dusk", "night", "overcast", "wet")
SPLITS, LOOKS = ("train", "val", "test"), ("plain", "wild")
DEFAULT_COUNT = {"train": 48, "val": 8, "test": 8}
"""Scenes of each split where no other number is asked for."""


@dataclass(frozen=True)
class TownLane:
    """centerline: (P, 3) x, y, heading every metre; successors: indices into ``Layout.lanes``; pieces: (length, curvature) of the
    straight pieces and arcs that the centreline is made of, from its first pose on (empty: not known)."""

    centerline: np.ndarray
    width: float
    polygon: Polygon
    is_connector: bool
    successors: tuple[int, ...]
    speed_limit: float  # m/s
    pieces: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Marking:
    """A painted line. colour: "white" | "yellow"; dashed lines have 3 m strokes and 6 m gaps; kind names its map layer."""

    line: LineString
    width: float
    colour: str
    dashed: bool
    kind: str  # "lane_divider" | "road_divider" | "stop_line" | "edge"


@dataclass(frozen=True)
class Building:
    """A prism with textured facades; style seeds colour, windows, shop fronts and roof."""

    footprint: Polygon
    height: float
    style: int


@dataclass(frozen=True)
class Prop:
    """Street furniture. kind: "tree" | "pole" | "lamp" | "sign" | "hedge" | "bin"; size: length, width, height."""

    kind: str
    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]
    style: int


@dataclass(frozen=True)
class Head:
    """Three lamps one over the other. middle: x, y, z; facing: the direction they shine in; pole: x, y of its foot."""

    middle: tuple[float, float, float]
    facing: float
    pole: tuple[float, float]


@dataclass(frozen=True)
class Signal:
    """The traffic light of one arm of a junction. line: (2, 2) its stop line, from left to right as seen by those who come;
    connectors: indices into ``Layout.lanes``; crossing: index into ``Layout.crossings`` of the one behind the line; node: number
    of the junction; phase: 0 or 1, those of a junction that are green together."""

    line: np.ndarray
    connectors: tuple[int, ...]
    crossing: int
    heads: tuple[Head, ...]
    node: int
    phase: int


@dataclass(frozen=True)
class Layout:
    """Streets and everything that never moves, z = 0 ground, global frame in metres (all coordinates positive)."""

    seed: int
    name: str  # a nuScenes map location, e.g. "singapore-onenorth"
    lanes: tuple[TownLane, ...]
    road: tuple[Polygon, ...]  # drivable area
    intersections: tuple[Polygon, ...]
    crossings: tuple[Polygon, ...]
    walkways: tuple[Polygon, ...]
    carparks: tuple[Polygon, ...]
    markings: tuple[Marking, ...]
    buildings: tuple[Building, ...]
    props: tuple[Prop, ...]
    extent: tuple[float, float]  # width, height of the map canvas
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True)
class Actor:
    """An annotated object on the scene's 10 Hz grid (cones, barriers and parked cars stand still).

    name: full nuScenes category; size: length, width, height; style seeds its look; position: (T, 3) box centres; yaw: (T,);
    valid: (T,) bool.
    """

    instance: str
    name: str
    size: tuple[float, float, float]
    style: int
    position: np.ndarray
    yaw: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class SceneOutline:
    """A scene without its traffic. looks: one of LOOKS."""

    name: str
    token: str
    split: str
    index: int
    seed: int
    light: str
    looks: str
    layout: Layout


@dataclass(frozen=True)
class TownScene(SceneOutline):
    """A scene of 20 s or more. time: (T,) at 10 Hz from 0; ego_pose: (T, 4, 4) global_from_ego (rear axle, ground)."""

    actors: tuple[Actor, ...]
    time: np.ndarray
    ego_pose: np.ndarray
