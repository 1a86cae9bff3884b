"""The policy in the repository loads, is small, and drives."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.learning.policy_planner import SHIPPED, ShippedPolicy
from dist4d_env.learning.views import View
from dist4d_env.metrics.driving.suite import evaluate


def test_the_shipped_policy_is_small_and_says_how_it_was_trained():
    about = ShippedPolicy().policy.config.about
    assert about["algorithm"] == "ppo" and about["steps"] > 0
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 500_000
    curve = json.loads((SHIPPED / "curve.json").read_text())
    assert curve[0]["steps"] == 0 and curve[-1]["steps"] == about["steps"]
    assert "python -m agents.train_sb3" in (SHIPPED / "README.md").read_text()


def test_it_drives_scenes_it_never_saw(town_dataroot):
    """Four episodes of 5 s: nothing touched at its own fault, on the road, most of the way, the same again."""
    env = gym.make(
        "DiST4D-nuScenes-v0",
        dataroot=str(town_dataroot),
        scenes="val",
        world="none",
        action="trajectory",
        horizon=5.0,
        observation=View().groups,
    )
    logs = [
        run_episode(env, ShippedPolicy(), seed, RunOptions(scene, plan_limit=600.0))
        for scene in env.unwrapped.scene_names
        for seed in (0, 1)
    ]
    results = [evaluate(log.trace) for log in logs]
    assert [log.outcome for log in logs] == ["horizon"] * 4
    assert all(result["no_at_fault_collision"].value == 1 for result in results)
    assert np.mean([result["ego_progress"].value for result in results]) > 0.7
    again = run_episode(env, ShippedPolicy(), 0, RunOptions(logs[0].scene, plan_limit=600.0))
    assert np.array_equal(again.trace.ego, logs[0].trace.ego)
    env.close()
