"""The planners in the town, through the runner: nobody at fault, nobody off the road."""

from __future__ import annotations

import pytest

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.metrics.driving.suite import evaluate


@pytest.fixture(scope="module")
def env(town_dataroot):
    made = DiST4DDrivingEnv(
        dataroot=town_dataroot, world="none", action="trajectory", observation=("ego", "route", "agents"), horizon=6.0
    )
    yield made
    made.close()


@pytest.mark.parametrize("name", ["idm", "pdm_closed", "expert_bias_0.5"])
def test_drives_through_the_town(env, name):
    for scene in env.scene_names:
        log = run_episode(env, make_planner(name), 0, RunOptions(scene, 0.0, plan_limit=600.0))
        results = evaluate(log.trace)
        assert log.outcome == "horizon", (scene, log.outcome, log.error)
        assert results["no_at_fault_collision"].value == results["drivable_area_compliance"].value == 1.0
        assert results["ego_progress"].value > 0.8


def test_same_seed_same_episode(env):
    scene = env.scene_names[0]
    one, two = (
        run_episode(env, make_planner("pdm_closed"), 0, RunOptions(scene, 1.0, plan_limit=600.0)).trace.ego for _ in range(2)
    )
    assert (one == two).all()
