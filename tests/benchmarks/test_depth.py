"""The benchmark of depth: every return is taken away once of each kind, and what it measures is stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.depth import ALONE, METHODS, Options, below, keeps, main
from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scene import LidarSweep


def test_every_return_is_taken_away_once():
    generator = np.random.default_rng(0)
    points = generator.normal(0, 20, (5000, 4))
    gone: dict[str, np.ndarray] = {}
    for kind, kept in keeps(points):
        gone[kind] = gone.get(kind, np.zeros(len(points), int)) + ~kept
        if kind == "wedges":
            turn = np.degrees(np.arctan2(points[~kept, 1], points[~kept, 0])) % 12
            assert np.ptp(turn) <= 4
    assert set(gone) == {"half", "wedges"} and all((count == 1).all() for count in gone.values())


@pytest.mark.parametrize("asked", [{"real": False}, {"town": ("a/town", "b/town")}, {"keyframes": 0}])
def test_nothing_or_two_of_one_name_cannot_be_asked_for(asked):
    with pytest.raises(ConfigError, match="nothing to measure"):
        Options(**asked)


def test_a_lidar_that_does_not_look_up_keeps_what_is_below():
    points = np.array([[10, 0, 0.3, 1], [10, 0, 0.4, 1], [0, -20, -1, 1], [0, 5, 5, 1]], np.float32)
    sweep = LidarSweep(points, np.eye(4), 0.0)
    assert (below(sweep, 2.0).points == points[[0, 2]]).all()


@pytest.mark.medium
def test_a_town_is_measured_and_stored(town_dataroot: Path, tmp_path: Path):
    main(Options(real=False, town=(str(town_dataroot),), keyframes=1, height=64, out=tmp_path / "depth.json"))
    rows = json.loads((tmp_path / "depth.json").read_text())["town"][town_dataroot.name]
    assert set(rows) == {*METHODS, ALONE}
    assert 0 < rows[ALONE]["confirmed"] < 1 and rows.pop(ALONE)["confirmed_absrel"] < 0.5
    for row in rows.values():
        assert row["absrel"] < 0.2 and row["delta1"] > 0.85 and row["false_sky"] < 0.05 and row["seconds"] > 0
