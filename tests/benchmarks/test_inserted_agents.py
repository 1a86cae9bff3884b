"""What is counted of inserted agents: a picture against itself, one without the agent and one in which it is too wide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import inserted_agents
from benchmarks.action_following import Shot
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import BASE, make_boxes, make_rig, render

RIG, EGO = make_rig(64, 112), pose_from_xy_yaw(0, 0, 0)
CAR = make_boxes((3, 9, -2, 0.4))


def shot(boxes=CAR) -> Shot:
    pose = EGO.copy()
    pose[:3, 3] += BASE
    return Shot(render(RIG, EGO, boxes), pose, CAR, 0.0)


def test_the_truth_itself_is_without_fault() -> None:
    found = inserted_agents.measured([shot()], [shot()], RIG, 3)
    assert found["inserted"] and not found["recorded"]
    assert found["inserted"] == [[1.0, 0.0, 0.0, 0.0]] * len(found["inserted"])
    assert inserted_agents.measured([shot()], [shot()], RIG, 4)["recorded"] == found["inserted"]


def test_one_that_is_not_shown_and_one_that_is_too_wide() -> None:
    empty = inserted_agents.measured([shot(make_boxes())], [shot()], RIG, 3)["inserted"]
    assert all(silhouette < 0.1 and missing > 0.6 for silhouette, missing, _, _ in empty)
    wide = inserted_agents.measured([shot(replace(CAR, size=CAR.size * (1.0, 1.6, 1.3)))], [shot()], RIG, 3)["inserted"]
    assert max(phantom for _, _, phantom, _ in wide) > 0.1


def test_means_are_taken_over_what_is_known() -> None:
    rows = {"inserted": [[1.0, 0.0, 0.0, 0.2], [0.0, 1.0, 0.0, float("nan")]], "recorded": []}
    result = inserted_agents.summary({"a": {"splat": rows}}, ["splat"])["splat"]
    assert result["inserted"]["count"] == 2 and result["inserted"]["silhouette"]["mean"] == 0.5
    assert result["inserted"]["depth"]["mean"] == pytest.approx(0.2) and result["recorded"]["count"] == 0
    with pytest.raises(ConfigError, match="worlds"):
        inserted_agents.Options(worlds=("oracle",))
    assert np.isnan(result["recorded"]["silhouette"]["mean"] or np.nan)
