"""Chunks: frames that DiST-T has generated along the anticipated path with their conditions, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.splat import Splat
from dist4d_env.models.conditions import TargetConditions
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.logged import pose_difference, same_boxes

LONGEST = 17
"""Frames of the longest chunk, as in the paper."""


@dataclass(frozen=True)
class PolicyConfig:
    """When to show which model, and how much to spend.

    chunk: frames DiST-T makes at once (the present one and anticipated ones) where decisions are half a second apart, see
    ``frames``; on_path and on_path_angle: metres and radians off the chunk's path within which its frame is shown as it is;
    radius: metres within which DiST-S renders from it; box: metres (and angle radians) by which agents may have left where the
    chunk put them; count: real frames in a splat; steps_t, steps_s: evaluations of each network; grow: which pixels of a
    generated frame enter the memory: those that nothing remembered reached ("holes"), "all" of them, or none ("never"); check:
    how many remembered frames are hidden when a scene is first begun, to see whether the networks help there (``hidden.judged``).
    """

    chunk: int = 4
    on_path: float = 0.05
    on_path_angle: float = float(np.radians(0.3))
    radius: float = 2.0
    box: float = 0.5
    box_angle: float = 0.2
    count: int = 3
    steps_t: int = 1
    steps_s: int = 1
    grow: Literal["holes", "all", "never"] = "holes"
    check: int = 2

    def __post_init__(self) -> None:
        if self.grow not in ("holes", "all", "never"):
            raise ConfigError(f'grow must be "holes", "all" or "never", not {self.grow!r}')
        if min(self.chunk, self.count, self.steps_t, self.steps_s) < 1 or not 0 <= self.on_path <= self.radius or self.check < 0:
            raise ConfigError(f"chunk, count and steps must be at least 1, check 0 and 0 <= on_path <= radius, not {self}")

    def frames(self, interval: float) -> int:
        """Frames of a chunk with ``interval`` seconds between them: as many as reach as far ahead as ``chunk`` frames half a
        second apart (DiST-T is trained on those), but at least two and at most LONGEST; one where ``chunk`` is one."""
        return int(np.clip(1 + (self.chunk - 1) * 0.5 / interval + 1e-6, min(self.chunk, 2), LONGEST))


@dataclass(frozen=True)
class Chunk:
    """K generated frames. time: (K,); global_from_ego: (K, 4, 4); splats: of the memory at these instants; targets: DiST-T's
    conditions; latents: (1, V, K', C, h, w), its output, of which a frame is decoded when it is needed, for many never are."""

    time: np.ndarray
    global_from_ego: np.ndarray
    boxes: tuple[Boxes, ...]
    splats: tuple[Splat, ...]
    targets: tuple[TargetConditions, ...]
    latents: torch.Tensor

    def at(self, now: SceneAt, policy: PolicyConfig) -> int | None:
        """The frame made for this instant, if its traffic came true and the ego is within the trusted radius of its path."""
        match = np.flatnonzero(np.abs(self.time - now.time) < 1e-3)
        if not len(match):
            return None
        k = int(match[0])
        if not same_boxes(now.boxes, self.boxes[k], now.global_from_ego[:3, 3], policy.box, policy.box_angle):
            return None
        metres, _ = pose_difference(self.global_from_ego[k], now.global_from_ego)
        return k if metres <= policy.radius else None

    def on_path(self, k: int, now: SceneAt, policy: PolicyConfig) -> bool:
        """Whether the ego is where frame k was made for."""
        metres, radians = pose_difference(self.global_from_ego[k], now.global_from_ego)
        return metres <= policy.on_path and radians <= policy.on_path_angle
