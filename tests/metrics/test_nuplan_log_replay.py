"""The recorded ego in the recorded scene, with plans that say where it goes: what real driving gets from other benchmarks."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.data.nuscenes import open_dataset
from dist4d_env.metrics.driving.recording import log_trace
from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.alpasim import alpasim_scene_score
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.foreign.open_loop import CLASSES, nuscenes_open_loop

SCENES = ("scene-0061", "scene-0103", "scene-0655", "scene-0796", "scene-1094")


@pytest.fixture(scope="module", params=SCENES)
def trace(request, nuscenes_real):
    return log_trace(open_dataset(str(nuscenes_real)).load(request.param))


def logged_plans(trace, poses):
    """Where the log goes, from every keyframe that has all of it left."""
    step = np.arange(0, len(trace.time) - 5 * poses, 5)
    ahead = trace.ego[step[:, None] + 5 * np.arange(1, poses + 1), :3] - trace.ego[step, None, :3]
    cos, sin = np.cos(trace.ego[step, None, 2]), np.sin(trace.ego[step, None, 2])
    local = cos * ahead[..., 0] + sin * ahead[..., 1], cos * ahead[..., 1] - sin * ahead[..., 0]
    return Plans(step, np.stack([*local, (ahead[..., 2] + np.pi) % (2 * np.pi) - np.pi], -1))


@pytest.mark.parametrize("form", ["faithful", "corrected"])
def test_the_log_gets_full_marks(trace, form):
    plans = logged_plans(trace, 8)
    cls = nuplan_cls(trace, trace, form=form)
    assert cls.valid and cls.value == 1.0 and cls.details["dropped"] == ["speed_limit_compliance"]
    for result in (ads(trace, plans, form), hd_score(trace, plans, trace, form), alpasim_scene_score(trace, trace, plans)):
        assert result.valid and result.value == pytest.approx(1.0), result.details
    assert neuroncap_score(trace, form=form).value == 5.0


def test_the_log_is_its_own_open_loop(trace):
    plans = logged_plans(trace, 8)
    standing = Plans(plans.step, np.zeros_like(plans.poses))
    for protocol in CLASSES:
        result = nuscenes_open_loop(trace, plans, protocol)
        assert result.valid and result.value == pytest.approx(0.0, abs=1e-9) and result.details["samples"] == len(plans.step)
        assert result.details["collision"] == {"1s": 0.0, "2s": 0.0, "3s": 0.0, "mean": 0.0}
        seconds = list(nuscenes_open_loop(trace, standing, protocol).details["l2"].values())[:3]
        assert seconds == sorted(seconds) and seconds[2] > 1.0
