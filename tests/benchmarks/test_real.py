"""Statistics of generated pixels, and the cases that real frames are evaluated in."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import real
from benchmarks.image_statistics import chroma_distance, spectrum_distance
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.errors import DataError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60, 3), np.uint8)
GREY = np.repeat(RNG.integers(90, 120, (40, 60, 1), np.uint8), 3, -1)
MASK = np.arange(60) < 30 * np.ones((40, 1))


def test_distances_tell_coloured_noise_from_grey_and_see_the_mask_alone():
    assert chroma_distance(NOISE, GREY, MASK) > 0.9 and spectrum_distance(NOISE, GREY, MASK) > 2
    other = GREY.copy()
    other[:, 45:] = NOISE[:, 45:]
    assert chroma_distance(other, GREY, MASK) == spectrum_distance(GREY, GREY, MASK) == 0


def test_a_clip_remembers_what_its_protocol_allows(monkeypatch):
    monkeypatch.setattr(real.Clip, "__init__", lambda self: None)
    clip = real.Clip()
    clip.stride, clip.frames, seen = 7, [None] * 77, []
    clip.case = lambda *of: seen.append(of)
    assert len(list(clip.cases())) == len(seen)
    assert {protocol for protocol, *_ in seen} == {"next_frame", "between"}
    for protocol, mark, reference, target, remembered in seen:
        step = round(10 * float(mark[:-1]))
        assert target - reference == step and target < real.MOVING
        if protocol == "next_frame":
            assert remembered == list(range(reference + 1))
        else:
            assert min(abs(k - target) for k in remembered) == step and len(remembered) > 60


def test_absent_frames_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DIST4D_SHARED", str(tmp_path))
    with pytest.raises(DataError, match="DIST4D_SHARED"):
        real.prepared("kitti_real", "scene-9100", tmp_path, CurationConfig())
