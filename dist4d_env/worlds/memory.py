"""The memory of a world: recorded RGB-D frames, each with the boxes of its time, rendered together as one splat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.depth import SplatConfig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.appearance_bank import AppearanceBank
from dist4d_env.worlds.frame_cache import load_source

MemoryPolicy = Literal["log", "history"]
MEMORY_POLICIES: tuple[MemoryPolicy, ...] = ("log", "history")
AGENTS_STAY: Mapping[MemoryPolicy, float] = {"log": math.inf, "history": 1.0}
"""Seconds from when an agent was seen within which the networks leave its colours as they were seen. With "history" agents turn
sides to the cameras that nobody has seen, and what is remembered of them falls apart into points."""
SECONDS_PER_METRE = 0.5
"""How much older a frame may be to make up for a metre of distance when frames are chosen."""
GENERATED_KEPT, GENERATED_SHOWN = 16, 4
"""Generated frames kept in a memory, the latest, and of those the ones nearest to the camera that take part in a splat."""


class MemoryFrame(Protocol):
    """One remembered frame. time: seconds; position: (3,) mean camera position; source: the frame prepared for splatting."""

    @property
    def time(self) -> float: ...
    @property
    def position(self) -> np.ndarray: ...
    @property
    def generated(self) -> bool: ...
    def source(self) -> SplatSource: ...


@dataclass(frozen=True)
class LoggedFrame:
    """A keyframe of a scene's log, read when it is first needed and then kept in a cache shared by all memories."""

    scene: Scene
    keyframe: int
    time: float
    position: np.ndarray
    height: int
    width: int
    generated: bool = False

    def source(self) -> SplatSource:
        return load_source(self.scene, self.keyframe, self.height, self.width)


@dataclass(frozen=True)
class HeldFrame:
    """A frame held by value; of a generated one only the pixels its ``keep`` mask names are ever splatted."""

    prepared: SplatSource
    time: float
    position: np.ndarray
    generated: bool = False

    def source(self) -> SplatSource:
        return self.prepared


@dataclass(frozen=True)
class Memory:
    """Frames in order of time, and the appearance of agents that no frame shows. Immutable: growing a memory makes a new one that
    shares the frames."""

    frames: tuple[MemoryFrame, ...]
    config: SplatConfig = field(default_factory=SplatConfig)
    appearance: AppearanceBank | None = None

    @classmethod
    def from_log(cls, scene: Scene, rig: CameraRig, start_time: float, policy: MemoryPolicy = "log") -> Memory:
        """Remember a scene's keyframes at the size of ``rig``.

        policy "log": all that have images and depth; "history": only those not later than ``start_time`` (seconds), which
        must contain at least one. Nothing is read yet, unless the scenario has inserted agents: they take the appearance of
        recorded ones. Raises ``DataError`` where no keyframe can be used.
        """
        if policy not in ("log", "history"):
            raise ConfigError(f'memory must be "log" or "history", not {policy!r}')
        sensors = scene.sensors
        frames = []
        for keyframe, time in enumerate(np.asarray(sensors.keyframe_time, float)):
            if policy == "history" and time > start_time + 1e-6:
                break
            if sensors.has_images(keyframe) and sensors.has_depth(keyframe):
                poses, _ = sensors.cameras(keyframe)
                frames.append(LoggedFrame(scene, keyframe, float(time), poses[:, :3, 3].mean(0), rig.height, rig.width))
        if not frames:
            raise DataError(_nothing_to_remember(scene, start_time, policy))
        if len(scene.tracks) == len(scene.recorded.tracks):
            return cls(tuple(frames))
        return cls(
            tuple(frames), appearance=AppearanceBank.of(scene, start_time, [(f.time, f.position, f.source) for f in frames])
        )

    @classmethod
    def from_frames(cls, frames: Sequence[RGBDFrame], boxes: Sequence[Boxes]) -> Memory:
        """Remember given frames with the boxes at their times."""
        kept = []
        for frame, now in zip(frames, boxes, strict=True):
            source = SplatSource.from_frame(frame, now)
            kept.append(HeldFrame(source, float(np.mean(frame.time)), frame.global_from_camera[:, :3, 3].mean(0)))
        return cls(tuple(sorted(kept, key=lambda f: f.time)))

    def select(
        self, global_from_camera: np.ndarray, time: float, count: int = 3, generated: bool = False
    ) -> tuple[MemoryFrame, ...]:
        """The ``count`` most useful real (or generated) frames for cameras at poses (V, 4, 4) and a time, most useful first.

        Near in space and time is useful.
        """
        frames = [f for f in self.frames if f.generated == generated]
        position = global_from_camera[:, :3, 3].mean(0)
        cost = [np.linalg.norm(f.position - position) + abs(f.time - time) / SECONDS_PER_METRE for f in frames]
        order = np.argsort(np.round(cost, 6), kind="stable")
        return tuple(frames[i] for i in order[:count])

    def render(
        self,
        rig: CameraRig,
        global_from_camera: np.ndarray,
        boxes: Boxes,
        time: float,
        count: int = 3,
    ) -> Splat:
        """The bullet-time splat of this memory at camera poses (V, 4, 4), agents standing where ``boxes`` (global) say.

        count: how many real frames take part (beside them up to GENERATED_SHOWN generated ones). The car's own body, where frames
        know of it, is no part of what is splatted and stands on top as the last real frame shows it.
        """
        real = self.select(global_from_camera, time, count)
        generated = self.select(global_from_camera, time, GENERATED_SHOWN, generated=True)
        sources = [frame.source() for frame in real + generated]
        if self.appearance is not None:
            sources += self.appearance.sources(global_from_camera, boxes)
        shown = splat(sources, rig.intrinsics, global_from_camera, (rig.height, rig.width), boxes, time, self.config)
        if all(source.frame.body is None for source in sources):
            return shown
        return shown.with_body(self._last_real(time).source().frame)

    def _last_real(self, time: float) -> MemoryFrame:
        """The latest real frame up to a time, or the first where none is that early."""
        real = [f for f in self.frames if not f.generated]
        return next((f for f in reversed(real) if f.time < time + 1e-3), real[0])

    def distance(self, global_from_camera: np.ndarray) -> float:
        """Metres from cameras at poses (V, 4, 4) to the nearest real frame."""
        position = global_from_camera[:, :3, 3].mean(0)
        return min(float(np.linalg.norm(f.position - position)) for f in self.frames if not f.generated)

    def with_generated(self, frame: RGBDFrame, boxes: Boxes, mask: np.ndarray) -> Memory:
        """This memory and the pixels of a generated frame that nothing real has shown.

        mask: (V, H, W) bool, where nothing remembered reached; pixels near a depth edge stay out, as mixtures of two depths win
        every depth test and grow. boxes: at the frame's time. Only the latest GENERATED_KEPT generated frames are kept.
        """
        if not mask.any():
            return self
        source = SplatSource.from_frame(frame, boxes, keep=mask)
        source = replace(source, keep=source.keep & ~source.edge, generated=True)
        if not source.keep.any():
            return self
        new = HeldFrame(source, float(np.mean(frame.time)), frame.global_from_camera[:, :3, 3].mean(0), generated=True)
        generated = [*(f for f in self.frames if f.generated), new][-GENERATED_KEPT:]
        return replace(self, frames=(*(f for f in self.frames if not f.generated), *generated))


def _nothing_to_remember(scene: Scene, start_time: float, policy: str) -> str:
    if policy == "history" and start_time < float(scene.sensors.keyframe_time[0]) - 1e-6:
        return f"scene {scene.name} has no keyframe at or before {start_time:g} s; start later or use memory='log'"
    return (
        f"scene {scene.name} has no keyframe with images and metric depth{' up to the start' if policy == 'history' else ''}; "
        f"make depth with: python -m dist4d_env prepare --dataroot {scene.dataroot} --scenes {scene.name}"
    )
