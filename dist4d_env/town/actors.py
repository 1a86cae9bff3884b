"""The kinds of road users, the sizes they come in, and those that stand still: parked cars, barriers and cones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.town.model import Layout
from dist4d_env.town.paths import ArcPath

CAR, TRUCK, BUS = "vehicle.car", "vehicle.truck", "vehicle.bus.rigid"
MOTORCYCLE, BICYCLE = "vehicle.motorcycle", "vehicle.bicycle"
PEDESTRIAN = "human.pedestrian.adult"
BARRIER, CONE = "movable_object.barrier", "movable_object.trafficcone"

_SIZES = {
    CAR: ((4.62, 1.93, 1.68), (0.25, 0.07, 0.12)),
    TRUCK: ((7.0, 2.45, 2.9), (0.6, 0.08, 0.3)),
    BUS: ((10.8, 2.85, 3.4), (0.5, 0.05, 0.1)),
    MOTORCYCLE: ((2.1, 0.78, 1.5), (0.1, 0.05, 0.08)),
    BICYCLE: ((1.75, 0.62, 1.68), (0.08, 0.04, 0.07)),
    PEDESTRIAN: ((0.68, 0.66, 1.74), (0.06, 0.05, 0.08)),
    BARRIER: ((2.0, 0.5, 1.0), (0.0, 0.0, 0.0)),
    CONE: ((0.4, 0.4, 0.75), (0.0, 0.0, 0.0)),
}


@dataclass(frozen=True)
class Body:
    """A road user's outer form. size: length, width, height; axle: metres from the rear axle, which follows the lane, forward to
    the middle of the box."""

    name: str
    size: tuple[float, float, float]
    style: int
    axle: float


@dataclass(frozen=True)
class Standing:
    """A body that stays where it is (box centre x, y, heading)."""

    body: Body
    x: float
    y: float
    yaw: float


def make_body(name: str, rng: np.random.Generator) -> Body:
    """A body of one kind with a plausible size (nuScenes' means and spreads, cut at two sigma) and a style seed."""
    mean, spread = _SIZES[name]
    size = np.array(mean) + np.array(spread) * np.clip(rng.standard_normal(3), -2, 2)
    length, width, height = (float(v) for v in np.round(size, 3))
    return Body(name, (length, width, height), int(rng.integers(1 << 30)), 0.34 * length)


@dataclass(frozen=True)
class Strip:
    """A parking strip. path: its middle line, along the driving direction of the lanes to its left."""

    path: ArcPath


def park(strips: tuple[Strip, ...], layout: Layout, around: np.ndarray, rng: np.random.Generator) -> list[Standing]:
    """Parked cars in the strips and carparks within 90 m of the points (N, 2), and a work zone in one of the strips."""
    standing: list[Standing] = []
    zones = [i for i, strip in enumerate(strips) if _closest(strip.path.at(strip.path.length / 2)[:2], around) < 45]
    zone = int(rng.choice(zones)) if zones and rng.random() < 0.6 else -1
    for index, strip in enumerate(strips):
        taken = (0.0, 0.0)
        if index == zone and strip.path.length > 30:
            begin = float(rng.uniform(6, strip.path.length - 23))
            taken = (begin - 4.0, begin + 19.0)
            standing += _work_zone(strip, begin, rng)
        share = rng.uniform(0.2, 0.6)
        s = 3.0
        while s < strip.path.length - 3:
            s += rng.uniform(0.0, 1.2)
            x, y, yaw = strip.path.at(s + 2.6)
            fits = s + 5.4 < strip.path.length and not taken[0] < s + 2.6 < taken[1]
            if rng.random() < share and fits and _closest((x, y), around) < 90:
                name = CAR if rng.random() < 0.94 else TRUCK
                body = make_body(name, rng)
                if name == CAR or (body.size[0] < 6.6 and s + 8.5 < strip.path.length):
                    aside = rng.uniform(-0.08, 0.08)
                    x, y, yaw = strip.path.offset(aside).at(s + body.size[0] / 2 + 0.3)
                    standing.append(Standing(body, float(x), float(y), float(yaw + rng.normal(0, 0.012))))
                    s += body.size[0] + 0.8
                    continue
            s += 5.6
    for lot in layout.carparks:
        standing += _carpark(np.array(lot.exterior.coords[:4]), around, rng)
    return standing


def _closest(point: np.ndarray | tuple[float, float], around: np.ndarray) -> float:
    return float(np.sqrt(((around - np.asarray(point)) ** 2).sum(1).min()))


def _work_zone(strip: Strip, begin: float, rng: np.random.Generator) -> list[Standing]:
    """Barriers along the lane side of the strip, cones in a taper at both ends."""
    found = []
    for k in range(6):
        x, y, yaw = strip.path.offset(0.55).at(begin + 1.0 + 2.3 * k)
        found.append(Standing(make_body(BARRIER, rng), float(x), float(y), float(yaw)))
    for k, aside in enumerate((-0.75, -0.1, 0.5)):
        for s in (begin - 3.2 + 1.1 * k, begin + 17.6 - 1.1 * k):
            x, y, yaw = strip.path.offset(aside).at(s)
            found.append(Standing(make_body(CONE, rng), float(x), float(y), float(yaw)))
    return found


def _carpark(corners: np.ndarray, around: np.ndarray, rng: np.random.Generator) -> list[Standing]:
    """Cars side by side along the back of the lot, some bays empty."""
    along, across = corners[1] - corners[0], corners[3] - corners[0]
    if _closest(corners.mean(0), around) > 90:
        return []
    width = np.hypot(*along)
    found = []
    yaw = np.arctan2(across[1], across[0])
    for k in range(int((width - 1.0) // 2.8)):
        if rng.random() < 0.6:
            x, y = corners[0] + along * (1.9 + 2.8 * k) / width + across * 0.74
            flip = np.pi if rng.random() < 0.4 else 0.0
            found.append(Standing(make_body(CAR, rng), float(x), float(y), float(yaw + flip)))
    return found
