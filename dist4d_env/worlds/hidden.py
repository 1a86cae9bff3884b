"""Remembered frames hidden and drawn from the others: do the networks help in this scene, and how much of them?

Where the networks are farther from a scene's own frames than the splat is, as they may be on a camera that is unlike what they
were trained on, only a part of what they change in the splat's colours is kept, for each kind of pixel the one of least squared
error. The frames that decide are remembered ones, of which a world knows anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.memory import AGENTS_STAY, LoggedFrame, Memory, MemoryFrame, MemoryPolicy

LEAST_SPEED = 0.5
"""m/s since the frame before from which the ego moves."""
APART = 0.25
"""Seconds at least between a hidden frame and those that it is drawn from."""
NEARER = {"log": 0.5, "history": 1.0}
"""How far an episode's frames lie from remembered ones, in units of how far hidden ones do. The splat errs in proportion to that,
what networks change for the worse stays, so that the gain of least squared error shrinks with it. With "history" frames lie
farther."""
EVERY = 4
"""With "history" a scene is judged anew after so many remembered frames more, not at every start."""


@dataclass(frozen=True)
class HiddenFrame:
    """A frame to draw from others.

    time: seconds; truth: its picture at its cameras, with depth where it is known and FAR elsewhere; memory: what it is drawn
    from; splat: that, seen from there; reference, reference_time: the remembered frame that DiST-T starts from, and its time;
    policy: what the memory is a part of.
    """

    scene: Scene
    rig: CameraRig
    time: float
    truth: RGBDFrame
    memory: Memory
    splat: Splat
    reference: RGBDFrame
    reference_time: float
    policy: MemoryPolicy

    @classmethod
    def of(
        cls,
        scene: Scene,
        rig: CameraRig,
        time: float,
        truth: RGBDFrame,
        memory: Memory,
        reference: MemoryFrame,
        policy: MemoryPolicy,
        count: int = PolicyConfig.count,
    ) -> HiddenFrame:
        """Traffic as recorded; ``rig`` at the size of the truth; count: real frames in the splat."""
        splat = memory.render(rig, truth.global_from_camera, scene.boxes(time), time, count)
        return cls(scene, rig, time, truth, memory, splat, reference.source().frame, reference.time, policy)

    @property
    def street(self) -> np.ndarray:
        """(V, H, W) bool, all pixels but the car's own body."""
        return np.ones_like(self.splat.valid) if self.truth.body is None else ~self.truth.body

    def showing(self, rgb: np.ndarray, depth: np.ndarray) -> RGBDFrame:
        """Images (V, H, W, 3) and depth (V, H, W) at the truth's cameras."""
        return replace(self.truth, rgb=rgb, depth=depth.astype(np.float32))

    def by_dist_t(self, dist_t: DiSTTPipeline, steps: int, noise: torch.Generator, gains: Gains = None) -> RGBDFrame:
        """The frame by DiST-T. gains: in place of the network's own."""
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
        within = AGENTS_STAY[self.policy]
        made = dist_t([self.reference], [[target]], generator=noise, steps=steps, gains=gains, seen_within=within)
        return self.showing(made.rgb[0, 0], made.depth[0, 0])

    def by_dist_s(self, dist_s: DiSTSPipeline, steps: int, noise: torch.Generator, gains: Gains = None) -> RGBDFrame:
        """The frame by DiST-S. gains: in place of the network's own."""
        images, within = splat_images(self.splat), AGENTS_STAY[self.policy]
        made = dist_s([images], generator=noise, steps=steps, gains=gains, seen_within=within)
        return self.showing(made.rgb[0], made.depth[0])


def latest_before(memory: Memory, truth: RGBDFrame, time: float) -> MemoryFrame | None:
    """The frame that DiST-T draws a later one from, as in an episode: of those before it the most useful; None where none is."""
    before = replace(memory, frames=tuple(frame for frame in memory.frames if frame.time < time))
    return next(iter(before.select(truth.global_from_camera, time, 1)), None)


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

    @cached_property
    def unit(self) -> float:
        """The splat's squared error, in units of which a frame counts."""
        return max(float(np.square(self.wanted[self.street]).sum()), 1.0)

    @property
    def error(self) -> float:
        """The network's squared error, the splat's being 1."""
        return float(np.square(self.wanted[self.street] - self.made[self.street]).sum()) / self.unit


def fit_gains(changes: Iterable[Change]) -> tuple[float, ...]:
    """The least-squares gain of each kind of pixel, in [0, 1]; a frame's errors count in units of its splat's. A kind of which
    there are none, or none changed, has that of all pixels."""
    wanted, changed = np.zeros((2, len(REGIONS)))
    for one in changes:
        for kind in range(len(REGIONS)):
            pixels = one.street & (one.kind == kind)
            wanted[kind] += (one.wanted[pixels] * one.made[pixels]).sum() / one.unit
            changed[kind] += np.square(one.made[pixels]).sum() / one.unit
    every = wanted.sum() / changed.sum() if changed.any() else 1.0
    best = np.divide(wanted, changed, out=np.full_like(wanted, every), where=changed > 0)
    return tuple(round(float(gain), 3) for gain in best.clip(0, 1))


def frames_that_decide(memory: Memory, policy: MemoryPolicy) -> tuple[LoggedFrame, ...]:
    """The remembered frames among which some are hidden: of a log all; with "history", where there are more the later an episode
    starts, a multiple of ``EVERY`` of them, or all of fewer."""
    logged = tuple(frame for frame in memory.frames if isinstance(frame, LoggedFrame))
    return logged if policy == "log" or len(logged) < EVERY else logged[: len(logged) // EVERY * EVERY]


def held_back(scene: Scene, rig: CameraRig, memory: Memory, policy: MemoryPolicy, use: PolicyConfig) -> list[HiddenFrame]:
    """Up to ``use.check`` remembered frames to draw from others: of a log some of the whole drive, from frames before and after;
    with "history" the latest, from earlier ones. Those to which the ego moves; where there are none, others.

    None where no frame has another ``APART`` before it, for DiST-T draws forward in time.
    """
    logged = frames_that_decide(memory, policy)
    if use.check < 1 or len(logged) < 2:
        return []
    whole = replace(memory, frames=logged, appearance=None)
    later = [place for place, frame in enumerate(logged) if frame.time - logged[0].time >= APART]
    moving = set(moving_frames(whole))
    last = len(logged) - 1
    if policy == "history" and np.linalg.norm(logged[last].position - logged[last - 1].position) > 0.1:
        moving.add(last)
    places = [place for place in later if place in moving] or later
    chosen = places[-use.check :] if policy == "history" else [places[index] for index in spread(len(places), use.check)]
    found = []
    for hidden in (logged[place] for place in chosen):
        since = [hidden.time - frame.time for frame in logged]
        known = [
            frame for frame, gone in zip(logged, since, strict=True) if (gone if policy == "history" else abs(gone)) >= APART
        ]
        rest, truth = replace(whole, frames=tuple(known)), hidden.source().frame
        reference = latest_before(rest, truth, hidden.time)
        assert reference is not None  # the first frame at least
        found.append(HiddenFrame.of(scene.recorded, rig, hidden.time, truth, rest, reference, policy, use.count))
    return found


def undecided(dist_t: DiSTTPipeline, dist_s: DiSTSPipeline) -> tuple[bool, bool]:
    """Which of the two is to be judged: not one whose weights were given gains when they were adapted, nor Stable Video
    Diffusion."""
    return dist_t.composer.config.gains is None, not dist_s.unet.is_svd and dist_s.unet.config.gains is None


def judged(
    frames: Sequence[HiddenFrame], policy: MemoryPolicy, dist_t: DiSTTPipeline, dist_s: DiSTSPipeline, use: PolicyConfig
) -> tuple[Gains, Gains]:
    """What to keep of DiST-T and of DiST-S. None, what their weights say, where there are no hidden frames, a network is not
    farther from them than the splat, or is not to be judged (``undecided``)."""
    if not frames:
        return None, None
    ask_t, ask_s = undecided(dist_t, dist_s)
    changes: tuple[list[Change], list[Change]] = ([], [])
    for number, frame in enumerate(frames if ask_t or ask_s else ()):
        base, kind = kinds(frame.splat)
        made = (
            frame.by_dist_t(dist_t, use.steps_t, noise_of(number, 0)) if ask_t else None,
            frame.by_dist_s(dist_s, use.steps_s, noise_of(number, 1)) if ask_s else None,
        )
        for found, picture in zip(changes, made, strict=True):
            if picture is not None:
                found.append(Change.of(base, frame.truth.rgb, picture.rgb, kind, frame.street))
    return _gains(changes[0], policy), _gains(changes[1], policy)


def _gains(changes: Sequence[Change], policy: MemoryPolicy) -> Gains:
    """What to keep of a network's changes; None for all."""
    if not changes or np.mean([one.error for one in changes]) <= 1:
        return None
    return tuple(NEARER[policy] * gain for gain in fit_gains(changes))
