"""Makes the suites: ``python -m scenarios.make town_val | town_test | nuscenes | safety_critical`` writes
dist4d_env/suites/NAME.yaml.

town_val: eighty scenarios of ten families on the built-in town's val scenes. Candidates are drawn from a seed until each family
has two of every difficulty, spread over the scenes.

town_test: the same on 24 of its test scenes, for judging what was chosen elsewhere.

nuscenes: of every scene of a data set (``--dataroot``, ``--scenes``) its log from the first keyframe on with replayed traffic,
its later half with reacting traffic, and one start beside the log of every difficulty that the road leaves room for. The suite
names no data root, so that it plays wherever these scenes are.

safety_critical: NeuroNCAP's three families on the built-in town (an obstacle in the lane, an oncoming vehicle in it, a crossing
vehicle), each in several jitters of its parameters.

Each scenario was measured (``scenarios.measures``) and played: nothing touches the ego at the start, and the log follower, the
lane follower or braking from the start gets through.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.progress import each, say
from dist4d_env.scenes.edits import Remove
from dist4d_env.scenes.scenario import DIFFICULTIES
from dist4d_env.scenes.scene import Scene
from dist4d_env.town.cache import default_dataroot
from scenarios.families import FAMILIES, SAFETY_CRITICAL, Candidate, jittered
from scenarios.making import Made, check_plays, find, fitted, graded, moving_starts, write
from scenarios.playing import make_env

SUITES = Path(__file__).parents[1] / "dist4d_env" / "suites"
HORIZON = 8.0
EACH = 2
"""Scenarios of each family and difficulty in town_val and town_test."""
TEST_SCENES, TEST_TRIES = 24, 200
"""Scenes of town_test and candidates in each: as many in all as in the eight scenes of town_val."""
JITTERS = 4
"""Variants of each family in each scene in safety_critical."""
_TRIES = 60


def town(dataset: Dataset, names: Sequence[str], seed: int, tries: int = 600) -> list[Made]:
    """Family after family, easy ones first; a difficulty that cannot be had is left out, with a message."""
    env = make_env(dataset.dataroot, dataset.version, list(names))
    made: list[Made] = []
    slots = [(family, wanted, k) for family in FAMILIES for wanted in DIFFICULTIES for k in range(EACH)]
    for number, (family, wanted, k) in enumerate(each(slots, "making scenarios", "scenario")):
        used = [m.scenario.scene for m in made if m.scenario.family == family]
        order = sorted(range(len(names)), key=lambda i: (used.count(names[i]), (i + number) % len(names)))
        seeded = [seed, tuple(FAMILIES).index(family), DIFFICULTIES.index(wanted), k]
        taken = {m.scenario.name for m in made}
        try:
            made.append(find(env, dataset, family, wanted, [names[i] for i in order], HORIZON, seeded, taken, tries))
        except ConfigError as error:
            say(str(error))
    env.close()
    return made


def nuscenes(dataset: Dataset, names: Sequence[str], seed: int) -> list[Made]:
    """Scene after scene; a difficulty that a scene's road has no room for is left out, with a message."""
    env = make_env(dataset.dataroot, dataset.version, list(names))
    made: list[Made] = []
    for name in each(names, "making scenarios", "scene"):
        scene = dataset.load(name)
        middle = float(np.floor(max(scene.duration - HORIZON, 0.0)))
        for start, traffic in ((0.0, "replay"), (middle, "idm")):
            candidate = Candidate((), f"as-recorded-{traffic}-from-{start:g}s", traffic=traffic)
            scenario, measured = graded(candidate, "recorded", scene, start, HORIZON)
            scenario = replace(scenario, difficulty=scenario.difficulty or "extreme")
            outcomes = check_plays(env, scenario)
            if outcomes is None:
                say(f"{scenario.name}: the ego touches something at the start, or is off the road: left out")
            else:
                made.append(Made(scenario, measured, outcomes))
        if scene.map is None:
            say(f"{name} has no map: no starts beside the log")
            continue
        for number, wanted in enumerate(DIFFICULTIES):
            taken = {m.scenario.name for m in made}
            try:
                made.append(find(env, dataset, "perturbed_start", wanted, [name], HORIZON, [seed, number], taken))
            except ConfigError as error:
                say(str(error))
    env.close()
    return made


def safety_critical(dataset: Dataset, names: Sequence[str], seed: int, jitters: int = JITTERS) -> list[Made]:
    """Families, scenes, jitters, in that order; where a scene has no room for a family there is none."""
    env = make_env(dataset.dataroot, dataset.version, list(names))
    made: list[Made] = []
    pairs = [(family, name) for family in SAFETY_CRITICAL for name in names]
    for family, name in each(pairs, "making scenarios", "family in a scene"):
        random = np.random.default_rng([seed, tuple(SAFETY_CRITICAL).index(family), *name.encode()])
        scene = dataset.load(name)
        starts = moving_starts(scene, HORIZON, 4.0)
        for _ in range(_TRIES if starts else 0):
            found = _jitters(env, scene, family, float(random.choice(starts)), jitters, random)
            if found:
                made += found
                break
        else:
            say(f"{name} has no room for {family}")
    env.close()
    return made


def _jitters(
    env: DiST4DDrivingEnv, scene: Scene, family: str, start: float, count: int, random: np.random.Generator
) -> list[Made]:
    """One random scenario of a family in ``count`` jitters, nothing if too few of them can be played."""
    try:
        edit = SAFETY_CRITICAL[family](scene, start, random)
    except ConfigError:
        return []
    made: list[Made] = []
    for _ in range(3 * count):
        candidate = fitted(scene, start, HORIZON, Candidate((jittered(family, edit, random),), ""))
        if candidate is None:
            continue
        scenario, measured = graded(candidate, family, scene, start, HORIZON)
        if not scenario.difficulty or sum(isinstance(part, Remove) for part in candidate.edits) > 2:
            continue
        scenario = replace(scenario, name=f"{family}-{scene.name}-{len(made)}")
        outcomes = check_plays(env, scenario)
        if outcomes is not None:
            made.append(Made(scenario, measured, outcomes))
        if len(made) == count:
            return made
    return []


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=("town_val", "town_test", "nuscenes", "safety_critical"))
    parser.add_argument("--dataroot", default=None, help="nuscenes: a nuScenes-format data set; default: $NUSCENES or the town")
    parser.add_argument("--version", default=None, help="nuscenes: folder of its tables")
    parser.add_argument("--scenes", nargs="+", default=["all"], help="nuscenes: a split, or names")
    parser.add_argument("--out", type=Path, default=None, help="the file to write; default: dist4d_env/suites/SUITE.yaml")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.suite == "nuscenes":
        scenes, dataset = given.scenes, open_dataset(given.dataroot, given.version, given.scenes)
    elif given.dataroot or given.version or given.scenes != ["all"]:
        parser.error(f"{given.suite} is made in the built-in town: leave out --dataroot, --version and --scenes")
    else:
        scenes = [f"town-test-{index:04d}" for index in range(TEST_SCENES)] if given.suite == "town_test" else ["val"]
        dataset = open_dataset(default_dataroot(scenes))
    make: dict[str, Callable[[Dataset, Sequence[str], int], list[Made]]] = {
        "town_val": town,
        "town_test": partial(town, tries=TEST_TRIES),
        "nuscenes": nuscenes,
        "safety_critical": safety_critical,
    }
    made = make[given.suite](dataset, dataset.scene_names(scenes), given.seed)
    write(given.out or SUITES / f"{given.suite}.yaml", made)


if __name__ == "__main__":
    main()
