"""Second opinions: who is asked about which pictures, what becomes of the answers, and that the drive does not notice."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation import second_opinion
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.episode_log import load_episode, save_episode
from dist4d_env.evaluation.executors import serial
from dist4d_env.evaluation.planner_process import PlannerProcess
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.scores import plan_agreement, results_of
from dist4d_env.evaluation.second_opinion import OtherPictures, SecondOpinions, Stored, asked_of, opinions_of
from dist4d_env.planners.contract import Plan, PlannerNeeds
from dist4d_env.planners.measuring import MeasuringPlanner
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite
from dist4d_env.worlds.replay import SplatWorld

pytestmark = pytest.mark.medium


class Shades:
    """Drives as fast as its front picture is bright."""

    requires = PlannerNeeds(cameras=True)

    def reset(self, context, seed):
        self.seen = []

    def plan(self, observation):
        self.seen.append(observation.observation)
        speed = float(observation.observation["CAM_FRONT"].mean()) / 20
        return Plan(np.column_stack([speed * 0.5 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))


class Fails(Shades):
    """At its second picture alone."""

    def plan(self, observation):
        plan = super().plan(observation)
        if len(self.seen) == 2:
            raise ValueError("too bright")
        return plan


class Late(Shades):
    """At its second picture alone."""

    def plan(self, observation):
        plan = super().plan(observation)
        if len(self.seen) == 2:
            time.sleep(60)
        return plan


class NeverReady(Shades):
    def reset(self, context, seed):
        raise RuntimeError("no such street")


class Mutates(Shades):
    """Leaves nothing of what it was given."""

    def plan(self, observation):
        plan = super().plan(observation)
        for value in observation.observation.values():
            value[...] = 0
        return plan


class Painted:
    """All cameras in one grey."""

    def __init__(self, grey: int) -> None:
        self.grey = grey

    def begin(self, driving):
        self.names = driving.scene.rig.names

    def pictures(self, observation):
        return {name: np.full_like(observation[name], self.grey) for name in self.names}


@pytest.fixture(scope="module")
def env(town_dataroot):
    env = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="splat", action="trajectory", horizon=2.0,
        observation=("cameras", "depth", "ego", "route", "agents"),
    )  # fmt: skip
    yield env
    env.close()


def driven(env, planner, opinions=None):
    return run_episode(env, planner, 0, RunOptions("town-val-0000", 0.0, opinions=opinions))


def test_distances_are_to_the_farthest_opinion_and_the_drive_does_not_notice(env) -> None:
    alone = driven(env, Shades())
    opinions = SecondOpinions({"same": (Shades(), Painted(40)), "dark": (Shades(), Painted(0))})
    log = driven(env, Shades(), opinions)
    assert alone.apart is None and np.array_equal(log.trace.ego, alone.trace.ego)
    assert np.allclose(opinions.plans_of("same")[:, 3, 0], 2.0 * 40 / 20) and not opinions.plans_of("dark")[:, :, 0].any()
    front = log.plans.poses[:, 3, 0]
    assert len(front) == 4 and np.allclose(log.apart, np.maximum(front, abs(front - 4.0)), atol=1e-4)


def test_planners_that_change_what_they_are_given_change_nobody_elses(env) -> None:
    plain, changed = (
        driven(env, kind(), SecondOpinions({"stored": (kind(), Stored()), "splat": (kind(), OtherPictures(SplatWorld("log")))}))
        for kind in (Shades, Mutates)
    )
    assert np.array_equal(plain.trace.ego, changed.trace.ego) and np.array_equal(plain.apart, changed.apart)


@pytest.mark.parametrize("kind, known", [(Fails, [True, False, False, False]), (NeverReady, [False] * 4)])
def test_an_opinion_that_fails_is_nobody_elses_failure(env, kind, known) -> None:
    log = driven(env, Shades(), SecondOpinions({"same": (Shades(), Painted(40)), "fails": (kind(), Painted(40))}))
    assert log.error is None and np.isfinite(log.apart).tolist() == known
    result = plan_agreement(log.apart)
    assert result.valid == any(known) and (not any(known) or result.details["decisions"] == 1)


def test_an_opinion_whose_process_was_stopped_is_not_asked_on(env) -> None:
    name = f"{__name__}:Late"
    late = PlannerProcess(name, plan_limit=2.0, needs=Shades.requires)
    log = driven(env, Shades(), SecondOpinions({"late": (late, Painted(40))}))
    late.close()
    assert np.isfinite(log.apart).tolist() == [True, False, False, False]


def test_opinions_look_from_where_the_world_does(town_dataroot) -> None:
    """On a street that lies two metres higher and tilts, too."""
    dataset = Lifted(open_dataset(town_dataroot))
    env = gym.make(
        "DiST4D-nuScenes-v0", dataset=dataset, scenes="val", world="splat", action="trajectory", horizon=2.0,
        observation=("cameras", "depth", "ego", "route", "agents"),
    )  # fmt: skip
    opinions = SecondOpinions({"splat": (Shades(), OtherPictures(SplatWorld()))})
    log = run_episode(env, Shades(), 0, RunOptions("town-val-0000", 0.0, opinions=opinions))
    env.close()
    assert log.apart.max() < 1e-3


class Lifted:
    """The town on a slope of a tenth, two metres up: its poses and cameras, not its pictures."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.slope = np.eye(4)
        self.slope[:3, :3] = [[np.cos(0.1), 0, np.sin(0.1)], [0, 1, 0], [-np.sin(0.1), 0, np.cos(0.1)]]
        self.slope[2, 3] = 2.0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def load(self, name, require_map=True):
        scene = self.inner.load(name, require_map)
        poses = scene.ego.global_from_ego.copy()
        poses[:, :3, :3] = poses[:, :3, :3] @ self.slope[:3, :3]
        poses[:, 2, 3] += 2.0
        return replace(scene, ego=replace(scene.ego, global_from_ego=poses))


def test_what_cannot_be_asked_is_one_error(env, town_dataroot) -> None:
    with pytest.raises(ConfigError, match="at least one planner"):
        SecondOpinions({})
    with pytest.raises(ConfigError, match="no second opinions of idm"):
        second_opinion.check_asked({"idm": PlannerNeeds()})
    other = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="none", observation=("ego",))
    with pytest.raises(ConfigError, match="action='controls': second opinions are on plans"):
        driven(other, Shades(), SecondOpinions({"same": (Shades(), Painted(40))}))
    other.close()


def test_stored_pictures_are_nearly_the_same_and_of_the_same_kinds(env) -> None:
    observation, _ = env.reset(seed=0)
    stored = Stored()
    stored.begin(env.unwrapped)
    found = stored.pictures(observation)
    names = env.unwrapped.scene.rig.names
    assert set(found) == {*names, *(f"{name}/depth" for name in names)}
    for name, image in found.items():
        assert image.dtype == observation[name].dtype and image.shape == observation[name].shape
        change = np.abs(image.astype(float) - observation[name]).mean()
        assert 0 < change < 6 if image.dtype == np.uint8 else change < 0.01


def test_both_opinions_of_a_planner_that_measures(env) -> None:
    """In the world splat the splat is the picture itself, and the plan on it the same."""
    opinions = opinions_of([MeasuringPlanner(), MeasuringPlanner()], "log")
    log = driven(env, MeasuringPlanner(), opinions)
    assert np.abs(opinions.plans_of("splat") - log.plans.poses).max() < 1e-3
    assert np.isfinite(opinions.plans_of("stored")).all()
    assert results_of(log)["plan_agreement"].value == (log.apart <= second_opinion.DIFFERS).mean()


def test_who_is_asked() -> None:
    assert asked_of(PlannerNeeds(cameras=True)) and not asked_of(PlannerNeeds())
    assert not asked_of(PlannerNeeds(cameras=True, lidar=True)) and not asked_of(PlannerNeeds(cameras=True, imagination=True))


def test_answers_come_back_with_the_log(env, tmp_path) -> None:
    log = replace(driven(env, Shades()), apart=np.array([0.0, 0.7, np.nan, 0.5]))
    path = save_episode(log, tmp_path)
    again = load_episode(path)
    assert np.array_equal(again.apart, log.apart, equal_nan=True)
    assert results_of(again)["plan_agreement"].value == pytest.approx(2 / 3)
    save_episode(replace(log, apart=np.array([0.5])), tmp_path)
    with pytest.raises(DataError, match="not metres of 4 plans"):
        load_episode(path)


def test_campaigns_ask_where_they_are_told_to(town_dataroot, tmp_path) -> None:
    """A planner that looks at nothing is not asked; with and without opinions are not mixed."""
    suite = Suite("short", str(town_dataroot), None, (Scenario("town-val-0000", name="s", family="nominal", horizon=1.0),))
    common = {"world": "splat", "apart": False}
    run(Campaign(("measuring", "constant_velocity"), suite, opinions=True, **common), tmp_path, serial)
    logs = {log.planner: log for log in map(load_episode, sorted((tmp_path / "episodes").glob("*.json")))}
    assert logs["measuring"].apart.shape == (2,) and logs["constant_velocity"].apart is None
    with pytest.raises(ConfigError, match="opinions=True, this run has False"):
        run(Campaign(("measuring",), suite, **common), tmp_path, serial)


def test_evaluate_reports_how_often_they_agree(town_dataroot, tmp_path, capsys) -> None:
    common = ["evaluate", "--dataroot", str(town_dataroot), "--scenes", "town-val-0000", "--horizon", "1", "--out", str(tmp_path)]
    assert main([*common, "--planner", "measuring", "--world", "splat", "--second-opinions"]) == 0
    assert "plan_agreement" in json.loads(Path(tmp_path, "results.json").read_text())["episodes"][0]["metrics"]
    assert main([*common, "--second-opinions", "--two-stage"]) == 2
    assert "--second-opinions are asked for while plans are driven" in capsys.readouterr().err
