"""Files of traffic lights, which nuScenes' tables have no place for: one for each scene that has some.

``traffic_lights/<scene>.json`` below the data set is a list of lights, each with its ``token`` (in nuScenes' maps of the layer
``traffic_light``), its ``stop_line`` ``[[x, y], [x, y]]`` from the left to the right end as seen by those who come, the tokens of
the ``lanes`` that are entered over it, its ``heads`` of lamps ``[x, y, z, the direction they face]``, and its ``states``:
``[seconds since the first keyframe, one of unknown, green, amber, red]`` at every change, in order. Before the first it is
unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data.tables import Kind, number, numbers, printable, read_json, shown, tokens, wrong
from dist4d_env.errors import DataError
from dist4d_env.scenes.lights import NO_LIGHTS, STATES, UNKNOWN, TrafficLights
from dist4d_env.scenes.scene import TICK

FOLDER = "traffic_lights"
_REMEDY = "mend it, or remove it for a scene without traffic lights"


def _states(value: Any) -> bool:
    if type(value) is not list:
        return False
    if not all(type(c) is list and len(c) == 2 and number(c[0], -1e6, 1e6) and c[1] in STATES for c in value):
        return False
    return all(before[0] < after[0] for before, after in pairwise(value))


def _rows(value: Any, count: int) -> bool:
    return type(value) is list and all(numbers(row, count) for row in value)


_FIELDS: Mapping[str, Kind] = {
    "token": Kind("a token", printable),
    "stop_line": Kind("two points x, y", lambda value: _rows(value, 2) and len(value) == 2 and value[0] != value[1]),
    "lanes": Kind("a list of tokens of lanes", tokens),
    "heads": Kind("a list of x, y, z, direction", lambda value: _rows(value, 4)),
    "states": Kind(f"a list of [seconds, one of {', '.join(STATES)}] in order of time", _states),
}


def lights_file(dataroot: str | Path, scene: str) -> Path:
    """Where the lights of a scene are, if it has some."""
    return Path(dataroot) / FOLDER / f"{scene}.json"


def read_lights(dataroot: str | Path, scene: str, time: np.ndarray) -> TrafficLights:
    """A scene's lights with their states at times (T,) in seconds. Raises DataError, naming the file, for one that is broken."""
    path = lights_file(dataroot, scene)
    if not isfile(path):
        return NO_LIGHTS
    records = read_json(path, _REMEDY)
    if type(records) is not list:
        raise DataError(f"{path}: it is a list of traffic lights, not {shown(records)}; {_REMEDY}")
    for row, record in enumerate(records):
        words = wrong(_FIELDS, record) if type(record) is dict else f"{shown(record)} is no traffic light"
        if words:
            raise DataError(f"{path}, row {row}: {words}; {_REMEDY}")
    if not records:
        return NO_LIGHTS
    heads = [[*head, row] for row, record in enumerate(records) for head in record["heads"]]
    placed = np.array(heads, float).reshape(-1, 5)
    return TrafficLights(
        token=tuple(record["token"] for record in records),
        lanes=tuple(tuple(record["lanes"]) for record in records),
        stop_line=np.array([record["stop_line"] for record in records], float),
        state=np.stack([_over_time(record["states"], time) for record in records]),
        heads=placed[:, :4],
        head_light=placed[:, 4].astype(int),
    )


def light_record(token: str, stop_line: np.ndarray, lanes: list[str], heads: np.ndarray, state: np.ndarray) -> dict[str, Any]:
    """The row of a light in such a file: ends (2, 2), heads (K, 4), and states (T,) at 10 Hz from the first keyframe on."""
    changes = np.flatnonzero(np.diff(state, prepend=-1))
    return {
        "token": token, "stop_line": np.round(stop_line, 4).tolist(), "lanes": lanes, "heads": np.round(heads, 4).tolist(),
        "states": [[round(row * TICK, 1), STATES[state[row]]] for row in changes.tolist()],
    }  # fmt: skip


def _over_time(states: list[list[Any]], time: np.ndarray) -> np.ndarray:
    """(T,) int8 states at times (T,) from changes."""
    since = np.array([change[0] for change in states], float)
    values = np.array([UNKNOWN, *(STATES.index(change[1]) for change in states)], np.int8)
    return values[np.searchsorted(since, time + 1e-6, side="right")]
