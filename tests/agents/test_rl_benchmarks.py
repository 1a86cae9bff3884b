"""Repeated training compared bit for bit."""

from __future__ import annotations

import json

import pytest

from benchmarks import rl_repeat
from dist4d_env.errors import DiST4DError

pytestmark = pytest.mark.medium


def test_two_trainings_are_the_same_and_the_result_says_so(town_dataroot, tmp_path, capsys):
    out = tmp_path / "repeat.json"
    options = rl_repeat.Options(steps=2048, libraries=("sb3",), dataroot=town_dataroot, scenes="val", out=out)
    runs = rl_repeat.main(options)["runs"]
    assert json.loads(out.read_text())["runs"] == runs and "are the same over 2048 decisions" in capsys.readouterr().out
    points = runs["sb3"]["points"]
    assert [point["decisions"] for point in points] == [1024, 2048]
    for name in ("observations", "actions", "rewards", "weights"):
        assert points[0][name] != points[1][name], name  # digests of something


def test_the_first_difference_is_named():
    same = [{"decisions": 8, "actions": "a"}, {"decisions": 16, "actions": "b"}]
    rl_repeat.compare("sb3", same, same)
    with pytest.raises(DiST4DError, match="differ in actions of rollout 1"):
        rl_repeat.compare("sb3", same, [same[0], {"decisions": 16, "actions": "c"}])
