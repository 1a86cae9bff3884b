"""The same episodes in several worlds: which planners drive the same everywhere, and how the scores of others change.

Planners without images must not depend on the world that makes them, to the last bit; those that do are compared by score.

    python -m benchmarks.planning_worlds runs/none runs/oracle runs/dist4d --out benchmarks/results/planning_worlds.json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from benchmarks.common import mean_and_spread, result_file, run
from dist4d_env.errors import DataError
from dist4d_env.evaluation.campaign import read_settings, stored
from dist4d_env.evaluation.episode_log import EpisodeLog, load_episode
from dist4d_env.evaluation.leaderboard import nested_key
from dist4d_env.evaluation.statistics import Resampler
from dist4d_env.evaluation.summary import EpisodeScore, score
from dist4d_env.progress import each


@dataclass(frozen=True)
class Options:
    """Episodes that several campaigns of benchmarks.planning share, world by world."""

    folders: Positional[tuple[str, ...]]
    """Folders of campaigns, the first is the reference of the others."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    worlds = {read_settings(folder)["common"]["world"]: folder for folder in map(Path, options.folders)}
    if len(worlds) != len(options.folders) or len(worlds) < 2:
        raise DataError("give folders of two or more different worlds")
    shared = sorted(set.intersection(*({path.stem for path in stored(folder)} for folder in worlds.values())))
    if not shared:
        raise DataError("these campaigns share no episode: drive the same planners, scenarios and seeds in each")
    episodes: dict[str, list[dict[str, EpisodeScore]]] = {}
    alike: Counter[str] = Counter()
    for name in each(shared, "scoring", "episode"):
        logs = {world: load_episode(folder / "episodes" / f"{name}.json") for world, folder in worlds.items()}
        first = next(iter(logs.values()))
        as_one = all(same(first, log) for log in logs.values())
        alike[first.planner] += as_one
        once = score(first)  # the same drive has the same score
        scores = {world: once if as_one else score(log) for world, log in logs.items()}
        episodes.setdefault(first.planner, []).append(scores)
    rows: dict[str, dict[str, Any]] = {
        planner: {"episodes": len(found), "same": alike[planner], "pdms_v1": {world: estimate(found, world) for world in worlds}}
        for planner, found in episodes.items()
    }
    result = result_file("planning_worlds", options, {"worlds": list(worlds), "planners": rows})
    for planner, row in rows.items():
        shown = ", ".join(f"{world} {cell['mean']:.3f}" for world, cell in row["pdms_v1"].items())
        print(f"{planner:<22}{row['same']} of {row['episodes']} episodes the same in every world; PDMS {shown}")
    return result


def estimate(episodes: Sequence[Mapping[str, EpisodeScore]], world: str) -> dict[str, float]:
    """PDMS in a world: mean, spread, and the 95 % interval of the hierarchical bootstrap; what is not valid is left out."""
    values = [scores[world].metrics["pdms_v1"] for scores in episodes]
    resampled = Resampler([nested_key(scores[world]) for scores in episodes]).mean(values)
    spread = mean_and_spread([np.nan if value is None else value for value in values])
    return {**spread, "low": resampled.low, "high": resampled.high}


def same(a: EpisodeLog, b: EpisodeLog) -> bool:
    """Whether two episodes are the same, bit for bit: ego, agents, and plans."""
    pairs = [(getattr(a.trace, name), getattr(b.trace, name)) for name in ("time", "ego", "position", "yaw", "valid")]
    pairs += [(a.plans.step, b.plans.step), (a.plans.poses, b.plans.poses)]
    return a.outcome == b.outcome and all(np.array_equal(mine, theirs) for mine, theirs in pairs)


if __name__ == "__main__":
    run(main, Options)
