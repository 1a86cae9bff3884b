"""The generated world: DiST-T steps the scene forward, DiST-S shows it from where the ego really is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dist4d_env.errors import WeightsError
from dist4d_env.geometry.known_depth import known_depth
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.threads import in_threads
from dist4d_env.models.composition import Gains
from dist4d_env.models.conditions import TargetConditions, scene_attributes, splat_images, target_conditions
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, noise_of
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.models.signals import SignalPainter, signal_layout
from dist4d_env.scenes.scene import SensorLog
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.chunk import Chunk, PolicyConfig
from dist4d_env.worlds.contract import WorldInfo, WorldStart
from dist4d_env.worlds.hidden import frames_that_decide, held_back, judged, kinds, undecided
from dist4d_env.worlds.logged import logged_frame, pose_difference
from dist4d_env.worlds.memory import AGENTS_STAY, Memory, MemoryPolicy
from dist4d_env.worlds.stopwatch import Stopwatch
from dist4d_env.worlds.trust import trust

DIST_T, DIST_S = 0, 1  # noise streams
KNOWN = 10_000
"""Memories of scenes of which it is known how much the networks help there."""
FEW = 0.05
"""Share of pixels up to which DiST-T's part in what DiST-S shows need not be composed, which costs more than decoding."""


@dataclass(frozen=True)
class GenerativeState:
    """start and memory; step: frames shown so far; shown, its time and ego pose: the last frame; chunk: what DiST-T foresees;
    gains: what of DiST-T's and of DiST-S's changes is kept in this scene."""

    start: WorldStart
    memory: Memory
    step: int
    shown: RGBDFrame | None
    shown_time: float
    shown_pose: np.ndarray
    chunk: Chunk | None
    gains: tuple[Gains, Gains]


class GenerativeWorld:
    """On the anticipated path DiST-T's frame; beside it DiST-S from that frame and the memory; else a new chunk.

    Where the networks don't help on a scene's own frames, less of them is shown (``hidden.judged``), as ``WorldInfo.held_back``
    says. The first frame is the log's own where it can be. Noise comes from the episode's seed and the step alone and is drawn on
    the CPU; the networks run one state at a time, so that a frame's bits do not depend on how many worlds step together.
    """

    needs_images = True
    size_multiple = 16

    def __init__(
        self,
        dist_t: DiSTTPipeline,
        dist_s: DiSTSPipeline,
        memory: MemoryPolicy = "log",
        policy: PolicyConfig | None = None,
        painter: SignalPainter | None = None,
    ) -> None:
        """painter: of traffic lights; without it they look as the networks draw them, who don't know their states."""
        self.painter = painter
        self.dist_t, self.dist_s, self.memory, self.policy = dist_t, dist_s, memory, policy or PolicyConfig()
        self._judged: OrderedDict[tuple[Any, ...], tuple[SensorLog, tuple[Gains, Gains]]] = OrderedDict()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that the weights are trained for."""
        height, width = self.dist_t.transformer.config.image_size
        return int(height), int(width)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path,
        memory: MemoryPolicy = "log",
        device: str = "auto",
        policy: PolicyConfig | None = None,
    ) -> GenerativeWorld:
        """Load both models; ``weights``: a shipped preset or a folder. Raises ``WeightsError``.

        policy: by default the chunk length and evaluations that the weights are trained for.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dist_t = DiSTTPipeline.from_pretrained(weights, device=device)
        use = dist_t.transformer.config
        if policy is None:
            policy = PolicyConfig(chunk=use.chunk, steps_t=use.steps, steps_s=use.steps)
        dist_s = DiSTSPipeline.from_pretrained(weights, device=device)
        multiple = dist_s.unet.svd.factor if dist_s.unet.is_svd else 2 ** len(dist_s.unet.config.widths)
        if any(side % multiple for side in use.image_size):
            raise WeightsError(f"{weights}: DiST-S takes multiples of {multiple} pixels, DiST-T's image_size is {use.image_size}")
        folder = resolve_weights(weights) / "signals"
        painter = load_model(SignalPainter, folder).to(device) if folder.is_dir() else None
        return cls(dist_t, dist_s, memory, policy, painter)

    def reset(self, starts: Sequence[WorldStart]) -> list[GenerativeState]:
        """Raises ``DataError`` where a scene has no usable keyframe."""
        return [self._begin(start) for start in starts]

    def _begin(self, start: WorldStart) -> GenerativeState:
        memory = Memory.from_log(start.scene, start.rig, start.start_time, self.memory)
        return GenerativeState(start, memory, 0, None, start.start_time, np.eye(4), None, self._gains(start, memory))

    def _gains(self, start: WorldStart, memory: Memory) -> tuple[Gains, Gains]:
        """What of the networks' changes to keep, judged once for every memory of a scene."""
        scene, rig, sensors = start.scene, start.rig, start.scene.sensors  # whose pictures they are, as in ``load_source``
        times = tuple(frame.time for frame in frames_that_decide(memory, self.memory))
        key = scene.dataroot, scene.version, scene.token, id(sensors), rig.height, rig.width, times
        if key not in self._judged:
            ask = any(undecided(self.dist_t, self.dist_s))
            frames = held_back(scene, rig, memory, self.memory, self.policy) if ask else []
            self._judged[key] = sensors, judged(frames, self.memory, self.dist_t, self.dist_s, self.policy)
            while len(self._judged) > KNOWN:
                self._judged.popitem(last=False)
        self._judged.move_to_end(key)
        return self._judged[key][1]

    def edited(self, state: GenerativeState, start: WorldStart) -> GenerativeState:
        """The state of an episode whose scene has been edited while it ran: all that was shown stays remembered."""
        fresh = Memory.from_log(start.scene, start.rig, start.start_time, self.memory)
        return replace(state, start=start, memory=replace(state.memory, appearance=fresh.appearance))

    def step(
        self, states: Sequence[GenerativeState], scenes: Sequence[SceneAt]
    ) -> list[tuple[GenerativeState, RGBDFrame, WorldInfo]]:
        """One frame per state, each at its scene's time and ego pose."""
        return [self._step(state, now) for state, now in zip(states, scenes, strict=True)]

    def _step(self, state: GenerativeState, now: SceneAt) -> tuple[GenerativeState, RGBDFrame, WorldInfo]:
        watch = Stopwatch()
        logged = logged_frame(state.start, state.memory, now) if state.step == 0 else None
        if logged is not None:
            return (
                self._shown(state, now, logged),
                logged,
                WorldInfo(("log",) * len(logged.rgb), 0.0, 1.0, {"log": watch.total()}),
            )
        chunk = state.chunk
        k = chunk.at(now, self.policy) if chunk is not None else None
        if k is None and not self._stands_in_a_real_frame(state, now):
            chunk, k = self._foresee(state, now, watch), 0
        if chunk is not None and k is not None and chunk.on_path(k, now, self.policy):
            with watch("decode"):
                frame, share = self._image(state, chunk, k, composed=True)
            splat, source, gains = chunk.splats[k], "dist_t", state.gains[0]
        else:
            frame, splat, share = self._view(state, now, chunk if k is not None else None, k or 0, watch)
            source, gains = "dist_s", state.gains[1]
        deviation = (
            pose_difference(chunk.global_from_ego[k], now.global_from_ego)[0] if chunk is not None and k is not None else 0.0
        )
        frame = self._painted(state, now, frame, watch)
        if splat.body is not None:
            frame, share = splat.over(frame), np.where(splat.body, np.float32(0), share)
        with watch("trust"):
            believed = trust(
                frame, splat, np.maximum(share, splat.generated), deviation, state.memory.distance(frame.global_from_camera)
            )
            grown = state.memory.with_generated(frame, now.boxes, kept(splat, self.policy.grow))
        state = self._shown(replace(state, memory=grown, chunk=chunk), now, frame)
        info = WorldInfo((source,) * len(frame.rgb), deviation, believed, watch.milliseconds, not_shown(splat, gains))
        return state, frame, info

    def _painted(self, state: GenerativeState, now: SceneAt, frame: RGBDFrame, watch: Stopwatch) -> RGBDFrame:
        """The frame with the heads of traffic lights as they are now."""
        scene = state.start.scene
        if self.painter is None or not len(scene.lights.heads):
            return frame
        with watch("signals"):
            states = scene.light_states(now.time) if now.lights is None else now.lights
            size = frame.depth.shape[1:]
            signals = signal_layout(
                scene.lights.heads, states[scene.lights.head_light], frame.intrinsics, frame.global_from_camera, *size
            )
            return self.painter.paint(frame, signals, scene_attributes(scene.description)) if signals.any() else frame

    def _stands_in_a_real_frame(self, state: GenerativeState, now: SceneAt) -> bool:
        """Whether the episode begins at an instant that a real frame shows, only from elsewhere: nothing to step forward."""
        return state.step == 0 and any(abs(f.time - now.time) < 1e-3 for f in state.memory.frames if not f.generated)

    def _foresee(self, state: GenerativeState, now: SceneAt, watch: Stopwatch) -> Chunk:
        """A new chunk: now and the anticipated instants, from the last frame and the memory."""
        rig = state.start.rig
        reference, reference_time, reference_pose = self._reference(state, now)
        ahead = self.policy.frames(now.anticipated_time[0] - now.time) - 1 if len(now.anticipated_time) else 0
        times = np.array([now.time, *now.anticipated_time[:ahead]])
        poses = np.stack([now.global_from_ego, *now.anticipated_pose[:ahead]])
        boxes = (now.boxes, *now.anticipated_boxes[:ahead])
        cameras = [pose @ rig.ego_from_camera for pose in poses]
        with watch("splat"):
            splats = in_threads(
                lambda k: state.memory.render(rig, cameras[k], boxes[k], times[k], self.policy.count), len(cameras)
            )

        def conditions(k: int) -> TargetConditions:
            return target_conditions(
                splats[k],
                intrinsics=rig.intrinsics,
                global_from_camera=cameras[k],
                global_from_ego=poses[k],
                reference_global_from_ego=reference_pose,
                interval=float(times[k] - reference_time),
                boxes=boxes[k],
                scene_map=state.start.scene.map,
                description=state.start.scene.description,
            )

        with watch("conditions"):
            targets = in_threads(conditions, len(cameras))
        with watch("dist_t"):
            latents = self.dist_t.predict([reference], [targets], generator=noise(state, DIST_T), steps=self.policy.steps_t)
        return Chunk(times, poses, boxes, tuple(splats), tuple(targets), latents.cpu())

    def _image(self, state: GenerativeState, chunk: Chunk, k: int, composed: bool) -> tuple[RGBDFrame, np.ndarray]:
        """Frame k of a chunk and its generated share (V, H, W); not composed it is what DiST-T drew, cheaper, for the memory."""
        alone = self.dist_t.codec.time_factor == 1  # a video codec decodes all frames together
        decoded = self.dist_t.decode(chunk.latents[:, :, k : k + 1] if alone else chunk.latents)
        decoded = decoded if alone else decoded[:, :, k : k + 1]
        rig = state.start.rig
        made = (
            self.dist_t.compose(decoded, [[chunk.targets[k]]], state.gains[0], AGENTS_STAY[self.memory])
            if composed
            else self.dist_t.uncomposed(decoded, rig.height, rig.width)
        )
        pose, time = chunk.global_from_ego[k], np.full(len(rig.names), chunk.time[k])
        frame = RGBDFrame(made.rgb[0, 0], made.depth[0, 0], rig.intrinsics, pose @ rig.ego_from_camera, time)
        return self._settled(frame, chunk.splats[k], pose), made.share[0, 0]

    def _settled(self, frame: RGBDFrame, splat: Splat, global_from_ego: np.ndarray) -> RGBDFrame:
        """The frame with the depth that is known. With "history" the splat's is less sure, and holes are too large to go by their
        rims."""
        return known_depth(frame, splat, global_from_ego) if self.memory == "log" else frame

    def _reference(self, state: GenerativeState, now: SceneAt) -> tuple[RGBDFrame, float, np.ndarray]:
        """The last known frame, its time and ego pose: the one shown last, before the first the nearest real one."""
        if state.shown is not None:
            return state.shown, state.shown_time, state.shown_pose
        nearest = state.memory.select(now.global_from_ego @ state.start.rig.ego_from_camera, now.time, 1)[0]
        scene = state.start.scene
        return nearest.source().frame, nearest.time, scene.ego_pose(min(max(nearest.time, 0.0), scene.duration))

    def _view(
        self, state: GenerativeState, now: SceneAt, chunk: Chunk | None, k: int, watch: Stopwatch
    ) -> tuple[RGBDFrame, Splat, np.ndarray]:
        """DiST-S at the true pose: the memory, and of the chunk's frame k what the memory does not hold."""
        rig = state.start.rig
        poses = now.global_from_ego @ rig.ego_from_camera
        memory = state.memory
        if chunk is not None and unseen(chunk.splats[k]).any():
            with watch("decode"):
                composed = state.gains[0] is not None or unseen(chunk.splats[k]).mean() > FEW
                foreseen, _ = self._image(state, chunk, k, composed)
            with watch("splat"):
                memory = memory.with_generated(chunk.splats[k].over(foreseen), chunk.boxes[k], unseen(chunk.splats[k]))
        with watch("splat"):
            splat = memory.render(rig, poses, now.boxes, now.time, self.policy.count)
        with watch("conditions"):
            images = splat_images(splat)
        with watch("dist_s"):
            made = self.dist_s(
                [images],
                generator=noise(state, DIST_S),
                steps=self.policy.steps_s,
                gains=state.gains[1],
                seen_within=AGENTS_STAY[self.memory],
            )
        frame = RGBDFrame(made.rgb[0], made.depth[0], rig.intrinsics, poses, np.full(len(rig.names), now.time))
        return self._settled(frame, splat, now.global_from_ego), splat, made.share[0]

    def _shown(self, state: GenerativeState, now: SceneAt, frame: RGBDFrame) -> GenerativeState:
        return replace(state, step=state.step + 1, shown=frame, shown_time=now.time, shown_pose=now.global_from_ego)


def unseen(splat: Splat) -> np.ndarray:
    """Pixels (V, H, W) that nothing remembered reached."""
    return ~splat.valid


def not_shown(splat: Splat, gains: Gains) -> float:
    """The share of a network's changes of the splat's colours that is held back, the mean over pixels."""
    return 0.0 if gains is None else float(1 - np.asarray(gains)[kinds(splat)[1]].mean())


def kept(splat: Splat, grow: str) -> np.ndarray:
    """Pixels (V, H, W) of a generated frame that enter the memory, see ``PolicyConfig.grow``."""
    return {"holes": unseen(splat), "all": np.ones_like(splat.valid), "never": np.zeros_like(splat.valid)}[grow]


def noise(state: GenerativeState, stream: int) -> torch.Generator:
    """The noise of one network at one step of one episode."""
    return noise_of(state.start.seed, state.step, stream)
