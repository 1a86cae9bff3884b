"""The log seen from the ego's true pose: reprojection without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldInfo, WorldStart
from dist4d_env.worlds.logged import distance_to_path, logged_frame
from dist4d_env.worlds.memory import Memory, MemoryPolicy
from dist4d_env.worlds.stopwatch import Stopwatch
from dist4d_env.worlds.trust import trust


@dataclass(frozen=True)
class ReplayState:
    """An episode's start and what it remembers of the log; neither changes while it runs."""

    start: WorldStart
    memory: Memory


class ReplayWorld:
    """Shows the best splat of the logged frames, holes filled; the logged frame itself where nothing differs from the log.

    memory: "log" or "history" (see ``Memory.from_log``); count: frames that take part in a splat.
    """

    needs_images, recalls = True, False
    source = "replay"
    """The name that ``WorldInfo.source`` has for reprojected frames."""

    def __init__(self, memory: MemoryPolicy = "log", count: int = 3) -> None:
        self.memory, self.count = memory, count

    def reset(self, starts: Sequence[WorldStart]) -> list[ReplayState]:
        """Raises ``DataError`` where a scene has no usable keyframe."""
        return [ReplayState(start, Memory.from_log(start.scene, start.rig, start.start_time, self.memory)) for start in starts]

    def step(self, states: Sequence[ReplayState], scenes: Sequence[SceneAt]) -> list[tuple[ReplayState, RGBDFrame, WorldInfo]]:
        """One frame per state; states never change."""
        return [(state, *self._show(state, now)) for state, now in zip(states, scenes, strict=True)]

    def _show(self, state: ReplayState, now: SceneAt) -> tuple[RGBDFrame, WorldInfo]:
        watch = Stopwatch()
        rig, memory = state.start.rig, state.memory
        logged = logged_frame(state.start, memory, now)
        if logged is not None:
            return logged, WorldInfo(("log",) * len(rig.names), 0.0, 1.0, {"log": watch.total()})
        poses = now.global_from_ego @ rig.ego_from_camera
        splat = memory.render(rig, poses, now.boxes, now.time, self.count)
        rgb, depth = splat.filled()
        frame = RGBDFrame(rgb, depth, rig.intrinsics, poses, np.full(len(rig.names), now.time), splat.body)
        spent = {"splat": watch.total()}
        deviation = distance_to_path(state.start.scene.ego.global_from_ego[:, :2, 3], now.global_from_ego[:2, 3])
        believed = trust(frame, splat, (~splat.valid).astype(np.float32), deviation, memory.distance(poses))
        return frame, WorldInfo((self.source,) * len(rig.names), deviation, believed, spent)


class SplatWorld(ReplayWorld):
    """The generated world without its models: the baseline that every model must beat. Frames are those of ``ReplayWorld``."""

    source = "splat"
