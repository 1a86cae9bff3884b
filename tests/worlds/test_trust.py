"""Trust is in [0, 1] and falls with every reason to doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.trust import TrustConfig, camera_disagreement, memory_disagreement, trust
from tests.worlds.street import make_scene, scene_at, truth


@pytest.fixture(scope="module")
def seen():
    """A true frame half a second after the one that is remembered, and the memory's splat there."""
    scene = make_scene()
    now = scene_at(scene, 0.5)
    frame = truth(scene, now)
    memory = Memory.from_log(scene, scene.rig, 0.0, "history")
    return frame, memory.render(scene.rig, frame.global_from_camera, now.boxes, now.time)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.floats(0, 100), st.floats(0, 1000))
def test_it_is_a_share_and_falls_with_each_doubt(seen, share, deviation, distance):
    frame, splat = seen
    generated = np.full(frame.depth.shape, share, np.float32)
    here = trust(frame, splat, generated, deviation, distance)
    assert 0 <= here <= 1
    assert trust(frame, splat, generated, deviation + 1, distance) <= here
    assert trust(frame, splat, generated, deviation, distance + 10) <= here
    assert trust(frame, splat, np.minimum(generated + 0.1, 1), deviation, distance) <= here


def test_each_doubt_alone_halves_it_at_its_own_measure(seen):
    frame, splat = seen
    config, nothing = TrustConfig(), np.zeros(frame.depth.shape, np.float32)
    base = trust(frame, splat, nothing, 0.0, 0.0)
    for share, deviation, distance in ((config.share, 0, 0), (0, config.deviation, 0), (0, 0, config.distance)):
        assert trust(frame, splat, nothing + np.float32(share), deviation, distance) == pytest.approx(base / 2, rel=1e-4)


def test_the_truth_agrees_with_memory_and_itself_and_a_tint_does_not(seen):
    frame, splat = seen
    assert memory_disagreement(frame, splat) < 0.02 and camera_disagreement(frame) < 0.02
    tinted = replace(frame, rgb=(frame.rgb // 2))
    assert memory_disagreement(tinted, splat) > 0.1
    one_camera = frame.rgb.copy()
    one_camera[1] //= 3
    assert camera_disagreement(replace(frame, rgb=one_camera)) > camera_disagreement(frame) + 0.02


def test_without_overlap_nothing_disagrees(seen):
    frame, splat = seen
    nothing_known = replace(splat, valid=np.zeros_like(splat.valid))
    assert memory_disagreement(frame, nothing_known) == 0.0
    assert camera_disagreement(replace(frame, depth=np.full_like(frame.depth, 100))) == 0.0
