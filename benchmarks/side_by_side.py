"""Worlds and completions side by side on one scene, scored against the oracle's render of the same instants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.common import mean_and_spread
from benchmarks.novel_view import CLEARANCE, like, noise_seed
from benchmarks.pixels import REGIONS, regions, score
from benchmarks.protocols import HISTORY_START, SIZE, STEP, Scores, one_step_starts
from benchmarks.rollouts import logged, real_frames, roll_out, scene_at
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.models.conditions import splat_images
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import World, WorldStart
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.oracle import OracleWorld

SHIFT = 2.0
"""Metres beside the recorded drive."""
Frames = dict[str, RGBDFrame]
"""method (and "truth") -> frame."""
Completion = Callable[[Splat, int], tuple[np.ndarray, np.ndarray]]
"""A splat and a noise seed to dense RGB (V, H, W, 3) uint8 and depth (V, H, W) metres."""


def completion(dist_s: DiSTSPipeline, evaluations: int) -> Completion:
    """DiST-S with so many evaluations."""

    def complete(splat: Splat, seed: int) -> tuple[np.ndarray, np.ndarray]:
        made = dist_s([splat_images(splat)], generator=torch.Generator().manual_seed(seed), steps=evaluations)
        return made.rgb[0], made.depth[0]

    return complete


def one_steps(worlds: Mapping[str, World], scene: Scene, seed: int, starts: int) -> list[tuple[Scores, Frames]]:
    """Scores and frames half a second ahead of several instants of a scene."""
    instants = one_step_starts(scene.duration, starts)
    return [pair for start in instants for pair in rolled(worlds, scene, seed, start, [start + STEP])]


def closed_loop(worlds: Mapping[str, World], scene: Scene, seed: int, duration: float) -> list[tuple[Scores, Frames]]:
    """Scores and frames of every step of ``duration`` seconds in closed loop."""
    times = [HISTORY_START + STEP * (k + 1) for k in range(round(duration / STEP))]
    if times[-1] > scene.duration + 1e-6:
        raise ConfigError(f"{scene.name} lasts {scene.duration:g} s; {times[-1]:g} s are needed: give a shorter --duration")
    return rolled(worlds, scene, seed, HISTORY_START, times)


def rolled(
    worlds: Mapping[str, World], scene: Scene, seed: int, start: float, times: Sequence[float]
) -> list[tuple[Scores, Frames]]:
    """Scores and frames at each time (seconds) of a roll-out on the recorded drive, worlds that remember the history alone."""
    rig = scene.rig.at_size(*SIZE)
    truth = roll_out(OracleWorld(), scene, rig, start, seed, times, logged(scene), True, STEP)
    runs = {name: roll_out(world, scene, rig, start, seed, times, logged(scene), True, STEP) for name, world in worlds.items()}
    past = [frame for time, frame in real_frames(scene, *SIZE) if time <= start + 1e-6]
    steps = []
    for k, (frame, at) in enumerate(zip(truth.frames, truth.scenes, strict=True)):
        masks = regions(frame, at.boxes, past)
        rows = {name: run.frames[k] for name, run in runs.items()}
        steps.append(({name: score(one, frame, masks) for name, one in rows.items()}, rows | {"truth": frame}))
    return steps


def aside(
    completions: Mapping[str, Completion], scene: Scene, seed: int, instants: int, metres: float = SHIFT
) -> list[tuple[Scores, Frames]]:
    """Scores and frames beside single real frames, both sides; places where a camera would touch something are left out."""
    rig, oracle = scene.rig.at_size(*SIZE), OracleWorld()
    (state,) = oracle.reset([WorldStart(scene, rig, 0.0, seed)])
    last = len(scene.sensors.keyframe_time) - 1
    views = []
    for keyframe in np.unique(np.linspace(min(2, last), max(last - 2, 0), instants).round().astype(int)).tolist():
        time = float(scene.sensors.keyframe_time[keyframe])
        source, boxes = scene.sensors.rgbd(keyframe, *SIZE), scene.boxes(time)
        memory = Memory.from_frames([source], [boxes])
        for shift in (metres, -metres):
            moved = scene.ego_pose(time) @ pose_from_xy_yaw(0.0, shift, 0.0)
            at = replace(scene_at(scene, time, scene.ego_pose, scene.ego_pose, STEP, 0), global_from_ego=moved)
            ((_, truth, _),) = oracle.step([state], [at])
            if truth.depth.min() < CLEARANCE:
                continue
            splat = memory.render(rig, truth.global_from_camera, boxes, time)
            rows = {"splat": like(truth, *splat.filled())}
            for name, complete in completions.items():
                rows[name] = like(truth, *complete(splat, noise_seed(seed, keyframe, shift)))
            masks = regions(truth, boxes, [source])
            views.append(({name: score(one, truth, masks) for name, one in rows.items()}, rows | {"truth": truth}))
    return views


def tables(units: Sequence[Mapping[str, Scores]]) -> dict[str, Any]:
    """protocol -> "mean" -> region -> method -> metric -> mean and spread over scenes and seeds."""
    table: dict[str, Any] = {}
    for protocol in dict.fromkeys(name for unit in units for name in unit):
        scored = [unit[protocol] for unit in units if protocol in unit]
        for region in REGIONS:
            for method in scored[0]:
                rows = [unit[method][region] for unit in scored if region in unit[method]]
                if rows:
                    cell = {key: mean_and_spread([row[key] for row in rows]) for key in rows[0]}
                    table.setdefault(protocol, {"mean": {}})["mean"].setdefault(region, {})[method] = cell
    return table
