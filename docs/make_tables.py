"""Writes the tables of docs/world-model.md from the numbers in benchmarks/results: ``python docs/make_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import page_tables
from page_tables import RESULTS, load

table = partial(page_tables.table, rule="---")
NAMES = {
    "codec_ceiling": "codec ceiling",
    "copy_last": "copy of the last frame",
    "copy_nearest": "copy of the nearest frame",
    "copy_source": "unmoved source",
    "splat": "best splat",
    "splat_never_updated": "best splat, never updated",
    "splat_growing": "best splat, fed by its own fills",
    "dist4d": "`tiny`",
    "dist_s": "`tiny`",
    "regression": "regression",
    "truth": "truth",
}


def number(cell: Mapping[str, float], digits: int, spread: bool = True) -> str:
    """Mean and, where there is one, spread."""
    text = f"{cell['mean']:.{digits}f}"
    return f"{text} ± {cell['std']:.{digits}f}" if spread and cell.get("std") else text


def four(cell: Mapping[str, Mapping[str, float]]) -> list[str]:
    """PSNR, SSIM, AbsRel, delta1."""
    return [number(cell[name], digits) for name, digits in (("psnr", 2), ("ssim", 3), ("abs_rel", 3), ("delta1", 3))]


def temporal(protocol: str, mark: str) -> str:
    """All pixels of one protocol of benchmarks/temporal.py."""
    cells = load("temporal")["results"][protocol][mark]["all"]
    rows = ([NAMES[name], *four(cell)] for name, cell in cells.items() if name != "splat_growing")
    return table(["", "PSNR, dB", "SSIM", "depth AbsRel", "delta1"], rows)


def regions() -> str:
    """One step ahead by kind of pixel."""
    cells = load("temporal")["results"]["one_step_history"]["mean"]
    names = [name for name in ("all", "disoccluded", "never_seen", "moving") if name in cells]
    methods = [name for name in ("copy_last", "splat", "splat_never_updated", "dist4d", "codec_ceiling") if name in cells["all"]]
    rows = ([NAMES[m], *(number(cells[region][m]["psnr"], 2) for region in names)] for m in methods)
    return table(["PSNR, dB", *(name.replace("_", " ") for name in names)], rows)


def over_time(protocol: str) -> str:
    """PSNR / SSIM / delta1 at the marks of a closed loop."""
    results = load("temporal")["results"][protocol]
    marks = [mark for mark in ("0.5s", "1s", "2s", "4s", "8s", "mean") if mark in results]

    def cell(mark: str, method: str) -> str:
        scores = results[mark]["all"][method]
        return " / ".join([f"{scores['psnr']['mean']:.1f}", f"{scores['ssim']['mean']:.2f}", f"{scores['delta1']['mean']:.2f}"])

    methods = [name for name in results[marks[0]]["all"] if name != "splat_growing"]
    return table(["PSNR / SSIM / delta1", *marks], ([NAMES[m], *(cell(mark, m) for mark in marks)] for m in methods))


def appearance(protocol: str) -> str:
    """Layout agreement, sharpness and Frechet distance in windows of a closed loop."""
    windows = load("temporal")["results"][protocol]["appearance"]
    names = [name for name in ("2-4s", "6-8s", "all") if name in windows]

    def cell(window: str, method: str) -> str:
        scores = windows[window][method]
        agreement, sharp, far = (scores[name]["mean"] for name in ("share_of_truth", "sharpness", "frechet"))
        return f"{100 * agreement:.0f} % / {sharp:.2f} / {far:.1f}"

    methods = windows[names[0]]
    rows = ([NAMES[m], *(cell(window, m) for window in names)] for m in methods)
    return table(["agreement / sharpness / Frechet", *names], rows)


def novel_view() -> str:
    """Off the path from one frame."""
    shifts = load("novel_view")["results"]["lateral_shift"]
    methods = list(next(iter(shifts.values()))["all"])
    heads = [f"{shift.removesuffix('m')} m" for shift in shifts]
    head = ["", *(f"{h}: PSNR" for h in heads), *(f"{h}: AbsRel / delta1" for h in heads)]

    def depth(cell: Mapping[str, Mapping[str, float]]) -> str:
        return f"{cell['abs_rel']['mean']:.3f} / {cell['delta1']['mean']:.3f}"

    cells = [shift["all"] for shift in shifts.values()]
    return table(head, ([NAMES[m], *(number(c[m]["psnr"], 2) for c in cells), *(depth(c[m]) for c in cells)] for m in methods))


def sampling() -> str:
    """Few evaluations against many."""
    found = load("sampling")
    protocols = found["results"]
    counts = list(found["frechet"][next(iter(found["frechet"]))])
    head = ["evaluations", *(name.replace("_", " ") for name in protocols)]

    def cell(protocol: str, count: str) -> str:
        if count not in protocols[protocol]["mean"]["all"]:  # a student of DiST-T has no part in DiST-S
            return "-"
        scores, far = protocols[protocol]["mean"]["all"][count], found["frechet"].get(protocol, {}).get(count)
        far = far["mean"] if isinstance(far, dict) else far
        return f"{scores['psnr']['mean']:.2f} / {scores['ssim']['mean']:.3f}" + ("" if far is None else f" / {far:.1f}")

    return table(head, ([count, *(cell(protocol, count) for protocol in protocols)] for count in counts if count != "splat"))


def robustness() -> str:
    """PSNR lost to noise by splat and model."""
    found = load("robustness")
    exact = found["results"]["exact"]["mean"]["all"]
    rows = []
    for name, condition in found["results"].items():
        cells = condition["mean"]["all"]
        lost = {m: exact[m]["psnr"]["mean"] - cells[m]["psnr"]["mean"] for m in ("splat", "dist4d")}
        beyond = lost["dist4d"] - lost["splat"]
        shown = [f"{cells[m]['psnr']['mean']:.2f}" for m in ("splat", "dist4d")]
        rows.append([name, *shown, *([f"{beyond:+.2f}"] if name != "exact" else ["-"])])
    return table(["", "best splat, dB", "`tiny`, dB", "lost beyond the splat, dB"], rows)


def ablation() -> str:
    """Each part of the models on and off under one small budget."""
    rows = []
    for name, effect in load("ablation")["effects"].items():
        cells = [number(effect[key], digits) if key in effect else "-" for key, digits in EFFECTS.values()]
        rows.append([name.replace("roll-out", "rollout"), *cells])
    return table(["with minus without", *EFFECTS], rows)


def lights() -> str:
    """Share of heads that show their commanded state, and PSNR of their pixels, by size, memory and time."""
    rows = []
    for size, name in (("64 x 112", "lights"), ("224 x 400", "lights_224x400")):
        for moment, cells in load(name)["results"].items():
            memory, after = moment.split("/")
            model = "DiST-S" if cells["weights"]["dist_s"] > 0.5 else "DiST-T"
            methods = (cells[method] for method in ("splat", "untold", "weights", "codec"))
            shown = [f"{100 * cell['right']:.0f} % / {cell['heads_psnr']:.1f}" for cell in methods]
            elsewhere = " / ".join(f"{cells[method]['elsewhere_psnr']:.2f}" for method in ("untold", "weights"))
            rows.append([f"{size}, `{memory}`, {after}, {model}", f"{cells['splat']['heads']:.0f}", *shown, elsewhere])
    return table(["", "heads", "best splat", "`tiny`, told nothing", "`tiny`", "codec ceiling", "other pixels, dB"], rows)


TOWNS = {"101": "plain", "102": "plain", "103": "wild"}
"""Seeds of the towns that judge, and their looks."""


REAL = {"real": "`flow`", "real_flow_stereo": "`flow`, `--stereo`", "real_least_squares": "`least_squares`"}
"""Stored results of benchmarks/real.py and the depth that they are of."""
ROWS = {"splat": "best splat", "dist_t tiny": "DiST-T", "dist_s tiny": "DiST-S"}


def real() -> str:
    """Frames of a real camera, by kind of depth: PSNR of all pixels and of the splat's holes, delta1 of depth."""
    columns = [(protocol, mark) for protocol, marks in load("real")["results"].items() for mark in marks]

    shown = (("all", "psnr", 1), ("holes", "psnr", 1), ("all", "delta1", 3))

    def row(name: str, file: str, method: str) -> list[str]:
        found = [load(file)["results"][protocol][mark] for protocol, mark in columns]
        cell = [[number(at[region][method][metric], digits, False) for region, metric, digits in shown] for at in found]
        return [name, *map(" / ".join, cell)]

    rows = [row("copy", "real", "copy")]
    networks = {name: f"{method} unchecked" for method, name in ROWS.items() if method != "splat"}
    rows += [row(f"{name} unchecked, depth by {REAL['real']}", "real", method) for name, method in networks.items()]
    rows += [row(f"{name}, depth by {depth}", file, method) for file, depth in REAL.items() for method, name in ROWS.items()]
    rows.append(row("codec ceiling", "real", "codec tiny"))
    return table(["", *(f"{protocol.partition('_')[0]}, {mark}" for protocol, mark in columns)], rows)


def real_keyframe() -> str:
    """What is generated from one real keyframe on, as ratios to what two real cameras differ by."""
    times = load("real")["scene-0061"]
    rows = []
    for method, name in (("splat", "fill of the splat"), ("tiny", "`tiny`")):
        found = [[times[time][method][key]["mean"] for key in ("share", "chroma", "spectrum")] for time in times]
        rows.append([name, *(f"{share:.0%} / {chroma:.2f} / {spectrum:.1f}" for share, chroma, spectrum in found)])
    return table(["", *(time.replace("s", " s") for time in times)], rows)


def judged(kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Size, town, scenes and noise seeds of what was measured on the towns that judge, and the stored results."""
    rows = []
    for path in sorted((RESULTS / "test").glob(f"{kind}_*.json"), key=lambda path: (len(path.stem), path.stem)):
        size, seed = path.stem.removeprefix(f"{kind}_").split("_")
        found = load(f"test/{path.stem}")
        rows.append((f"{size}, {TOWNS[seed]} {seed}, {len(found['scenes'])} x {found['seeds']}", found))
    return rows


def gain(cells: Mapping[str, Any], model: str, splat: str, metric: str = "psnr", digits: int = 1) -> str:
    """How much higher a model's mean is than the splat's."""
    return f"{cells[model][metric]['mean'] - cells[splat][metric]['mean']:+.{digits}f}"


def both(cells: Mapping[str, Any], model: str, splat: str, metric: str, digits: int = 3) -> str:
    """A model's mean beside the splat's."""
    return " / ".join(f"{cells[name][metric]['mean']:.{digits}f}" for name in (model, splat))


def judged_loops() -> str:
    """The closed loops on the towns that judge."""
    rows = []
    for name, found in judged("temporal"):
        log, ahead = (found["results"][f"closed_loop_{memory}"] for memory in ("log", "history"))
        cells, looks = log["mean"]["all"], ahead["appearance"]["all"]
        rows.append([
            name, gain(cells, "dist4d", "splat"), *(both(cells, "dist4d", "splat", m) for m in ("ssim", "abs_rel", "delta1")),
            f"{log['appearance']['all']['dist4d']['sharpness']['mean']:.2f}",
            f"{100 * looks['dist4d']['share_of_truth']['mean']:.0f} %", f"{looks['dist4d']['sharpness']['mean']:.2f}",
            f"{100 * looks['dist4d']['frechet']['mean'] / looks['splat_never_updated']['frechet']['mean']:.0f} %",
        ])  # fmt: skip
    head = [
        "size, town, scenes x noise seeds",
        "`log`: PSNR",
        "SSIM",
        "AbsRel",
        "delta1",
        "sharpness",
        "`history`: agreement",
        "sharpness",
        "Frechet",
    ]
    return table(head, rows)


def judged_steps() -> str:
    """One step ahead on the towns that judge."""
    rows = []
    for name, found in judged("temporal"):
        regions = found["results"]["one_step_history"]["mean"]
        cells = regions["all"]
        unseen, moving = (gain(regions[region], "dist4d", "splat") for region in ("never_seen", "moving"))
        shown = [both(cells, "dist4d", "splat", metric) for metric in ("ssim", "abs_rel", "delta1")]
        rows.append([name, gain(cells, "dist4d", "splat"), *shown, unseen, moving])
    return table(["size, town, scenes x noise seeds", "PSNR", "SSIM", "AbsRel", "delta1", "never seen", "moving"], rows)


def judged_views() -> str:
    """From beside the path on the towns that judge."""
    rows = []
    for name, found in judged("novel_view"):
        shifts = list(found["results"]["lateral_shift"].values())
        gains = " / ".join(gain(shift["all"], "dist_s", "splat", digits=2) for shift in shifts)
        moving = " / ".join(gain(shift["moving"], "dist_s", "splat") for shift in shifts)
        holes = [both(shift["disoccluded"], "dist_s", "splat", "delta1") for shift in shifts]
        rows.append([name, gains, moving, *holes])
    return table(
        ["size, town, scenes x noise seeds", "PSNR", "moving objects", *(f"holes, delta1 at {m} m" for m in (1, 2, 4))], rows
    )


EFFECTS = {
    "PSNR": ("psnr", 2),
    "never seen": ("psnr_never_seen", 2),
    "moving": ("psnr_moving", 2),
    "SSIM": ("ssim", 4),
    "AbsRel": ("abs_rel", 4),
}
TABLES: dict[str, Callable[[], str]] = {
    "one-step-history": lambda: temporal("one_step_history", "mean"),
    "one-step-log": lambda: temporal("one_step_log", "mean"),
    "regions": regions,
    "loop-log": lambda: over_time("closed_loop_log"),
    "loop-history": lambda: over_time("closed_loop_history"),
    "looks-history": lambda: appearance("closed_loop_history"),
    "looks-log": lambda: appearance("closed_loop_log"),
    "novel-view": novel_view,
    "sampling": sampling,
    "robustness": robustness,
    "real": real,
    "real-keyframe": real_keyframe,
    "ablation": ablation,
    "lights": lights,
    "test-loops": judged_loops,
    "test-steps": judged_steps,
    "test-views": judged_views,
}


if __name__ == "__main__":
    page_tables.main("world-model.md", TABLES)
