"""Stored episodes come back whole and score the same; broken ones say so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import DataError
from dist4d_env.evaluation.episode_log import TRACE_ARRAYS, forward_cameras, load_episode, save_episode
from dist4d_env.evaluation.scores import recorded_scene
from dist4d_env.evaluation.summary import score
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.scenes.files import replacing
from dist4d_env.scenes.lights import NO_LIGHTS


def test_comes_back_whole(log, tmp_path):
    path = save_episode(log, tmp_path)
    assert path.name == "town-val-0000_LaneFollower_seed0.json"
    back = load_episode(path)
    for name in TRACE_ARRAYS:
        assert np.array_equal(getattr(back.trace, name), getattr(log.trace, name)), name
    assert np.array_equal(back.plans.step, log.plans.step) and np.array_equal(back.plans.poses, log.plans.poses)
    assert back.plans.dt == log.plans.dt
    assert [replace(s, timing_ms={}) for s in back.steps] == [replace(s, timing_ms={}) for s in log.steps]
    assert (back.outcome, back.seed, back.settings, back.scenario) == (log.outcome, log.seed, log.settings, log.scenario)


def test_traffic_lights_come_back_as_the_episode_saw_them(log, tmp_path):
    lights = log.trace.lights
    assert len(lights) == 12 and lights.state.shape == (12, len(log.trace.time))
    shown = replace(log, trace=replace(log.trace, lights=replace(lights, state=np.roll(lights.state, 5, 1))))
    back = load_episode(save_episode(shown, tmp_path)).trace.lights
    assert np.array_equal(back.state, shown.trace.lights.state) and back.state.dtype == np.int8
    assert np.array_equal(back.stop_line, lights.stop_line) and back.lanes == lights.lanes
    without = load_episode(save_episode(replace(log, trace=replace(log.trace, lights=NO_LIGHTS)), tmp_path))
    assert len(without.trace.lights) == 0, "as in logs of before there were any"
    few = replace(lights, token=lights.token[:3], state=lights.state[:3])
    path = save_episode(replace(log, trace=replace(log.trace, lights=few)), tmp_path)
    with pytest.raises(DataError, match="3 traffic lights, but town-val-0000 has 12"):
        load_episode(path)


def test_scores_identically(log, tmp_path):
    back = load_episode(save_episode(log, tmp_path))
    assert evaluate(back.trace) == evaluate(log.trace)
    assert score(back) == score(log)


def test_can_be_read_where_the_data_set_moved(log, tmp_path, town_dataroot):
    path = save_episode(replace(log, dataroot=str(tmp_path / "gone")), tmp_path)
    with pytest.raises(DataError, match="gone"):
        load_episode(path)
    assert load_episode(path, str(town_dataroot)).scene == log.scene


def test_broken_logs_are_named(log, tmp_path):
    path = save_episode(log, tmp_path, "episode")
    text = json.loads(path.read_text())
    with pytest.raises(DataError, match=r"nothing\.json: no such file"):
        load_episode(tmp_path / "nothing.json")
    path.write_text(json.dumps({**text, "format": 99}))
    with pytest.raises(DataError, match="format 99"):
        load_episode(path)
    path.write_text("{")
    with pytest.raises(DataError, match="not a whole episode log"):
        load_episode(path)
    path.write_text(json.dumps(text))
    path.with_suffix(".npz").write_bytes(b"half")
    with pytest.raises(DataError, match="not a whole episode log"):
        load_episode(path)


def test_files_appear_whole_or_not_at_all(tmp_path):
    place = tmp_path / "file.txt"
    place.write_text("old")
    with pytest.raises(RuntimeError), replacing(place) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]
    with replacing(place) as temporary:
        temporary.write_text("new")
    assert place.read_text() == "new" and list(tmp_path.iterdir()) == [place]


def test_forward_cameras_follow_from_the_rig(log):
    """The three that look ahead of a nuScenes rig, in its order; of a rig that only looks back its first camera."""
    rig = recorded_scene(log).rig
    assert [rig.names[index] for index in forward_cameras(rig)] == ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]
    back = replace(rig, names=rig.names[3:], intrinsics=rig.intrinsics[3:], ego_from_camera=rig.ego_from_camera[3:])
    assert forward_cameras(back) == [0]
