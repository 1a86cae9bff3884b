"""Writes the table of speeds in docs/comparison.md from benchmarks/results: ``python docs/make_speed_table.py [--check]``."""

from __future__ import annotations

import page_tables
from page_tables import load, table

WORLDS = ("none", "replay", "splat", "dist4d", "oracle")
NEIGHBOURS = {"highway-v0": "highway-v0", "highway-fast-v0": "highway-fast-v0", "diamond-sized denoiser": "DIAMOND-sized"}


def speed() -> str:
    """Decisions a second by world and by neighbour."""
    small, large = (load(name)["results"] for name in ("throughput", "throughput_224x400"))

    def cell(results: dict[str, dict[str, float]], name: str) -> str:
        if name not in results:
            return ""
        rate = results[name]["per_second"]
        return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"

    names = [*(name for name in WORLDS), *(name for name in NEIGHBOURS if name in small)]
    heads = [f"`{name}`" if name in WORLDS else NEIGHBOURS[name] for name in names]
    rows = [["6 x 64 x 112", *(cell(small, name) for name in names)]]
    rows.append(["6 x 224 x 400", *(cell(large, name) if name in WORLDS else "" for name in names)])
    return table(["pictures", *heads], rows)


if __name__ == "__main__":
    page_tables.main("comparison.md", {"speed": speed})
