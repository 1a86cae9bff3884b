"""Planners in the closed loop: what they are given, and what becomes of those that fail."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation import runner
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.runner import RunOptions, run_episode, to_action, visible_scene
from dist4d_env.planners.contract import Plan, PlannerContext, PlannerFailure, PlannerInput, PlannerNeeds
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.scenario import Scenario
from tests.simulation.road import Agent, make_scene, road_map

HERE = Path(__file__).name
PLACE = RunOptions("town-val-0000", 0.0, plan_limit=600.0)
STRAIGHT = np.column_stack([3.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)])


class Scripted:
    """Returns or raises what it was given, one per decision, the last one for ever; remembers what it saw."""

    def __init__(self, *answers, requires: PlannerNeeds | None = None, on_reset: Exception | None = None) -> None:
        self.requires, self._answers, self._on_reset = requires or PlannerNeeds(), list(answers), on_reset
        self.seen: list[PlannerInput] = []
        self.context: PlannerContext | None = None

    def reset(self, context: PlannerContext, seed: int) -> None:
        self.context = context
        if self._on_reset:
            raise self._on_reset

    def plan(self, observation: PlannerInput):
        self.seen.append(observation)
        answer = self._answers[min(len(self.seen), len(self._answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


def test_lane_follower_drives_to_the_horizon(log):
    assert log.outcome == "horizon" and log.error is None
    assert len(log.steps) == 7 and len(log.trace.time) == 31
    assert log.steps[0].time == 0.0 and log.steps[-1].time == pytest.approx(3.0)
    assert log.plans.step.tolist() == [0, 5, 10, 15, 20, 25] and log.plans.poses.shape == (6, 8, 3) and log.plans.dt == 0.5
    assert log.scenario == {"scene": "town-val-0000"}, "what is as in the log is left out"
    assert log.total_reward == pytest.approx(sum(step.reward for step in log.steps)) and log.total_reward > 0
    assert log.planner == "dist4d_env.planners.lane_follower:LaneFollower" and log.settings["world"] == "none"


def test_same_seed_same_episode(env, log):
    again = run_episode(env, LaneFollower(), 0, PLACE)
    assert np.array_equal(again.trace.ego, log.trace.ego)
    assert [step.reward for step in again.steps] == [step.reward for step in log.steps]


def test_log_follower_stays_with_the_log(env):
    log = run_episode(env, LogFollower(), 0, PLACE)
    assert log.outcome == "horizon"
    assert np.linalg.norm(log.trace.ego[:, :2] - log.trace.expert[:, :2], axis=1).max() < 0.5


@pytest.mark.parametrize(
    "answer, says",
    [
        (ValueError("no idea"), "ValueError: no idea"),
        (Plan(np.full((8, 3), np.nan)), "not finite"),
        (Plan(np.zeros((8, 2))), r"\(N, 3\) numbers"),
        (Plan(np.zeros((0, 3))), r"\(N, 3\) numbers"),
        (Plan(STRAIGHT * 1000), "beyond the action's bounds"),
        (Plan(STRAIGHT, dt=0.0), "dt is 0.0"),
        (None, "neither a Plan nor an array"),
        (np.zeros(2), r"a plan is \(N, 3\) numbers x, y, heading, not float64 \(2,\)"),
        (STRAIGHT[:, :2], r"a plan is \(N, 3\) numbers x, y, heading, not float64 \(8, 2\)"),
        (STRAIGHT * np.nan, r"an answer that is not finite: array\(\[\[nan"),
        (Plan(STRAIGHT, dt=np.inf), "a plan whose dt is not finite: inf"),
        (STRAIGHT[:6], "does not say when its poses are due: return Plan"),
        (Plan(STRAIGHT, dt=None), "dt is no number: None"),
        (Plan(STRAIGHT, dt=np.array([0.5, 0.5])), "not a positive number of seconds"),
        (Plan([[1.0, 0.0, 0.0], [2.0]]), "a plan that is no array of numbers"),
        (Plan(STRAIGHT.astype(complex)), "a plan that is no array of numbers"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=[
        "raises",
        "nan",
        "shape",
        "empty",
        "far",
        "no-time",
        "nothing",
        "other-action",
        "bare-without-heading",
        "bare-nan",
        "endless-dt",
        "no-dt",
        "none-dt",
        "two-dt",
        "ragged",
        "complex",
        "exits",
    ],
)
def test_failing_planners_end_the_episode(env, answer, says):
    """A good plan first, then the bad one: the episode ends there, as the planner's failure and nothing else."""
    log = run_episode(env, Scripted(Plan(STRAIGHT), answer), 0, PLACE)
    assert log.outcome == PLANNER_ERROR and log.error is not None
    assert log.error.startswith("at 0.5 s: ")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(log.error)
    assert len(log.steps) == 2 and len(log.trace.time) == 6


def test_failures_say_where_in_the_planner(env):
    """The planner's own line, not that of the library which raised; what knows no pictures is told how to ask for them."""
    log = run_episode(env, Scripted(lambda: np.zeros(3).reshape(2)), 0, PLACE)
    assert re.search(rf"ValueError: cannot reshape .*, at {HERE}:\d+ in <lambda>$", str(log.error))
    wants = Scripted(Plan(STRAIGHT))
    wants.plan = lambda given: given.observation["CAM_FRONT/depth"]
    log = run_episode(env, wants, 0, PLACE)
    assert re.search(
        rf"KeyError: 'CAM_FRONT/depth', .* PlannerNeeds\(cameras=True\).*, at {HERE}:\d+ in <lambda>$", str(log.error)
    )
    wants.plan = lambda: None
    assert str(run_episode(env, wants, 0, PLACE).error).endswith("but 1 was given"), "nothing of it has run"


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_failures_are_told_in_one_line(env):
    log = run_episode(env, Scripted(Mute()), 0, PLACE)
    assert log.error.startswith("at 0.0 s: Mute: it has no text, at ")
    log = run_episode(env, Scripted(np.ones((8, 3), bool)), 0, PLACE)
    assert log.error is not None and "\n" not in log.error and len(log.error) < 200


def test_late_plans_end_the_episode(env, monkeypatch):
    """On a clock of the test's own, which each plan moves on."""
    now = [0.0]
    monkeypatch.setattr(runner, "perf_counter", lambda: now[0])

    def plan_for(seconds: float) -> Plan:
        now[0] += seconds
        return Plan(STRAIGHT)

    planner = Scripted(lambda: plan_for(0.9), lambda: plan_for(1.1))
    log = run_episode(env, planner, 0, RunOptions("town-val-0000", 0.0, plan_limit=1.0))
    assert (log.outcome, log.error) == (PLANNER_ERROR, "at 0.5 s: late: 1.10 s for a plan, the limit is 1 s")


def test_late_resets_end_the_episode(env, monkeypatch):
    now = iter([0.0, 121.0])
    monkeypatch.setattr(runner, "perf_counter", lambda: next(now))
    log = run_episode(env, Scripted(Plan(STRAIGHT)), 0, PLACE)
    assert (log.outcome, log.error) == (PLANNER_ERROR, "reset: late: 121.00 s for its reset, the limit is 120 s")


def test_bare_arrays_are_recorded_as_plans(env):
    """Eight poses are the environment's own action, every 0.5 s: the same drive, and the same plans in the log."""
    plan, bare = (run_episode(env, Scripted(answer), 0, PLACE) for answer in (Plan(STRAIGHT), STRAIGHT.tolist()))
    assert np.array_equal(plan.trace.ego, bare.trace.ego) and len(bare.plans.step) > 1
    assert np.array_equal(plan.plans.step, bare.plans.step) and np.array_equal(plan.plans.poses, bare.plans.poses)


def test_failing_reset_is_the_planners_failure(env):
    log = run_episode(env, Scripted(on_reset=RuntimeError("no weights")), 0, PLACE)
    assert log.outcome == PLANNER_ERROR and str(log.error).startswith("reset: RuntimeError: no weights, at ")
    assert len(log.trace.time) == 1


def test_the_environments_own_errors_are_raised(env):
    with pytest.raises(ConfigError, match="start"):
        run_episode(env, LaneFollower(), 0, RunOptions("town-val-0000", 99.0))


def test_only_the_privileged_see_the_truth(env):
    blind, knowing = Scripted(Plan(STRAIGHT)), Scripted(Plan(STRAIGHT), requires=PlannerNeeds(privileged=True))
    run_episode(env, blind, 0, PLACE)
    run_episode(env, knowing, 0, PLACE)
    assert all(given.state is None for given in blind.seen) and all(given.state is not None for given in knowing.seen)
    assert set(blind.seen[0].observation) == {"ego", "route", "agents"}
    assert len(blind.context.scene.tracks) == 0 and len(blind.context.scene.ego.time) == 1 and blind.context.scene.map is None
    assert len(knowing.context.scene.tracks) > 0 and blind.context.decision_dt == 0.5


def test_a_map_is_given_to_those_who_ask():
    scene = make_scene(Agent(5, 3.5), scene_map=road_map())
    assert visible_scene(scene, PlannerNeeds(map=True)).map is scene.map
    assert len(visible_scene(scene, PlannerNeeds(map=True)).tracks) == 0
    assert visible_scene(scene, PlannerNeeds(privileged=True)) is scene


def test_watching_sees_every_instant(env):
    times = []
    run_episode(env, Scripted(Plan(STRAIGHT)), 0, PLACE, lambda driving, info: times.append(info["time"]))
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0][: len(times)]) and len(times) > 3


def test_plans_are_resampled():
    """A plan of 1 s at 10 Hz becomes 4 s at 2 Hz, kept up at its last velocity."""
    plan = Plan(np.column_stack([0.8 * np.arange(1, 11), np.zeros(10), np.zeros(10)]), dt=0.1)
    assert to_action(plan, "trajectory")[:, 0] == pytest.approx(4.0 * np.arange(1, 9), rel=1e-6)
    assert to_action(Plan(STRAIGHT), "trajectory") == pytest.approx(STRAIGHT)
    assert to_action(Plan([[20.0, 0.0, 0.0], [99.0, 0.0, 0.0]], dt=5.0), "trajectory")[:, 0] == pytest.approx(2 * np.arange(1, 9))


def test_plans_are_stored_as_the_simulator_got_them(env):
    """A plan of 1 s at 10 Hz is stored as the eight poses at 0.5 s that were followed; one that was refused is not stored."""
    fine = Plan(np.column_stack([0.5 * np.arange(1, 11), np.zeros(10), np.zeros(10)]), dt=0.1)
    log = run_episode(env, Scripted(fine, fine, ValueError("no idea")), 0, PLACE)
    assert log.plans.step.tolist() == [0, 5]
    assert log.plans.poses[1] == pytest.approx(np.asarray(to_action(fine, "trajectory")))


def test_a_scenario_says_its_own_place():
    with pytest.raises(ConfigError, match="leave scene= and start= out"):
        RunOptions("town-val-0000", scenario=Scenario("town-val-0000"))


def test_other_actions_are_handed_on():
    assert to_action(7, "discrete") == 7
    with pytest.raises(ConfigError, match="action='trajectory'"):
        to_action(Plan(STRAIGHT), "controls")
    with pytest.raises(PlannerFailure):
        to_action(np.array([np.nan, 0.0]), "controls")


def test_a_limit_must_be_positive():
    for name in ("plan_limit", "reset_limit"):
        with pytest.raises(ConfigError, match=name):
            RunOptions(**{name: 0.0})
