"""The benchmark of learned policies, on the small town: every row is there, and the numbers agree with each other."""

from __future__ import annotations

import json

import pytest

from agents.train_sb3 import Options as Training
from agents.train_sb3 import main as train
from benchmarks.rl import SHOWN, Options, main, summarise
from dist4d_env.envs.rewards import TERMS
from dist4d_env.errors import ConfigError


@pytest.fixture(scope="module")
def trained(tmp_path_factory, town_dataroot):
    """A run of a few decisions."""
    options = Training(
        out=tmp_path_factory.mktemp("runs") / "ppo",
        dataroot=town_dataroot,
        val_dataroot=town_dataroot,
        scenes="val",
        envs=4,
        rollout=16,
        minibatch=32,
        steps=256,
        eval_every=64,
        eval_episodes=2,
        horizon=2.0,
        device="cpu",
        video=False,
    )
    return train(options)


@pytest.mark.medium
def test_quick_reports_what_the_full_one_does(trained, town_dataroot, tmp_path, capsys):
    out = tmp_path / "rl.json"
    options = Options(
        policies=(trained / "best",),
        runs=(trained,),
        planners=("lane", "log"),
        dataroot=town_dataroot,
        horizon=4.0,
        quick=True,
        out=out,
        picture=tmp_path / "curve.png",
    )
    result = main(options)
    assert json.loads(out.read_text())["planners"].keys() == result["planners"].keys() == {"replay"}
    rows, terms = result["planners"]["replay"], result["reward_terms"]["replay"]
    assert set(rows) == set(terms) == {"lane", "log", "best", "ppo/last"}
    for name, row in rows.items():
        assert row["pdms_v1"]["n"] == 2 and 0 <= row["pdms_v1"]["low"] <= row["pdms_v1"]["mean"] <= row["pdms_v1"]["high"] <= 1
        assert sum(row["outcomes"].values()) == pytest.approx(1.0)
        assert set(terms[name]) == set(TERMS)
    assert terms["log"]["pdms"]["per_episode"] == pytest.approx(rows["log"]["pdms_v1"]["mean"])  # driven to the end
    assert terms["log"]["collision"] == {"size": 0.0, "share": 0.0, "per_episode": 0.0}
    run = result["runs"]["ppo"]
    assert run["curve"][-1]["steps"] >= 256 and run["cpu_seconds"] > 0 and run["options"]["seed"] == 0
    assert "collision" in capsys.readouterr().out
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert not out.with_suffix(".partial.jsonl").exists()


def test_intervals_allow_for_episodes_of_one_scene_being_alike():
    rows = [{"scene": f"{scene}", "seed": seed, "outcome": "horizon", **dict.fromkeys(SHOWN, scene / 8)}
            for scene in range(8) for seed in range(6)]  # fmt: skip
    found, alone = summarise(rows)["pdms_v1"], summarise(rows[::6])["pdms_v1"]
    assert found["n"] == 48 and found["mean"] == alone["mean"]
    assert found["high"] - found["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.05)  # repeats tell nothing new


def test_an_unknown_planner_is_refused():
    with pytest.raises(ConfigError, match="nobody"):
        Options(planners=("nobody",))
