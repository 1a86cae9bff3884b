"""Fuzzer of stored episodes: values of any kind put anywhere into a campaign's settings, an episode's text and its arrays."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzzing.npz import CHANGES, MADE, mutated
from benchmarks.fuzzing.tables import VALUES, edited
from benchmarks.fuzzing.values import town
from dist4d_env.errors import DataError
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.cli import rescore
from dist4d_env.evaluation.executors import serial
from dist4d_env.evaluation.results import write_results
from dist4d_env.evaluation.summary import SCORES, EpisodeScore
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite

LIMIT = 400
"""Characters of a message beside the path of the file."""
_MOST = {"bench2drive_driving_score": 100, "neuroncap_score": 5}
NAME = "lane__at-start__seed1"
TEXT, ARRAYS, SETTINGS = f"episodes/{NAME}.json", f"episodes/{NAME}.npz", "settings.json"


@cache
def source() -> dict[str, bytes]:
    """The files of a campaign of one episode of 1 s, driven once, by their path below its folder."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-episodes-"))
    try:
        suite = Suite("fuzzed", town(), None, (Scenario("town-val-0000", 0.0, name="at-start", horizon=1.0, family="frontal"),))
        run(Campaign(("lane",), suite, seeds=2, apart=False), folder, serial)
        return {name: (folder / name).read_bytes() for name in (TEXT, ARRAYS, SETTINGS)}
    finally:
        shutil.rmtree(folder)


_PLACES = st.lists(st.integers(0, 10**6), min_size=1, max_size=5)
_EDITS = st.tuples(
    st.sampled_from([TEXT, TEXT, TEXT, SETTINGS]), _PLACES, st.sampled_from(["set", "set", "set", "drop", "double"]), VALUES
)
_ARRAY = st.tuples(
    st.sampled_from([f"trace/{name}" for name in (
        "time", "ego", "position", "yaw", "velocity", "valid", "size", "category", "expert",
    )] + ["plans/step", "plans/poses", "trace/light_state"]),
    st.sampled_from(["value", "value", "all", "scale", "dtype", "drop", "first", "cut", "repeat", "turn", "flat", "reverse"]),
    st.integers(0, 10**6),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e-300, 1e8, 1e9, 1e20, 1e308, 0.5]) | st.floats(),
    st.sampled_from(["?", "i1", "u8", "i8", "f2", "f4", "f8", "g", "c16", "S3", "U3", "V4", "M8[s]"]),
)  # fmt: skip
_TORN = st.tuples(st.sampled_from([TEXT, ARRAYS, SETTINGS]), CHANGES, st.sampled_from([0, 0, 1, 20, 300, 10**5]))
_OTHER = st.tuples(st.sampled_from([ARRAYS]), MADE) | st.tuples(
    st.sampled_from([TEXT, SETTINGS]),
    st.binary(max_size=40) | st.just(b"[" * 10**5) | st.just(b'{"format": ' + b"9" * 5000 + b"}"),
)
_GONE = st.tuples(st.sampled_from([ARRAYS, TEXT, SETTINGS]))
CASES: st.SearchStrategy[list[tuple[Any, ...]]] = st.lists(_EDITS | _ARRAY, max_size=2) | st.lists(
    _EDITS | _ARRAY | _ARRAY | _TORN | _OTHER | _GONE, min_size=1, max_size=1
)


def attempt(case: list[tuple[Any, ...]], folder: Path) -> str:
    """Changes the files as the case says; then the folder is scored as a campaign, and as loose episodes. "accepted" if every
    score of both makes sense and both agree, "refused" if a short DataError names a file."""
    written = dict(source())
    for change in case:
        _change(written, *change)
    for name, content in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    alone = _scored(lambda: rescore(folder, None)[0].episodes, folder)
    if SETTINGS not in written:
        return _outcome(alone)
    board = _scored(lambda: (write_results(folder), _results(folder))[1], folder)
    if isinstance(board, str) or isinstance(alone, str):
        assert isinstance(board, str), f"silent: as a campaign it is taken, alone it says {alone!s:.200}"
        return "refused"
    assert board == [json.loads(json.dumps(asdict(one))) for one in alone], "silent: a campaign's scores are others"
    return _outcome(alone)


def _scored(call: Callable[[], Any], folder: Path) -> Any:
    """What a call returns, or the words of its DataError, which names a file."""
    try:
        return call()
    except DataError as error:
        words = str(error)
        assert str(folder) in words and "\n" not in words, f"unclear: {words}"
        assert len(words.replace(str(folder), "")) <= LIMIT, f"long: {words}"
        return words


def _results(folder: Path) -> list[Any]:
    assert "nan" not in (folder / "leaderboard.md").read_text().lower()
    episodes: list[Any] = json.loads((folder / "results.json").read_text())["episodes"]
    return episodes


def _outcome(found: str | tuple[EpisodeScore, ...]) -> str:
    if isinstance(found, str):
        return "refused"
    for one in found:
        json.dumps(asdict(one), allow_nan=False)
        assert 0 <= one.start <= 6.0 and 0 <= one.seconds <= 6.0, (
            f"silent: from {one.start} s on {one.seconds} s, of a log of 6 s"
        )
        for name, value in one.metrics.items():
            within = name not in SCORES or value is None or 0 <= value <= _MOST.get(name, 1) + 1e-9
            assert within, f"silent: {name} is {value}"
    return "accepted"


def _change(written: dict[str, bytes], name: str, *how: Any) -> None:
    if name not in (TEXT, ARRAYS, SETTINGS):
        written[ARRAYS] = _changed_array(written[ARRAYS], name, *how) if ARRAYS in written else b""
    elif not how:
        del written[name]
    elif len(how) == 1:
        written[name] = how[0]
    elif len(how) == 2:
        written[name] = mutated(written[name], *how)
    else:
        written[name] = json.dumps(edited(json.loads(written[name]), *how)).encode()


def _changed_array(content: bytes, name: str, how: str, place: int, value: float, dtype: str) -> bytes:
    with np.load(io.BytesIO(content)) as stored:
        arrays = {key: stored[key] for key in stored.files}
    array = arrays.pop(name, None)
    if array is None:
        array = np.zeros((2, 11), np.int8)  # states of traffic lights that the town does not have
    with np.errstate(all="ignore"):
        if how == "value" and array.size:
            array = array.copy()
            array.flat[place % array.size] = np.asarray(value).astype(array.dtype)
        elif how == "all":
            array = np.full_like(array, np.asarray(value).astype(array.dtype))
        elif how == "scale":
            array = array * np.float64(value)
        elif how == "dtype":
            array = np.zeros(array.shape, dtype) if dtype[0] in "VM" else array.astype(dtype)
    axis = place % max(array.ndim, 1)
    parts: dict[str, Callable[[], np.ndarray]] = {
        "first": lambda: array[:1],
        "cut": lambda: np.delete(array, -1, axis),
        "repeat": lambda: np.repeat(array, 2, axis),
        "turn": lambda: array.T,
        "flat": lambda: array.ravel(),
        "reverse": lambda: np.flip(array, axis),
    }
    file = io.BytesIO()
    changed = parts[how]() if how in parts and array.size else array
    np.savez(file, **arrays, **({} if how == "drop" else {name: changed}))
    return file.getvalue()
