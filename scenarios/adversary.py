"""The mildest edit that makes a planner fail, by the cross-entropy method (Rubinstein 1999)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.planners.contract import Planner, PlannerFailure
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from scenarios.making import SCALES, fitted
from scenarios.measures import Window, edited_tracks, required_deceleration
from scenarios.playing import Outcome, drive
from scenarios.spaces import SPACES

FAILED = ("collision", "off_road")
"""Endings of an episode that are the planner's own fault."""
MOST = 6.0
"""m/s^2 of required braking beyond which a failure is no fault of the planner."""
_SURVIVED, _UNPLAYABLE = 100.0, 1000.0


@dataclass(frozen=True)
class Budget:
    """population: edits tried in a generation; elite: share of them that shape the next one; floor: least spread in each
    parameter, as a share of its range."""

    population: int = 16
    generations: int = 6
    elite: float = 0.25
    floor: float = 0.04

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 1 or not 0 < self.elite <= 0.5 or not 0 < self.floor < 1:
            raise ConfigError("search: population must be at least 4, generations at least 1, elite in (0, 0.5], floor in (0, 1)")


@dataclass(frozen=True)
class Problem:
    """Search space: edits of a family in a scene, for episodes of ``horizon`` seconds from ``start`` on."""

    family: str
    scene: Scene
    start: float
    horizon: float
    seed: int


@dataclass(frozen=True)
class Trial:
    """One edit that was tried. cost: severity where the ego failed, else far more; outcome: None where it could not be played;
    error: the planner's own failure."""

    cost: float
    severity: float
    scenario: Scenario | None
    outcome: Outcome | None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.outcome is not None and self.outcome.ended_by in FAILED


def severity(family: str, scene: Scene, scenario: Scenario, onset: float) -> float:
    """How harsh a scenario is: m/s^2 of braking required on the recorded path (``measures.required_deceleration``).

    For starts beside the path: the root of the mean square of offset, angle and speed error, in units of 1 m, 10 degrees and
    half of the recorded speed.
    """
    window = Window.of(scene, scenario.start, scenario.horizon or 8.0)
    if family != "perturbed_start":
        return required_deceleration(scene, window, onset)
    logged = max(float(scene.ego.speed[window.first]), 1.0)
    wrong = ((scenario.ego_speed or 0.0) - logged) / (0.5 * logged)
    return math.sqrt((scenario.ego_offset**2 + (scenario.ego_yaw / math.radians(10)) ** 2 + wrong**2) / 3)


def search(
    env: DiST4DDrivingEnv,
    planner: Planner,
    problem: Problem,
    budget: Budget,
    watch: Callable[[Trial], None] = lambda trial: None,
) -> Trial | None:
    """The mildest failure found, None if the planner gets through everything up to MOST.

    Where it fails without any edit, that is the answer. Same arguments, same answer. ``watch`` is given every trial; those with
    an ``error`` are no failures to drive and do not guide the search. Raises ConfigError for a planner that raises, or returns no
    plan, without any edit.
    """
    family, scene, start = problem.family, problem.scene, problem.start
    plain = Scenario(scene.name, start, problem.horizon, name=f"as-recorded-{scene.name}", family=family)
    try:
        outcome = drive(env, plain, planner, problem.seed)
    except PlannerFailure as failure:
        raise ConfigError(f"the planner itself fails in {scene.name} as recorded, from {start:g} s on: {failure}") from failure
    if outcome.ended_by in FAILED:
        return Trial(0.0, 0.0, plain, outcome)
    space, random = SPACES[family], np.random.default_rng([problem.seed, tuple(SPACES).index(family), *scene.name.encode()])
    count, kept = len(space.names), max(2, round(budget.elite * budget.population))
    mean, spread = np.full(count, 0.5), np.full(count, np.inf)
    best: Trial | None = None
    for _ in range(budget.generations):
        if np.isinf(spread).any():
            points = random.random((budget.population, count))
        else:
            points = np.clip(mean + spread * random.standard_normal((budget.population, count)), 0.0, 1.0)
        trials = [_try(env, planner, problem, point) for point in points]
        for trial in trials:
            watch(trial)
            if trial.failed and (best is None or trial.cost < best.cost):
                best = trial
        order = np.argsort([trial.cost for trial in trials], kind="stable")[:kept]
        if trials[order[0]].cost >= _UNPLAYABLE:
            continue  # no trial could be played: draw evenly again
        elite = points[order]
        fresh = np.maximum(elite.std(0), budget.floor)
        mean = elite.mean(0) if np.isinf(spread).any() else 0.3 * mean + 0.7 * elite.mean(0)
        spread = fresh if np.isinf(spread).any() else np.maximum(0.3 * spread + 0.7 * fresh, budget.floor)
    return best


def _try(env: DiST4DDrivingEnv, planner: Planner, problem: Problem, point: np.ndarray) -> Trial:
    space, scene, start = SPACES[problem.family], problem.scene, problem.start
    try:
        candidate = fitted(scene, start, problem.horizon, space.build(scene, start, space.values(point)))
    except ConfigError:
        candidate = None
    if candidate is None:
        return Trial(2 * _UNPLAYABLE, math.inf, None, None)
    scenario = candidate.scenario(problem.family, scene, start, problem.horizon)
    edited = apply_all(candidate.edits, scene, start)
    harsh = severity(problem.family, edited, scenario, candidate.onset)
    if harsh > MOST:
        return Trial(_UNPLAYABLE + min(harsh, 100.0), harsh, scenario, None)
    try:
        outcome = drive(env, scenario, planner, problem.seed)
    except PlannerFailure as failure:
        return Trial(2 * _UNPLAYABLE, harsh, scenario, None, str(failure))
    if outcome.bad_start:
        return Trial(2 * _UNPLAYABLE, harsh, scenario, None)
    if outcome.ended_by in FAILED:
        return Trial(harsh, harsh, scenario, outcome)
    return Trial(_SURVIVED + _margin(edited, outcome), harsh, scenario, outcome)


def _margin(scene: Scene, outcome: Outcome) -> float:
    """Distance from failing: metres to the nearest edited agent; without edits, what is left of 5 m beside the route."""
    edited = edited_tracks(scene)
    if len(edited):
        trace = outcome.trace
        apart = np.linalg.norm(trace.position[:, edited, :2] - trace.center[:, None], axis=-1)
        return float(apart[trace.valid[:, edited]].min(initial=90.0))
    offsets = [scene.route.project(x, y)[1] for x, y in outcome.trace.center.tolist()]
    return max(5.0 - float(np.abs(offsets).max()), 0.0)


def difficulty_of(trial: Trial, family: str) -> str:
    """The difficulty that a severity means where it is required braking, "" elsewhere."""
    return SCALES["stalled"].difficulty(trial.severity) or "" if family != "perturbed_start" else ""
