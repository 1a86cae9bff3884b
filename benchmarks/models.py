"""Size of every preset's networks: parameters and arithmetic of one run on six cameras.

Both are counted on tensors without storage, so they are there for every preset on every machine:

- codec_encode, codec_decode: one chunk of RGB-D frames;
- dist_t: one evaluation for one chunk; composer: the chunk's frames at full resolution;
- dist_s: one evaluation for one frame; dist_s_vae: the frame into latents and back, where DiST-S works on latents.

    python -m benchmarks.models --out benchmarks/results/models.json
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from tqdm import tqdm

from benchmarks.common import header, run, write_json
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.models.composer import Composer
from dist4d_env.models.conditions import ATTRIBUTES, BEV_SHAPE, MASK_CHANNELS, MAX_BOXES
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, ViewInputs
from dist4d_env.models.layout import LAYOUT_CHANNELS
from dist4d_env.models.presets import PRESETS, Preset, preset
from dist4d_env.models.video_codec import make_codec

VIEWS = 6
CAPTION_TOKENS = 300
PARTS = ("codec_encode", "codec_decode", "dist_t", "composer", "dist_s", "dist_s_vae")


@dataclass(frozen=True)
class Options:
    """Parameters and arithmetic of the networks of every preset."""

    presets: tuple[str, ...] = tuple(PRESETS)
    """Presets to count."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in options.presets}
    for name in tqdm(rows, disable=None):
        on_latents = preset(name).dist_s.get("backbone") == "svd"
        rows[name] = {part: count(preset(name), part) for part in PARTS if part != "dist_s_vae" or on_latents}
    images = {name: f"{VIEWS} x {preset(name).height} x {preset(name).width}" for name in rows}
    result = header("models", options) | {"images": images, "results": rows}
    if options.out:
        write_json(options.out, result)
    for name, parts in rows.items():
        for part, row in parts.items():
            print(f"{name + ' ' + part:<22}{row['parameters_m']:>10.1f} M parameters{row['gflop']:>14.1f} GFLOP")
    return result


def count(one: Preset, part: str) -> dict[str, float]:
    """Parameters in millions and 1e9 floating-point operations (two for a multiply-add) of one run, on fake tensors."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    # All but DiST-T treat cameras alike, and counting one of them is faster.
    views = VIEWS if part == "dist_t" else 1
    with FakeTensorMode(), torch.no_grad():
        model, step = build(one, part, views)
        mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            step()
        parameters = sum(p.numel() for p in model.parameters())
    return {"parameters_m": parameters / 1e6, "gflop": counter.get_total_flops() / 1e9 * VIEWS / views}


def build(one: Preset, part: str, views: int = VIEWS) -> tuple[torch.nn.Module, Callable[[], Any]]:
    """A network with random weights in float32 and what to run of it."""
    size, level = (one.height, one.width), torch.full((1,), 0.5)
    if part.startswith("codec"):
        codec = make_codec(one).eval()
        frames = torch.rand(1, views, one.chunk, 4, *size) * 2 - 1
        if part == "codec_encode":
            return codec, lambda: codec.encode_rgbd(frames)
        latents = torch.randn(1, views, *latent_shape(one, codec.factor, codec.time_factor))
        return codec, lambda: codec.decode_rgbd(latents)
    if part == "dist_t":
        transformer = DiSTTTransformer(**one.dist_t).eval()
        inputs = dist_t_inputs(one, views)
        noisy = torch.randn(1, views, *latent_shape(one, 8, one.dist_t.get("time_factor", 1)))
        return transformer, lambda: transformer(noisy, level, inputs, noisy[:, :, 0], noisy)
    if part == "composer":
        composer = Composer(**one.composer).eval()
        parts = [torch.rand(views, channels, *size) for channels in (4, 4, 3, len(MASK_CHANNELS), len(LAYOUT_CHANNELS))]
        seconds = torch.full((views,), 0.5)
        return composer, lambda: [composer(*parts, seconds) for _ in range(one.chunk)]
    dist_s = DiSTSUNet(**one.dist_s).eval()
    images = ViewInputs(*(torch.rand(views, channels, *size) for channels in (4, 3, len(MASK_CHANNELS))))
    if part == "dist_s_vae":
        return dist_s.svd.vae, lambda: dist_s.decode(dist_s.encode(images.base))
    prepared, noisy = dist_s.prepare(images), torch.randn(dist_s.noise_shape(images))
    network = dist_s.svd.unet if dist_s.is_svd else dist_s
    return network, lambda: dist_s.predict_clean(noisy, level.expand(views), prepared)


def latent_shape(one: Preset, factor: int, time_factor: int) -> tuple[int, ...]:
    """Of one camera's chunk, (T', C, h, w)."""
    latent_frames = 1 + (one.chunk - 1) // time_factor
    return (latent_frames, one.dist_t["latent_channels"], one.height // factor, one.width // factor)


def dist_t_inputs(one: Preset, views: int) -> DiSTTInputs:
    """Random conditions of one chunk: pixels in [0, 1], cameras looking ahead, every box row filled."""
    lead, size, frames = (1, views, one.chunk), (one.height, one.width), one.chunk
    focal = torch.diag(torch.tensor([0.6 * one.width, 0.6 * one.width, 1.0]))
    captions = one.dist_t.get("caption_dim", 0)
    return DiSTTInputs(
        reference=torch.rand(1, views, 4, *size),
        views=ViewInputs(*(torch.rand(*lead, channels, *size) for channels in (4, 3, len(MASK_CHANNELS)))),
        layout=torch.rand(*lead, len(LAYOUT_CHANNELS), *size),
        bev=torch.rand(1, frames, *BEV_SHAPE),
        box_corners=torch.randn(1, frames, MAX_BOXES, 8, 3) * 20,
        box_class=torch.randint(0, len(CATEGORIES), (1, frames, MAX_BOXES)),
        box_instance=torch.arange(MAX_BOXES).expand(1, frames, -1),
        intrinsics=focal.expand(*lead, 3, 3),
        ego_from_camera=torch.eye(4).expand(*lead, 4, 4),
        neighbours=torch.stack([torch.arange(views).roll(1), torch.arange(views).roll(-1)], -1)[None],
        trajectory=torch.eye(4).expand(1, frames, 4, 4),
        interval=torch.linspace(0.1, 1.5, frames)[None],
        attributes=torch.zeros(1, len(ATTRIBUTES)),
        controlled=torch.ones(1, dtype=torch.bool),
        captions=torch.randn(1, CAPTION_TOKENS, captions) if captions else None,
    )


if __name__ == "__main__":
    run(main, Options)
