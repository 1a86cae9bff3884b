"""Drives that the end-to-end planner learns from: random scenarios, recorded instants, batches of what the network is given."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import DataError
from dist4d_env.geometry.threads import in_threads
from dist4d_env.learning.end_to_end_network import SIDEWAYS, NetworkConfig, as_answer, hint_grid, state_numbers
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.route_grid import CELLS, CHANNELS, COARSE, PAST, Lifter, Pictures, cell_centres
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
DISPLACED, SPACING = 0.5, 8
"""Augmented pictures are displaced by smooth noise: its standard deviation at nodes, and how far these are apart, in pixels."""
UNSURE, BRIGHT, BLUR = 0.01, 0.1, 0.6
"""Shares by which their depth (standard deviation at the nodes) and brightness (at most) are off, and pixels of blur at most."""
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
    """N recorded instants: what a network should answer, and the pictures from which it is to know it.

    stored: FRAMES by name, (N, ...); views: (N, 1 + len(PAST)) numbers of the instants of the present view and those ``PAST``
    seconds before, -1 where there was none; targets: (N, ...) by name; parts: the rows of each file, to which its views belong.
    """

    config: NetworkConfig
    stored: Mapping[str, np.ndarray]
    views: np.ndarray
    targets: Mapping[str, np.ndarray]
    parts: tuple[range, ...]

    def __len__(self) -> int:
        return len(self.views)

    def lifted(self, random: np.random.Generator, strength: float = 1.0) -> Examples:
        """What the network is given of every instant, of pictures ``augmented`` that strongly. The number of threads changes
        nothing."""
        return self._lifted(random.integers(2**63, size=len(self)), strength) if strength else self.plain

    @cached_property
    def plain(self) -> Examples:
        """What the network is given of every instant, of the pictures as they are."""
        return self._lifted(None)

    def _lifted(self, seeds: np.ndarray | None, strength: float = 1.0) -> Examples:
        stored, lifter = self.stored, Lifter(self.config.calibration, self.config.size, self.config.depth)
        route = stored["route"].astype(float)

        def picture(row: int) -> Pictures:
            rgb, depth = stored["rgb"][row], stored["depth"][row].astype(np.float32)
            if seeds is not None:
                rgb, depth = augmented(rgb, depth, np.random.default_rng(seeds[row]), strength)
            return Pictures(float(stored["time"][row]), rgb, depth, ego_state(np.append(stored["pose"][row], np.zeros(4))))

        views, (height, width) = len(self.config.cameras), self.config.size
        counts = np.empty((len(self), CHANNELS, *CELLS), np.uint8)
        cells = np.empty((len(self), views, height // 2, width // 2), np.int16)
        seen = np.empty((len(self), len(PAST)), bool)
        rgb = stored["rgb"] if seeds is None else np.empty_like(stored["rgb"])

        def lift_part(part: range) -> None:
            pictures = in_threads(lambda index: picture(part[index]), len(part))

            def lift(index: int) -> None:
                row = part[index]
                shown = [pictures[view - part.start] if view >= 0 else None for view in self.views[row]]
                lifted = lifter.lift(shown, route[row])
                counts[row], cells[row], seen[row] = lifted.counts, lifted.cells, lifted.seen
                if seeds is not None:
                    rgb[row] = pictures[index].rgb

            in_threads(lift, len(part))

        for part in self.parts:  # the pictures of all files at once would take more memory than all that is made of them
            lift_part(part)
        state = state_numbers(stored["ego"].astype(float), route, seen)
        return Examples({"rgb": rgb, "cells": cells, "counts": counts, "state": state, **self.targets})


def augmented(
    rgb: np.ndarray, depth: np.ndarray, random: np.random.Generator, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (V, H, W, 3) uint8 and depth (V, H, W) float32 as another renderer may show the same: outlines a pixel or so
    elsewhere.

    Pixel centres lie up to half a pixel aside and smooth noise displaces them further, depth is off by a smooth noise, and
    brightness and sharpness differ; all of it times strength.
    """
    views, height, width = depth.shape
    nodes = (max(2, height // SPACING), max(2, width // SPACING))
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    colours, metres = np.empty_like(rgb), np.empty_like(depth)
    for view in range(views):
        noise = random.standard_normal((*nodes, 3)).astype(np.float32)
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        aside = random.uniform(-0.5, 0.5, 2).astype(np.float32)
        place = pixels + strength * (aside + DISPLACED * noise[..., :2])
        seen = cv2.remap(rgb[view], place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        far = cv2.remap(depth[view], place[..., 0], place[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        if (blur := strength * random.uniform(0.0, BLUR)) > 0.1:
            seen = cv2.GaussianBlur(seen, (0, 0), blur)
        bright = 1 + strength * random.uniform(-BRIGHT, BRIGHT)
        colours[view] = np.clip(np.rint(bright * seen.astype(np.float32)), 0, 255)
        metres[view] = far * (1 + strength * UNSURE * noise[..., 2])
    return colours, metres


@dataclass(frozen=True)
class Examples:
    """What the network is given, and what it should answer, one row per instant."""

    arrays: Mapping[str, np.ndarray]

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
    """All instants of stored drives. Raises DataError for a file that cannot be read."""
    parts = [_load(path) for path in paths]
    firsts = np.cumsum([0, *(len(part["time"]) for part in parts)])
    views = np.concatenate(
        [np.where(own >= 0, own + first, -1) for own, first in zip(map(_views, parts), firsts[:-1], strict=True)]
    )
    stored = {name: np.concatenate([part[name] for part in parts]) for name in FRAMES}
    ego, route, plan = (stored[name].astype(float) for name in ("ego", "route", "plan"))
    speed, beside = as_answer(plan, ego[:, 0], route)
    brakes = np.stack([emergency_brake(now) for now in ego[:, 0]])
    braking = np.abs(plan - brakes).max((1, 2)) < 1e-3
    speed = np.maximum(speed, -ego[:, :1])  # an emergency is a stop: the tracker is asked for more, the car does not reverse
    targets = {"speed": speed, "beside": beside, "brake": braking, "light": stored["light"]}
    numbers = {name: np.asarray(values, np.float32) for name, values in targets.items()}
    rows = tuple(range(first, last) for first, last in pairwise(firsts.tolist()))
    return Samples(config, stored, views, {"hints": stored["hints"], **numbers}, rows)


def _views(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, 3) of a file's instants the numbers of themselves and of the instants ``PAST`` seconds before, -1 for none."""
    rows = np.arange(len(stored["episode"]))
    first = np.searchsorted(stored["episode"], stored["episode"])
    back = rows[:, None] - np.array([0, *(round(ago / 0.5) for ago in PAST)])
    return np.where(back >= first[:, None], back, -1)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in FRAMES}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"drives {path} cannot be read ({error}): remove the file, the script drives the scene again") from error
