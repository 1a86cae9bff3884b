"""The benchmark of depth: every return is taken away once of each kind, and what it measures is stored."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import depth
from benchmarks.depth import ALONE, METHODS, Options, below, keeps, main
from dist4d_env.data.open import open_dataset
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


class Maps:
    """Stereo that takes no time and sees the same depth everywhere."""

    def __init__(self, scene, sensors) -> None:
        self.cameras = len(scene.rig.names)

    def around(self, keyframe):
        return [keyframe + 1]

    def maps(self, keyframe):
        return [SimpleNamespace(depth=np.full((8, 14), 10.0, np.float32))] * self.cameras

    def forget(self, keyframe):
        pass

    def points(self, keyframe, view):
        pass


@pytest.mark.parametrize("asked", [{"real": False}, {"town": ("a/town", "b/town")}, {"keyframes": 0}])
def test_nothing_or_two_of_one_name_cannot_be_asked_for(asked):
    with pytest.raises(ConfigError, match="nothing to measure"):
        Options(**asked)


def test_a_lidar_that_does_not_look_up_keeps_what_is_below():
    points = np.array([[10, 0, 0.3, 1], [10, 0, 0.4, 1], [0, -20, -1, 1], [0, 5, 5, 1]], np.float32)
    sweep = LidarSweep(points, np.eye(4), 0.0)
    assert (below(sweep, 2.0).points == points[[0, 2]]).all()


def test_seconds_are_of_the_same_work_in_all_tables(town_dataroot: Path, monkeypatch):
    clock = [0.0]

    def taking(seconds, what):
        def timed(*given, **named):
            clock[0] += seconds
            return what(*given, **named)

        return timed

    monkeypatch.setattr(depth, "time", SimpleNamespace(process_time=lambda: clock[0]))
    monkeypatch.setattr(depth, "separated_sweeps", taking(1000.0, depth.separated_sweeps))
    monkeypatch.setattr(depth, "points_at", taking(100.0, depth.points_at))
    monkeypatch.setattr(depth, "_dense", taking(1.0, lambda image, *_: np.full(image.shape[:2], 10.0)))
    monkeypatch.setattr(depth, "_confirmed", taking(7.0, lambda maps, keyframe, view, truth, *_: truth))
    monkeypatch.setattr(depth, "StereoMaps", Maps)
    scene = open_dataset(town_dataroot).load("town-val-0000")
    cameras = len(scene.rig.names)
    asked = Options(real=False, town=("x",), keyframes=1, height=64)
    tables = depth.removed_returns(scene, [1], 64), depth.exact(town_dataroot, asked)
    for rows in tables:
        assert {rows[method]["seconds"] for method in METHODS} == {1000.0 + cameras * 101.0} and rows[ALONE]["seconds"] == 0.0


@pytest.mark.medium
def test_a_town_is_measured_and_stored(town_dataroot: Path, tmp_path: Path):
    main(Options(real=False, town=(str(town_dataroot),), keyframes=1, height=64, out=tmp_path / "depth.json"))
    rows = json.loads((tmp_path / "depth.json").read_text())["town"][town_dataroot.name]
    assert set(rows) == {*METHODS, ALONE}
    assert 0 < rows[ALONE]["confirmed"] < 1 and rows.pop(ALONE)["confirmed_absrel"] < 0.5
    for row in rows.values():
        assert row["absrel"] < 0.2 and row["delta1"] > 0.85 and row["false_sky"] < 0.05 and row["seconds"] > 0
