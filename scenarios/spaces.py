"""Search spaces: the continuous parameters of each family, and the candidate at a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edit_tracks import EditFrame, find_target
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Slow, Stop
from dist4d_env.scenes.scene import TICK, Scene
from scenarios.families import Candidate, lane_crossings


@dataclass(frozen=True)
class Space:
    """low, high: bounds by parameter; build: from a scene, a start and values by parameter to the candidate."""

    low: Mapping[str, float]
    high: Mapping[str, float]
    build: Callable[[Scene, float, Mapping[str, float]], Candidate]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.low)

    def values(self, point: np.ndarray) -> dict[str, float]:
        """A point (P,) of the unit cube as parameters, rounded to what a file shows, so that a file replays it."""
        return {
            name: round(self.low[name] + float(share) * (self.high[name] - self.low[name]), 2)
            for name, share in zip(self.names, point, strict=True)
        }


def _space(build: Callable[[Scene, float, Mapping[str, float]], Candidate], **bounds: tuple[float, float]) -> Space:
    return Space({name: b[0] for name, b in bounds.items()}, {name: b[1] for name, b in bounds.items()}, build)


def _lead(scene: Scene, start: float, gap: float) -> tuple[tuple[Edit, ...], str]:
    """The recorded lead, or one put ``gap`` seconds ahead at the ego's speed where there is none."""
    try:
        find_target(EditFrame(scene, start), scene.tracks, "lead", "lead")
    except ConfigError:
        speed = _speed(scene, start)
        return (Insert(ahead=round(gap * speed + 5.0, 2), speed=round(speed, 2)),), "edit-0"
    return (), "lead"


def _speed(scene: Scene, start: float) -> float:
    return float(scene.ego.speed[round(start / TICK)])


def _lead_stops(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    before, target = _lead(scene, start, v["gap"])
    return Candidate((*before, Stop(target, at=v["at"], deceleration=v["deceleration"])), "lead-stops", v["at"])


def _lead_slows(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    before, target = _lead(scene, start, v["gap"])
    edit = Slow(target, at=v["at"], speed=v["speed"], deceleration=v["deceleration"])
    return Candidate((*before, edit), "lead-slows", v["at"])


def _cut_in(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    speed = max(round(v["share"] * _speed(scene, start), 2), 1.0)
    return Candidate((CutIn(at=v["at"], duration=v["duration"], speed=speed, gap=v["gap"], lateral=3.4),), "cut-in", v["at"])


def _jaywalk(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    edit = Jaywalk(ahead=v["ahead"], lateral=-v["beside"], speed=v["speed"], early=v["early"])
    walking = v["beside"] / v["speed"] + v["speed"] / 3.0
    onset = EditFrame(scene, start).arrival(v["ahead"], "jaywalk") - v["early"] - walking
    return Candidate((edit,), "jaywalk", max(onset, 0.0))


def _crossing(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    places = sorted(place for place in lane_crossings(scene, start) if place[0] > 8.0)
    if not places:
        raise ConfigError(f"crossing: no lane crosses the route of {scene.name} ahead of {start:g} s")
    ahead, angle = places[0]
    edit = Cross(
        ahead=round(ahead, 2), side="right" if angle > 0 else "left", angle=round(abs(angle), 3), speed=v["speed"],
        early=v["early"],
    )  # fmt: skip
    return Candidate((edit,), "car-crosses")


def _oncoming(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    edit = Oncoming(meet=v["meet"], speed=v["speed"], into=v["into"], duration=v["duration"], early=v["early"])
    return Candidate((edit,), "oncoming-drifts", max(v["meet"] - v["early"] - v["duration"], 0.0))


def _stalled(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    return Candidate((Insert(ahead=v["ahead"], lateral=v["lateral"], heading=v["heading"]),), "car-stands")


def _door_zone(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    edit = Door(ahead=v["ahead"], lateral=v["lateral"], before=v["before"], angle=v["angle"])
    onset = EditFrame(scene, start).arrival(v["ahead"], "door") - v["before"] - edit.duration
    return Candidate((edit,), "door-opens", max(onset, 0.0))


def _perturbed_start(scene: Scene, start: float, v: Mapping[str, float]) -> Candidate:
    speed = round(v["share"] * _speed(scene, start), 2)
    return Candidate((), "starts-beside", ego_offset=v["offset"], ego_yaw=v["yaw"], ego_speed=speed)


SPACES: Mapping[str, Space] = {
    "lead_stops": _space(_lead_stops, gap=(0.8, 2.5), at=(0.0, 4.0), deceleration=(0.5, 8.0)),
    "lead_slows": _space(_lead_slows, gap=(0.8, 2.5), at=(0.0, 4.0), speed=(0.0, 6.0), deceleration=(0.5, 8.0)),
    "cut_in": _space(_cut_in, at=(0.3, 4.0), duration=(1.0, 4.0), gap=(1.0, 20.0), share=(0.3, 1.0)),
    "jaywalk": _space(_jaywalk, ahead=(8.0, 50.0), beside=(2.5, 6.5), speed=(0.8, 3.2), early=(-0.5, 1.5)),
    "crossing": _space(_crossing, speed=(3.0, 14.0), early=(-0.5, 1.2)),
    "oncoming": _space(_oncoming, meet=(2.5, 7.5), speed=(4.0, 11.0), into=(0.0, 2.6), duration=(1.2, 3.0), early=(0.0, 4.0)),
    "stalled": _space(_stalled, ahead=(10.0, 60.0), lateral=(-2.2, 2.2), heading=(-0.3, 0.3)),
    "door_zone": _space(_door_zone, ahead=(10.0, 45.0), lateral=(-3.2, -1.9), before=(0.2, 4.0), angle=(0.4, 1.3)),
    "perturbed_start": _space(_perturbed_start, offset=(-1.5, 1.5), yaw=(-0.3, 0.3), share=(0.6, 1.6)),
}
"""Families that can be searched."""
