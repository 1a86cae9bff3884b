"""Disturbed starts: training episodes begin off the recorded drive, so that recovering is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.data.nuscenes import Dataset
from dist4d_env.scenes.scenario import Scenario

SHORTEST = 3.0
"""Seconds of log that are left at least."""


@dataclass(frozen=True)
class Disturbance:
    """How far a start is from the log at most: speed as a share of the logged one either way, m/s besides, metres sideways,
    radians. share: of the starts that are disturbed; the others are the log's."""

    share: float = 0.5
    factor: float = 0.4
    speed: float = 2.0
    sideways: float = 0.5
    turn: float = 0.05


class DisturbedStarts:
    """Draws one start after the other, from a generator of its own: ``starts()`` are options for the environment's ``reset``.

    Starts lie anywhere on a scene's 2 Hz keyframes with 3 s of log ahead; near the log's end episodes are shorter.
    """

    def __init__(self, dataset: Dataset, scenes: tuple[str, ...], seed: int, disturbance: Disturbance = Disturbance()) -> None:
        self._random = np.random.default_rng(seed)
        self._disturbance = disturbance
        loaded = [dataset.load(name) for name in scenes]
        self._scenes = [(scene.name, scene.sensors.keyframe_time, scene.duration, scene.ego.speed) for scene in loaded]

    def __call__(self) -> dict[str, Any]:
        random, most = self._random, self._disturbance
        name, keyframes, duration, speeds = self._scenes[int(random.integers(len(self._scenes)))]
        fitting = keyframes[keyframes <= max(duration - SHORTEST, 0.0)]
        start = round(float(random.choice(fitting)), 1)
        # Always as many numbers, so that one start does not move the next.
        chance, factor, speed, sideways, turn = random.uniform([0, -1, -1, -1, -1], 1.0)
        if chance >= most.share:
            return {"scenario": Scenario(name, start)}
        logged = float(max(speeds[min(round(start * 10), len(speeds) - 1)], 0.0))
        wanted = max(logged * (1 + most.factor * factor) + most.speed * speed, 0.0)
        return {
            "scenario": Scenario(name, start, ego_offset=most.sideways * sideways, ego_yaw=most.turn * turn, ego_speed=wanted)
        }
