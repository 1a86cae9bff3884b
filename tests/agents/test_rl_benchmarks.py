"""Repeated training compared bit for bit, and memory's slope: both find what they are to find."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import rl_memory, rl_repeat
from dist4d_env.errors import ConfigError, DiST4DError


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


def machine(slope: float, noise: float, count: int = 60) -> list[dict]:
    """An hour's points: a warm-up that grows, then a line with noise."""
    random, hours = np.random.default_rng(0), np.arange(count + 1) / count
    memory = 1000 + slope * hours + noise * random.normal(size=count + 1)
    memory[hours < 0.15] -= 500
    return [
        {"steps": 100 * k, "seconds": 50 + 3600 * hours[k], "cpu_seconds": 9 + 1800 * hours[k], "memory_mib": memory[k]}
        for k in range(count + 1)
    ]


@pytest.mark.parametrize("slope", [0.0, 30.0])
def test_the_slope_of_memory_and_its_error(slope):
    found = rl_memory.leak(machine(slope, 2.0), 0.2)
    assert abs(found["mib_per_hour"] - slope) < 3 * found["mib_per_hour_error"] < 15
    assert found["hours"] == pytest.approx(1.0) and found["decisions"] == 6000 and found["cpu_minutes"] == pytest.approx(30)


def test_a_run_without_points_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"machine.jsonl is not there"):
        rl_memory.main(rl_memory.Options(run=tmp_path))
    (tmp_path / "machine.jsonl").write_text("\n".join(json.dumps(point) for point in machine(0, 1, 4)))
    with pytest.raises(ConfigError, match="too few for a slope"):
        rl_memory.main(rl_memory.Options(run=tmp_path))


def test_the_slope_is_stored_and_printed(tmp_path, capsys):
    (tmp_path / "machine.jsonl").write_text("\n".join(json.dumps(point) for point in machine(30, 1)))
    result = rl_memory.main(rl_memory.Options(run=tmp_path, out=tmp_path / "memory.json"))
    assert json.loads((tmp_path / "memory.json").read_text())["mib_per_hour"] == result["mib_per_hour"]
    assert "MiB an hour" in capsys.readouterr().out
