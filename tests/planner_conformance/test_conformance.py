"""Conformance: the contract that every planner keeps; each failure names the rule. See ``docs/planners.md``."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from dist4d_env.evaluation import runner
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.runner import run_episode, to_action
from dist4d_env.planners.contract import Plan, PlannerFailure, PlannerNeeds
from tests.metrics.worlds import Motion

ELSEWHERE = Motion(2.2, (740.0, -1310.0))
NEAR = 0.05
"""Metres and radians within which two plans are the same where only rounding differs."""


def test_needs_are_declared(make):
    needs = make().requires
    assert isinstance(needs, PlannerNeeds), f"requires must be a dist4d_env.planners.contract.PlannerNeeds, not {needs!r}"
    for name in ("cameras", "map", "privileged", "imagination"):
        assert isinstance(getattr(needs, name), bool), f"requires.{name} must be True or False, not {getattr(needs, name)!r}"
    assert needs.rate_hz > 0, f"requires.rate_hz must be above zero, not {needs.rate_hz!r}"
    assert needs.history >= 0, f"requires.history must be a number of frames, not {needs.history!r}"


def test_plans_are_finite_trajectories(make, situation):
    for moment, plan in zip(situation.moments, situation.ask(make(), 0), strict=True):
        assert isinstance(plan, Plan), f"plan() must return a dist4d_env.planners.contract.Plan, not a {type(plan).__name__}"
        try:
            to_action(plan, "trajectory")
            wrong = None
        except PlannerFailure as failure:
            wrong = failure
        assert wrong is None, f"at {moment.state.time:.1f} s the planner returned {wrong}"


def test_plans_begin_at_the_ego(make, situation):
    """In the ego frame: x forward, y left, the rear axle at the origin. A plan in global coordinates begins far away."""
    for moment, plan in zip(situation.moments, situation.ask(make(), 0), strict=True):
        first, speed = np.asarray(plan.trajectory)[0], moment.state.ego.speed
        reach = (speed + 10.0 * plan.dt) * plan.dt + 1.0
        distance = float(np.hypot(first[0], first[1]))
        assert distance <= reach, (
            f"the plan's first pose, {plan.dt} s ahead, is {distance:.1f} m away at {speed:.1f} m/s: poses are x (forward), "
            "y (left), heading in the ego frame, seen from where the ego is now, not global"
        )
        if speed > 2.0:
            assert first[0] > -0.5, f"at {speed:.1f} m/s the plan begins {-first[0]:.1f} m behind the ego: x points forward"


def test_plans_do_not_depend_on_where_the_world_lies(make, situation):
    """The same street turned by 126 degrees and moved by 1.5 km: in the ego frame the plans are the same."""
    here, there = situation.ask(make(), 0), situation.ask(make(), 0, ELSEWHERE)
    for moment, one, other in zip(situation.moments, here, there, strict=True):
        apart = np.abs(np.asarray(one.trajectory) - np.asarray(other.trajectory)).max()
        assert apart <= NEAR, (
            f"at {moment.state.time:.1f} s the plan differs by {apart:.2f} m (or rad) once the world is turned and moved: "
            "transform what is global (ego, map, route, state) into the ego frame, heading included, before you plan in it"
        )


def test_same_seed_same_plans(make, situation):
    for one, again in zip(situation.ask(make(), 7), situation.ask(make(), 7), strict=True):
        assert np.array_equal(one.trajectory, again.trajectory), (
            "two new planners, the same seed and the same inputs, but other plans: draw all randomness from the seed that "
            "reset(context, seed) gives, not from a global generator or the clock"
        )


def test_reset_forgets_the_last_episode(make, situation, elsewhere):
    """One planner object drives many episodes: what it plans must not depend on which it drove before."""
    planner = make()
    fresh = situation.ask(planner, 0)
    elsewhere.ask(planner, 1)
    again = situation.ask(planner, 0)
    for one, other in zip(fresh, again, strict=True):
        assert np.array_equal(one.trajectory, other.trajectory), (
            "after an episode elsewhere the same episode is planned differently: reset() must set everything that plan() changes"
        )


def test_plans_are_the_callers_own(make, situation):
    planner, kept = make(), []
    original, plans = planner.plan, []

    def plan(given: Any) -> Any:
        plans.append(original(given))
        kept.append(np.array(plans[-1].trajectory))
        return plans[-1]

    planner.plan = plan
    situation.ask(planner, 0)
    for plan_then, now in zip(kept, plans, strict=True):
        assert np.array_equal(plan_then, now.trajectory), "a plan changed after it was returned: return a new array each time"


def test_inputs_are_left_alone(make, situation):
    planner = make()
    situation.ask(planner, 0)
    given = situation.given(planner, situation.moments[-1])
    before = copy.deepcopy(given.observation)
    planner.plan(given)
    for name, value in before.items():
        assert np.array_equal(value, given.observation[name]), f"plan() wrote into the observation {name!r}: work on a copy"


def test_it_drives_an_episode(make, env, options):
    log = run_episode(env, make(), 0, options)
    assert log.error is None, f"the planner failed in the closed loop: {log.error}"
    assert len(log.steps) > 1 and np.isfinite(log.trace.ego).all()


class Failing:
    """The planner as it is at its first decision, and at its second one that fails."""

    def __init__(self, planner: Any, how: str, clock: Clock) -> None:
        self.requires, self._planner, self._how, self._clock = planner.requires, planner, how, clock

    def reset(self, context: Any, seed: int) -> None:
        self._decisions = 0
        self._planner.reset(context, seed)

    def plan(self, given: Any) -> Any:
        self._decisions += 1
        plan = self._planner.plan(given)
        if self._decisions < 2:
            return plan
        if self._how == "raises":
            raise RuntimeError("lost")
        if self._how == "late":
            self._clock.now = 3600.0
        return Plan(np.full((8, 3), np.nan)) if self._how == "nan" else plan


class Clock:
    """In place of the runner's clock: it moves only when it is put forward, however busy the machine is."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("how, says", [("raises", "RuntimeError: lost"), ("nan", "not finite"), ("late", "late: 3600.00 s")])
def test_failure_ends_the_episode_as_the_planners(make, env, options, monkeypatch, how, says):
    """A failure is never averaged as a zero: it ends the episode as "planner_error" and says when and why."""
    clock = Clock()
    monkeypatch.setattr(runner, "perf_counter", clock)
    log = run_episode(env, Failing(make(), how, clock), 0, options)
    assert log.outcome == PLANNER_ERROR and log.error is not None, f"a planner that {how} ended with {log.outcome!r}"
    assert log.error.startswith("at 0.5 s: ") and says in log.error, log.error
    assert len(log.steps) == 2, "what was driven until then is kept"
