"""Two recordings of an episode, compared bit for bit and stream by stream.

A stream is one value returned at every reset and step: ``observations/KEY``, ``rewards``, ``terms/NAME``, ``infos/PATH``,
``terminated``, ``truncated``, ``final/METRIC/...`` or ``render``; ``facts/...`` are single statements such as the spaces,
``error`` is what stopped the episode, ``labels`` which rows are resets. Numbers are equal if they have the same bits as float64.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

ABSENT = object()
"""Stands in a row in which a stream has no value."""

Streams = dict[str, np.ndarray | list[Any]]
AGREE = "facts/branches_agree"
"""Whether a restored snapshot continues as the episode did, as it must."""

PREFIXES = {"metrics/final": "final", "reward_terms": "terms"}
"""Parts of the infos that are streams of their own."""


@dataclass(frozen=True)
class Difference:
    """Difference of a stream.

    kind: "value", "type", "shape", "length", "only before" or "only now" (also where one side has it in more rows). step: label
    of the first row that differs; rows: how many do, of so many; largest: among numbers, None where there are none.
    """

    stream: str
    kind: str
    step: str
    rows: int
    of: int
    largest: float | None
    before: str
    now: str


def read_streams(folder: Path, name: str) -> tuple[Streams, list[str]]:
    """All streams of a recorded episode, and the labels of its rows."""
    content = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as arrays:
        streams: Streams = {key: arrays[key] for key in arrays.files}
    infos: list[dict[str, Any]] = content["infos"]
    for path in sorted({path for info in infos for path in info}):
        streams[stream_of(path)] = [info.get(path, ABSENT) for info in infos]
    streams |= {f"facts/{key}": [value] for key, value in content["facts"].items()}
    streams |= {"error": [content["error"]], "labels": list(content["labels"])}
    return streams, content["labels"]


def stream_of(path: str) -> str:
    for prefix, name in PREFIXES.items():
        if path == prefix or path.startswith(prefix + "/"):
            return name + path[len(prefix) :]
    return f"infos/{path}"


def renamed(streams: Streams, names: dict[str, str]) -> Streams:
    """The streams under new names; what is given is a stream or the beginning of several."""

    def new(stream: str) -> str:
        for old, name in names.items():
            if stream == old or stream.startswith(old + "/"):
                return name + stream[len(old) :]
        return stream

    return {new(stream): values for stream, values in streams.items()}


def compare(before: Path, now: Path, name: str, names: dict[str, str]) -> tuple[list[str], list[Difference]]:
    """Names of all streams that either recording has, and the differences. names: streams of ``before`` that are called anew."""
    (old, labels), (new, new_labels) = read_streams(before, name), read_streams(now, name)
    old = renamed(old, names)
    labels = max(labels, new_labels, key=len)
    streams = sorted(old.keys() | new.keys())
    found = [difference(stream, old.get(stream), new.get(stream), labels) for stream in streams]
    if same(old.get(AGREE), new.get(AGREE)) and new.get(AGREE) == [False]:
        found.append(Difference(AGREE, "value", "end", 1, 1, None, "False", "False"))  # as before, and wrong
    return streams, [each for each in found if each is not None]


def difference(stream: str, before: Any, now: Any, labels: Sequence[str]) -> Difference | None:
    if before is None or now is None:
        values = now if before is None else before
        first = next((row for row, value in enumerate(values) if value is not ABSENT), 0)
        kind = "only now" if before is None else "only before"
        return Difference(stream, kind, label(labels, first), len(values), len(values), None, "", "")
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        if before.dtype != now.dtype or before.shape[1:] != now.shape[1:]:
            kind = "type" if before.dtype != now.dtype else "shape"
            shown = [f"{each.dtype}{list(each.shape[1:])}" for each in (before, now)]
            return Difference(stream, kind, label(labels, 0), len(now), len(now), None, *shown)
    common = min(len(before), len(now))
    rows = [row for row in range(common) if not same(before[row], now[row])]
    if not rows and len(before) == len(now):
        return None
    if not rows:
        return Difference(stream, "length", label(labels, common), 0, common, None, f"{len(before)} rows", f"{len(now)} rows")
    first = rows[0]
    largest = max((apart for row in rows if (apart := distance(before[row], now[row])) is not None), default=None)
    shown = [shorten(before[first]), shorten(now[first])]
    return Difference(stream, kind_of(before[first], now[first]), label(labels, first), len(rows), common, largest, *shown)


def label(labels: Sequence[str], row: int) -> str:
    return labels[row] if row < len(labels) else "end"


def kind_of(before: Any, now: Any) -> str:
    return "only now" if before is ABSENT else "only before" if now is ABSENT else "value"


def same(before: Any, now: Any) -> bool:
    """Equal in every bit; a number is what it is as float64, whatever its type."""
    if isinstance(before, np.ndarray):
        return bool(np.ascontiguousarray(before).tobytes() == np.ascontiguousarray(now).tobytes())
    if before is ABSENT or now is ABSENT:
        return before is now
    if is_number(before) and is_number(now):
        return struct.pack("<d", before) == struct.pack("<d", now)
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(same(a, b) for a, b in zip(before, now, strict=True))
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(same(before[key], now[key]) for key in before)
    return type(before) is type(now) and before == now


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def distance(before: Any, now: Any) -> float | None:
    """The largest absolute difference between numbers that are finite on both sides."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        each = [apart for a, b in zip(before, now, strict=True) if (apart := distance(a, b)) is not None]
        return max(each, default=None)
    if isinstance(before, np.ndarray | np.generic) and before.dtype != bool:
        apart = np.abs(np.asarray(before, np.float64) - np.asarray(now, np.float64))
        return float(apart[np.isfinite(apart)].max(initial=0.0))
    if is_number(before) and is_number(now):
        apart = abs(float(before) - float(now))
        return apart if math.isfinite(apart) else None
    return None


def shorten(value: Any) -> str:
    text = "absent" if value is ABSENT else "" if isinstance(value, np.ndarray) and value.ndim else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def matches(pattern: str, episode: str, stream: str) -> bool:
    """Whether "STREAM" or "EPISODE:STREAM" matches; each may hold wildcards, and a stream stands for all below it."""
    of, _, wanted = pattern.rpartition(":")
    return fnmatchcase(episode, of or "*") and (fnmatchcase(stream, wanted) or fnmatchcase(stream, wanted.rstrip("/*") + "/*"))
