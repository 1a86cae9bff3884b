"""Writes dist4d_env/suites/town_val.yaml: eighty scenarios of ten families on the built-in town's val scenes.

``python -m scenarios.make_town_val`` draws candidates from a seed until each family has two of every difficulty, spread over the
scenes. Each was measured (``scenarios.measures``) and played: nothing touches the ego at the start, and the log follower, the
lane follower or braking from the start gets through.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scenario import DIFFICULTIES
from scenarios.families import FAMILIES
from scenarios.making import Made, find, write
from scenarios.playing import make_env

SUITES = Path(__file__).parents[1] / "dist4d_env" / "suites"
HORIZON = 8.0
EACH = 2


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SUITES / "town_val.yaml", help="the suite to write")
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--each", type=int, default=EACH, help="scenarios of each family and difficulty")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.out, make(tuple(arguments.families), arguments.each, arguments.seed), "scenarios.make_town_val")


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


if __name__ == "__main__":
    main()
