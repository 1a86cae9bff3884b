"""Writes scenarios/town_val.yaml: eighty scenarios of ten families on the built-in town's val scenes.

``python -m scenarios.make_town_val`` draws candidates from a seed until each family has two of every difficulty, spread over the
scenes. Each was measured (``scenarios.measures``) and played: nothing touches the ego at the start, and the log follower, the
lane follower or braking from the start gets through.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.located_yaml import write_text
from dist4d_env.scenes.nuscenes import open_dataset
from dist4d_env.scenes.scenario import DIFFICULTIES
from dist4d_env.scenes.suites import Suite, write_suite
from scenarios.families import FAMILIES
from scenarios.making import SCALES, Made, find
from scenarios.playing import make_env

HERE = Path(__file__).parent
HORIZON = 8.0
EACH = 2
COMMENT = """Made by `python -m scenarios.make_town_val`: change that instead, and run it again.
Measured values of every scenario are in {measured}."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "town_val.yaml", help="the suite to write")
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--each", type=int, default=EACH, help="scenarios of each family and difficulty")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.out, make(tuple(arguments.families), arguments.each, arguments.seed))


def make(families: tuple[str, ...], each: int, seed: int) -> list[Made]:
    """The scenarios, family after family, easy ones first. Raises ConfigError where a difficulty cannot be had."""
    dataset = open_dataset(None, None, "val")
    env = make_env(None, None)
    scenes = dataset.scene_names("val")
    made: list[Made] = []
    slots = [(family, wanted, k) for family in families for wanted in DIFFICULTIES for k in range(each)]
    for number, (family, wanted, k) in enumerate(tqdm(slots, desc="scenarios")):
        used = [m.scenario.scene for m in made if m.scenario.family == family]
        order = sorted(range(len(scenes)), key=lambda i: (used.count(scenes[i]), (i + number) % len(scenes)))
        seeded = [seed, tuple(FAMILIES).index(family), DIFFICULTIES.index(wanted), k]
        try:
            found = find(
                env, dataset, family, wanted, [scenes[i] for i in order], HORIZON, seeded, {m.scenario.name for m in made}
            )
        except ConfigError as error:
            tqdm.write(str(error))
            continue
        made.append(found)
    env.close()
    return made


def write(path: Path, made: list[Made]) -> None:
    """The suite, and beside it what was measured."""
    measured = path.with_name(f"{path.stem}_measured.json")
    suite = Suite(path.stem.replace("_", "-"), None, None, tuple(m.scenario for m in made))
    write_suite(path, suite, COMMENT.format(measured=measured.name))
    table = {
        m.scenario.name: {
            "measured": round(m.measured, 2), "unit": SCALES[m.scenario.family].unit, "outcomes": dict(m.outcomes)
        }
        for m in made
    }  # fmt: skip
    write_text(measured, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
