"""The demo as a newcomer runs it: ten seconds become a film and a page; what is missing is one line."""

from __future__ import annotations

import json
import re

import av
import numpy as np
import pytest

from dist4d_env import demo
from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.runner import RunOptions


def frames_of(path):
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def test_film_and_page(town_dataroot, tmp_path, capsys):
    out = tmp_path / "demo"
    wanted = ["--dataroot", str(town_dataroot), "--weights", "splat", "--seconds", "1.0", "--decision-dt", "0.5"]
    assert main(["demo", *wanted, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"video:  {out / 'episode.mp4'}" in said and f"report: {out / 'report.html'}" in said
    assert sorted(path.name for path in out.iterdir()) == ["episode.json", "episode.mp4", "episode.npz", "report.html"]
    frames = frames_of(out / "episode.mp4")
    assert len(frames) == 3 and frames[0].std() > 30
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 2  # something moves
    page = (out / "report.html").read_text()
    assert "data:video/mp4;base64," in page and page.count("<svg") >= 5
    assert not re.search(r"""(src|href)=["']?https?:""", page)  # opens offline
    for title in ("Speed", "Acceleration", "Deviation", "Trust", "Time per stage"):
        assert title in page
    log = json.loads((out / "episode.json").read_text())
    assert [step["source"][0] for step in log["steps"]] == ["log", "splat", "splat"]


def test_missing_weights_are_one_line_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUSCENES", raising=False)
    assert main(["demo", "--weights", str(tmp_path / "nothing"), "--out", str(tmp_path / "demo")]) == 2
    error = capsys.readouterr().err.strip()
    assert "nothing" in error and "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_unknown_scene_is_one_line(town_dataroot, tmp_path, capsys):
    wanted = ["--dataroot", str(town_dataroot), "--scene", "town-val-0099", "--weights", "splat", "--out", str(tmp_path / "demo")]
    assert main(["demo", *wanted]) == 2
    error = capsys.readouterr().err.strip()
    assert "town-val-0099" in error and "\n" not in error and not (tmp_path / "demo").exists()


def test_swerve_is_as_wide_as_the_street(town_dataroot):
    """A metre fits into the test town's street; ten metres fit nowhere, so the ego stays in its lane."""
    name = open_dataset(town_dataroot).names()[0]
    settings = {"dataroot": str(town_dataroot), "scenes": name, "action": "trajectory", "decision_dt": 0.5, "horizon": 5.0}
    start = RunOptions(name, 0.0, plan_limit=600.0)
    assert 0.4 < abs(demo.rehearse(settings, start, demo.Options(swerve=1.0))) <= 1.0
    assert demo.rehearse(settings, start, demo.Options(swerve=40.0)) == 0.0


def test_depth_never_lands_beside_the_data(nuscenes_real, tmp_path, monkeypatch, capsys):
    from dist4d_env.curation import camera

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DIST4D_DEPTH", raising=False)
    monkeypatch.setattr(camera.CurationConfig, "size", lambda self, image: (27, 48))  # quick
    dataset = open_dataset(nuscenes_real)
    if dataset.load("scene-0061").sensors.has_depth(0):
        pytest.skip("depth lies beside the shared data already")
    with monkeypatch.context() as stopped:
        stopped.setattr("dist4d_env.curation.body.find_body", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo.ensure_depth(dataset, "scene-0061")
    demo.ensure_depth(dataset, "scene-0061")  # which makes masks, too
    assert dataset.load("scene-0061").sensors.has_depth(0)
    assert len(list(tmp_path.rglob("*.png"))) == 6 + 6 and not (nuscenes_real / "depth").exists()
    told = capsys.readouterr().out
    assert str(tmp_path) in told and "1 keyframe with" in told and "6 depth images to make" in told and "about" in told
    demo.ensure_depth(dataset, "scene-0061")
    assert capsys.readouterr().out == ""


def test_a_scene_that_cannot_be_played_is_refused_before_the_rehearsal(nuscenes_real, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "rehearse", lambda *_: pytest.fail("rehearsed a scene without images"))
    with pytest.raises(DataError, match=r"scene-0103: no keyframe in .* has images"):
        demo.run(demo.Options(nuscenes_real, scene="scene-0103", size="64x112", out=tmp_path / "demo"))
    with pytest.raises(ConfigError, match=r"^start=60\.0 must lie between"):
        demo.run(demo.Options(nuscenes_real, scene="scene-0103", world="none", start=60.0, out=tmp_path / "demo"))
