"""The picture of ``benchmarks.rl_cameras``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Left: PDMS by world of training and of driving, a dot per seed, bars their means, dashed the start. Right: what training
    episodes earned."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (score, reward) = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    colours = {home: f"C{index}" for index, home in enumerate(result["gained"])}
    places, names = [], []
    for home, by_world in result["gained"].items():
        for world, gained in by_world.items():
            values = [result["start_pdms"] + gain for gain in gained["by_seed"].values()]
            score.bar(len(places), np.mean(values), color=colours[home], alpha=0.4)
            score.plot([len(places)] * len(values), values, "o", color=colours[home], ms=5)
            places.append(len(places))
            names.append(f"trained in {home},\ndriven in {world}")
    score.axhline(result["start_pdms"], color="0.3", ls="--", lw=1, label="start: the route at constant speed")
    score.set_xticks(places, names, fontsize=7)
    score.set(ylabel="PDMS on validation scenes", ylim=(0.5, 1.0))
    score.legend(fontsize=7, loc="lower right")
    for name, about in result["runs"].items():
        points = [point for point in about["training"] if "reward" in point]
        colour = colours[about["options"]["world"]]
        reward.plot([p["steps"] / 1e3 for p in points], [p["reward"] for p in points], color=colour, lw=1.2, label=name)
    reward.set(xlabel="thousand decisions", ylabel="reward of a training episode")
    reward.legend(fontsize=7)
    for panel in (score, reward):
        panel.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=110, format="png")
    plt.close(figure)
    part.replace(path)
