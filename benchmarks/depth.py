"""Metric depth: how well ``prepare`` fills what LiDAR does not return, by each way of completing, and what it costs.

    python -m benchmarks.depth --town DIR --town DIR --split test --out benchmarks/results/depth.json

Real data has no dense truth, so LiDAR returns are taken away and depth is judged where the camera saw them: a random half at
a time (``half``), or 4 degrees of azimuth in every 12 (``wedges``), each return once. ``absrel``: mean of |found - true| / true;
``upright``: of returns above the ground; ``false_sky``: share of returns that are taken for sky. Real: the keyframe of scene-0061
that has files, one sweep; frames of KITTI, one sweep each. Town: exact depth below 60 m of every pixel but the car's own body,
from the sweeps that ``prepare`` gathers; ``edges``: AbsRel within 2 pixels of steps in depth of a fifth; ``false_sky``: share of
these pixels that are taken for sky, ``sky``: share of the true sky that is found; ``shift``: pixels by which a view from a metre
to the side is off, sky included. ``seconds``: processor time for a keyframe, from the sweeps in memory to the depth of all its
cameras; with stereo from the images' files, its neighbours being done. What all methods share counts in each.
``stereo`` is depth from images alone, of the ``keyframes`` that have neighbours; ``confirmed``: share of pixels that other images
confirm, ``confirmed_absrel``: there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import cv2
import numpy as np
import torch
import tyro

from benchmarks.common import result_file, run
from dist4d_env.curation.camera import Completion, CurationConfig, dense_depth, visible_returns
from dist4d_env.curation.points import SeparatedSweep, vertical_field
from dist4d_env.curation.prepare import camera_view, points_at, sensor_files, separated_sweeps
from dist4d_env.curation.stereo import CONFIDENT, StereoMaps
from dist4d_env.curation.views import View
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import LidarSweep, Scene

METHODS = {
    **{way: {"completion": way} for way in get_args(Completion)},
    **{f"{way}_stereo": {"completion": way, "stereo": True} for way in get_args(Completion)},
}
"""Ways of making depth dense, each from LiDAR alone and with stereo between the returns."""
ALONE = "stereo"
"""The row of what the network for stereo says of every pixel, without LiDAR."""
HALVES, PHASES, WEDGE = 2, 3, np.radians(4.0)
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Options:
    """Depth completion against returns that were taken away, and against exact depth."""

    shared: Path = Path(os.environ.get("DIST4D_SHARED", "../shared"))
    """Folder whose data/ holds nuscenes_real and kitti_real."""
    real: bool = True
    """Measure on real data."""
    kitti_every: int = 6
    """Of KITTI's frames 0 to 53, every so many."""
    town: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default_factory=tuple)
    """Town data sets to measure on."""
    split: str = "val"
    """Their split: val for choosing, test is looked at once."""
    top: float | None = None
    """Of their LiDAR, the highest elevation in degrees from which returns are kept: 2 is the Velodyne HDL-64's of KITTI."""
    keyframes: int = 2
    """Keyframes of each of their scenes."""
    height: int = 225
    """Rows of the depth images."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        names = [Path(root).name for root in self.town]
        if not (self.real or names) or self.keyframes < 1 or self.kitti_every < 1 or len(set(names)) < len(names):
            raise ConfigError("nothing to measure, or two under one name: give --real or --town, folders of different names, and "
                              "--keyframes and --kitti-every of at least 1")  # fmt: skip


def main(options: Options) -> None:
    """Measure, print and store."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    result: dict[str, Any] = {"real": {}, "town": {}}
    if options.real:
        for name, scene, frames in _real(options):
            result["real"][name] = removed_returns(scene, frames, options.height)
            _show(name, result["real"][name])
    for root in options.town:
        result["town"][Path(root).name] = exact(Path(root), options)
        _show(Path(root).name, result["town"][Path(root).name])
    result_file("depth", options, result)


def _real(options: Options) -> Iterator[tuple[str, Scene, list[int]]]:
    for folder, name, frames in (
        ("nuscenes_real", "scene-0061", [0]),
        ("kitti_real", "scene-9100", list(range(0, 54, options.kitti_every))),
    ):
        root = options.shared / "data" / folder
        if not root.is_dir():
            raise DataError(f"{root} is no folder: --shared names the one that holds data/, --no-real leaves it out")
        yield folder, open_dataset(root).load(name, False), frames


def _show(name: str, rows: dict[str, dict[str, float]]) -> None:
    for method, row in rows.items():
        print(f"{name} {method}: " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)


def _means(scores: dict[str, Scores]) -> dict[str, dict[str, float]]:
    return {method: {key: float(np.mean(values)) for key, values in row.items()} for method, row in scores.items()}


def keeps(points: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What stays of a sweep (N, 4) each time, (N,) bool, by kind."""
    half = np.random.default_rng(0).integers(HALVES, size=len(points))
    for part in range(HALVES):
        yield "half", half != part
    wedge = np.floor(np.arctan2(points[:, 1], points[:, 0]) / WEDGE).astype(int)
    for phase in range(PHASES):
        yield "wedges", wedge % PHASES != phase


def removed_returns(scene: Scene, frames: list[int], height: int) -> dict[str, dict[str, float]]:
    """Scores by method; returns of all cameras and frames count the same."""
    sensors = sensor_files(scene)
    maps = StereoMaps(scene, sensors)
    several = any(maps.around(frame) for frame in frames)
    scores: dict[str, Scores] = {method: {} for method in (*METHODS, ALONE) if several or "stereo" not in method}
    with Progress(scene.name, "frame", len(frames)) as bar:
        for frame in frames:
            sweep, own = sensors.lidar(frame), _spent(maps, frame)
            for kind, kept in keeps(sweep.points):
                _judge(scene, frame, sweep, kept, kind, height, scores, maps, dict(own))
            bar.update()
    return _means(scores)


def _judge(
    scene: Scene,
    frame: int,
    sweep: LidarSweep,
    kept: np.ndarray,
    kind: str,
    height: int,
    scores: dict[str, Scores],
    maps: StereoMaps,
    spent: dict[str, float],
) -> None:
    sensors = sensor_files(scene)
    whole = separated_sweeps(scene, [sweep])
    with _shared(spent):
        part = separated_sweeps(scene, [replace(sweep, points=sweep.points[kept])])
    for view in range(len(scene.rig.names)):
        config = CurationConfig(height=height)
        size = config.size(sensors.image_size[view])
        image, at = sensors.image(frame, view, *size), float(sensors.camera_time[frame, view])
        points, boxed = points_at(scene, at, whole)
        all_returns, upright = visible_returns(points, boxed, camera_view(scene, frame, view, points, config), *size, config)
        with _shared(spent):
            points, boxed, seen = _seen(scene, frame, view, part, config)
        left = visible_returns(points, boxed, seen, *size, config)[0]
        lost = (all_returns > 0) & (left == 0)
        for method in scores:
            if method == ALONE:
                if not maps.maps(frame):
                    continue
                depth = _resized(maps.maps(frame)[view].depth, size)
            else:
                began = time.process_time()
                depth = _dense(image, points, boxed, seen, config, method, maps, frame, view)
                spent[method] += time.process_time() - began
            error = np.abs(depth - all_returns)[lost] / all_returns[lost]
            row = scores[method]
            row.setdefault(f"{kind}_absrel", []).extend(error)
            row.setdefault(f"{kind}_upright", []).extend(error[upright[lost]])
            row.setdefault(f"{kind}_false_sky", []).extend(depth[lost] >= FAR)
    for method, row in scores.items():
        row.setdefault("seconds", []).append(spent[method])


@contextmanager
def _shared(spent: dict[str, float]) -> Iterator[None]:
    """Adds the processor seconds of what is done once to those of every method that it is done for."""
    began = time.process_time()
    yield
    took = time.process_time() - began
    for method in METHODS:
        spent[method] += took


def _seen(
    scene: Scene, keyframe: int, view: int, sweeps: list[SeparatedSweep], config: CurationConfig
) -> tuple[np.ndarray, np.ndarray, View]:
    """The points of sweeps when a camera looks, which of them belong to objects, and where they are in its image."""
    points, boxed = points_at(scene, float(sensor_files(scene).camera_time[keyframe, view]), sweeps)
    return points, boxed, replace(camera_view(scene, keyframe, view, points, config), field=vertical_field(sweeps))


def _spent(maps: StereoMaps, keyframe: int) -> dict[str, float]:
    """Processor seconds so far of each method: stereo's own, its neighbours being done."""
    for other in maps.around(keyframe):
        maps.maps(other)
    maps.forget(keyframe)
    began = time.process_time()
    maps.maps(keyframe)
    own = time.process_time() - began
    return {method: own if "stereo" in method else 0.0 for method in (*METHODS, ALONE)}


def _dense(
    image: np.ndarray,
    points: np.ndarray,
    boxed: np.ndarray,
    seen: View,
    config: CurationConfig,
    method: str,
    maps: StereoMaps,
    keyframe: int,
    view: int,
) -> np.ndarray:
    config = replace(config, **METHODS[method])
    return dense_depth(image, points, boxed, seen, config, maps.points(keyframe, view) if config.stereo else None)[0]


def _resized(field: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Nearest-sampled: depth is never interpolated across edges."""
    return cv2.resize(field, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def exact(root: Path, options: Options) -> dict[str, dict[str, float]]:
    """Scores by method against the town's own depth; keyframes and cameras count the same."""
    dataset = open_dataset(root)
    names = dataset.scene_names(options.split)
    scores: dict[str, Scores] = {method: {} for method in (*METHODS, ALONE)}
    with Progress(root.name, "scene", len(names)) as bar:
        for name in names:
            scene = dataset.load(name)
            last = len(sensor_files(scene).keyframe_time) - 1
            for keyframe in np.unique(np.linspace(0, last, options.keyframes + 2)[1:-1].round().astype(int)).tolist():
                _compare(scene, keyframe, options, scores)
            bar.update()
    return {method: row | {"keyframes": len(scores[method]["seconds"])} for method, row in _means(scores).items() if row}


def _compare(scene: Scene, keyframe: int, options: Options, scores: dict[str, Scores]) -> None:
    sensors, base = sensor_files(scene), CurationConfig(height=options.height)
    maps = StereoMaps(scene, sensors)
    spent = _spent(maps, keyframe)
    gathered = sensors.sweeps(keyframe, base.before, base.after)
    if options.top is not None:
        gathered = tuple(below(sweep, options.top) for sweep in gathered)
    with _shared(spent):
        sweeps = separated_sweeps(scene, gathered)
    for view in range(len(scene.rig.names)):
        size = base.size(sensors.image_size[view])
        image, truth = sensors.image(keyframe, view, *size), sensors.depth_of(keyframe, view, *size)
        body = sensors.body(*size)
        known = np.ones(size, bool) if body is None else ~body[view]
        near, sky = known & (truth < 60), known & (truth >= FAR)
        log, window = np.log(truth), np.ones((5, 5), np.uint8)
        focal = scene.rig.at_size(*size).intrinsics[view, 0, 0]
        edges = near & (cv2.dilate(log, window) - cv2.erode(log, window) > np.log(1.2))
        with _shared(spent):
            points, boxed, seen = _seen(scene, keyframe, view, sweeps, base)
        for method, row in scores.items():
            if method == ALONE:
                if not maps.maps(keyframe):
                    continue
                depth = _confirmed(maps, keyframe, view, truth, known, row)
            else:
                began = time.process_time()
                depth = _dense(image, points, boxed, seen, base, method, maps, keyframe, view)
                spent[method] += time.process_time() - began
            error = np.abs(depth - truth) / truth
            ratio = np.maximum(depth / truth, truth / depth)
            if near.any():
                row.setdefault("absrel", []).append(error[near].mean())
                row.setdefault("delta1", []).append((ratio < 1.25)[near].mean())
                row.setdefault("false_sky", []).append((depth >= FAR)[near].mean())
            if edges.any():
                row.setdefault("edges", []).append(error[edges].mean())
            if sky.any():
                row.setdefault("sky", []).append((depth >= FAR)[sky].mean())
            row.setdefault("shift", []).append((focal * np.abs(1 / depth - 1 / truth))[known].mean())
    for method, row in scores.items():
        if method != ALONE or maps.maps(keyframe):
            row.setdefault("seconds", []).append(spent[method])


def below(sweep: LidarSweep, top: float) -> LidarSweep:
    """The sweep without returns from above an elevation in degrees, in the LiDAR's frame."""
    x, y, z = sweep.points[:, :3].T
    return replace(sweep, points=sweep.points[np.degrees(np.arctan2(z, np.hypot(x, y))) <= top])


def _confirmed(maps: StereoMaps, keyframe: int, view: int, truth: np.ndarray, known: np.ndarray, row: Scores) -> np.ndarray:
    """Stereo's depth at the size of the truth; how much of what is known (H, W) other images confirm goes into the row."""
    one = maps.maps(keyframe)[view]
    depth, sure = _resized(one.depth, truth.shape), _resized(maps.confidence(keyframe, view), truth.shape) >= CONFIDENT
    row.setdefault("confirmed", []).append(sure[known].mean())
    sure &= known
    if sure.any():
        row.setdefault("confirmed_absrel", []).append((np.abs(depth - truth) / truth)[sure].mean())
    return depth


if __name__ == "__main__":
    run(main, Options)
