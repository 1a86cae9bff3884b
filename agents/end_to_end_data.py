"""Drives that the end-to-end planner learns from: random scenarios, recorded instants, batches of what the network is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import DataError
from dist4d_env.learning.end_to_end_network import SIDEWAYS, NetworkConfig, as_answer, hint_grid, state_numbers
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.route_grid import COARSE, PAST, Lifter, Pictures, cell_centres
from dist4d_env.planners.contract import in_ego_frame
from dist4d_env.planners.lights_ahead import LightsAhead
from dist4d_env.planners.pdm_closed import emergency_brake
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.ego import EgoState, ego_state
from scenarios.families import FAMILIES
from scenarios.making import candidates, moving_starts

OFFSET, TURN, FACTOR = 0.5, 0.08, 0.35
"""Metres, radians and share of the recorded speed by which a disturbed start is off at most."""
LIGHT_NEAR = 40.0
"""Metres within which a red light counts as ahead."""
TRIES = 6
FRAMES = ("rgb", "depth", "pose", "time", "ego", "route", "plan", "hints", "light", "episode")


def random_scenarios(
    scene: Scene, count: int, horizon: float, random: np.random.Generator, disturbed: float = 0.5
) -> Iterator[Scenario]:
    """Scenarios of all families in turn, begun at a random one; a share of them with a start beside the recorded one. Families
    that a scene has no room for are passed over."""
    starts = moving_starts(scene, horizon, 2.0) or [0.0]
    families = random.permutation(list(FAMILIES))
    made = 0
    for turn in range(4 * count):
        family = str(families[turn % len(families)])
        for scenario, _ in candidates(family, scene, horizon, starts, random, TRIES):
            offset, yaw, factor, chance = random.uniform([-1, -1, -1, 0], 1.0)
            if chance < disturbed and family != "perturbed_start":
                speed = float(np.interp(scenario.start, scene.ego.time, scene.ego.speed)) * (1 + FACTOR * factor)
                scenario = replace(
                    scenario, ego_offset=OFFSET * float(offset), ego_yaw=TURN * float(yaw), ego_speed=max(float(speed), 0.0)
                )
            yield scenario
            made += 1
            break
        if made == count:
            return


class Recorder:
    """Instants of the episodes in one scene, as arrays."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._cameras = cameras
        self._rows: dict[str, list[Any]] = {name: [] for name in FRAMES}
        self._episode = -1

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        self._episode += 1
        self._lights = LightsAhead(driving.scene)

    def add(self, driving: DiST4DDrivingEnv, observation: dict[str, np.ndarray], plan: np.ndarray) -> None:
        """One instant and what the expert plans (8, 3)."""
        state, scene = driving.episode.state, driving.scene
        ego, route = state.ego, np.asarray(observation["route"], float)
        at = scene.route.project(ego.x, ego.y)[0]
        light = self._lights.free(state.lights, at + 3.9, ego.speed, 3.0, 8.0) < LIGHT_NEAR
        row = {
            "rgb": np.stack([observation[name] for name in self._cameras]),
            "depth": np.stack([observation[f"{name}/depth"][..., 0] for name in self._cameras]).astype(np.float16),
            "pose": (ego.x, ego.y, ego.yaw), "time": state.time, "ego": observation["ego"], "route": observation["route"],
            "plan": np.asarray(plan, np.float32), "hints": self._hints(scene, ego, observation["agents"], route), "light": light,
            "episode": self._episode,
        }  # fmt: skip
        for name, value in row.items():
            self._rows[name].append(value)

    def _hints(self, scene: Scene, ego: EgoState, agents: np.ndarray, route: np.ndarray) -> np.ndarray:
        """(4, 30, 12) float16: the truth about agents and road on the auxiliary grid."""
        frame = RouteFrame.of({"route": route[None]})
        rows = agents[agents[:, 8] > 0.5].astype(float)
        inside = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.5, 0.5, 3), indexing="ij"), -1).reshape(-1, 2)
        cos, sin = np.cos(rows[:, 2]), np.sin(rows[:, 2])
        ahead, aside = inside[:, 0] * rows[:, 3:4], inside[:, 1] * rows[:, 4:5]
        x = rows[:, :1] + cos[:, None] * ahead - sin[:, None] * aside
        y = rows[:, 1:2] + sin[:, None] * ahead + cos[:, None] * aside
        along, left, heading = (part[0] for part in frame.project(np.stack([x, y], -1).reshape(1, -1, 2)))
        velocity = np.repeat(rows[:, 5:7], len(inside), 0) / 10.0
        cos, sin = np.cos(heading), np.sin(heading)
        relative = np.stack([cos * velocity[:, 0] + sin * velocity[:, 1], cos * velocity[:, 1] - sin * velocity[:, 0]], -1)
        grid = hint_grid(np.stack([along, left], -1), relative)
        return np.concatenate([grid, self._road(scene, ego, frame)[None]]).astype(np.float16)

    def _road(self, scene: Scene, ego: EgoState, frame: RouteFrame) -> np.ndarray:
        """(30, 12) which cells of the auxiliary grid are drivable."""
        centres = cell_centres()
        place, heading = (part[0] for part in frame.at(np.maximum(centres[..., 0].reshape(1, -1), 0.0)))
        behind, left = np.minimum(centres[..., 0].ravel(), 0.0), centres[..., 1].ravel()
        cos, sin = np.cos(heading), np.sin(heading)
        here = place + behind[:, None] * np.stack([cos, sin], -1) + left[:, None] * np.stack([-sin, cos], -1)
        own = in_ego_frame(np.zeros((1, 3)), ego)[0]  # the global origin in the ego frame
        turn = np.array([[np.cos(own[2]), -np.sin(own[2])], [np.sin(own[2]), np.cos(own[2])]])
        there = (here - own[:2]) @ turn
        drivable = np.zeros(len(there), bool) if scene.map is None else scene.map.on_drivable(there)
        return drivable.reshape(centres.shape[:2])

    def write(self, path: Path) -> None:
        """All instants as one compressed file."""
        with path.open("wb") as file:
            np.savez_compressed(file, **{name: np.array(values) for name, values in self._rows.items()})


@dataclass(frozen=True)
class Samples:
    """What the network is given, and what it should answer, one row per instant."""

    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.arrays["state"])

    def batch(self, rows: np.ndarray, mirror: bool = False) -> dict[str, torch.Tensor]:
        """Some rows as tensors; mirror: of the world with left and right exchanged, which is as good to learn from."""
        picked = {name: array[rows] for name, array in self.arrays.items()}
        if mirror:
            picked = _mirrored(picked)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in picked.items()}
        return {name: value.float() if value.dtype == torch.float16 else value for name, value in tensors.items()}


def _mirrored(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of samples with left and right exchanged. Features fall into cells one by one: cameras need not change places."""
    cells, state, hints = rows["cells"], rows["state"].copy(), rows["hints"][..., ::-1].copy()
    state[:, SIDEWAYS] *= -1
    hints[:, 2] *= -1
    column = cells % COARSE[1]
    turned = np.where(cells < 0, -1, cells - column + COARSE[1] - 1 - column).astype(cells.dtype)
    changed = {
        "rgb": rows["rgb"][..., ::-1, :], "cells": turned[..., ::-1], "counts": rows["counts"][..., ::-1], "state": state,
        "hints": hints, "beside": -rows["beside"],
    }  # fmt: skip
    return {**rows, **changed}


def load_samples(paths: Sequence[Path], config: NetworkConfig) -> Samples:
    """All instants of stored drives, lifted. Raises DataError for a file that cannot be read."""
    parts = [_load(path, config) for path in paths]
    return Samples({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _load(path: Path, config: NetworkConfig) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            stored = {name: file[name] for name in FRAMES}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"drives {path} cannot be read ({error}): remove the file, the script drives the scene again") from error
    lifter = Lifter(config.calibration, config.size, config.depth)
    depth = stored["depth"].astype(np.float32)
    views = [
        Pictures(float(time), rgb, metres, ego_state(np.append(pose, np.zeros(4))))
        for time, rgb, metres, pose in zip(stored["time"], stored["rgb"], depth, stored["pose"], strict=True)
    ]
    lifted = []
    for row, route in enumerate(stored["route"].astype(float)):
        first = row - int((stored["episode"][:row] == stored["episode"][row]).sum())
        back = [row - round(ago / 0.5) for ago in PAST]
        lifted.append(lifter.lift([views[row], *(views[b] if b >= first else None for b in back)], route))
    ego, route, plan = (stored[name].astype(float) for name in ("ego", "route", "plan"))
    speed, beside = as_answer(plan, ego[:, 0], route)
    brakes = np.stack([emergency_brake(now) for now in ego[:, 0]])
    braking = np.abs(plan - brakes).max((1, 2)) < 1e-3
    counts, cells, seen = (np.stack([getattr(one, name) for one in lifted]) for name in ("counts", "cells", "seen"))
    speed = np.maximum(speed, -ego[:, :1])  # an emergency is a stop: the tracker is asked for more, the car does not reverse
    targets = {"speed": speed, "beside": beside, "brake": braking, "light": stored["light"]}
    return {
        "rgb": stored["rgb"],
        "cells": cells,
        "counts": counts,
        "state": state_numbers(ego, route, seen),
        "hints": stored["hints"],
        **{name: np.asarray(values, np.float32) for name, values in targets.items()},
    }
