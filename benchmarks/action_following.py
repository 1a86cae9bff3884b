"""Action following: does the ego move in the pictures as it was commanded to, and do cars stand in them where the simulator says?

On the recorded path and a metre beside it the same drives are shown by every world. From each picture to the next the ego's
motion is estimated from the RGB-D alone (``benchmarks.ego_motion``) and compared with the simulator's: once from all pixels, once
from those alone that nothing remembered of the log reaches, where geometry does not give the motion for nothing. Vehicles, all as
intersection over union with what a visible vehicle's projected box covers: the pixels whose depth lies in the box (``box``), and
those around it that a segmenter of colours takes for a vehicle (``segmented``); beside them the first against the same of the
true picture (``silhouette``). The oracle's own figures are the ceiling.

    python -m benchmarks.action_following --out benchmarks/results/action_following.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from benchmarks.agreement import Clusters
from benchmarks.common import FinishedUnits, header, run, write_json
from benchmarks.ego_motion import difference, ego_motion
from benchmarks.fidelity import TRUTH
from benchmarks.fidelity import WORLDS as STUDIED
from dist4d_env.curation.prepare import sensor_files
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, Boxes
from dist4d_env.geometry.cameras import CameraRig, invert_intrinsics, parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert, pose_from_xy_yaw
from dist4d_env.models.segmenter import CLASSES, TownSegmenter, load_segmenter
from dist4d_env.progress import Progress
from dist4d_env.worlds.memory import Memory

WORLDS = {name: keywords for name, keywords in STUDIED.items() if name != "replay"}  # which shows what splat shows
PATHS = {"on the path": "log", "beside it": "expert_bias_1"}
"""Who drives: as recorded, and up to a metre to the right of that."""
METRES, DEGREES = 0.05, 0.2
"""Errors of a step within which the ego counts as having followed."""
FARTHEST, SMALLEST, VISIBLE = 40.0, 12, 0.5
"""Metres to a vehicle, pixels of its box, and share of them that nothing hides, for it to be looked at."""
SLACK, GROWS = 0.3, 0.02
"""Metres, and share of distance, by which depth may miss a box and still lie in it."""
CLEARANCE = 0.3
"""Metres above the road at which boxes begin here: the road below a car is no part of it."""
AROUND = 0.25
"""Share of a projected box's size by which its surroundings, in which segmented pixels count, reach beyond it."""
VEHICLE = CLASSES.index("vehicles")


@dataclass(frozen=True)
class Options:
    """Ego motion and vehicles in generated pictures against what was commanded, beside the truth."""

    scenes: int = 8
    """How many test scenes of the town."""
    seconds: float = 8.0
    """Seconds of each drive."""
    step: float = 0.5
    """Seconds from picture to picture."""
    size: str = "64x112"
    """Height x width of the images."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset or a folder."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""
    split: str = "test"
    """Split whose scenes are driven through."""
    worlds: tuple[str, ...] = tuple(WORLDS)
    """Worlds to look at; the oracle is always among them."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        if self.scenes < 1 or self.seconds < 2 * self.step or TRUTH not in self.worlds or set(self.worlds) - set(WORLDS):
            raise ConfigError(
                f"--scenes at least 1, --seconds at least two steps, --worlds {TRUTH} and any of {', '.join(WORLDS)}"
            )


@dataclass(frozen=True)
class Shot:
    """A picture of a drive and what was true then. pose: (4, 4) global from ego."""

    frame: RGBDFrame
    pose: np.ndarray
    boxes: Boxes
    time: float


def main(options: Options) -> dict[str, Any]:
    dataset = open_dataset(options.dataroot, scenes=options.split, size=parse_size(options.size))
    names = dataset.scene_names(options.split)[: options.scenes]
    key = {name: getattr(options, name) for name in ("seconds", "step", "size", "weights", "worlds")}
    key |= {"town": dataset.dataroot, "format": 2}
    finished = FinishedUnits(options.out, key)
    make = cache(partial(_environment, dataset.dataroot, dataset.version, tuple(names), options))
    units = [(scene, path) for scene in names for path in PATHS]
    with Progress("drives", "drive", len(units)) as progress:
        for scene, path in units:
            if f"{scene}/{path}" not in finished.done:
                finished.add(f"{scene}/{path}", one_drive(make, options.worlds, scene, path))
            result = results(finished.done, names, options)
            if options.out and result["scenes"]:
                write_json(options.out, result)  # of what there is so far
            progress.update()
    finished.finish()
    show(result)
    return result


def results(done: Mapping[str, Any], names: Sequence[str], options: Options) -> dict[str, Any]:
    """What there is of scenes whose drives have all been looked at."""
    scenes = [scene for scene in names if all(f"{scene}/{path}" in done for path in PATHS)]
    worlds = {
        world: {path: summary({scene: done[f"{scene}/{path}"][world] for scene in scenes}) for path in PATHS}
        for world in options.worlds
        if scenes
    }
    about = {"scenes": scenes, "asked": options.scenes, "bounds": {"metres": METRES, "degrees": DEGREES}}
    return header("action_following", options) | about | {"worlds": worlds}


def _environment(dataroot: str, version: str, scenes: tuple[str, ...], options: Options, world: str) -> gym.Env:
    return gym.make(
        "DiST4D-nuScenes-v0", dataroot=dataroot, version=version, scenes=scenes, action="trajectory", termination=(),
        decision_dt=options.step, horizon=options.seconds, observation=("ego", "route"), size=parse_size(options.size),
        **{"weights": options.weights, **WORLDS[world]},
    )  # fmt: skip


def one_drive(make: Any, worlds: tuple[str, ...], scene: str, path: str) -> dict[str, Any]:
    """world -> what its pictures of one drive say; the same drive, bit for bit, in every world."""
    shots: dict[str, list[Shot]] = {}
    for world in (TRUTH, *(name for name in worlds if name != TRUTH)):
        env = make(world)
        shots[world] = _shown(env, scene, path)
        driving: DiST4DDrivingEnv = env.unwrapped
        if world == TRUTH:
            rig = driving.scene.rig.at_size(*shots[world][0].frame.depth.shape[1:])
            body = sensor_files(driving.scene).body(rig.height, rig.width)
            unseen = {policy: list(_unseen(driving, rig, shots[world], policy)) for policy in ("log", "history")}
    found, segmenter = {}, load_segmenter()
    for world, taken in shots.items():
        policies = ("log", "history") if world == TRUTH else (WORLDS[world].get("memory", "log"),)
        motions = {"all": followed(taken, rig, None)}
        motions |= {f"unseen, {policy}": followed(taken, rig, unseen[policy]) for policy in policies}
        found[world] = {"motion": motions, "vehicles": vehicles(taken, shots[TRUTH], rig, segmenter, body)}
    return found


def _shown(env: gym.Env, scene: str, path: str) -> list[Shot]:
    shots: list[Shot] = []

    def watch(driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
        state, frame = driving.episode.state, driving.episode.frame
        assert frame is not None
        pose = pose_from_xy_yaw(state.ego.x, state.ego.y, state.ego.yaw)  # the town's streets are level
        shots.append(Shot(frame, pose, state.boxes, state.time))

    run_episode(env, make_planner(PATHS[path]), 0, RunOptions(scene, 0.0), watch)
    return shots[1:]  # the first one is the log's own, taken a little before or after


def _unseen(driving: DiST4DDrivingEnv, rig: CameraRig, shots: list[Shot], policy: Any) -> Iterator[np.ndarray]:
    """(V, H, W) of each picture the pixels that no remembered frame of the log reaches: there a world has to make them up."""
    memory = Memory.from_log(driving.scene, rig, 0.0, policy)
    for shot in shots:
        yield ~memory.render(rig, shot.pose @ rig.ego_from_camera, shot.boxes, shot.time).valid


def followed(shots: list[Shot], rig: CameraRig, masks: list[np.ndarray] | None) -> list[list[float] | None]:
    """Of each step metres and degrees between the motion in the pictures and the simulator's; None where none is found."""
    errors: list[list[float] | None] = []
    for k in range(len(shots) - 1):
        before, after = shots[k], shots[k + 1]
        found = ego_motion(before.frame, after.frame, rig, None if masks is None else (masks[k], masks[k + 1]))
        true = invert(before.pose) @ after.pose
        errors.append(None if found.motion is None else list(difference(found.motion, true)))
    return errors


def vehicles(
    shots: list[Shot], truth: list[Shot], rig: CameraRig, segmenter: TownSegmenter, body: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Of every visible vehicle in every picture: metres to it, and intersections over union as in the module's docstring.

    body: (V, H, W) bool, the car's own, which is none of the vehicles.
    """
    found = []
    kinds = [CATEGORIES.index(name) for name in VEHICLES]
    for shot, true in zip(shots, truth, strict=True):
        segmented = segmenter.look(shot.frame.rgb)[0] == VEHICLE
        if body is not None:
            segmented &= ~body
        boxes = shot.boxes.select(np.isin(shot.boxes.category, kinds))
        metres = np.hypot(*(boxes.position[:, :2] - shot.pose[:2, 3]).T)
        for view in range(len(rig.names)):
            camera = shot.pose @ rig.ego_from_camera[view]
            spans = [through_box(boxes, box, camera, rig.intrinsics[view], rig.height, rig.width) for box in range(len(boxes))]
            covered = sum((leaves > 0 for _, leaves in spans), np.zeros((rig.height, rig.width), int))
            for (enters, leaves), away in zip(spans, metres.tolist(), strict=True):
                slack = SLACK + GROWS * enters
                hull = leaves > 0
                shown = hull & (true.frame.depth[view] > enters - slack)
                if away >= FARTHEST or shown.sum() < SMALLEST or shown.sum() < VISIBLE * hull.sum():
                    continue
                inside, truly = (
                    shown & (depth[view] > enters - slack) & (depth[view] < leaves + slack)
                    for depth in (shot.frame.depth, true.frame.depth)
                )
                near = segmented[view] & surroundings(hull) & (shown | (covered == 0))
                ious = {"box": iou(inside, shown), "segmented": iou(near, shown), "silhouette": iou(inside, truly)}
                found.append({"metres": away, **ious})
    return found


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


def surroundings(mask: np.ndarray) -> np.ndarray:
    """The rectangle around a mask (H, W), not an empty one, grown to all sides by ``AROUND`` of its size and at least a pixel."""
    grown = np.zeros_like(mask)
    sides = []
    for axis in (1, 0):
        there = np.flatnonzero(mask.any(axis))
        more = max(round(AROUND * (there[-1] - there[0] + 1)), 1)
        sides.append(slice(max(there[0] - more, 0), there[-1] + 1 + more))
    grown[tuple(sides)] = True
    return grown


def through_box(
    boxes: Boxes, index: int, camera: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """z-depths (H, W) at which the rays of a camera at ``camera`` (4, 4) enter and leave a box above ``CLEARANCE``; both 0
    where they miss it."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ invert_intrinsics(intrinsics).T
    box_from_camera = invert(boxes.poses[index]) @ camera
    direction, start = rays @ box_from_camera[:3, :3].T, box_from_camera[:3, 3]
    half = boxes.size[index] / 2
    low = -half + (0.0, 0.0, CLEARANCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (low - start) / direction, (half - start) / direction
    enters, leaves = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
    meets = (leaves > np.maximum(enters, 0)) & (enters > 0)
    return np.where(meets, enters, 0.0), np.where(meets, leaves, 0.0)


def summary(scenes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means with intervals over scenes of one world's drives on one path."""
    kinds = next(iter(scenes.values()))["motion"]
    motion = {}
    for kind in kinds:
        steps = [(scene, step) for scene, found in scenes.items() for step in found["motion"][kind]]
        known = [(scene, *step) for scene, step in steps if step is not None]
        clusters = Clusters([scene for scene, *_ in known])
        metres, degrees = (np.array([row[column] for row in known]) for column in (1, 2))
        motion[kind] = {
            "steps": len(steps),
            "found": len(known),
            "metres": vars(clusters.mean(metres)),
            "degrees": vars(clusters.mean(degrees)),
            "median_metres": float(np.median(metres)) if len(known) else None,
            "median_degrees": float(np.median(degrees)) if len(known) else None,
            "within": vars(clusters.mean(((metres <= METRES) & (degrees <= DEGREES)).astype(float))),
        }
    cars = [(scene, car) for scene, found in scenes.items() for car in found["vehicles"]]
    clusters = Clusters([scene for scene, _ in cars])
    boxes = {name: vars(clusters.mean([car[name] for _, car in cars])) for name in ("box", "segmented", "silhouette")}
    return {"motion": motion, "vehicles": {"count": len(cars), **boxes}}


def show(result: Mapping[str, Any]) -> None:
    """The main numbers on the terminal."""
    for world, paths in result["worlds"].items():
        for path, found in paths.items():
            for kind, row in found["motion"].items():
                print(f"{world:<15}{path:<12}{kind:<16}{row['found']:>4} of {row['steps']:<4} steps: "
                      f"{row['metres']['mean']:.3f} m {row['degrees']['mean']:.3f} deg, "
                      f"within both bounds {row['within']['mean']:.2f}")  # fmt: skip
            cars = found["vehicles"]
            print(f"{world:<15}{path:<12}{cars['count']} vehicles: box {cars['box']['mean']:.3f}, "
                  f"segmented {cars['segmented']['mean']:.3f}, silhouette {cars['silhouette']['mean']:.3f}")  # fmt: skip


if __name__ == "__main__":
    run(main, Options)
