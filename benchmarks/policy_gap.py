"""What is lost by learning in the generated world: policies trained in it beside those trained in the truth, all driven in truth.

Seeds may share one world's drives, as here, or have their own. The policies drive in a study of decision fidelity, in the truth
alone or in other worlds, too (``--worlds dist4d``), all of them the same episodes:

    python -m agents.train_end_to_end --world dist4d --rounds 1 --epochs 12 --episodes 12 --out runs/dist4d-0  # and in the oracle
    python -m agents.train_end_to_end --world dist4d --epochs 12 --data runs/dist4d-0 --seed 1 --out runs/dist4d-1  # three seeds
    python -m benchmarks.fidelity --planner runs/{oracle,dist4d}-{0,1,2}/best --worlds --scale --seeds 3 --out runs/gap
    python -m benchmarks.policy_gap runs/gap --truth runs/oracle-{0,1,2}/best --made runs/dist4d-{0,1,2}/best \\
        --out benchmarks/results/policy_gap.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from benchmarks.agreement import Clusters
from benchmarks.common import header, mean_and_spread, run, write_json
from benchmarks.fidelity import TRUTH, WORLDS
from benchmarks.fidelity_drives import SCORES, Drive
from benchmarks.fidelity_episodes import read_drives
from benchmarks.fidelity_table import values
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.campaign import is_campaign
from dist4d_env.progress import say


@dataclass(frozen=True)
class Options:
    """Policies trained in a generated world beside those trained in the truth."""

    study: Positional[Path]
    """Folder of benchmarks.fidelity."""
    truth: tuple[str, ...]
    """Policies trained in the truth, a seed each."""
    made: tuple[str, ...]
    """Policies trained in the generated world, in the order of the same seeds."""
    score: str = "PDMS"
    """PDMS, EPDMS or CLS."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.made) or not self.made:
            raise ConfigError(f"--truth names {len(self.truth)} policies, --made {len(self.made)}: one of each for every seed")
        if self.score not in SCORES:
            raise ConfigError(f"--score {self.score}: choose {', '.join(SCORES)}")


def main(options: Options) -> dict[str, Any]:
    worlds = {
        world: compared(read_drives(options.study / world), options) for world in WORLDS if is_campaign(options.study / world)
    }
    if not worlds.get(TRUTH):
        raise DataError(f"{options.study}: no episode that all these policies have driven in {TRUTH}")
    result = header("policy_gap", options) | {"worlds": {world: found for world, found in worlds.items() if found}}
    if options.out is not None:
        write_json(options.out, result)
    for world, found in result["worlds"].items():
        gap = found["gap"]
        print(
            f"driven in {world}: trained in truth {found['truth']['mean']:.3f}, made {found['made']['mean']:.3f}, "
            f"gap {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}], by seed {np.round(found['by_seed'], 3).tolist()}, "
            f"{found['episodes']} episodes"
        )
    return result


def compared(drives: Sequence[Drive], options: Options) -> dict[str, Any]:
    """Means of both groups and their difference over the episodes that every policy has driven with a valid score; {} for none.

    Intervals are of a cluster bootstrap over scenes, of the mean over seeds.
    """
    driven = {name: {d.episode: d for d in drives if d.planner == name} for name in (*options.truth, *options.made)}
    if missing := [name for name, found in driven.items() if not found]:
        say(f"{missing[0]} has driven nothing there; these have: {', '.join(sorted({d.planner for d in drives}))}")
    shared = sorted(set.intersection(*(set(found) for found in driven.values())))
    if not shared:
        return {}
    scores = {name: values([found[episode] for episode in shared], options.score) for name, found in driven.items()}
    valid = np.isfinite(list(scores.values())).all(0)
    if not valid.any():
        return {}
    truth, made = (np.array([scores[name][valid] for name in names]) for names in (options.truth, options.made))
    scenes = [driven[options.truth[0]][episode].scene for episode in shared]
    clusters = Clusters([scene for scene, counts in zip(scenes, valid, strict=True) if counts])
    return {
        "episodes": int(valid.sum()),
        "truth": vars(clusters.mean(truth.mean(0))),
        "made": vars(clusters.mean(made.mean(0))),
        "gap": vars(clusters.mean((made - truth).mean(0))),
        "by_seed": (made - truth).mean(1).tolist(),
        "seeds": {"truth": mean_and_spread(truth.mean(1).tolist()), "made": mean_and_spread(made.mean(1).tolist())},
    }


if __name__ == "__main__":
    run(main, Options)
