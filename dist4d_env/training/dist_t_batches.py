"""Batches of DiST-T: samples of one store and one length, noise, and examples for critics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.models.dist_t import timestep_shift
from dist4d_env.models.inputs import DiSTTInputs, channels_first, collate_targets, rgbd_tensor
from dist4d_env.models.presets import Preset
from dist4d_env.models.video_codec import Codec
from dist4d_env.training.critics import critic_noise
from dist4d_env.training.distillation import Teacher
from dist4d_env.training.loading import as_stores, choose_store
from dist4d_env.training.relighting import draw_light
from dist4d_env.training.samples import BETWEEN, SampleStore

PURE_NOISE = 0.7
"""Share of samples at noise level 1, where few-step sampling spends its evaluations."""
LENGTHS = {"chunk": 0.12, "between": 0.12}
"""Share of batches of whole chunks, and of hidden keyframes between their neighbours; the others are of single steps."""
WITHHELD = 0.1
"""Share of samples without controls, for classifier-free guidance."""
REFERENCE_NOISE = 0.2
"""Largest standard deviation of the noise added to the reference's latents."""
FAR = 1.5
"""Seconds after the last real frame from which on critics are asked: before, pixels can be known."""


@dataclass(frozen=True)
class DiSTTOptions:
    """rollouts: samples of the model's own rollouts (``rollouts.prepare_rollouts``), drawn in ``rollout_share`` of the steps;
    adversarial, layout_consistency: weights of the gradients of discriminator and layout reader against the pixel loss's in those
    (0: none); emphasis: how much more pixels of markings and agents weigh in the loss on images; teacher: its answers to the
    noise replace the truth.
    """

    rollouts: SampleStore | None = None
    rollout_share: float = 0.4
    adversarial: float = 0.0
    layout_consistency: float = 0.0
    emphasis: float = 2.0
    teacher: Teacher | None = None

    @property
    def critics(self) -> bool:
        """Whether any critic is trained."""
        return bool(self.adversarial or self.layout_consistency)


class DiSTTBatch(NamedTuple):
    """truth: (B, V, T, 4, H, W); noise: shaped as its latents; level: (B,); withheld: (B,) bool; reference_noise:
    (B, V, C, h, w), already scaled; far: (B, T) bool, frames that critics guide, under ``critic_noise`` (B, V, T, 4, H, W), empty
    without critics; examples: for the discriminator, true and generated frames of rollouts (N, 4, H, W) under noise, and their
    layout (N, 8, H, W), or nothing."""

    inputs: DiSTTInputs
    truth: torch.Tensor
    noise: torch.Tensor
    level: torch.Tensor
    withheld: torch.Tensor
    reference_noise: torch.Tensor
    far: torch.Tensor
    critic_noise: torch.Tensor
    examples: tuple[torch.Tensor, ...]


class DiSTTBatches:
    """Batches by step, from one store of samples or one per image size."""

    def __init__(
        self,
        preset: Preset,
        codec: Codec,
        train: SampleStore | Sequence[SampleStore],
        batch: int,
        seed: int,
        options: DiSTTOptions,
    ) -> None:
        self.codec, self.options, self.size = codec, options, (preset.height, preset.width)
        self.stores, self.count, self.seed = as_stores(train), batch, seed
        self.pools = {store: pools(store, preset.chunk, codec.time_factor) for store in self.stores}
        rollouts = options.rollouts
        length = whole(min(preset.chunk, rollouts.settings.chunk), codec.time_factor) if rollouts else 0
        self.rollout_pool = rollouts.chunks(length) if rollouts else []
        self.example_pool = rollouts.generated_references() if rollouts else []
        if rollouts and not self.rollout_pool:
            raise ConfigError(
                f"{rollouts.folder} holds no rollouts of {length} keyframes after a start: take scenes of at least {length + 1} "
                "keyframes with images and depth, or leave --rollouts out"
            )
        if options.teacher is not None and options.critics:
            raise ConfigError("critics compare with true frames, which a teacher replaces: train with one or the other")
        if options.adversarial and not self.example_pool:
            raise ConfigError("a discriminator needs rollouts longer than one chunk, and there are none: take longer scenes")

    def choose(self, generator: np.random.Generator) -> tuple[SampleStore, list[tuple[int, list[int]]]]:
        """A batch of one store and one length, mostly single steps."""
        rollouts = self.options.rollouts
        if rollouts and generator.random() < self.options.rollout_share:
            store, pool, count = rollouts, self.rollout_pool, self.count
        else:
            store, count = choose_store(self.stores, self.count, self.size, generator)
            lengths = [name for name in self.pools[store] if name in LENGTHS]
            drawn = generator.random()
            name = "single"
            for length in lengths:
                if drawn < LENGTHS[length]:
                    name = length
                    break
                drawn -= LENGTHS[length]
            pool = self.pools[store][name]
        samples = max(1, count // len(pool[0][1]))
        return store, [pool[i] for i in generator.integers(len(pool), size=samples)]

    def collate(self, store: SampleStore, chosen: list[tuple[int, list[int]]]) -> tuple[DiSTTInputs, torch.Tensor]:
        """Inputs and the true frames (B, V, T, 4, H, W)."""
        code = self.codec.config.depth_code
        references, targets, truths = [], [], []
        for s, rows in chosen:
            scene = store.scenes[s]
            references.append(scene.reference_frame(rows[0]))
            targets.append([scene.conditions(row) for row in rows])
            frames = [int(scene.target[row]) for row in rows]
            rgb, depth = scene.arrays["frame_rgb"], scene.arrays["frame_depth"]
            truths.append(torch.stack([rgbd_tensor(rgb[k], depth[k], code) for k in frames], 1))
        return collate_targets(references, targets, code), torch.stack(truths)

    def batch(self, step: int, rank: int = 0) -> DiSTTBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        store, chosen = self.choose(generator)
        inputs, truth = self.collate(store, chosen)
        light = draw_light(len(chosen), truth.shape[1], generator)
        inputs = inputs._replace(reference=light.on(inputs.reference, True), views=light.views(inputs.views))
        truth = light.on(truth, False)
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        count, views, frames, _, height, width = truth.shape
        factor, channels = self.codec.factor, 2 * self.codec.config.latent_channels
        latent = (channels, height // factor, width // factor)
        times = 1 + (frames - 1) // self.codec.time_factor
        shift = timestep_shift(height, width, times)
        level = torch.sigmoid(torch.randn(count, generator=draw))
        level = shift * level / (1 + (shift - 1) * level)
        level = torch.where(torch.rand(count, generator=draw) < PURE_NOISE, torch.ones(count), level)
        strength = REFERENCE_NOISE * torch.rand(count, 1, 1, 1, 1, generator=draw)
        return DiSTTBatch(
            inputs=inputs,
            truth=truth,
            noise=torch.randn(count, views, times, *latent, generator=draw),
            level=level,
            withheld=torch.rand(count, generator=draw) < WITHHELD,
            reference_noise=strength * torch.randn(count, views, *latent, generator=draw),
            far=torch.tensor([[store.scenes[s].since_real(row) >= FAR for row in rows] for s, rows in chosen]),
            critic_noise=critic_noise(tuple(truth.shape), draw) if self.options.critics else torch.zeros(0),
            examples=self.examples(generator, draw) if self.options.adversarial else (),
        )

    def examples(self, generator: np.random.Generator, draw: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Frames of rollouts for the discriminator, as ``DiSTTBatch`` describes them."""
        store, code = self.options.rollouts, self.codec.config.depth_code
        assert store is not None
        frames = []
        for i in generator.integers(len(self.example_pool), size=self.count):
            s, row = self.example_pool[i]
            scene, keyframe = store.scenes[s], int(store.scenes[s].reference[row])
            images = [rgbd_tensor(one.rgb, one.depth, code) for one in (scene.frame(keyframe), scene.reference_frame(row))]
            frames.append((*images, channels_first(np.array(scene.arrays["layout"][keyframe]))))
        true, generated, layout = (torch.cat(parts) for parts in zip(*frames, strict=True))
        noise = critic_noise(tuple(true.shape), draw)
        return true + noise, generated + noise, layout


def whole(frames: int, time_factor: int) -> int:
    """The most frames, up to so many, of which a codec makes whole latents: 1 + k time_factor."""
    return 1 + (frames - 1) // time_factor * time_factor


def pools(store: SampleStore, chunk: int, time_factor: int = 1) -> dict[str, list[tuple[int, list[int]]]]:
    """(scene, splats) of single steps, chunks as long as the codec takes them, and hidden keyframes, those that a store has."""
    length = whole(min(chunk, store.settings.chunk), time_factor)
    kinds = {
        "single": store.chunks(1),
        "chunk": store.chunks(length) if length > 1 or time_factor == 1 else [],
        "between": [(s, [row]) for s, row in store.rows(BETWEEN)],
    }
    return {name: pool for name, pool in kinds.items() if pool}
