"""Families of scenarios: random candidates, as edits with a name and the time at which they become a danger."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edit_tracks import EditFrame, find_target
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Remove, Slow, Stop
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene


@dataclass(frozen=True)
class Candidate:
    """edits; label: what the scenario is called, without its scene; onset: seconds after the start when the danger begins;
    ego_offset, ego_yaw, ego_speed, traffic: as in ``Scenario``."""

    edits: tuple[Edit, ...]
    label: str
    onset: float = 0.0
    ego_offset: float = 0.0
    ego_yaw: float = 0.0
    ego_speed: float | None = None
    traffic: str | None = None

    def scenario(self, family: str, scene: Scene, start: float, horizon: float) -> Scenario:
        """The candidate in a scene from a start on, without a difficulty."""
        return Scenario(
            scene.name, start, horizon, self.traffic, self.ego_offset, self.ego_yaw, self.ego_speed, self.edits,
            name=f"{self.label}-{scene.name}", family=family,
        )  # fmt: skip


Draw = Callable[[Scene, float, np.random.Generator], Candidate]


def _uniform(random: np.random.Generator, low: float, high: float, digits: int = 1) -> float:
    return round(float(random.uniform(low, high)), digits)


def _speed(scene: Scene, start: float) -> float:
    return float(np.interp(start, scene.ego.time, scene.ego.speed))


def _lead_ahead(scene: Scene, start: float, random: np.random.Generator) -> tuple[tuple[Edit, ...], str]:
    """A lead: the recorded one where there is one, else a car put ahead of the ego at its speed; and the target's name."""
    frame = EditFrame(scene, start)
    try:
        index = find_target(frame, scene.tracks, "lead", "lead")
        gap = float(np.linalg.norm(scene.tracks.position[index, frame.row, :2] - frame.ego[frame.row, :2]))
        if gap < 28 and np.hypot(*scene.tracks.velocity[index, frame.row]) > 3.0:
            return (), "lead"
    except ConfigError:
        pass
    speed = _speed(scene, start)
    ahead = _uniform(random, max(0.7 * speed, 5.0) + 5, 2.2 * speed + 10)
    return (Insert(ahead=ahead, speed=round(speed, 1)),), "edit-0"


def lead_stops(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """The vehicle ahead brakes to a stand."""
    before, target = _lead_ahead(scene, start, random)
    rate, at = _uniform(random, 1.5, 8.0), _uniform(random, 0.5, 3.0)
    return Candidate((*before, Stop(target, at=at, deceleration=rate)), f"lead-stops-{_text(rate)}mps2", at)


def lead_slows(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """The vehicle ahead brakes to a crawl, for a while or for good."""
    before, target = _lead_ahead(scene, start, random)
    rate, at, speed = _uniform(random, 1.5, 8.0), _uniform(random, 0.5, 3.0), _uniform(random, 0.5, 3.0)
    hold = _uniform(random, 2.0, 4.0) if random.random() < 0.5 else None
    edit = Slow(target, at=at, speed=speed, deceleration=rate, hold=hold)
    return Candidate((*before, edit), f"lead-slows-to-{_text(speed)}mps", at)


def cut_in(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """A vehicle moves over into the gap ahead of the ego and is slower."""
    ego, at, duration = _speed(scene, start), _uniform(random, 0.5, 3.0), _uniform(random, 1.2, 3.0)
    side = 3.4 if random.random() < 0.6 else -2.9
    speed = max(_uniform(random, 0.35, 0.95) * ego, 1.5)
    gap, braking = _uniform(random, 2.0, 14.0), random.choice([0.0, 2.0, 4.0])
    edit = CutIn(
        category=str(random.choice(["car", "car", "car", "truck", "motorcycle"])), at=at, duration=duration, lateral=side,
        speed=round(speed, 1), gap=gap, deceleration=float(braking), final_speed=1.0 if braking else 0.0,
    )  # fmt: skip
    from_where = "left" if side > 0 else "right"
    return Candidate((edit,), f"cut-in-from-{from_where}-{_text(gap)}m", at)


def jaywalk(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """A pedestrian walks out into the road."""
    side = 1 if random.random() < 0.4 else -1
    speed, early = _uniform(random, 1.0, 3.2), _uniform(random, -0.3, 1.2)
    lateral, ahead = side * _uniform(random, 3.2, 6.5), _uniform(random, 10.0, 45.0)
    edit = Jaywalk(ahead=ahead, lateral=lateral, speed=speed, early=early)
    frame = EditFrame(scene, start)
    onset = frame.arrival(ahead, "jaywalk") - early - abs(lateral) / speed - speed / 3.0
    from_where = "left" if side > 0 else "right"
    return Candidate((edit,), f"jaywalk-from-{from_where}-{_text(ahead)}m", max(onset, 0.0))


def crossing(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """A vehicle drives across the ego's path, along a lane that crosses it, without yielding."""
    ahead, angle = _crossing_lane(scene, start, random, 8.0)
    category = str(random.choice(["car", "car", "truck", "motorcycle", "bicycle"]))
    speed = _uniform(random, 3.0, 6.0) if category == "bicycle" else _uniform(random, 5.0, 14.0)
    side = "right" if angle > 0 else "left"
    edit = Cross(
        category=category, ahead=round(ahead, 1), side=side, angle=round(abs(angle), 3), speed=speed,
        early=_uniform(random, -0.3, 0.8),
    )  # fmt: skip
    return Candidate((edit,), f"{category}-crosses-from-{side}-{_text(round(ahead))}m-{_text(speed)}mps")


def lane_crossings(scene: Scene, start: float) -> list[tuple[float, float]]:
    """Metres ahead on the route, and angle to the left of it (rad), of every lane that crosses it at more than 1 rad: from a
    side, or turning left out of the oncoming traffic (up to half a radian short of head-on)."""
    assert scene.map is not None
    frame, found = EditFrame(scene, start), []
    arc = np.arange(frame.origin, min(frame.origin + 80.0, scene.route.length), 1.0)
    route = scene.route.sample(arc)
    for lane in scene.map.lanes.values():
        line = lane.centerline
        square = ((line[:, None, :2] - route[:, :2]) ** 2).sum(-1)
        row, column = np.unravel_index(int(np.argmin(square)), square.shape)
        angle = float((line[row, 2] - route[column, 2] + math.pi) % (2 * math.pi) - math.pi)
        if square[row, column] < 1.0 and 1.0 < abs(angle) < math.pi - 0.5:
            found.append((float(arc[column] - frame.origin), angle))
    return found


def _crossing_lane(scene: Scene, start: float, random: np.random.Generator, least: float) -> tuple[float, float]:
    """One of ``lane_crossings`` from ``least`` metres to 60 m ahead. Raises ConfigError for none."""
    places = [place for place in lane_crossings(scene, start) if least < place[0] < 60.0]
    if not places:
        raise ConfigError(f"no lane crosses the route of {scene.name} ahead of {start:g} s")
    return places[int(random.integers(len(places)))]


def oncoming(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """An oncoming vehicle drifts into the ego's lane."""
    meet, duration, early = _uniform(random, 2.5, 7.5), _uniform(random, 1.2, 3.0), _uniform(random, 0.0, 4.0)
    into = _uniform(random, 0.9, 2.1)
    edit = Oncoming(
        category=str(random.choice(["car", "car", "truck"])), meet=meet, speed=_uniform(random, 4.0, 11.0), lateral=3.5,
        into=into, duration=duration, early=early,
    )  # fmt: skip
    return Candidate((edit,), f"oncoming-drifts-to-{_text(into)}m", max(meet - early - duration, 0.0))


def stalled(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """An obstacle stands in the ego's lane, a little to one side or square in it."""
    category = str(random.choice(["car", "car", "truck", "motorcycle", "traffic_cone", "barrier"]))
    ahead, lateral = _uniform(random, 12.0, 50.0), _uniform(random, -1.2, 0.8)
    edit = Insert(category=category, ahead=ahead, lateral=lateral, heading=_uniform(random, -0.25, 0.25, 2))
    return Candidate((edit,), f"{category.replace('_', '-')}-stands-{_text(ahead)}m-ahead")


def door_zone(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """A parked car opens its door into the ego's lane."""
    ahead, before = _uniform(random, 12.0, 45.0), _uniform(random, 0.3, 3.5)
    lateral = _uniform(random, -2.9, -2.0)
    edit = Door(ahead=ahead, lateral=lateral, before=before, angle=_uniform(random, 0.7, 1.3), duration=0.8)
    onset = EditFrame(scene, start).arrival(ahead, "door") - before - 0.8
    return Candidate((edit,), f"door-opens-{_text(before)}s-before", max(onset, 0.0))


def perturbed_start(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """The ego begins beside the recorded path, turned or too fast."""
    offset, yaw = _uniform(random, -1.3, 1.3), _uniform(random, -0.22, 0.22, 2)
    speed = round(_speed(scene, start) * float(random.uniform(0.8, 1.5)), 1)
    label = f"starts-{_text(abs(offset))}m-{'left' if offset > 0 else 'right'}-{_text(round(abs(math.degrees(yaw))))}deg"
    return Candidate((), label, ego_offset=offset, ego_yaw=yaw, ego_speed=speed)


def recorded(scene: Scene, start: float, random: np.random.Generator) -> Candidate:
    """The log as it is, its traffic replayed or reacting."""
    traffic = str(random.choice(["replay", "idm"]))
    return Candidate((), f"as-recorded-{traffic}-from-{_text(start)}s", traffic=traffic)


FAMILIES: Mapping[str, Draw] = {
    "lead_stops": lead_stops,
    "lead_slows": lead_slows,
    "cut_in": cut_in,
    "jaywalk": jaywalk,
    "crossing": crossing,
    "oncoming": oncoming,
    "stalled": stalled,
    "door_zone": door_zone,
    "perturbed_start": perturbed_start,
    "recorded": recorded,
}


def stationary(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """Something stands in the middle of the lane, two to five seconds ahead."""
    category = str(random.choice(["car", "car", "truck", "motorcycle", "pedestrian"]))
    return Insert(category=category, ahead=_speed(scene, start) * random.uniform(2.0, 5.0) + 4.0)


def frontal(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """An oncoming vehicle has come over into the ego's lane."""
    category = str(random.choice(["car", "car", "truck"]))
    speed, into = random.uniform(3.0, 8.0), random.uniform(0.0, 1.2)
    return Oncoming(category=category, meet=random.uniform(4.0, 6.5), speed=speed, into=into, early=2.0, duration=1.5)


def side(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """A vehicle drives across along a lane that crosses the route."""
    ahead, angle = _crossing_lane(scene, start, random, 15.0)
    return Cross(
        category=str(random.choice(["car", "car", "truck"])), ahead=ahead, side="right" if angle > 0 else "left",
        angle=abs(angle), speed=random.uniform(5.0, 10.0), early=random.uniform(0.0, 0.4),
    )  # fmt: skip


SAFETY_CRITICAL: Mapping[str, Callable[[Scene, float, np.random.Generator], Edit]] = {
    "stationary": stationary,
    "frontal": frontal,
    "side": side,
}
SPREAD: Mapping[str, Mapping[str, float]] = {
    "stationary": {"ahead": 2.0, "lateral": 0.4, "heading": 0.2},
    "frontal": {"meet": 0.3, "speed": 1.0, "into": 0.4},
    "side": {"ahead": 0.8, "speed": 1.0, "early": 0.3, "angle": 0.08},
}
"""Half widths of the uniform jitter of each field."""


def jittered(family: str, edit: Edit, random: np.random.Generator) -> Edit:
    """The edit with every field of SPREAD moved a little, rounded to what a file shows."""
    moved: dict[str, Any] = {
        name: round(getattr(edit, name) + float(random.uniform(-width, width)), 2) for name, width in SPREAD[family].items()
    }
    return replace(edit, **moved)


def cleared(candidate: Candidate, tokens: tuple[str, ...]) -> Candidate:
    """The candidate with some recorded objects taken away first."""
    return replace(candidate, edits=(*(Remove(token) for token in tokens), *candidate.edits))


def _text(number: float) -> str:
    """A number in a name: 4, 2p5."""
    return f"{number:g}".replace(".", "p")
