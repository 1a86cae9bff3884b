"""A suite as a table: ``python -m scenarios.describe dist4d_env/suites/town_val.yaml`` prints Markdown, a row per family."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dist4d_env.scenes.scenario import DIFFICULTIES
from dist4d_env.scenes.suites import read_suite

HEAD = """| family | scenarios | easy to extreme | measured | log follower | lane follower | brakes at once |
|---|---|---|---|---|---|---|"""


def table(path: Path) -> str:
    """Family, count, counts by difficulty, range of the measure with its unit, and how many each planner came through."""
    measured = json.loads(path.with_name(f"{path.stem}_measured.json").read_text(encoding="utf-8"))
    scenarios = read_suite(path).scenarios
    rows = [HEAD]
    for family in dict.fromkeys(scenario.family for scenario in scenarios):
        chosen = [scenario for scenario in scenarios if scenario.family == family]
        about = [measured[scenario.name] for scenario in chosen]
        counts = " / ".join(str(sum(s.difficulty == difficulty for s in chosen)) for difficulty in DIFFICULTIES)
        values = [entry["measured"] for entry in about]
        through = [sum(entry["outcomes"][driver] == "horizon" for entry in about) for driver in ("log", "lane", "brakes")]
        span = f"{min(values):.1f} - {max(values):.1f} {about[0]['unit']}"
        rows.append(f"| {family} | {len(chosen)} | {counts} | {span} | {through[0]} | {through[1]} | {through[2]} |")
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    print(table(parser.parse_args().suite))


if __name__ == "__main__":
    main()
