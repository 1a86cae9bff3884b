"""A town of tables and maps alone: the same streets and drives, no sensor files, enough for vectors and for the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from town.conftest import DURATION, SIZE

MADE_BY_LOOKING = {"visibility_token", "num_lidar_pts"}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene of ``written``, without pictures."""
    place = tmp_path_factory.mktemp("bare") / "town"
    size = f"{SIZE[0]}x{SIZE[1]}"
    options = ["--split", "val", "--scenes", "1", "--size", size, "--duration", str(DURATION), "--sweeps", "--no-pictures"]
    assert main(["town", "--out", str(place), *options]) == 0
    return place


def test_tables_and_maps_are_those_of_a_town_with_pictures(bare: Path, written: Path) -> None:
    for path in sorted(file.relative_to(written) for file in (written / "v1.0-town").iterdir()):
        mine, theirs = (json.loads((root / path).read_text()) for root in (bare, written))
        if path.name == "sample_annotation.json":
            assert all(row["num_lidar_pts"] == 0 for row in mine) and any(row["num_lidar_pts"] for row in theirs)
            mine, theirs = ([{k: row[k] for k in set(row) - MADE_BY_LOOKING} for row in rows] for rows in (mine, theirs))
        assert mine == theirs, path
    for path in sorted(file.relative_to(written) for file in (written / "maps").rglob("*") if file.is_file()):
        assert (bare / path).read_bytes() == (written / path).read_bytes(), path
    assert not any((bare / folder).exists() for folder in ("samples", "sweeps", "depth", "semantics"))
    record = json.loads((bare / "town.json").read_text())
    assert record["pictures"] is False and json.loads((written / "town.json").read_text())["pictures"] is True


def test_the_scene_drives_as_the_one_with_pictures(bare: Path, written: Path) -> None:
    mine, theirs = (open_dataset(root).load("town-val-0000") for root in (bare, written))
    assert np.array_equal(mine.ego.global_from_ego, theirs.ego.global_from_ego)
    assert np.array_equal(mine.tracks.position, theirs.tracks.position)
    assert not mine.sensors.has_images(0) and theirs.sensors.has_images(0)


def test_the_oracle_draws_what_was_not_stored(bare: Path, written: Path) -> None:
    seen = []
    for root in (bare, written):
        env = gym.make("DiST4D-nuScenes-v0", dataroot=root, world="oracle", size=(32, 56), horizon=1.0)
        observation, _ = env.reset(options={"scene": "town-val-0000", "start": 0.0})
        seen.append(observation["CAM_FRONT"])
        env.close()
    assert np.array_equal(*seen) and seen[0].std() > 5


@pytest.mark.parametrize("world", ["dist4d", "replay"])
def test_a_world_that_remembers_pictures_says_that_there_are_none(bare: Path, world: str) -> None:
    env = gym.make("DiST4D-nuScenes-v0", dataroot=bare, world=world, horizon=1.0)
    with pytest.raises(DataError, match=r"no keyframe in .* has images"):
        env.reset(seed=0)


def test_dense_keyframes_are_those_of_nuscenes_and_more_between_them(bare: Path, tmp_path: Path) -> None:
    size = f"{SIZE[0]}x{SIZE[1]}"
    options = ["--split", "val", "--scenes", "1", "--size", size, "--duration", str(DURATION), "--rate", "10", "--no-pictures"]
    assert main(["town", "--out", str(tmp_path / "town"), *options]) == 0
    sparse, dense = (open_dataset(root).load("town-val-0000") for root in (bare, tmp_path / "town"))
    assert np.array_equal(dense.sensors.keyframe_time[::5], sparse.sensors.keyframe_time)
    assert len(dense.sensors.keyframe_time) == round(10 * DURATION) + 1
    assert np.array_equal(dense.sensors.global_from_camera[::5], sparse.sensors.global_from_camera)
    for time in sparse.sensors.keyframe_time:
        assert np.array_equal(dense.boxes(float(time)).position, sparse.boxes(float(time)).position)
