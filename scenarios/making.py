"""From random candidates to suites: draw, measure, play, keep those of the wanted difficulty."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dist4d_env.data.contract import Dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.planners.contract import Planner
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scenario import DIFFICULTIES, Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.scenes.suites import Suite, write_suite
from scenarios.families import FAMILIES, SAFETY_CRITICAL, Candidate, cleared
from scenarios.measures import (
    Window,
    off_the_road,
    overlapping,
    required_deceleration,
    strongest_demand,
    time_to_road_edge,
)
from scenarios.playing import Braking, drive

COMMENT = """Made by `python -m scenarios.make {suite}`: change that instead, and run it again.
The measure of every scenario is in {suite}_measured.json."""
MOST_CLEARED = 3
"""Recorded objects that may be removed where an inserted one needs their place."""


@dataclass(frozen=True)
class Scale:
    """Measure of a family's difficulty. bounds: of easy, medium, hard and extreme, from the easy end to the hard one."""

    unit: str
    bounds: tuple[float, float, float, float, float]

    def difficulty(self, value: float) -> str | None:
        """The difficulty that a measured value means, None outside of all bounds."""
        for name, first, last in zip(DIFFICULTIES, self.bounds, self.bounds[1:], strict=False):
            if min(first, last) < value <= max(first, last):
                return name
        return None


BRAKING = Scale("m/s² required after 1 s of reaction", (0.05, 1.5, 3.0, 4.5, 6.0))
EDGE = Scale("s until the road's edge", (8.0, 3.6, 2.4, 1.6, 0.9))
DEMAND = Scale("m/s² in the recorded drive", (-1.0, 0.6, 1.1, 1.5, 5.0))
SCALES: Mapping[str, Scale] = {
    **dict.fromkeys(FAMILIES, BRAKING),
    "perturbed_start": EDGE,
    "recorded": DEMAND,
    **dict.fromkeys(SAFETY_CRITICAL, BRAKING),
}


@dataclass(frozen=True)
class Made:
    """A scenario, its measure, and how the log follower, the lane follower and braking ended ("horizon": came through)."""

    scenario: Scenario
    measured: float
    outcomes: Mapping[str, str]


def measure(family: str, scene: Scene, scenario: Scenario, onset: float) -> float:
    """The quantity that justifies a scenario's difficulty, see SCALES; scene: with the scenario's edits."""
    window = Window.of(scene, scenario.start, scenario.horizon or 8.0)
    if family == "recorded":
        return strongest_demand(scene, window)
    if family == "perturbed_start":
        pose = scene.ego.global_from_ego[window.first]
        yaw = float(yaw_of(pose))
        ahead, left = scenario.ego_ahead, scenario.ego_offset
        x = pose[0, 3] + math.cos(yaw) * ahead - math.sin(yaw) * left
        y = pose[1, 3] + math.sin(yaw) * ahead + math.cos(yaw) * left
        return time_to_road_edge(scene, x, y, yaw + scenario.ego_yaw, scenario.ego_speed or 0.0)
    return required_deceleration(scene, window, onset)


def fitted(scene: Scene, start: float, horizon: float, candidate: Candidate) -> Candidate | None:
    """The candidate with recorded objects removed that it would meet; None where that does not make the traffic consistent."""
    for _ in range(MOST_CLEARED + 1):
        try:
            edited = apply_all(candidate.edits, scene, start)
        except ConfigError:
            return None
        window = Window.of(scene, start, horizon)
        met = overlapping(edited, window)
        if met is None:
            return None if off_the_road(edited, window) else candidate
        if met not in scene.tracks.instance:
            return None
        candidate = cleared(candidate, (met,))
    return None


def candidates(
    family: str, scene: Scene, horizon: float, starts: Sequence[float], random: np.random.Generator, count: int,
    wanted: str | None = None,
) -> Iterator[tuple[Scenario, float]]:  # fmt: skip
    """Random scenarios of a family in a scene that fit its traffic, each with its measure; of one difficulty if one is wanted."""
    for _ in range(count):
        start = float(random.choice(starts))
        try:
            candidate = FAMILIES[family](scene, start, random)
            # Clearing the way hardly ever changes the measure, and costs far more to find out.
            if wanted is None or graded(candidate, family, scene, start, horizon)[0].difficulty == wanted:
                free = fitted(scene, start, horizon, candidate)
                scenario, measured = graded(free, family, scene, start, horizon) if free else (None, 0.0)
                if scenario is not None and scenario.difficulty in ((wanted,) if wanted else DIFFICULTIES):
                    yield scenario, measured
        except ConfigError:
            continue


def graded(candidate: Candidate, family: str, scene: Scene, start: float, horizon: float) -> tuple[Scenario, float]:
    """A candidate as a scenario of the measured difficulty ("" beyond all bounds), and its measure. Raises ConfigError."""
    scenario = candidate.scenario(family, scene, start, horizon)
    measured = measure(family, apply_all(scenario.edits, scene, start), scenario, candidate.onset)
    return replace(scenario, difficulty=SCALES[family].difficulty(measured) or ""), measured


def check_plays(env: DiST4DDrivingEnv, scenario: Scenario) -> dict[str, str] | None:
    """How the log follower, the lane follower and an ego that brakes from the start on end a scenario.

    None if the ego touches something or is off the road already at the start, if none of the three gets through (it may be
    impossible), or if edits do not make the log follower fail (they are no challenge).
    """
    planners: dict[str, Planner] = {"log": LogFollower(), "lane": LaneFollower(), "brakes": Braking()}
    outcomes = {}
    for name, planner in planners.items():
        outcome = drive(env, scenario, planner)
        if outcome.bad_start:
            return None
        outcomes[name] = outcome.ended_by
    if "horizon" not in outcomes.values() or (scenario.edits and outcomes["log"] == "horizon"):
        return None
    return outcomes


def moving_starts(scene: Scene, horizon: float, speed: float) -> list[float]:
    """Every half second from which the log lasts ``horizon`` seconds and at which it is faster than ``speed`` m/s."""
    starts = np.arange(0.0, scene.duration - horizon + 0.01, 0.5).tolist()
    return [start for start in starts if scene.ego.speed[round(start / TICK)] > speed]


def find(
    env: DiST4DDrivingEnv, dataset: Dataset, family: str, wanted: str, scenes: Sequence[str], horizon: float, seed: Sequence[int],
    taken: set[str], tries: int = 600,
) -> Made:  # fmt: skip
    """A scenario of a family and difficulty in the first of some scenes where one is found. Raises ConfigError for none."""
    for number, name in enumerate(scenes):
        scene = dataset.load(name)
        starts = moving_starts(scene, horizon, 3.0)
        random = np.random.default_rng([*seed, number])
        if not starts:
            continue
        for scenario, measured in candidates(family, scene, horizon, starts, random, tries, wanted):
            if scenario.name in taken:
                continue
            outcomes = check_plays(env, scenario)
            if outcomes is not None:
                return Made(scenario, measured, outcomes)
    raise ConfigError(f"no {wanted} scenario of {family} was found in {', '.join(scenes)}")


def write(path: Path, made: Sequence[Made]) -> None:
    """Writes a suite, and beside it the measures of its scenarios."""
    suite = Suite(path.stem.replace("_", "-"), None, None, tuple(m.scenario for m in made))
    write_suite(path, suite, COMMENT.format(suite=path.stem))
    measures = {
        m.scenario.name: {"measured": round(m.measured, 2), "unit": SCALES[m.scenario.family].unit, "outcomes": dict(m.outcomes)}
        for m in made
    }
    write_text(path.with_name(f"{path.stem}_measured.json"), json.dumps(measures, indent=1) + "\n")
