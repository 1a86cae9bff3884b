"""The benchmark of what depth is worth: kinds differ in depth alone, and none shows more than exact depth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import depth_worth
from benchmarks.depth_worth import EXACT, KINDS, Options, main, with_depth
from dist4d_env.data.open import open_dataset


@pytest.mark.medium
def test_frames_differ_in_depth_alone(town_dataroot: Path):
    scene = open_dataset(town_dataroot).load("town-val-0000")
    frames = {kind: made for kind, (made,) in with_depth(scene, (6,), (64, 112)).items()}
    assert set(frames) == {EXACT, *KINDS}
    exact = frames[EXACT]
    near = exact.depth < 60
    for kind in KINDS:
        made = frames[kind]
        assert (made.rgb == exact.rgb).all() and (made.global_from_camera == exact.global_from_camera).all()
        error = np.abs(made.depth - exact.depth)[near] / exact.depth[near]
        assert 0.001 < error.mean() < 0.2 and np.median(error) < 0.03
    assert len({frames[kind].depth.tobytes() for kind in frames}) == len(frames)


@pytest.mark.medium
def test_a_town_is_measured_and_stored(town_dataroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depth_worth, "KINDS", ("least_squares",))
    monkeypatch.setattr(depth_worth, "SHIFTS", (1.0,))
    main(Options(town=(str(town_dataroot),), scenes=1, out=tmp_path / "worth.json"))
    found = json.loads((tmp_path / "worth.json").read_text())["town"][town_dataroot.name]
    assert found["views"]["between"] == 1 and 1 <= found["views"]["1m"] <= 4
    assert {way: set(marks) for way, marks in found["results"].items()} == {"replay": {"1m", "between"}, "dist_s": {"1m"}}
    for marks in found["results"].values():
        for by_region in marks.values():
            exact, made = (by_region["all"][kind] for kind in (EXACT, "least_squares"))
            assert made["delta1"]["mean"] < exact["delta1"]["mean"] and made["psnr"]["mean"] < exact["psnr"]["mean"] + 0.5
