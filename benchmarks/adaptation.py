"""What adapting gains on data that the shipped weights never saw.

- ``wild``: scenes of a wild town of seed 104, with a rig and a palette of its own; judged on other scenes of it, in other streets
  and on a plain town of another seed, where nothing may be lost. PSNR of hidden keyframes, as ``validate --worlds`` has it.
- ``kitti``: frames 0 to 29 of the real clip, cut off as a data set of their own with depth made from them alone; judged on frames
  30 to 53 as ``benchmarks.real`` does it, beside copy and splat.

CPU seconds are those of this process and its helpers, from the start of ``adapt`` to its end.

    python -m benchmarks.adaptation --out benchmarks/results/adaptation.json
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from benchmarks.common import FinishedUnits, result_file, run
from benchmarks.protocols import summarise
from benchmarks.real import MOVING, SPLAT, Case, Clip, prepared
from benchmarks.tables import print_table
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.prepare import depth_root, prepare_scenes
from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import check_scene
from dist4d_env.evaluation import adaptation, held_out
from dist4d_env.evaluation.statistics import compare
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.town.writer import write_dataset

LAST_KNOWN = 29
"""The last frame of the real clip that adapting may use."""
SCENE = "scene-9100"
WILD_SEED, PLAIN_SEED = 104, 7
SIZE = (64, 112)


@dataclass(frozen=True)
class Options:
    """Adapts to a wild town and to real frames, and judges on what it has not seen."""

    sets: tuple[Literal["wild", "kitti"], ...] = ("wild", "kitti")
    """Which data."""
    minutes: float = 10.0
    """Minutes of training."""
    scenes: int = 8
    """Wild scenes of 8 s to adapt to; half as many are judged, and as many plain ones."""
    keyframes: int = 32
    """Keyframes to judge on, of each town."""
    stride: int = 2
    """Every how many real frames one is judged."""
    batch: int = 2
    """Frames per step."""
    work: Path | None = None
    """Folder that keeps data and weights for another run."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> dict[str, Any]:
    place = nullcontext(str(options.work)) if options.work else TemporaryDirectory()
    with place as work:
        asked = ("minutes", "scenes", "keyframes", "stride", "batch")
        key = {name: getattr(options, name) for name in asked} | {"format": 1}
        finished = FinishedUnits(options.out, key)
        for name in options.sets:
            if name not in finished.done:
                measure = {"wild": wild, "kitti": kitti}[name]
                finished.add(name, measure(options, Path(work).resolve()))
    result = result_file("adaptation", options, finished.done, finished)
    for name, rows in result.get("wild", {}).get("gains", {}).items():
        print(name, json.dumps(rows))
    if "kitti" in result:
        print_table(result["kitti"]["results"])
    return result


def adapted(options: Options, dataroot: Path, scenes: str, out: Path) -> dict[str, Any]:
    """Adapts; what the command stored, and the CPU seconds of all of it."""
    before = cpu_seconds()
    asked = adaptation.Options(out, dataroot=dataroot, scenes=(scenes,), minutes=options.minutes, batch=options.batch, workers=1)
    adaptation.run(asked)
    record = json.loads((out / "adapted.json").read_text())
    return {name: record[name] for name in ("steps", "kept", "gains", "seconds")} | {"cpu_seconds": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of this process and of its helpers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def town(place: Path, **how: Any) -> Path:
    """A town at ``place``, made where it is missing."""
    return place if place.is_dir() else write_dataset(place, size=SIZE, duration=adaptation.TOWN_SECONDS, workers=1, **how)


def wild(options: Options, work: Path) -> dict[str, Any]:
    """See the module."""
    judged = max(options.scenes // 2, 1)
    counts = {"train": options.scenes, "val": judged}
    own = town(work / "wild", splits=tuple(counts), count=counts, seed=WILD_SEED, looks="wild")
    plain = town(work / "plain", splits="val", count=judged, seed=PLAIN_SEED)
    out = work / "adapted-wild"
    record = adapted(options, own, "train", out)
    gains: dict[str, Any] = {}
    for name, root in (("held-out wild scenes", own), ("plain town", plain)):
        dataset = open_dataset(root, scenes="val")
        checks = [check_scene(dataset, scene) for scene in dataset.scene_names("val")]
        hidden = held_out.hidden_keyframes(dataset, checks, options.keyframes, SIZE)
        before, after = (adaptation.drawn_by(weights, hidden, SIZE) for weights in ("tiny", out))
        gains[name] = {memory: table(before[memory], after[memory]) for memory in before}
    return record | {"gains": gains}


def table(before: dict[held_out.Key, held_out.Scores], after: dict[held_out.Key, held_out.Scores]) -> dict[str, Any]:
    """Mean PSNR of every method and what is gained, with its interval."""

    def mean(scores: dict[held_out.Key, held_out.Scores], method: str) -> float:
        return compare(("", held_out.psnr_of(scores, method)), ("", dict.fromkeys(scores, 0.0))).difference.mean

    rows: dict[str, Any] = {"keyframes": len(before), SPLAT: mean(before, held_out.SPLAT), "copy": mean(before, held_out.COPY)}
    for network in (held_out.DIST_T, held_out.DIST_S):
        gain = compare(("", held_out.psnr_of(after, network)), ("", held_out.psnr_of(before, network))).difference
        shown = {"shipped": mean(before, network), "adapted": mean(after, network)}
        rows[network] = shown | {"gain": gain.mean, "low": gain.low, "high": gain.high}
    return rows


class Later(Clip):
    """The frames that adapting did not see."""

    def cases(self) -> Iterator[Case]:
        """Those of ``Clip`` whose frame is a later one."""
        return (case for case in super().cases() if LAST_KNOWN < case.target < MOVING)


def kitti(options: Options, work: Path) -> dict[str, Any]:
    """See the module."""
    os.environ["DIST4D_DEPTH"] = str(work)
    whole = prepared("kitti_real", SCENE, work, CurationConfig())
    known = work / "kitti-known"
    if not known.is_dir():
        cut(Path(whole.dataroot), known, LAST_KNOWN + 1)
    opened = open_dataset(known, scenes=SCENE)
    prepare_scenes(opened, [SCENE], depth_root(opened.dataroot, work), CurationConfig())
    out = work / "adapted-kitti"
    record = adapted(options, known, SCENE, out)
    clip = Later(whole, parse_size("64x112"), options.stride)
    rows = [clip.baselines(), clip.model("tiny", "tiny", 0), clip.model(str(out), "adapted", 0)]
    return record | {"results": summarise(rows)}


def cut(dataroot: Path, out: Path, count: int) -> None:
    """The first ``count`` samples of the only scene of a data set in nuScenes format; files are linked to."""
    (version,) = (path for path in dataroot.glob("v1.0-*"))
    tables = {file.stem: json.loads(file.read_text()) for file in version.glob("*.json")}
    kept = sorted(tables["sample"], key=lambda row: row["timestamp"])[:count]
    tokens = {row["token"] for row in kept}
    tables["sample"] = kept
    for name in ("sample_data", "sample_annotation"):
        tables[name] = [row for row in tables[name] if row["sample_token"] in tokens]
    poses = {row["ego_pose_token"] for row in tables["sample_data"]}
    tables["ego_pose"] = [row for row in tables["ego_pose"] if row["token"] in poses]
    for name in ("sample", "sample_data", "sample_annotation"):
        there = {row["token"] for row in tables[name]}
        for row in tables[name]:
            row["next"] = row["next"] if row["next"] in there else ""
    tables["scene"][0] |= {"nbr_samples": count, "last_sample_token": kept[-1]["token"]}
    for row in tables["instance"]:
        own = [one for one in tables["sample_annotation"] if one["instance_token"] == row["token"]]
        row |= {"nbr_annotations": len(own), "last_annotation_token": own[-1]["token"]}
    (out / version.name).mkdir(parents=True)
    for name in ("samples", "maps"):
        (out / name).symlink_to(dataroot / name)
    for name, rows in tables.items():
        (out / version.name / f"{name}.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    run(main, Options)
