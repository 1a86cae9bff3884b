"""Worlds run along given ego paths on town scenes, beside the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.models.depth_code import decode_depth
from dist4d_env.models.inputs import rgbd_tensor
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.models.video_codec import Codec, load_codec
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import World, WorldInfo, WorldStart
from dist4d_env.worlds.dist4d import unseen
from dist4d_env.worlds.memory import Memory

Drive = Callable[[float], np.ndarray]
"""Time in seconds to global_from_ego (4, 4)."""


def logged(scene: Scene) -> Drive:
    """The recorded drive."""
    return scene.ego_pose


def swerving(scene: Scene, amplitude: float, period: float, start: float) -> Drive:
    """The recorded drive with a lateral offset (metres) that is a sine of time (seconds) from ``start`` on, heading along it."""

    def at(time: float) -> np.ndarray:
        base = scene.ego_pose(time)
        here, there = (scene.ego_pose(min(time + d, scene.duration))[:3, 3] for d in (0.0, 0.1))
        speed = float(np.linalg.norm(there - here)) / 0.1
        phase = 2 * np.pi * (time - start) / period
        slope = amplitude * 2 * np.pi / period * np.cos(phase) / max(speed, 2.0)
        return base @ pose_from_xy_yaw(0.0, amplitude * np.sin(phase), float(np.arctan(slope)))

    return at


def holding(scene: Scene, path: Drive, time: float) -> Drive:
    """Anticipated path of a driver at ``time``: keeps the present offset from the recorded drive."""
    offset = np.linalg.inv(scene.ego_pose(time)) @ path(time)
    return lambda later: scene.ego_pose(later) @ offset


@dataclass(frozen=True)
class Rollout:
    """times: seconds; scenes: the truth given to the world at each; frames and infos: what it answered."""

    times: tuple[float, ...]
    scenes: tuple[SceneAt, ...]
    frames: tuple[RGBDFrame, ...]
    infos: tuple[WorldInfo, ...]


@dataclass(frozen=True)
class GrowingState:
    """An episode's start, its rig inside, and what it remembers so far."""

    start: WorldStart
    memory: Memory


class GrowingSplat:
    """The best splat fed by its own fills: filled pixels enter the memory as a model's would."""

    def reset(self, starts: Sequence[WorldStart]) -> list[GrowingState]:
        """Raises ``DataError`` where a scene has no usable keyframe."""
        return [GrowingState(start, Memory.from_log(start.scene, start.rig, start.start_time, "history")) for start in starts]

    def step(self, states: Sequence[GrowingState], scenes: Sequence[SceneAt]) -> list[tuple[GrowingState, RGBDFrame, WorldInfo]]:
        """One frame per state, and the state that remembers it."""
        return [self._step(state, now) for state, now in zip(states, scenes, strict=True)]

    def _step(self, state: GrowingState, now: SceneAt) -> tuple[GrowingState, RGBDFrame, WorldInfo]:
        rig = state.start.rig
        poses = now.global_from_ego @ rig.ego_from_camera
        splat = state.memory.render(rig, poses, now.boxes, now.time, 3)
        rgb, depth = splat.filled()
        frame = RGBDFrame(rgb, depth, rig.intrinsics, poses, np.full(len(rig.names), now.time))
        grown = state.memory.with_generated(frame, now.boxes, unseen(splat))
        return replace(state, memory=grown), frame, WorldInfo(("splat",) * len(rig.names), 0.0, 1.0)


def scene_at(scene: Scene, time: float, path: Drive, expected: Drive, dt: float, ahead: int) -> SceneAt:
    """The truth at a time on a path, with ``ahead`` anticipated decisions on the expected path, traffic as recorded."""
    later = [time + dt * (k + 1) for k in range(ahead)]
    later = [t for t in later if t <= scene.duration]
    return SceneAt(
        time=time,
        global_from_ego=path(time),
        boxes=scene.boxes(time),
        anticipated_time=np.array(later),
        anticipated_pose=np.stack([expected(t) for t in later]) if later else np.zeros((0, 4, 4)),
        anticipated_boxes=tuple(scene.boxes(t) for t in later),
    )


def roll_out(
    world: World,
    scene: Scene,
    rig: CameraRig,
    start: float,
    seed: int,
    times: Sequence[float],
    path: Drive,
    plan_ahead: bool,
    dt: float,
) -> Rollout:
    """Show the start, then every time. plan_ahead: the plan is the path itself; else it holds the ego's offset."""
    (state,) = world.reset([WorldStart(scene, rig, start, seed)])
    truths, frames, infos = [], [], []
    for time in (start, *times):
        expected = path if plan_ahead else holding(scene, path, time)
        truth = scene_at(scene, time, path, expected, dt, ahead=4)
        ((state, frame, info),) = world.step([state], [truth])
        assert frame is not None
        truths.append(truth)
        frames.append(frame)
        infos.append(info)
    return Rollout(tuple(times), tuple(truths[1:]), tuple(frames[1:]), tuple(infos[1:]))


def real_frames(scene: Scene, height: int, width: int) -> list[tuple[float, RGBDFrame]]:
    """The scene's logged RGB-D frames with their times (seconds)."""
    sensors = scene.sensors
    known = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k) and sensors.has_depth(k)]
    return [(float(sensors.keyframe_time[k]), sensors.rgbd(k, height, width)) for k in known]


def codec_of(weights: str) -> Codec | None:
    """The codec of a preset or a folder of weights; none for "splat"."""
    return None if weights == "splat" else load_codec(resolve_weights(weights) / "codec")


def through_codec(codec: Codec, frame: RGBDFrame) -> RGBDFrame:
    """A frame, encoded and decoded."""
    code = codec.config.depth_code
    with torch.no_grad():
        decoded = codec.decode_rgbd(codec.encode_rgbd(rgbd_tensor(frame.rgb, frame.depth, code)))
    rgb = ((decoded[:, :3].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    return replace(frame, rgb=rgb, depth=decode_depth(decoded[:, 3], code).numpy())
