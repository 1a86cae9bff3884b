"""Edits of a scene's tracks as values: frozen dataclasses that ``edits_apply.apply`` turns into tracks.

Times are seconds after the scenario's start, distances metres along the route from the centre of the logged ego's box at the
start, lateral offsets metres to the left of the route. A target is an instance token, "lead" (nearest ahead on the route at the
start), "nearest", or "nearest CATEGORY"; what edits insert has the tokens "edit-0", "edit-1", ... in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, NoReturn

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES

VEHICLES = ("car", "truck", "bus", "motorcycle", "bicycle")
"""Categories of what can drive in traffic."""
Size = tuple[float, float, float]
MOST = 1e4
"""Metres, seconds or radians beyond which no number of a scenario makes sense."""
Limits = Mapping[str, tuple[float, float]]
Choices = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Edit:
    """A change to a scene's tracks, checked when it is made.

    kind: its name in YAML; limits: closed intervals of its numbers, -MOST to MOST for fields without one; choices: allowed
    values of its text fields; needs_target: whether it only makes sense for an object that is there.
    """

    kind: ClassVar[str] = ""
    limits: ClassVar[Limits] = {}
    choices: ClassVar[Choices] = {}
    needs_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in self.choices and value not in self.choices[field.name]:
                self._refuse(field.name, f"one of {', '.join(self.choices[field.name])}")
            elif field.name == "target" and (not isinstance(value, str) or (self.needs_target and not value)):
                self._refuse(field.name, "an instance token, lead, nearest or nearest CATEGORY")
            elif field.name == "size" and value is not None:
                self._check_size(value)
            elif field.type == "float" or (field.type == "float | None" and value is not None):
                self._check_number(field.name, value)

    def _check_number(self, name: str, value: Any) -> None:
        low, high = self.limits.get(name, (-MOST, MOST))
        if not is_number(value, low, high):
            self._refuse(name, f"a number in [{low:g}, {high:g}]")

    def _check_size(self, size: Any) -> None:
        if isinstance(size, list):
            size = tuple(size)
            object.__setattr__(self, "size", size)
        if not isinstance(size, tuple) or len(size) != 3 or not all(is_number(side, 0.05, 30) for side in size):
            self._refuse("size", "three numbers length, width, height in [0.05, 30]")

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise ConfigError(f"{self.kind}: {name} must be {wanted}, not {getattr(self, name)!r}")


def is_number(value: Any, low: float, high: float) -> bool:
    """Whether a value is an integer or floating-point number in a closed interval; nan is in none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


@dataclass(frozen=True)
class Insert(Edit):
    """A new agent. ahead, lateral: where its centre is when it appears; heading: radians to the left of the route's.

    speed: m/s; profile: ((seconds, m/s), ...) instead of one speed, linear in between and constant beyond. It moves along the
    route at its lateral offset, with the route or (|heading| > pi / 2) against it; with ``straight`` along its heading.
    at: when it appears; size: length, width, height in metres, by default the category's mean.
    """

    kind: ClassVar[str] = "insert"
    limits: ClassVar[Limits] = {"speed": (0.0, 60.0), "at": (0.0, MOST)}
    choices: ClassVar[Choices] = {"category": CATEGORIES}
    category: str = "car"
    ahead: float = 30.0
    lateral: float = 0.0
    heading: float = 0.0
    speed: float = 0.0
    profile: tuple[tuple[float, float], ...] = ()
    straight: bool = False
    at: float = 0.0
    size: Size | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.straight, bool):
            self._refuse("straight", "true or false")
        given: Any = self.profile
        if isinstance(given, list | tuple):
            given = tuple(tuple(point) if isinstance(point, list | tuple) else point for point in given)
            object.__setattr__(self, "profile", given)
        points = isinstance(given, tuple) and all(
            isinstance(p, tuple) and len(p) == 2 and is_number(p[0], 0, MOST) and is_number(p[1], 0, 60) for p in given
        )
        if not points or any(a[0] >= b[0] for a, b in pairwise(given)):
            self._refuse("profile", "pairs [seconds, m/s in 0 to 60] of rising seconds")
        if given and self.speed:
            raise ConfigError("insert: speed and profile exclude each other: leave the one or the other out")


@dataclass(frozen=True)
class Remove(Edit):
    """Takes a target away; also "all" or "all CATEGORY"."""

    kind: ClassVar[str] = "remove"
    target: str = ""


@dataclass(frozen=True)
class Slow(Edit):
    """From ``at`` on the target brakes with ``deceleration`` (m/s^2) to at most ``speed`` (m/s) on its recorded path.

    hold: seconds at that speed, after which it speeds up again; None: for good.
    """

    kind: ClassVar[str] = "slow"
    limits: ClassVar[Limits] = {"at": (0.0, MOST), "speed": (0.0, 60.0), "deceleration": (0.1, 10.0), "hold": (0.0, MOST)}
    target: str = ""
    at: float = 0.0
    speed: float = 3.0
    deceleration: float = 2.0
    hold: float | None = None


@dataclass(frozen=True)
class Stop(Edit):
    """From ``at`` on the target brakes with ``deceleration`` (m/s^2) to a stand on its recorded path.

    hold: seconds that it stands, after which it drives on; None: for good.
    """

    kind: ClassVar[str] = "stop"
    limits: ClassVar[Limits] = {"at": (0.0, MOST), "deceleration": (0.1, 10.0), "hold": (0.0, MOST)}
    target: str = ""
    at: float = 0.0
    deceleration: float = 4.0
    hold: float | None = None


@dataclass(frozen=True)
class CutIn(Edit):
    """A vehicle cuts in: it moves from ``lateral`` to the middle of the route, from ``at`` on, within ``duration``.

    Without a target a new vehicle drives at ``speed`` (m/s) and ends the manoeuvre ``gap`` metres, bumper to bumper, ahead of
    where the logged ego is then; from there on it brakes with ``deceleration`` (m/s^2) to ``final_speed``. A target keeps its
    recorded pace along the route; speed, gap, lateral, deceleration and final_speed have no effect then.
    """

    kind: ClassVar[str] = "cut_in"
    limits: ClassVar[Limits] = {
        "at": (0.0, MOST),
        "duration": (0.5, 20.0),
        "lateral": (-12.0, 12.0),
        "speed": (0.5, 60.0),
        "deceleration": (0.0, 10.0),
        "final_speed": (0.0, 60.0),
    }
    choices: ClassVar[Choices] = {"category": VEHICLES}
    needs_target: ClassVar[bool] = False
    target: str = ""
    category: str = "car"
    at: float = 1.0
    duration: float = 2.0
    lateral: float = 3.5
    speed: float = 6.0
    gap: float = 8.0
    deceleration: float = 0.0
    final_speed: float = 0.0
    size: Size | None = None


@dataclass(frozen=True)
class Jaywalk(Edit):
    """A pedestrian waits beside the road and crosses it ``ahead`` metres on, timed against the logged ego.

    lateral: where the pedestrian waits (negative: to the right); walks at ``speed`` (m/s) straight over the route to ``to``
    and stands there. early: seconds by which it is in the middle of the route before the front of the logged ego arrives.
    """

    kind: ClassVar[str] = "jaywalk"
    limits: ClassVar[Limits] = {"ahead": (3.0, MOST), "speed": (0.3, 5.0)}
    ahead: float = 40.0
    lateral: float = -4.5
    to: float | None = None
    speed: float = 1.6
    early: float = 0.5
    size: Size | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(self.lateral) < 1.5:
            self._refuse("lateral", "at least 1.5 m beside the route")
        if self.to is not None and self.to * self.lateral > 0:
            self._refuse("to", "on the other side of the route than lateral")


@dataclass(frozen=True)
class Cross(Edit):
    """An agent drives straight across the route ``ahead`` metres on, timed against the logged ego.

    side: where it comes from; angle: radians between its heading and the route (pi / 2: square); speed: m/s. early: seconds by
    which its centre is on the route before the front of the logged ego arrives.
    """

    kind: ClassVar[str] = "cross"
    limits: ClassVar[Limits] = {"ahead": (3.0, MOST), "angle": (0.2, math.pi - 0.2), "speed": (0.3, 40.0)}
    choices: ClassVar[Choices] = {"category": CATEGORIES, "side": ("left", "right")}
    category: str = "car"
    ahead: float = 30.0
    side: str = "right"
    angle: float = math.pi / 2
    speed: float = 8.0
    early: float = 0.5
    size: Size | None = None


@dataclass(frozen=True)
class Oncoming(Edit):
    """A vehicle comes against the route at ``speed`` (m/s) and drifts towards the ego's lane.

    meet: when its centre and the logged ego's are side by side; lateral, into: its offset before and after the drift (0 is head
    on), which takes ``duration`` seconds and is complete ``early`` seconds before they meet.
    """

    kind: ClassVar[str] = "oncoming"
    limits: ClassVar[Limits] = {"meet": (0.5, MOST), "speed": (0.5, 40.0), "duration": (0.5, 20.0)}
    choices: ClassVar[Choices] = {"category": VEHICLES}
    category: str = "car"
    meet: float = 4.0
    speed: float = 8.0
    lateral: float = 3.5
    into: float = 1.0
    duration: float = 1.5
    early: float = 0.5
    size: Size | None = None


@dataclass(frozen=True)
class Door(Edit):
    """A car parked beside the lane opens its door towards the lane.

    ahead, lateral: where the new car's centre is; with a target a standing vehicle of the scene opens its door instead. before:
    seconds by which the door is open before the front of the logged ego is beside it; angle: radians that it opens to;
    duration: seconds that this takes.
    """

    kind: ClassVar[str] = "door"
    limits: ClassVar[Limits] = {"angle": (0.2, 1.3), "duration": (0.2, 5.0)}
    needs_target: ClassVar[bool] = False
    target: str = ""
    ahead: float = 25.0
    lateral: float = -2.6
    before: float = 1.5
    angle: float = 1.1
    duration: float = 0.8
    size: Size | None = None


EDITS: Mapping[str, type[Edit]] = {
    edit.kind: edit for edit in (Insert, Remove, Slow, Stop, CutIn, Jaywalk, Cross, Oncoming, Door)
}
"""Edits by their names in YAML."""
