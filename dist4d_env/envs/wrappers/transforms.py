"""Transformations of observations, pure functions that the wrappers apply; leading batch axes go through untouched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space

from dist4d_env.envs.sensors.bev import BEV_CELLS
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.neighbours import reading_order
from dist4d_env.geometry.rgbd import FAR

LAYOUTS, DEPTHS = ("mosaic", "channels", "dict"), ("none", "log8")
VECTORS = ("ego", "route", "agents")
Observation = Mapping[str, np.ndarray]


def log8(depth: np.ndarray) -> np.ndarray:
    """Depth in metres, 0 to 100, as uint8 on a logarithmic scale: 255 ln(1 + d) / ln 101, steps of 1.8 % of 1 + d."""
    return np.round(np.log1p(depth) * (255 / math.log1p(FAR))).astype(np.uint8)


def metres(code: np.ndarray) -> np.ndarray:
    """``log8`` taken back, float32 metres."""
    return np.expm1(code.astype(np.float32) * np.float32(math.log1p(FAR) / 255))


@dataclass(frozen=True)
class CameraStack:
    """See ``StackCameras``. rig: of the environment."""

    rig: CameraRig
    layout: str = "mosaic"
    depth: str = "none"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout={self.layout!r} is unknown: choose {', '.join(map(repr, LAYOUTS))}")
        if self.depth not in DEPTHS:
            raise ConfigError(f"depth={self.depth!r} is unknown: choose {', '.join(map(repr, DEPTHS))}")

    def space(self, space: spaces.Space) -> spaces.Dict:
        """The space after it. Raises ConfigError where the environment does not show what is to be stacked."""
        given = _keys(space)
        first = self.rig.names[0]
        _need(given, first, "StackCameras", "cameras")
        if self.depth != "none":
            _need(given, f"{first}/depth", f"StackCameras(depth={self.depth!r})", "depth")
        height, width = given[first].shape[:2]  # type: ignore[index]
        made: dict[str, spaces.Space] = {}
        for name, channels in (("cameras", 3), ("depth", 1)):
            if name == "depth" and self.depth == "none":
                continue
            if self.layout == "dict":
                suffix = "" if name == "cameras" else "/depth"
                made |= {camera + suffix: spaces.Box(0, 255, (height, width, channels), np.uint8) for camera in self.rig.names}
            elif self.layout == "mosaic":
                rows = self._rows()
                made[name] = spaces.Box(0, 255, (len(rows) * height, max(map(len, rows)) * width, channels), np.uint8)
            else:
                made[name] = spaces.Box(0, 255, (len(self.rig.names) * channels, height, width), np.uint8)
        return spaces.Dict({**made, **self._others(given)})

    def __call__(self, observation: Observation) -> dict[str, np.ndarray]:
        made: dict[str, np.ndarray] = {}
        for name in ("cameras", "depth"):
            if name == "depth" and self.depth == "none":
                continue
            suffix = "" if name == "cameras" else "/depth"
            shown = {camera: observation[camera + suffix] for camera in self.rig.names}
            images = shown if name == "cameras" else {camera: log8(depth) for camera, depth in shown.items()}
            if self.layout == "dict":
                made |= {camera + suffix: image for camera, image in images.items()}
            elif self.layout == "mosaic":
                made[name] = self._mosaic(images)
            else:
                made[name] = np.concatenate([np.moveaxis(image, -1, -3) for image in images.values()], -3)
        return {**made, **self._others(observation)}

    def _rows(self) -> list[list[str]]:
        return [[self.rig.names[view] for view in row] for row in reading_order(self.rig.ego_from_camera)]

    def _mosaic(self, images: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = [np.concatenate([images[camera] for camera in row], -2) for row in self._rows()]
        width = max(row.shape[-2] for row in rows)
        none = [(0, 0)] * (rows[0].ndim - 2)
        return np.concatenate([np.pad(row, [*none, (0, width - row.shape[-2]), (0, 0)]) for row in rows], -3)

    def _others(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The entries that are neither camera images nor depth."""
        return {name: value for name, value in given.items() if name.removesuffix("/depth") not in self.rig.names}


@dataclass(frozen=True)
class BirdsEye:
    """See ``BirdsEyeView``."""

    cells: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.cells, int) or self.cells < 20 or BEV_CELLS % self.cells:
            raise ConfigError(f"cells={self.cells!r} must divide {BEV_CELLS} and be 20 or more: 200, 100, 50, 40, 25 or 20")

    def space(self, space: spaces.Space) -> spaces.Box:
        given = _keys(space)
        _need(given, "bev", "BirdsEyeView", "bev")
        return spaces.Box(0, 255, (given["bev"].shape[0], self.cells, self.cells), np.uint8)  # type: ignore[index]

    def __call__(self, observation: Observation) -> np.ndarray:
        raster, each = observation["bev"], BEV_CELLS // self.cells
        blocks = raster.reshape(*raster.shape[:-2], self.cells, each, self.cells, each)
        return blocks.max((-3, -1))  # the largest, so that thin lines and small agents stay


@dataclass(frozen=True)
class Vectors:
    """See ``VectorOnly``."""

    agents: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.agents, bool) or not isinstance(self.agents, int) or not 1 <= self.agents <= 64:
            raise ConfigError(f"agents={self.agents!r} must be a whole number from 1 to 64")

    def space(self, space: spaces.Space) -> spaces.Box:
        given = _keys(space)
        boxes = {name: given[name] for name in VECTORS if name in given}
        if not boxes:
            raise ConfigError(f"VectorOnly needs one of {', '.join(VECTORS)}: add it to the environment's observation=(...)")
        low = self({name: box.low for name, box in boxes.items()})  # type: ignore[attr-defined]
        high = self({name: box.high for name, box in boxes.items()})  # type: ignore[attr-defined]
        return spaces.Box(low, high, dtype=np.float32)

    def __call__(self, observation: Observation) -> np.ndarray:
        parts = []
        for name in VECTORS:
            if name in observation:
                part = observation[name][..., : self.agents, :] if name == "agents" else observation[name]
                inner = 1 if name == "ego" else 2
                parts.append(part.reshape(*part.shape[: part.ndim - inner], -1))
        return np.concatenate(parts, -1)


@dataclass(frozen=True)
class Flat:
    """See ``FlatVectors``."""

    def space(self, space: spaces.Space) -> spaces.Dict:
        given = _keys(space)
        matrices = [name for name in ("route", "agents") if name in given]
        return spaces.Dict({**given, **{name: flatten_space(given[name]) for name in matrices}})

    def __call__(self, observation: Observation) -> dict[str, np.ndarray]:
        matrices = {name: observation[name] for name in ("route", "agents") if name in observation}
        return {**observation, **{name: value.reshape(*value.shape[:-2], -1) for name, value in matrices.items()}}


def _keys(space: spaces.Space) -> dict[str, spaces.Space]:
    if not isinstance(space, spaces.Dict):
        raise ConfigError(f"this wrapper takes the environment's own Dict observations, not {type(space).__name__}: put it first")
    return dict(space.spaces)


def _need(given: Mapping[str, Any], key: str, wrapper: str, group: str) -> None:
    if key not in given:
        raise ConfigError(f"{wrapper} needs {group!r}: add it to the environment's observation=(...)")
