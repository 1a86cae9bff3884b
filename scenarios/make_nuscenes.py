"""Writes dist4d_env/suites/nuscenes.yaml: the recorded drives of real scenes, and starts beside them.

``python -m scenarios.make_nuscenes --dataroot R`` takes every scene of the data set (or ``--scenes``): its log from the first
keyframe on with replayed traffic, its later half with reacting traffic, and one start beside the log of every difficulty that the
road leaves room for. The suite names no data root, so that it plays wherever these scenes are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import DIFFICULTIES, Scenario
from scenarios.making import SCALES, Made, check_plays, find, measure, write
from scenarios.playing import make_env

SUITES = Path(__file__).parents[1] / "dist4d_env" / "suites"
HORIZON = 8.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", default=None, help="a nuScenes-format data set; default: $NUSCENES or the built-in town")
    parser.add_argument("--version", default=None)
    parser.add_argument("--scenes", nargs="+", default=["all"], help="a split, or names")
    parser.add_argument("--out", type=Path, default=SUITES / "nuscenes.yaml", help="the suite to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataroot, arguments.version, arguments.scenes)
    write(arguments.out, make(dataset, dataset.scene_names(arguments.scenes), arguments.seed), "scenarios.make_nuscenes")


def make(dataset: Dataset, names: Sequence[str], seed: int) -> list[Made]:
    """The scenarios, scene after scene; a difficulty that a scene's road has no room for is left out, with a message."""
    env = make_env(dataset.dataroot, dataset.version, list(names))
    made: list[Made] = []
    for name in tqdm(names, desc="scenes"):
        scene = dataset.load(name)
        middle = float(np.floor(max(scene.duration - HORIZON, 0.0)))
        for start, traffic in ((0.0, "replay"), (middle, "idm")):
            label = f"as-recorded-{traffic}-from-{start:g}s-{name}"
            scenario = Scenario(name, start, HORIZON, traffic, name=label, family="recorded")
            measured = measure("recorded", apply_all((), scene, start), scenario, 0.0)
            difficulty = SCALES["recorded"].difficulty(measured) or "extreme"
            scenario = Scenario(name, start, HORIZON, traffic, name=label, family="recorded", difficulty=difficulty)
            outcomes = check_plays(env, scenario)
            if outcomes is None:
                tqdm.write(f"{label}: the ego touches something at the start, or is off the road: left out")
            else:
                made.append(Made(scenario, measured, outcomes))
        if scene.map is None:
            tqdm.write(f"{name} has no map: no starts beside the log")
            continue
        for number, wanted in enumerate(DIFFICULTIES):
            taken = {m.scenario.name for m in made}
            try:
                made.append(find(env, dataset, "perturbed_start", wanted, [name], HORIZON, [seed, number], taken))
            except ConfigError as error:
                tqdm.write(str(error))
    env.close()
    return made


if __name__ == "__main__":
    main()
