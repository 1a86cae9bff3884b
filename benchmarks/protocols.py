"""The protocols of benchmarks.temporal on one town scene, scored against the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.common import mean_and_spread
from benchmarks.layout_agreement import TRUTH, TrueStreet, look
from benchmarks.pixels import REGIONS, regions, with_reach
from benchmarks.rollouts import (
    Drive,
    GrowingSplat,
    Rollout,
    logged,
    real_frames,
    roll_out,
    scene_at,
    swerving,
    through_codec,
)
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.images.regional import score
from dist4d_env.models.segmenter import TownSegmenter
from dist4d_env.models.video_codec import Codec
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import World
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import Memory, MemoryPolicy

STEP = 0.5
SIZE = (64, 112)
HISTORY_START = 2.0
"""Seconds of history that a closed loop begins with."""
MARKS = (0.5, 1.0, 2.0, 4.0, 8.0)
SWERVE, SWERVE_PERIOD = 0.6, 8.0
"""Metres and seconds of the lateral swerve."""


@dataclass(frozen=True)
class Situation:
    """A stretch of driving, and what is true on it.

    scenes, truth, classes, masks: one per time, the simulator's state, the true frame, its classes (V, H, W) and its regions.
    """

    start: float
    times: tuple[float, ...]
    path: Drive
    plan_ahead: bool
    scenes: tuple[SceneAt, ...]
    truth: tuple[RGBDFrame, ...]
    classes: tuple[np.ndarray, ...]
    masks: tuple[dict[str, np.ndarray], ...]


@dataclass(frozen=True)
class Protocol:
    """Memory policy, and the stretches that are driven; a closed loop is one long stretch."""

    name: str
    memory: MemoryPolicy
    closed_loop: bool
    situations: tuple[Situation, ...]


class SceneEvaluation:
    """Everything that is run on one scene, scored against the oracle; the truth is rendered once for all of it."""

    def __init__(
        self, scene: Scene, segmenter: TownSegmenter, duration: float, starts: int, size: tuple[int, int] = SIZE
    ) -> None:
        if scene.duration < HISTORY_START + duration - 1e-6:
            raise ConfigError(
                f"{scene.name} lasts {scene.duration:g} s, and {duration:g} s in closed loop need "
                f"{HISTORY_START + duration:g} s: give --duration, or another --dataroot"
            )
        self.scene, self.segmenter, self.duration, self.starts = scene, segmenter, duration, starts
        self.rig = scene.rig.at_size(*size)
        self.real = real_frames(scene, *size)
        self.street = TrueStreet(scene, self.rig)

    @cached_property
    def protocols(self) -> tuple[Protocol, ...]:
        instants = one_step_starts(self.scene.duration, self.starts)
        on_time = [HISTORY_START + STEP * (k + 1) for k in range(round(self.duration / STEP))]
        between = [time - STEP / 2 for time in on_time]
        drive, swerve = logged(self.scene), swerving(self.scene, SWERVE, SWERVE_PERIOD, HISTORY_START)
        ahead = [self.situation("history", start, [start + STEP], drive, True) for start in instants]
        halfway = [self.situation("log", start, [start + STEP / 2], drive, True) for start in instants]
        loops = [self.situation("history", HISTORY_START, on_time, drive, True)]
        swerves = [self.situation("log", HISTORY_START, between, swerve, False)]
        return (
            Protocol("one_step_history", "history", False, tuple(ahead)),
            Protocol("one_step_log", "log", False, tuple(halfway)),
            Protocol("closed_loop_history", "history", True, tuple(loops)),
            Protocol("closed_loop_log", "log", True, tuple(swerves)),
        )

    def situation(self, memory: MemoryPolicy, start: float, times: Sequence[float], path: Drive, plan_ahead: bool) -> Situation:
        """Drive the path and render the truth on it."""
        scenes = [scene_at(self.scene, time, path, path, STEP, 0) for time in times]
        truth, classes = zip(*(self.street.show(now) for now in scenes), strict=True)
        known = self.past(start) if memory == "history" else [frame for _, frame in self.real]
        remembered = Memory.from_log(self.scene, self.rig, start, memory)
        masks = []
        for frame, now in zip(truth, scenes, strict=True):
            splat = remembered.render(self.rig, frame.global_from_camera, now.boxes, now.time)
            masks.append(with_reach(regions(frame, now.boxes, known), splat.valid))
        return Situation(start, tuple(times), path, plan_ahead, tuple(scenes), truth, classes, tuple(masks))

    def past(self, start: float) -> list[RGBDFrame]:
        """The real frames up to a time."""
        return [frame for time, frame in self.real if time <= start + 1e-6]

    def baselines(self, codec: Codec | None) -> dict[str, Any]:
        """The rows without weights (and the codec's), and the looks of the truth."""

        def rows(protocol: Protocol, situation: Situation) -> Iterator[tuple[str, Sequence[RGBDFrame]]]:
            if protocol.closed_loop:
                yield TRUTH, situation.truth
            if codec is not None:
                yield "codec_ceiling", [through_codec(codec, frame) for frame in situation.truth]
            if protocol.memory == "history":
                yield "copy_last", [self.past(situation.start)[-1]] * len(situation.truth)
            else:
                nearest = [int(np.argmin([abs(time - now.time) for time, _ in self.real])) for now in situation.scenes]
                yield "copy_nearest", [self.real[k][1] for k in nearest]
            splat = self.roll(make_world("dist4d", weights="splat", memory=protocol.memory), situation, 0).frames
            lives_on_itself = protocol.closed_loop and protocol.memory == "history"
            yield ("splat_never_updated" if lives_on_itself else "splat"), splat
            if lives_on_itself:
                yield "splat_growing", self.roll(GrowingSplat(), situation, 0).frames

        return self.scored({p.name: [dict(rows(p, situation)) for situation in p.situations] for p in self.protocols})

    def model(self, worlds: Mapping[MemoryPolicy, World], seed: int) -> dict[str, Any]:
        """The row of weights under one seed."""
        runs = {p.name: [self.roll(worlds[p.memory], situation, seed) for situation in p.situations] for p in self.protocols}
        result = self.scored({protocol: [{"dist4d": run.frames} for run in rolled] for protocol, rolled in runs.items()})
        for protocol in self.protocols:
            if protocol.closed_loop:
                result["scores"][protocol.name]["share_of_steps"] = sources(runs[protocol.name][0])
        return result

    def roll(self, world: World, situation: Situation, seed: int) -> Rollout:
        """A world on a stretch."""
        return roll_out(
            world, self.scene, self.rig, situation.start, seed, situation.times, situation.path, situation.plan_ahead, STEP
        )  # fmt: skip

    def scored(self, shown: Mapping[str, Sequence[Mapping[str, Sequence[RGBDFrame]]]]) -> dict[str, Any]:
        """shown: protocol -> for every stretch method -> frames.

        Returns scores: protocol -> mark or "mean" -> method -> region -> score; looks: closed loop -> method -> step.
        """
        scores: dict[str, Any] = {}
        looks: dict[str, Any] = {}
        body = self.real[0][1].body
        for protocol in (p for p in self.protocols if p.name in shown):
            steps = []
            for situation, methods in zip(protocol.situations, shown[protocol.name], strict=True):
                for k, (true, masks) in enumerate(zip(situation.truth, situation.masks, strict=True)):
                    steps.append({m: score(frames[k], true, masks) for m, frames in methods.items() if m != TRUTH})
                if protocol.closed_loop:
                    looks[protocol.name] = {
                        method: [look(self.segmenter, f.rgb, c, body) for f, c in zip(frames, situation.classes, strict=True)]
                        for method, frames in methods.items()
                    }
            scores[protocol.name] = marks(steps) if protocol.closed_loop else {"mean": average(steps)}
        return {"scores": scores, "looks": looks}


def one_step_starts(duration: float, count: int) -> list[float]:
    """``count`` keyframe times from the first with a second of history to the last with a step ahead of it."""
    keyframes = np.arange(1.0, duration - STEP + 1e-6, STEP)
    return [float(t) for t in keyframes[np.unique(np.linspace(0, len(keyframes) - 1, count).round().astype(int))]]


def sources(run: Rollout) -> dict[str, float]:
    """Share of the steps that each source made."""
    names = sorted({name for info in run.infos for name in info.source})
    return {name: float(np.mean([name in info.source for info in run.infos])) for name in names}


Scores = dict[str, dict[str, dict[str, float]]]
"""method -> region -> metric -> value."""


def average(steps: Sequence[Scores]) -> Scores:
    """The mean over steps; a region counts where a step has it."""
    result: Scores = {}
    for method in steps[0]:
        for region in REGIONS:
            rows = [step[method][region] for step in steps if region in step[method]]
            if rows:
                result.setdefault(method, {})[region] = {
                    key: mean_and_spread([row[key] for row in rows])["mean"] for key in rows[0]
                }
    return result


def marks(steps: Sequence[Scores]) -> dict[str, Any]:
    """Scores at the marked times and their mean over all steps."""
    picked = {f"{mark:g}s": steps[round(mark / STEP) - 1] for mark in MARKS if round(mark / STEP) <= len(steps)}
    return {**picked, "mean": average(steps)}


def summarise(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """protocol -> mark -> region -> method -> metric -> mean and spread over scenes and seeds; a unit has some of the methods."""
    table: dict[str, Any] = {}
    for protocol, mark in dict.fromkeys((name, mark) for unit in units for name, by_mark in unit.items() for mark in by_mark):
        found = [unit[protocol][mark] for unit in units if mark in unit.get(protocol, {})]
        if mark == "share_of_steps":
            names = sorted({name for share in found for name in share})
            shares = {name: float(np.mean([share.get(name, 0.0) for share in found])) for name in names}
            table.setdefault(protocol, {})[mark] = shares
            continue
        for region in REGIONS:
            for method in dict.fromkeys(method for by_method in found for method in by_method):
                rows = [by_method[method][region] for by_method in found if region in by_method.get(method, {})]
                if rows:
                    cell = {key: mean_and_spread([row[key] for row in rows]) for key in rows[0]}
                    table.setdefault(protocol, {}).setdefault(mark, {}).setdefault(region, {})[method] = cell
    return table
