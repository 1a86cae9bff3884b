"""What the page may say: commands by name, each with its fields, checked where they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dist4d_env.errors import ConfigError, shown
from dist4d_env.play.wire import VIEWS
from dist4d_env.scenes.edit_tracks import INSERTED
from dist4d_env.scenes.edits import MOST, is_number
from dist4d_env.worlds.memory import MEMORY_POLICIES

EVERY_PICTURE = 0.0
"""The pace at which the next tick waits for the picture of the last one."""
PACES = (EVERY_PICTURE, 0.25, 0.5, 1.0)
LONGEST = 200
"""Characters of a name."""


@dataclass(frozen=True)
class Number:
    """A number from low to high, or None where it is optional."""

    low: float
    high: float
    optional: bool = False

    def __contains__(self, value: object) -> bool:
        return is_number(value, self.low, self.high) or (self.optional and value is None)


@dataclass(frozen=True)
class Whole:
    """A whole number from 0."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and is_number(value, 0, MOST)


@dataclass(frozen=True)
class Text:
    """A name; empty stands for none."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= LONGEST and value.isprintable()


_SHARE, _METRES, _ANGLE, _NAME = Number(-1, 1), Number(-30, 30), Number(-7, 7), Text()
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "control": {"pedal": _SHARE, "wheel": _SHARE},
    "run": {"on": (True, False)},
    "step": {},
    "pace": {"pace": PACES},
    "show": {"world": _NAME, "memory": MEMORY_POLICIES},
    "view": {"view": VIEWS, "compare": (True, False), "focus": Whole()},
    "go": {"tick": Whole()},
    "branch": {"number": Whole()},
    "begin": {"scene": _NAME},
    "planner": {"name": _NAME},
    "insert": {
        "category": tuple(INSERTED), "x": Number(-MOST, MOST), "y": Number(-MOST, MOST),
        "heading": Number(-7, 7, optional=True), "speed": Number(0, 20),
    },
    "beside": {"forward": _METRES, "left": _METRES, "up": _METRES, "yaw": _ANGLE},
    "save": {},
}  # fmt: skip
"""Commands, their fields and what these may be.

control: the pedals (negative: brake) and the wheel (positive: left); run: whether time goes on; step: one tick; pace: times real
time, or EVERY_PICTURE; show: the world that makes the pictures; view: how they are shown, whether beside the truth, and which
camera is the large one; go: to a tick; branch: to another branch; begin: anew, in a scene, "" for the same; planner: hands over
to it, "" back to the hand; insert: an object at x, y relative to the page's origin; beside: pictures from beside the car; save.
"""


@dataclass(frozen=True)
class Command:
    """A command with its fields."""

    name: str
    fields: Mapping[str, Any]


def read_command(text: str | bytes) -> Command:
    """Raises ConfigError for what is none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"the page said {shown(text)}, which is no JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("do"), str) or message["do"] not in FIELDS:
        raise ConfigError(f"the page said {shown(message)}: commands are {', '.join(FIELDS)}")
    name = message.pop("do")
    fields = FIELDS[name]
    if message.keys() != fields.keys():
        raise ConfigError(f"{name} has the fields {', '.join(fields) or 'none'}, not {shown(sorted(message))}")
    for field, allowed in fields.items():
        value = message[field]
        flag = isinstance(value, bool)
        if isinstance(value, dict | list) or flag != (allowed == (True, False)) or value not in allowed:
            raise ConfigError(f"{name}: {field} cannot be {shown(value)}")
    return Command(name, message)
