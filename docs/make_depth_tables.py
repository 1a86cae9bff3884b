"""Writes the tables of depth in docs/data.md from benchmarks/results: ``python docs/make_depth_tables.py [--check]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import page_tables
from page_tables import load, table

REAL = {"nuscenes_real": "nuScenes scene-0061", "kitti_real": "KITTI"}
TOWNS = {"test101": "plain", "test103": "wild"}
METHODS = {
    "least_squares": "`least_squares`",
    "least_squares_stereo": "`least_squares`, `--stereo`",
    "flow": "`flow`",
    "flow_stereo": "`flow`, `--stereo`",
    "stereo": "stereo alone",
}
SHOWN = {
    ("replay", "1m"): "`replay`, 1 m aside",
    ("replay", "2m"): "`replay`, 2 m aside",
    ("replay", "between"): "`replay`, between",
    ("dist_s", "1m"): "DiST-S, 1 m aside",
    ("dist_s", "2m"): "DiST-S, 2 m aside",
}


def cell(row: Mapping[str, float], key: str, digits: int = 3) -> str:
    """A number as the page writes it: shares of sky in per cent, nothing where it was not measured."""
    if key not in row:
        return ""
    if key.endswith("sky"):
        return f"{100 * row[key]:.1f} %" if "false" in key else f"{100 * row[key]:.0f} %"
    return f"{row[key]:.{digits}f}".removeprefix("0") if key != "seconds" else f"{row[key]:.2f}"


def returns() -> str:
    """Returns taken away of real frames."""
    keys = ("half_absrel", "half_upright", "wedges_absrel", "wedges_upright", "wedges_false_sky", "seconds")
    found = load("depth")["real"]
    rows = [
        [f"{REAL[name]}, {METHODS[method]}", *(cell(row, key) for key in keys)]
        for name, by_method in found.items()
        for method, row in sorted(by_method.items(), key=lambda item: list(METHODS).index(item[0]))
    ]
    heads = ["half", "half, upright", "wedges", "wedges, upright", "wedges, false sky", "CPU s a keyframe"]
    return table(["AbsRel of returns taken away", *heads], rows)


def exact(file: str) -> str:
    """Exact depth of towns."""
    keys = ("absrel", "delta1", "edges", "false_sky", "sky", "seconds")
    found = load(file)["town"]
    rows = []
    for name, by_method in found.items():
        for method, label in METHODS.items():
            rows.append([f"{TOWNS[name]}, {label}", *(cell(by_method[method], key) for key in keys)])
        sure = by_method["stereo"]
        share = f"{TOWNS[name]}, stereo alone, the {100 * sure['confirmed']:.0f} % of pixels confirmed"
        rows.append([share, cell(sure, "confirmed_absrel"), *[""] * (len(keys) - 1)])
    return table(["", "AbsRel", "delta1", "AbsRel at edges", "false sky", "sky found", "CPU s a keyframe"], rows)


def worth() -> str:
    """Views from elsewhere by kind of depth."""
    found = load("depth_worth")["town"]
    kinds = ["exact", "least_squares", "flow", "flow_stereo"]
    rows = []
    for name, town in found.items():
        for (way, mark), label in SHOWN.items():
            cells = town["results"][way][mark]["all"]
            numbers = [
                f"{cells[kind]['psnr']['mean']:.2f} / {cell({'v': cells[kind]['abs_rel']['mean']}, 'v')} / "
                f"{cell({'v': cells[kind]['delta1']['mean']}, 'v')}"
                for kind in kinds
            ]
            rows.append([f"{TOWNS[name]}, {label} ({town['views'][mark]})", *numbers])
    return table(["PSNR, dB / AbsRel / delta1", "exact", *(METHODS[kind] for kind in kinds[1:])], rows)


TABLES: dict[str, Callable[[], str]] = {
    "depth returns": returns,
    "depth exact": partial(exact, "depth"),
    "depth low": partial(exact, "depth_low"),
    "depth worth": worth,
}


if __name__ == "__main__":
    page_tables.main("data.md", TABLES)
