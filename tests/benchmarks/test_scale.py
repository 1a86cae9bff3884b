"""The scale benchmark's tables are as large as nuScenes', a sound data set for the reader and for the devkit."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks import scale
from dist4d_env.data import nuscenes
from dist4d_env.data.open import open_dataset


@pytest.mark.medium
def test_tables_are_sound_and_of_the_size_they_stand_for(
    town_dataroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nuscenes.nuscenes import NuScenes

    scale.write_tables(tmp_path, 3, town_dataroot)
    table = tmp_path / scale.VERSION / "sample_data.json"
    rows = json.loads(table.read_bytes())
    assert len(rows) == pytest.approx(3 * 2_631_083 / 850, rel=0.02)
    random.Random(0).shuffle(rows)  # a table has its rows in no order
    table.write_text(json.dumps(rows))
    assert len(NuScenes(scale.VERSION, str(tmp_path), verbose=False).sample_annotation) == 3 * scale.BOXES

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nuscenes, "LARGE", 0)
    dataset = open_dataset(tmp_path)
    for name in dataset.names():
        scene = dataset.load(name)
        assert len(scene.sensors.keyframe_time) == scale.SAMPLES and scene.map is not None and len(scene.tracks)
        assert len(scene.sensors.lidar_time) == len({*scene.sensors.lidar_time.tolist()}) > 350
    assert dataset.faults() == []  # type: ignore[attr-defined]  # a reader may do without
