"""Writes dist4d_env/suites/safety_critical.yaml: NeuroNCAP's three families on the built-in town, jittered with seeds.

``python -m scenarios.make_safety_critical``: something stands in the lane ("stationary"), an oncoming vehicle is in the lane
("frontal"), a vehicle crosses its way ("side"); on the recorded path each ends in a collision. Every one is there in several
jitters: a little farther or nearer, to the left or right, turned, earlier or later, faster or slower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edits import Cross, Edit, Insert, Oncoming, Remove
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene
from scenarios.families import Candidate, lane_crossings
from scenarios.making import SCALES, Made, check_plays, fitted, measure, write
from scenarios.playing import make_env

SUITES = Path(__file__).parents[1] / "dist4d_env" / "suites"
HORIZON = 8.0
JITTERS = 4
_TRIES = 60


def stationary(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """Something stands in the middle of the lane, two to five seconds ahead."""
    speed = float(np.interp(start, scene.ego.time, scene.ego.speed))
    category = str(random.choice(["car", "car", "truck", "motorcycle", "pedestrian"]))
    return Insert(category=category, ahead=speed * random.uniform(2.0, 5.0) + 4.0)


def frontal(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """An oncoming vehicle has come over into the ego's lane."""
    category = str(random.choice(["car", "car", "truck"]))
    speed, into = random.uniform(3.0, 8.0), random.uniform(0.0, 1.2)
    return Oncoming(category=category, meet=random.uniform(4.0, 6.5), speed=speed, into=into, early=2.0, duration=1.5)


def side(scene: Scene, start: float, random: np.random.Generator) -> Edit:
    """A vehicle drives across along a lane that crosses the route."""
    places = [place for place in lane_crossings(scene, start) if 15.0 < place[0] < 60.0]
    if not places:
        raise ConfigError(f"no lane crosses the route of {scene.name} ahead of {start:g} s")
    ahead, angle = places[int(random.integers(len(places)))]
    return Cross(
        category=str(random.choice(["car", "car", "truck"])), ahead=ahead, side="right" if angle > 0 else "left",
        angle=abs(angle), speed=random.uniform(5.0, 10.0), early=random.uniform(0.0, 0.4),
    )  # fmt: skip


FAMILIES: Mapping[str, Callable[[Scene, float, np.random.Generator], Edit]] = {
    "stationary": stationary,
    "frontal": frontal,
    "side": side,
}
SPREAD: Mapping[str, Mapping[str, float]] = {
    "stationary": {"ahead": 2.0, "lateral": 0.4, "heading": 0.2},
    "frontal": {"meet": 0.3, "speed": 1.0, "into": 0.4},
    "side": {"ahead": 0.8, "speed": 1.0, "early": 0.3, "angle": 0.08},
}
"""Half widths of the uniform jitter of each field."""


def jittered(family: str, edit: Edit, random: np.random.Generator) -> Edit:
    """The edit with every field of SPREAD moved a little, rounded to what a file shows."""
    moved: dict[str, Any] = {
        name: round(getattr(edit, name) + float(random.uniform(-width, width)), 2) for name, width in SPREAD[family].items()
    }
    return replace(edit, **moved)


def make(dataset: Dataset, names: Sequence[str], jitters: int, seed: int) -> list[Made]:
    """Families, scenes, jitters, in that order; where a scene has no room for a family there is none."""
    env = make_env(dataset.dataroot, dataset.version, list(names))
    made: list[Made] = []
    slots = [(family, name) for family in FAMILIES for name in names]
    for family, name in tqdm(slots, desc="families in scenes"):
        random = np.random.default_rng([seed, tuple(FAMILIES).index(family), *name.encode()])
        scene = dataset.load(name)
        starts = [start for start in np.arange(0.0, scene.duration - HORIZON + 0.01, 0.5) if _drives(scene, float(start))]
        for _ in range(_TRIES if starts else 0):
            found = _with_jitters(env, scene, family, float(random.choice(starts)), jitters, random)
            if found:
                made += found
                break
        else:
            tqdm.write(f"{name} has no room for {family}")
    env.close()
    return made


def _drives(scene: Scene, start: float) -> bool:
    return float(scene.ego.speed[round(start / TICK)]) > 4.0


def _with_jitters(
    env: DiST4DDrivingEnv, scene: Scene, family: str, start: float, jitters: int, random: np.random.Generator
) -> list[Made]:
    """One scenario in all its jitters, nothing if too few of them can be played."""
    try:
        edit = FAMILIES[family](scene, start, random)
    except ConfigError:
        return []
    made: list[Made] = []
    scale = SCALES["stalled"]
    for _ in range(3 * jitters):
        candidate = fitted(scene, start, HORIZON, Candidate((jittered(family, edit, random),), ""))
        if candidate is None:
            continue
        label = f"{family}-{scene.name}-{len(made)}"
        scenario = Scenario(scene.name, start, HORIZON, edits=candidate.edits, name=label, family=family)
        measured = measure(family, apply_all(candidate.edits, scene, start), scenario, 0.0)
        difficulty = scale.difficulty(measured)
        if difficulty is None or sum(isinstance(part, Remove) for part in candidate.edits) > 2:
            continue
        scenario = replace(scenario, difficulty=difficulty)
        outcomes = check_plays(env, scenario)
        if outcomes is not None:
            made.append(Made(scenario, measured, outcomes))
        if len(made) == jitters:
            return made
    return []


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SUITES / "safety_critical.yaml", help="the suite to write")
    parser.add_argument("--jitters", type=int, default=JITTERS, help="of every family in every scene")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = open_dataset(None, None, "val")
    made = make(dataset, dataset.scene_names("val"), arguments.jitters, arguments.seed)
    write(arguments.out, made, "scenarios.make_safety_critical")


if __name__ == "__main__":
    main()
