"""What memories hold, choose, show and take in."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.worlds import frame_cache
from dist4d_env.worlds.memory import GENERATED_KEPT, Memory
from dist4d_env.worlds.service.actors import held_bytes
from dist4d_env.worlds.service.state_parts import Loaded
from tests.worlds.street import make_scene, scene_at, truth


def times(memory: Memory) -> list[float]:
    return [f.time for f in memory.frames]


def test_log_remembers_every_keyframe_and_history_only_the_past():
    scene = make_scene()
    np.testing.assert_allclose(times(Memory.from_log(scene, scene.rig, 1.2, "log")), np.arange(9) * 0.5)
    np.testing.assert_allclose(times(Memory.from_log(scene, scene.rig, 1.2, "history")), [0, 0.5, 1.0])
    assert times(Memory.from_log(scene, scene.rig, 0.0, "history")) == [0.0]


def test_keyframes_without_images_are_no_part_of_it():
    scene = make_scene(without=tuple(range(1, 9)))
    assert times(Memory.from_log(scene, scene.rig, 2.0, "log")) == [0.0]


def test_nothing_to_remember_is_an_error_that_names_the_remedy():
    scene = make_scene(without=tuple(range(9)), name="blind")
    with pytest.raises(DataError, match=r"blind.*prepare"):
        Memory.from_log(scene, scene.rig, 0.0, "log")
    with pytest.raises(ConfigError, match="history"):
        Memory.from_log(scene, scene.rig, 0.0, "future")  # type: ignore[arg-type]


def test_frames_are_read_once_and_only_when_needed(monkeypatch):
    scene = make_scene(name="lazy")
    read = []
    original = type(scene.sensors).rgbd
    monkeypatch.setattr(type(scene.sensors), "rgbd", lambda self, k, h, w: read.append(k) or original(self, k, h, w))
    memory = Memory.from_log(scene, scene.rig, 0.0, "log")
    assert read == []
    now = scene_at(scene, 1.0)
    poses = now.global_from_ego @ scene.rig.ego_from_camera
    for _ in range(2):
        memory.render(scene.rig, poses, now.boxes, now.time)
        Memory.from_log(scene, scene.rig, 0.0, "log").render(scene.rig, poses, now.boxes, now.time)
    assert sorted(read) == sorted(set(read)) and len(read) == 3 and 2 in read


def test_cache_keeps_to_its_budget(monkeypatch):
    monkeypatch.setenv("DIST4D_FRAME_CACHE_MB", "9")
    scene = make_scene(name="small-cache")
    for keyframe in range(6):
        frame_cache.load_source(scene, keyframe, 64, 112)
    assert sum(s.nbytes for _, s in frame_cache._kept.values()) <= 9e6
    for text in ("plenty", "inf", "nan"):
        monkeypatch.setenv("DIST4D_FRAME_CACHE_MB", text)
        with pytest.raises(ConfigError, match="DIST4D_FRAME_CACHE_MB"):
            frame_cache.cache_budget()


def test_every_array_of_a_prepared_frame_counts():
    scene = make_scene(name="counted")
    frame = scene.sensors.rgbd(0, 64, 112)
    source = SplatSource.from_frame(replace(frame, body=np.zeros(frame.depth.shape, bool)), scene.boxes(0.0))
    held = [array.nbytes for one in (source, source.frame) for array in vars(one).values() if isinstance(array, np.ndarray)]
    assert source.nbytes == sum(held) and len(held) == 11 + 6
    shared = {"source": (source, ("frame",)), "frame": (source.frame, ())}
    assert held_bytes([Loaded(source, shared), Loaded(source, shared)]) == sum(held)


def test_readers_of_one_folder_keep_their_own_pictures():
    scene = make_scene(name="shared-folder")
    other = copy.copy(scene.sensors)
    first = frame_cache.load_source(scene, 0, 64, 112)
    assert frame_cache.load_source(replace(scene, sensors=other), 0, 64, 112) is not first
    assert frame_cache.load_source(scene, 0, 64, 112) is first


def test_select_prefers_near_frames():
    scene = make_scene()
    memory = Memory.from_log(scene, scene.rig, 0.0, "log")
    now = scene_at(scene, 2.1)
    poses = now.global_from_ego @ scene.rig.ego_from_camera
    assert [f.time for f in memory.select(poses, now.time, 3)] == [2.0, 2.5, 1.5]
    assert len(memory.select(poses, now.time, 50)) == 9


def test_a_frame_that_is_not_remembered_is_not_shown():
    scene = make_scene()
    memory = Memory.from_log(scene, scene.rig, 0.0, "log")
    now = scene_at(scene, 2.0)
    poses = now.global_from_ego @ scene.rig.ego_from_camera
    open_book = memory.render(scene.rig, poses, now.boxes, now.time)
    others = replace(memory, frames=tuple(f for f in memory.frames if f.time != 2.0))
    hidden = others.render(scene.rig, poses, now.boxes, now.time)
    assert open_book.age[open_book.valid].mean() < 0.05
    assert hidden.age[hidden.valid].min() > 0.4
    exact = truth(scene, now).rgb
    error = [np.abs(s.rgb[s.valid].astype(int) - exact[s.valid]).mean() for s in (open_book, hidden)]
    assert error[0] < 0.5 < error[1]


def test_generated_pixels_enter_only_where_the_mask_and_clean_depth_allow():
    scene = make_scene()
    memory = Memory.from_log(scene, scene.rig, 0.0, "history")
    now = scene_at(scene, 2.0)
    poses = now.global_from_ego @ scene.rig.ego_from_camera
    before = memory.render(scene.rig, poses, now.boxes, now.time)
    mask = ~before.valid
    assert 0.02 < mask.mean() < 0.6
    grown = memory.with_generated(truth(scene, now), now.boxes, mask)
    assert len(memory.frames) == 1 and len(grown.frames) == 2
    after = grown.render(scene.rig, poses, now.boxes, now.time)
    assert after.generated.any() and not before.generated.any()
    assert after.valid.mean() > before.valid.mean() + 0.5 * mask.mean()
    added = grown.frames[-1].source()
    assert not (added.keep & ~mask).any() and not (added.keep & added.edge).any()
    confirmed = before.valid & (before.confidence > 0.5)
    assert np.mean(after.generated[confirmed]) < 0.02
    assert memory.with_generated(truth(scene, now), now.boxes, np.zeros_like(mask)) is memory


def test_only_the_latest_generated_frames_are_kept():
    scene = make_scene()
    memory = Memory.from_log(scene, scene.rig, 0.0, "history")
    now = scene_at(scene, 1.0)
    frame = truth(scene, now)
    for _ in range(GENERATED_KEPT + 3):
        memory = memory.with_generated(frame, now.boxes, np.ones(frame.depth.shape, bool))
    assert len(memory.frames) == 1 + GENERATED_KEPT
