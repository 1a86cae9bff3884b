"""Writes town scenes as a data set in nuScenes format: tables, sensor files, depth, maps and the town's own split file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dist4d_env.data.lights import light_record, lights_file
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.processes import alone
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import TICK
from dist4d_env.town.dataset import ON_DEMAND
from dist4d_env.town.generate import DURATION, LONGEST, MOST_SCENES, VERSION, layout_number, scene_outline
from dist4d_env.town.map_file import MapFile, MapTokens, write_mask
from dist4d_env.town.model import DEFAULT_COUNT, LOOKS, SPLITS, SceneOutline
from dist4d_env.town.scene_files import FileOptions
from dist4d_env.town.sensors import EGO_FROM_LIDAR, MOUNTS
from dist4d_env.town.signals import states_of
from dist4d_env.town.tables import TABLES, VERSION_FOLDER, Rows, log_and_map_rows, shared_rows
from dist4d_env.town.timeline import KEYFRAME_RATE
from dist4d_env.town.wild.body import write_masks
from dist4d_env.town.wild.cameras import CHANNELS
from dist4d_env.town.workers import rows_file, run_jobs

RATES = (2, 5, 10)


def write_dataset(
    out: str | Path,
    splits: str | Sequence[str] = "val",
    count: int | Mapping[str, int] | None = None,
    size: tuple[int, int] = (128, 224),
    sweeps: bool = False,
    seed: int = 0,
    duration: float = DURATION,
    semantics: bool = False,
    workers: int | None = None,
    progress: bool = True,
    pictures: bool = True,
    rate: int = KEYFRAME_RATE,
    on_demand: bool = False,
    looks: str = "plain",
    cameras: int = 6,
) -> Path:
    """Writes scenes 0 to ``count`` - 1 of each split to the new folder ``out`` and returns it.

    count: scenes per split (default 48 train, 8 val, 8 test); size: height, width of the images; sweeps: cameras and LiDAR at
    10 Hz; duration: seconds of each scene, a multiple of 0.5; workers: processes (default: one per core, at most one per scene);
    pictures: False leaves out images, depth and LiDAR, for drivers that see vectors alone or worlds that draw by themselves;
    rate: keyframes per second, 2, 5 or 10; on_demand: no pictures now, they are drawn scene by scene when they are first asked
    for (``town.dataset``).
    The folder appears whole or not at all; scenes finished by an interrupted call with the same options are kept beside it and
    not made again. Raises ConfigError for options that cannot work or a folder that is already there.
    """
    out = Path(out).expanduser().absolute()
    jobs = _jobs(splits, count)
    options = _options(size, sweeps, duration, semantics, pictures and not on_demand, rate, on_demand, looks, cameras)
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone(out.parent / f".{out.name}.lock", f"making {out}"):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} already exists: choose another folder or remove it first")
        plan = {"generator_version": VERSION, "seed": seed, "jobs": jobs, "options": asdict(options)}
        partial = _partial_folder(out, plan)
        _make_scenes(partial, jobs, seed, options, workers, progress)
        _finish(partial, jobs, seed, options)
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    return out


def _jobs(splits: str | Sequence[str], count: int | Mapping[str, int] | None) -> list[tuple[str, int]]:
    names = (splits,) if isinstance(splits, str) else tuple(splits)
    for name in names:
        if name not in SPLITS:
            raise ConfigError(f"the town has no split {name!r}: use one of {', '.join(SPLITS)}")
    counts = {n: count if isinstance(count, int) else (count or {}).get(n, DEFAULT_COUNT[n]) for n in dict.fromkeys(names)}
    if not counts or min(counts.values()) < 1:
        raise ConfigError(f"a town needs at least one scene per split, not {counts}")
    for name, number in counts.items():
        if number > MOST_SCENES[name]:
            raise ConfigError(f"the town's split {name!r} has at most {MOST_SCENES[name]} scenes, not {number}: ask for fewer")
    return [(name, index) for name, number in counts.items() for index in range(number)]


def _options(
    size: tuple[int, int],
    sweeps: bool,
    duration: float,
    semantics: bool,
    pictures: bool,
    rate: int,
    on_demand: bool,
    looks: str,
    cameras: int,
) -> FileOptions:
    height, width = (int(v) for v in size)
    if min(height, width) < 16 or max(height, width) > 1600:
        raise ConfigError(f"images of {height} x {width} cannot be rendered: choose sides between 16 and 1600 pixels")
    steps = duration * KEYFRAME_RATE
    if not 1 <= steps <= LONGEST * KEYFRAME_RATE or abs(steps - round(steps)) > 1e-6:
        raise ConfigError(f"a scene cannot last {duration} s: choose a multiple of {1 / KEYFRAME_RATE} s up to {LONGEST:.0f} s")
    if rate not in RATES:
        raise ConfigError(f"{rate} keyframes a second are not possible: choose {', '.join(map(str, RATES))}")
    if semantics and not pictures:
        raise ConfigError("class images are pictures: leave out either semantics or the wish for no pictures")
    if looks not in LOOKS:
        raise ConfigError(f"the town has no looks {looks!r}: use one of {', '.join(LOOKS)}")
    if cameras not in CHANNELS or (looks == "plain" and cameras != len(MOUNTS)):
        raise ConfigError(f"{cameras} cameras are not possible: wild rigs have 1 to {max(CHANNELS)}, plain ones {len(MOUNTS)}")
    return FileOptions(
        (height, width), bool(sweeps), float(duration), bool(semantics), bool(pictures), int(rate), on_demand, looks, int(cameras)
    )


def _partial_folder(out: Path, plan: dict) -> Path:
    """The folder the data set grows in; work left by a call with other options or another generator is thrown away."""
    partial = out.parent / f".{out.name}.partial"
    text = json.dumps(plan, sort_keys=True)
    if partial.exists() and (not (partial / ".plan").exists() or (partial / ".plan").read_text() != text):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    (partial / ".plan").write_text(text)
    return partial


def _make_scenes(
    root: Path, jobs: list[tuple[str, int]], seed: int, options: FileOptions, workers: int | None, progress: bool
) -> None:
    keyframes = len(options.keyframes)
    missing = [(*job, 0, 1) for job in jobs if not rows_file(root, *job).exists()]
    (root / ".rows").mkdir(exist_ok=True)
    done = len(jobs) - len(missing)
    if not progress:
        run_jobs(root, missing, seed, options, workers, lambda count: None)
        return
    with Progress("town", "keyframe", len(jobs) * keyframes, done * keyframes) as bar:
        run_jobs(root, missing, seed, options, workers, bar.update)


def _finish(root: Path, jobs: list[tuple[str, int]], seed: int, options: FileOptions) -> None:
    scenes = [scene_outline(split, index, seed, options.looks) for split, index in jobs]
    rows: Rows = shared_rows(options.rig(seed), EGO_FROM_LIDAR)
    for job in jobs:
        for name, part in json.loads(rows_file(root, *job).read_text()).items():
            rows[name] += part
    rows |= log_and_map_rows(scenes)
    folder = root / VERSION_FOLDER
    folder.mkdir(exist_ok=True)
    for name in TABLES:
        _write_json(folder / f"{name}.json", rows[name])
    for location in sorted({scene.layout.name for scene in scenes}):
        layouts = {
            layout_number(split, index): scene.layout
            for (split, index), scene in zip(jobs, scenes, strict=True) if scene.layout.name == location
        }  # fmt: skip
        tables = MapFile(location)
        tokens = {number: tables.add(layouts[number]) for number in sorted(layouts)}
        for (split, index), scene in zip(jobs, scenes, strict=True):
            if scene.layout.name == location and scene.layout.signals:
                _write_lights(root, scene, tokens[layout_number(split, index)], options.duration)
        (root / "maps" / "expansion").mkdir(parents=True, exist_ok=True)
        _write_json(root / "maps" / "expansion" / f"{location}.json", tables.content())
        write_mask(root / "maps" / f"{location}.png", [layouts[number] for number in sorted(layouts)])
    if options.looks == "wild":
        write_masks(root / "body", options.rig(seed), seed)
    named = {split: [s.name for s in scenes if s.split == split] for split in SPLITS}
    _write_json(root / "splits.json", named)
    about = {scene.name: {"split": scene.split, "index": scene.index, "light": scene.light} for scene in scenes}
    record = {"generator_version": VERSION, "seed": seed, **asdict(options), "scenes": about}
    _write_json(root / "town.json", record)
    if options.on_demand:
        (root / ON_DEMAND).mkdir()
    shutil.rmtree(root / ".rows")
    for hidden in [path for path in root.rglob(".*") if path.is_file()]:
        hidden.unlink()  # the plan, and what a killed call had not finished


def _write_lights(root: Path, scene: SceneOutline, tokens: MapTokens, duration: float) -> None:
    """The file of a scene's traffic lights."""
    path, signals = lights_file(root, scene.name), scene.layout.signals
    states = states_of(scene, round(duration / TICK) + 1)
    path.parent.mkdir(exist_ok=True)
    _write_json(path, [
        light_record(
            token, signal.line, [tokens.lanes[i] for i in signal.connectors],
            np.array([[*head.middle, wrap_angle(head.facing)] for head in signal.heads]), state,
        )
        for token, signal, state in zip(tokens.lights, signals, states, strict=True)
    ])  # fmt: skip


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
