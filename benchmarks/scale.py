"""Opening a data set of the size of nuScenes' trainval, beside nuscenes-devkit's own loading of the same tables.

    python -m benchmarks.scale --out benchmarks/results/scale.json

Tables of 850 scenes, 34,000 samples, 2.6 million sensor rows and 1.2 million boxes are written from a few scenes of the town (no
pictures): each scene again and again under new tokens, with the sensors and rates of nuScenes' car. Every opening has a process of
its own that starts with nothing but the interpreter; its seconds include imports. ``first`` has an empty cache, ``later`` finds the
store that it made and loads one scene with its map. ``peak`` is the most memory that a process (of ``first``: all of its helpers,
too) held, in MB of 10^6 bytes; ``together`` is what processes that each drive through scenes of their own hold in all, pages that
they share counted once, above what one of them holds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import header, run, write_json
from dist4d_env.data.nuscenes import LIDAR, RING, NuScenesDataset
from dist4d_env.geometry.transforms import poses_from_position_yaw
from dist4d_env.progress import Progress
from dist4d_env.scenes.interpolation import interpolate_poses, quaternions_of
from dist4d_env.scenes.scene import Scene
from dist4d_env.town.cache import ensure_town
from dist4d_env.town.layout import LOCATIONS

VERSION, LOCATION = "v1.0-trainval", LOCATIONS["val"]
SCENES, SAMPLES, BOXES = 850, 40, 1372
"""Scenes, and samples and annotations of each, as nuScenes has them on average."""
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
RATES = dict.fromkeys(RING, 12) | {LIDAR: 20} | dict.fromkeys(RADARS, 13)  # Hz


@dataclass(frozen=True)
class Options:
    """Opening a data set of the size of nuScenes' trainval, beside the devkit's own loading."""

    scale: float = 1.0
    """Share of trainval's 850 scenes."""
    processes: int = 16
    """How many hold the data set at once."""
    work: Path | None = None
    """Folder for the tables (2.5 GB) and the cache, which is kept; else a temporary one."""
    out: Path | None = None
    """Result file (JSON)."""


def write_tables(root: Path, scenes: int) -> None:
    """A data set of so many scenes in a folder: tables as nuScenes' are written, and the map of the town."""
    town = ensure_town("val")
    dataset = NuScenesDataset(str(town))
    shutil.copytree(town / "maps", root / "maps")
    sources = [_Source(dataset.load(name)) for name in dataset.names()]
    tables = {path.stem: json.loads(path.read_bytes()) for path in (town / dataset.version).glob("*.json")}
    folder = root / VERSION
    folder.mkdir()
    for name in ("attribute", "category", "visibility"):
        (folder / f"{name}.json").write_text(_listed(map(_row, tables[name])))
    category_of = {row["name"]: row["token"] for row in tables["category"]}
    names = [(f"scene-{i + 1:04d}", sources[i % len(sources)]) for i in range(scenes)]
    rows: dict[str, Callable[[str, _Source, int], Iterator[str]]] = {
        "scene": _scene_rows, "log": _log_rows, "sample": _sample_rows, "calibrated_sensor": _calibrations,
        "ego_pose": _pose_rows, "sample_data": _data_rows, "sample_annotation": _box_rows,
        "instance": partial(_instances, category_of=category_of),
    }  # fmt: skip
    with Progress("writing tables", "table", len(rows)) as progress:
        for table, make in rows.items():
            with (folder / f"{table}.json").open("w") as file:
                texts = (text for i, (name, source) in enumerate(names) for text in make(name, source, i))
                file.writelines(chain(["["], _separated(texts), ["\n]"]))
            progress.update()
    sensors = [{"token": f"sensor-{c}", "channel": c, "modality": _modality(c)} for c in RATES]
    mask = {
        "token": "map",
        "category": "",
        "filename": f"maps/{LOCATION}.png",
        "log_tokens": [f"log-{name}" for name, _ in names],
    }
    (folder / "sensor.json").write_text(_listed(map(_row, sensors)))
    (folder / "map.json").write_text(_listed([_row(mask)]))


class _Source:
    """A town scene, and the texts that its copies share: ego poses of each sensor, boxes of each object."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.times = {channel: np.arange(0.0, (SAMPLES - 1) / 2 + 1e-3, 1 / rate) for channel, rate in RATES.items()}
        for channel, times in self.times.items():  # one of them at every keyframe
            near = np.abs(times[:, None] - np.arange(SAMPLES) / 2).argmin(0)
            times[near] = np.arange(SAMPLES) / 2
        log = scene.ego
        self.poses = {c: list(map(_pose, interpolate_poses(log.time, log.global_from_ego, t))) for c, t in self.times.items()}
        self.objects = list(self._objects())

    def _objects(self) -> Iterator[tuple[str, list[int], list[str]]]:
        """Category, keyframes and boxes of each object; objects are repeated until there are as many boxes as nuScenes has."""
        tracks, count = self.scene.tracks, 0
        for i in cycle(range(len(tracks))):
            seen = np.flatnonzero(tracks.valid[i, : 5 * SAMPLES : 5])[: BOXES - count]
            poses = poses_from_position_yaw(tracks.position[i, 5 * seen], tracks.yaw[i, 5 * seen])
            size = json.dumps(tracks.size[i, [1, 0, 2]].tolist())
            if len(seen):
                yield tracks.name[i], seen.tolist(), [f'"size": {size},\n{_pose(pose)}' for pose in poses]
            count += len(seen)
            if count == BOXES:
                return


def _token(kind: str, scene: int, *numbers: int) -> str:
    """32 hexadecimal digits, as nuScenes' tokens."""
    text = f"{_KINDS.index(kind):x}{scene:06x}" + "".join(f"{number:06x}" for number in numbers)
    return text.ljust(32, "0")


_KINDS = "scene", "sample", "calibrated_sensor", "ego_pose", "sample_data", "sample_annotation", "instance"


def _row(record: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items()) + "\n}"


def _listed(rows: Iterable[str]) -> str:
    return "[\n" + ",\n".join(rows) + "\n]"


def _separated(texts: Iterable[str]) -> Iterator[str]:
    for i, text in enumerate(texts):
        yield ",\n" if i else "\n"
        yield text


def _pose(pose: np.ndarray) -> str:
    return f'"rotation": {quaternions_of(pose).tolist()},\n"translation": {pose[:3, 3].tolist()}'


def _modality(channel: str) -> str:
    return {"C": "camera", "L": "lidar", "R": "radar"}[channel[0]]


def _stamp(scene: int, seconds: float) -> int:
    return 1_530_000_000_000_000 + 60_000_000 * scene + round(1e6 * seconds)


def _links(kind: str, scene: int, *numbers: int, last: int) -> str:
    *before, number = numbers
    previous = _token(kind, scene, *before, number - 1) if number else ""
    following = _token(kind, scene, *before, number + 1) if number < last else ""
    return f'"prev": "{previous}",\n"next": "{following}"'


def _scene_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    yield _row({
        "token": _token("scene", i), "log_token": f"log-{name}", "nbr_samples": SAMPLES, "name": name,
        "description": source.scene.description,
        "first_sample_token": _token("sample", i, 0), "last_sample_token": _token("sample", i, SAMPLES - 1),
    })  # fmt: skip


def _log_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    yield _row({"token": f"log-{name}", "logfile": name, "vehicle": "town", "date_captured": "2024-01-01", "location": LOCATION})


def _sample_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    for k in range(SAMPLES):
        links = _links("sample", i, k, last=SAMPLES - 1)
        yield (
            f'{{\n"token": "{_token("sample", i, k)}",\n"timestamp": {_stamp(i, k / 2)},\n{links},\n'
            f'"scene_token": "{_token("scene", i)}"\n}}'
        )


def _calibrations(name: str, source: _Source, i: int) -> Iterator[str]:
    rig = source.scene.rig
    lidar = source.scene.lidar.ego_from_lidar
    mounted = dict(zip(rig.names, zip(rig.ego_from_camera, rig.intrinsics.tolist(), strict=True), strict=True))
    for number, channel in enumerate(RATES):
        pose, intrinsic = mounted.get(channel, (lidar, []))
        yield (
            f'{{\n"token": "{_token("calibrated_sensor", i, number)}",\n"sensor_token": "sensor-{channel}",\n{_pose(pose)},\n'
            f'"camera_intrinsic": {intrinsic}\n}}'
        )


def _pose_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    for number, channel in enumerate(RATES):
        for k, (time, pose) in enumerate(zip(source.times[channel], source.poses[channel], strict=True)):
            yield f'{{\n"token": "{_token("ego_pose", i, number, k)}",\n"timestamp": {_stamp(i, time)},\n{pose}\n}}'


def _data_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    rig = source.scene.rig
    for number, channel in enumerate(RATES):
        times = source.times[channel]
        ending, height, width = ("jpg", rig.height, rig.width) if channel in rig.names else ("pcd", 0, 0)
        for k, time in enumerate(times.tolist()):
            sample, stamp = round(2 * time), _stamp(i, time)
            key = 2 * time == sample
            file = f"{'samples' if key else 'sweeps'}/{channel}/n015-2018-07-24-11-22-45+0800__{channel}__{stamp}.{ending}"
            yield (
                f'{{\n"token": "{_token("sample_data", i, number, k)}",\n"sample_token": "{_token("sample", i, sample)}",\n'
                f'"ego_pose_token": "{_token("ego_pose", i, number, k)}",\n'
                f'"calibrated_sensor_token": "{_token("calibrated_sensor", i, number)}",\n"timestamp": {stamp},\n'
                f'"fileformat": "{ending}",\n"is_key_frame": {"true" if key else "false"},\n"height": {height},\n'
                f'"width": {width},\n"filename": "{file}",\n{_links("sample_data", i, number, k, last=len(times) - 1)}\n}}'
            )


def _box_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    for number, (_, seen, boxes) in enumerate(source.objects):
        for k, (sample, box) in enumerate(zip(seen, boxes, strict=True)):
            yield (
                f'{{\n"token": "{_token("sample_annotation", i, number, k)}",\n"sample_token": "{_token("sample", i, sample)}",\n'
                f'"instance_token": "{_token("instance", i, number)}",\n"visibility_token": "4",\n"attribute_tokens": [],\n{box},\n'
                f'{_links("sample_annotation", i, number, k, last=len(seen) - 1)},\n"num_lidar_pts": 5,\n"num_radar_pts": 0\n}}'
            )


def _instances(name: str, source: _Source, i: int, category_of: dict[str, str]) -> Iterator[str]:
    for number, (category, seen, _) in enumerate(source.objects):
        yield _row({
            "token": _token("instance", i, number), "category_token": category_of[category], "nbr_annotations": len(seen),
            "first_annotation_token": _token("sample_annotation", i, number, 0),
            "last_annotation_token": _token("sample_annotation", i, number, len(seen) - 1),
        })  # fmt: skip
