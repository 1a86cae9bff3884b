"""Remembered frames hidden and drawn from the others: do the networks help in this scene, and how much of them?

Where the networks are farther from a scene's own frames than the splat is, as they may be on a camera that is unlike what they
were trained on, only a part of what they change in the splat's colours is kept, for each kind of pixel the one of least squared
error. The frames that decide are remembered ones, of which a world knows anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.models.composition import REGIONS, Gains, regions
from dist4d_env.models.conditions import splat_images, target_conditions
from dist4d_env.models.inputs import channels_first
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, noise_of
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.memory import LoggedFrame, Memory, MemoryFrame, MemoryPolicy

LEAST_SPEED = 0.5
"""m/s since the frame before from which the ego moves."""
APART = 0.25
"""Seconds at least between a hidden frame and those that it is drawn from."""
NEARER = {"log": 0.5, "history": 1.0}
"""How far an episode's frames lie from remembered ones, in units of how far hidden ones do. The splat errs in proportion to that,
what networks change for the worse stays, so that the gain of least squared error shrinks with it. With "history" frames lie
farther."""


@dataclass(frozen=True)
class HiddenFrame:
    """A frame to draw from others.

    time: seconds; truth: its picture at its cameras, with depth where it is known and FAR elsewhere; memory: what it is drawn
    from; splat: that, seen from there; reference, reference_time: the remembered frame that DiST-T starts from, and its time.
    """

    scene: Scene
    rig: CameraRig
    time: float
    truth: RGBDFrame
    memory: Memory
    splat: Splat
    reference: RGBDFrame
    reference_time: float

    @classmethod
    def of(
        cls, scene: Scene, rig: CameraRig, time: float, truth: RGBDFrame, memory: Memory, reference: MemoryFrame
    ) -> HiddenFrame:
        """Traffic as recorded; ``rig`` at the size of the truth."""
        splat = memory.render(rig, truth.global_from_camera, scene.boxes(time), time)
        return cls(scene, rig, time, truth, memory, splat, reference.source().frame, reference.time)

    @property
    def street(self) -> np.ndarray:
        """(V, H, W) bool, all pixels but the car's own body."""
        return np.ones_like(self.splat.valid) if self.truth.body is None else ~self.truth.body

    def showing(self, rgb: np.ndarray, depth: np.ndarray) -> RGBDFrame:
        """Images (V, H, W, 3) and depth (V, H, W) at the truth's cameras."""
        return replace(self.truth, rgb=rgb, depth=depth.astype(np.float32))

    def drawn(
        self,
        dist_t: DiSTTPipeline,
        dist_s: DiSTSPipeline,
        steps: int,
        noise: Callable[[int], torch.Generator],
        gains: tuple[Gains, Gains] = (None, None),
    ) -> tuple[RGBDFrame, RGBDFrame]:
        """The frame by DiST-T and by DiST-S. noise: of each stream, 0 and 1; gains: of each network, in place of its own."""
        target = target_conditions(
            self.splat,
            intrinsics=self.rig.intrinsics,
            global_from_camera=self.truth.global_from_camera,
            global_from_ego=self.scene.ego_pose(self.time),
            reference_global_from_ego=self.scene.ego_pose(self.reference_time),
            interval=self.time - self.reference_time,
            boxes=self.scene.boxes(self.time),
            scene_map=self.scene.map,
            description=self.scene.description,
        )
        made_t = dist_t([self.reference], [[target]], generator=noise(0), steps=steps, gains=gains[0])
        made_s = dist_s([splat_images(self.splat)], generator=noise(1), steps=steps, gains=gains[1])
        return self.showing(made_t.rgb[0, 0], made_t.depth[0, 0]), self.showing(made_s.rgb[0], made_s.depth[0])


def moving_frames(memory: Memory) -> list[int]:
    """Which frames of a memory the ego moves to, but for the first and the last, which have neighbours on one side alone."""
    steps = np.linalg.norm(np.diff([frame.position for frame in memory.frames], axis=0), axis=1)
    speed = steps / np.diff([frame.time for frame in memory.frames])
    return (1 + np.flatnonzero(speed[:-1] > LEAST_SPEED)).tolist()


def spread(length: int, count: int) -> list[int]:
    """Up to ``count`` of the indices below ``length``, evenly spread."""
    many = min(count, length)
    return ((np.arange(many) + 0.5) * length / max(many, 1)).astype(int).tolist()


def kinds(splat: Splat) -> tuple[np.ndarray, np.ndarray]:
    """The filled splat (V, H, W, 3) uint8 that the networks change, and the kind (V, H, W) of each pixel, into REGIONS."""
    images = splat_images(splat)
    return images.base_rgb, regions(channels_first(images.masks)).byte().argmax(-3).numpy()


@dataclass(frozen=True)
class Change:
    """Of a hidden frame, each (V, H, W) or (V, H, W, 3): what was to be changed in the splat's colours (truth less base), what a
    network changed, the kind of each pixel and whether it counts."""

    wanted: np.ndarray
    made: np.ndarray
    kind: np.ndarray
    street: np.ndarray

    @classmethod
    def of(cls, base: np.ndarray, truth: np.ndarray, made: np.ndarray, kind: np.ndarray, street: np.ndarray) -> Change:
        """Of pictures (V, H, W, 3) uint8."""
        wanted, change = (image.astype(np.float64) - base for image in (truth, made))
        return cls(wanted, change, kind, street)

    @property
    def unit(self) -> float:
        """The splat's squared error, in units of which a frame counts."""
        return max(float(np.square(self.wanted[self.street]).sum()), 1.0)

    @property
    def error(self) -> float:
        """The network's squared error, the splat's being 1."""
        return float(np.square(self.wanted[self.street] - self.made[self.street]).sum()) / self.unit


def fit_gains(changes: Iterable[Change]) -> tuple[float, ...]:
    """The least-squares gain of each kind of pixel, in [0, 1]; a frame's errors count in units of its splat's."""
    wanted, changed = np.zeros((2, len(REGIONS)))
    for one in changes:
        for kind in range(len(REGIONS)):
            pixels = one.street & (one.kind == kind)
            wanted[kind] += (one.wanted[pixels] * one.made[pixels]).sum() / one.unit
            changed[kind] += np.square(one.made[pixels]).sum() / one.unit
    best = np.divide(wanted, changed, out=np.ones_like(wanted), where=changed > 0)
    return tuple(round(float(gain), 3) for gain in best.clip(0, 1))


def held_back(scene: Scene, rig: CameraRig, memory: Memory, policy: MemoryPolicy, count: int) -> list[HiddenFrame]:
    """Up to ``count`` remembered frames to draw from others: of a log some of the whole drive, from frames before and after; with
    "history" the latest, from earlier ones. Fewer or none where the memory is short or the ego stands."""
    logged = [frame for frame in memory.frames if isinstance(frame, LoggedFrame)]
    whole, found = replace(memory, frames=tuple(logged), appearance=None), list[HiddenFrame]()
    if count < 1 or len(logged) < 2:
        return found
    places = moving_frames(whole)
    if policy == "history":
        last = len(logged) - 1
        places = ([*places, last] if np.linalg.norm(logged[last].position - logged[last - 1].position) > 0.1 else places)[-count:]
    else:
        places = [places[index] for index in spread(len(places), count)]
    for place in places:
        hidden = logged[place]
        known = tuple(f for f in logged if (hidden.time - f.time if policy == "history" else abs(hidden.time - f.time)) >= APART)
        if known:
            rest, truth = replace(whole, frames=known), hidden.source().frame
            (nearest,) = rest.select(truth.global_from_camera, hidden.time, 1)
            found.append(HiddenFrame.of(scene.recorded, rig, hidden.time, truth, rest, nearest))
    return found


def judged(
    frames: Sequence[HiddenFrame], policy: MemoryPolicy, dist_t: DiSTTPipeline, dist_s: DiSTSPipeline, steps: int
) -> tuple[Gains, Gains]:
    """What to keep of DiST-T and of DiST-S. None, what their weights say, where a network is not farther from the hidden frames
    than the splat or its weights were given gains when they were adapted."""
    if not frames:
        return None, None
    told = dist_t.composer.config.gains is not None, dist_s.unet.is_svd or dist_s.unet.config.gains is not None
    if all(told):
        return None, None
    changes: tuple[list[Change], list[Change]] = ([], [])
    for number, frame in enumerate(frames):
        base, kind = kinds(frame.splat)
        for found, made in zip(changes, frame.drawn(dist_t, dist_s, steps, partial(noise_of, number)), strict=True):
            found.append(Change.of(base, frame.truth.rgb, made.rgb, kind, frame.street))
    gains_t, gains_s = (
        None if knows or np.mean([one.error for one in found]) <= 1 else tuple(NEARER[policy] * gain for gain in fit_gains(found))
        for found, knows in zip(changes, told, strict=True)
    )
    return gains_t, gains_s
