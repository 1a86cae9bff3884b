"""Opening a data set of the size of nuScenes' trainval, beside nuscenes-devkit's own loading of the same tables.

    python -m benchmarks.scale --out benchmarks/results/scale.json

Tables of 850 scenes, 34,000 samples, 2.6 million sensor rows and 1.2 million boxes are written from a few scenes of the town (no
pictures): each scene again and again under new tokens, with the sensors and rates of nuScenes' car. Every opening is a process
of its own; ``seconds`` count from its start to its end, imports included, ``megabytes`` is the most that it held (of ``first``:
the largest of its helpers). ``first`` finds an empty cache, makes the store and loads a scene with its map; ``later`` does the
same again, ``scene`` is the mean of the scenes after the first that it loads. ``one`` and ``all`` are what one process, and all
of them at once, hold with some scenes each, pages that they share counted once.
"""

from __future__ import annotations

import json
import os
import re
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

from benchmarks.common import result_file, run
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


DEVKIT = """
from nuscenes.nuscenes import NuScenes
NuScenes({version!r}, {root!r}, verbose=False)
"""
DEVKIT_MAP = """
from nuscenes.map_expansion.map_api import NuScenesMap
NuScenesMap({root!r}, {location!r})
"""
OPEN = """
import json, sys, time
from dist4d_env.data.open import open_dataset
dataset = open_dataset({root!r})
names = dataset.names()[{first}::{step}][:{count}]
dataset.load(names[0])
began = time.perf_counter()
for name in names[1:]:
    dataset.load(name)
print(json.dumps((time.perf_counter() - began) / max(len(names) - 1, 1)), flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Options:
    """Opening a data set of the size of nuScenes' trainval, beside the devkit's own loading."""

    scale: float = 1.0
    """Share of trainval's 850 scenes."""
    processes: int = 16
    """How many hold the data set at once."""
    scenes: int = 20
    """Scenes that each of them, and a later opening, loads."""
    work: Path | None = None
    """Folder for the tables (2.5 GB) and the cache, which stays; else a temporary one."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        root, cache = work / "data", work / "cache"
        if not (root / VERSION / "sensor.json").is_file():  # the last that is written
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            write_tables(root, max(1, round(options.scale * SCENES)), ensure_town("val"))
        shutil.rmtree(cache, ignore_errors=True)
        results = measure(root, cache, options)
    result_file("scale", options, {"results": results})
    print(json.dumps(results, indent=1))
    return results


def measure(root: Path, cache: Path, options: Options) -> dict[str, Any]:
    """Each kind of opening once, one after the other, and the processes at once."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    names = {"version": VERSION, "root": str(root), "location": LOCATION}

    def opening(first: int = 0, step: int = 1, count: int = options.scenes) -> str:
        return OPEN.format(**names, first=first, step=step, count=count)

    results: dict[str, Any] = {
        "devkit": _timed(DEVKIT.format(**names), environment),
        "devkit_map": _timed(DEVKIT_MAP.format(**names), environment),
        "first": _timed(opening(count=1), environment),
    }
    _timed(opening(), environment)  # the maps around scenes are cut out when these are first loaded
    results["later"] = _timed(opening(), environment)
    for name in ("first", "later"):
        results[name]["times_faster"] = results["devkit"]["seconds"] / results[name]["seconds"]
    for i in range(options.processes):
        _timed(opening(i, options.processes), environment)
    for name, count in (("one", 1), ("all", options.processes)):
        results[name] = _held([opening(i, options.processes) for i in range(count)], environment)
    results["all"] |= {"processes": options.processes, "more_than_one": results["all"]["megabytes"] - results["one"]["megabytes"]}
    results["tables_megabytes"] = sum(path.stat().st_size for path in (root / VERSION).iterdir()) / 1e6
    results["cache_megabytes"] = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6
    return results


def _timed(code: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of a process, of the processor too, and the most memory that it or one of its helpers has held."""
    tail = """
import re, resource
own, helpers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
most = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # of this program, not of what started it
print(max(most, helpers.ru_maxrss), sum(own[:2]) + sum(helpers[:2]))
"""
    command = [sys.executable, "-c", code + tail]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, input="\n", text=True, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    *said, last = done.stdout.splitlines()
    kilobytes, of_processor = map(float, last.split())
    measured = {"seconds": seconds, "cpu_seconds": of_processor, "megabytes": kilobytes * 1.024e-3}
    return measured | ({"scene": float(said[0])} if said else {})


def _held(codes: list[str], environment: dict[str, str]) -> dict[str, float]:
    """What processes hold at once when all have loaded their scenes, and the most that one of them does by itself."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for code in codes]
    for process in processes:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
    kinds = [dict(re.findall(r"^(\w+): +(\d+)", Path(f"/proc/{p.pid}/smaps_rollup").read_text(), re.M)) for p in processes]
    for process in processes:
        process.communicate("\n")
    shared, alone = ([1.024e-3 * float(of[name]) for of in kinds] for name in ("Pss", "Rss"))
    return {"megabytes": sum(shared), "largest": max(alone)}


def write_tables(root: Path, scenes: int, town: Path) -> None:
    """A data set of so many scenes in a folder: tables as nuScenes' are written, and the map of a town."""
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
        for times in self.times.values():  # one of them at every keyframe
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
        for k, (seconds, pose) in enumerate(zip(source.times[channel], source.poses[channel], strict=True)):
            yield f'{{\n"token": "{_token("ego_pose", i, number, k)}",\n"timestamp": {_stamp(i, seconds)},\n{pose}\n}}'


def _data_rows(name: str, source: _Source, i: int) -> Iterator[str]:
    rig = source.scene.rig
    for number, channel in enumerate(RATES):
        times = source.times[channel]
        ending, height, width = ("jpg", rig.height, rig.width) if channel in rig.names else ("pcd", 0, 0)
        for k, seconds in enumerate(times.tolist()):
            sample, stamp = round(2 * seconds), _stamp(i, seconds)
            key = 2 * seconds == sample
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
                f'"instance_token": "{_token("instance", i, number)}",\n"visibility_token": "4",\n"attribute_tokens": [],\n'
                f"{box},\n{_links('sample_annotation', i, number, k, last=len(seen) - 1)},\n"
                f'"num_lidar_pts": 5,\n"num_radar_pts": 0\n}}'
            )


def _instances(name: str, source: _Source, i: int, category_of: dict[str, str]) -> Iterator[str]:
    for number, (category, seen, _) in enumerate(source.objects):
        yield _row({
            "token": _token("instance", i, number), "category_token": category_of[category], "nbr_annotations": len(seen),
            "first_annotation_token": _token("sample_annotation", i, number, 0),
            "last_annotation_token": _token("sample_annotation", i, number, len(seen) - 1),
        })  # fmt: skip


if __name__ == "__main__":
    run(main, Options)
