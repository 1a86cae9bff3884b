"""Recorded episodes are compared bit for bit, and a difference shows in its own stream alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.golden.compare import compare, difference, matches, same
from benchmarks.golden.driver import Episode, Record, flat, write
from benchmarks.golden.episodes import all_episodes


def recorded(folder: Path, speed: float = 1.0, name: str = "trust", rows: int = 3) -> Path:
    folder.mkdir()
    record = Record()
    for row in range(rows):
        info = {"world": {name: 1.0}, "metrics": {"speed": speed + row, "final": {"pdms": {"value": 0.5}}}, "timing_ms": {}}
        record.add(str(row), {"ego": np.full(4, row, np.float32)}, 0.1 * row, False, False, info)
    write(record, Episode("one"), folder, 0.0)
    return folder


def test_equal_recordings(tmp_path: Path) -> None:
    streams, differences = compare(recorded(tmp_path / "a"), recorded(tmp_path / "b"), "one", {})
    assert differences == []
    assert {"observations/ego", "rewards", "infos/metrics/speed", "infos/world/trust", "final/pdms/value"} <= set(streams)
    assert not any("timing" in stream for stream in streams)


def test_the_last_bit_shows_in_its_stream_alone(tmp_path: Path) -> None:
    _, found = compare(recorded(tmp_path / "a"), recorded(tmp_path / "b", np.nextafter(1.0, 2.0)), "one", {})
    assert [(each.stream, each.step, each.rows) for each in found] == [("infos/metrics/speed", "0", 1)]
    assert found[0].largest == np.nextafter(1.0, 2.0) - 1.0


def test_a_new_name_can_be_told(tmp_path: Path) -> None:
    before, now = recorded(tmp_path / "a"), recorded(tmp_path / "b", name="faith")
    assert {each.kind for each in compare(before, now, "one", {})[1]} == {"only before", "only now"}
    assert compare(before, now, "one", {"infos/world/trust": "infos/world/faith"})[1] == []


def test_fewer_rows(tmp_path: Path) -> None:
    _, found = compare(recorded(tmp_path / "a"), recorded(tmp_path / "b", rows=2), "one", {})
    assert {each.kind for each in found} == {"length"}


def test_numbers_are_their_bits() -> None:
    assert same(np.float32(0.5), 0.5) and same(1, 1.0) and same(float("nan"), float("nan"))
    assert not same(0.0, -0.0) and not same(True, 1) and not same([1.0], [1.0, 1.0])
    assert difference("x", np.zeros((2, 3)), np.zeros((2, 3), np.float32), ["0", "1"]) is not None


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("infos/metrics/*", True),
        ("infos", True),
        ("*:infos/metrics/speed", True),
        ("vector-*:infos", False),
        ("infos/met", False),
    ],
)
def test_patterns(pattern: str, meant: bool) -> None:
    assert matches(pattern, "none-long", "infos/metrics/speed") is meant


def test_what_a_mask_hides_is_not_told() -> None:
    info = {"a": {"b": np.array([1.0, 7.0]), "_b": np.array([True, False])}, "_a": np.array([True, True])}
    assert flat(info) == {"a/b": [1.0, None]}


def test_names_are_unique() -> None:
    names = [each.name for each in all_episodes("nuscenes")]
    assert len(names) == len(set(names)) >= 60
