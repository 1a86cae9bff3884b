"""Fine-tuning of weights as they are: their own sizes, the recipe of each part, and how many steps fit into a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import read_config, resolve_weights
from dist4d_env.models.video_codec import load_codec
from dist4d_env.training.checkpoint import initialise
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_s_svd import DiSTSVideoRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.loading import to_device
from dist4d_env.training.loop import Recipe, uses_bfloat16
from dist4d_env.training.samples import SampleStore

CODEC, DIST_T, DIST_S = "codec", "dist_t", "dist_s"
SHARES = {CODEC: 0.1, DIST_T: 0.5, DIST_S: 0.4}
"""What of the time each part is trained for."""
TIMED = 6
"""Steps that are timed, after one that warms up: their batches are of different stores, and of different rigs."""


def preset_of(weights: str | Path) -> Preset:
    """The sizes of weights, which need be none of PRESETS: a shipped preset or a folder. Raises ``WeightsError``."""
    folder = resolve_weights(weights)
    configs = [read_config(folder / part) for part in ("codec", "dist_t", "composer", "dist_s")]
    left_out = ("gains", "image_size")  # fitted anew; the same for all
    codec, dist_t, composer, dist_s = (
        {name: value for name, value in one.items() if name[0] != "_" and name not in left_out} for one in configs
    )
    use = configs[1]
    height, width = use["image_size"]
    return Preset(height, width, use["chunk"], use["steps"], codec, dist_t, composer, dist_s, configs[0]["_class_name"])


def parts_of(preset: Preset) -> dict[str, float]:
    """The parts of weights that are trained, in order, and the share of the time for each; a video codec is pretrained."""
    shares = {part: share for part, share in SHARES.items() if part != CODEC or preset.codec_class == RGBDCodec.__name__}
    return {part: share / sum(shares.values()) for part, share in shares.items()}


def recipe_of(part: str, weights: Path, codec: Path, stores: Sequence[SampleStore], batch: int, seed: int) -> Recipe:
    """The recipe of a part, which starts from ``weights``. Of the codec only the decoder is trained, so that latents keep their
    meaning and DiST-T its worth; codec: folder of the codec that DiST-T is trained with.
    """
    preset = preset_of(weights)
    recipe: Recipe
    if part == CODEC:
        recipe = CodecRecipe(preset, stores, None, batch, seed, encoder=False)
    elif part == DIST_T:
        recipe = DiSTTRecipe(preset, load_codec(codec), stores, None, batch, seed)
    elif preset.dist_s.get("backbone") == "svd":
        recipe = DiSTSVideoRecipe(preset, stores, None, batch, seed)
    else:
        recipe = DiSTSRecipe(preset, stores, None, batch, seed)
    initialise(recipe.models, weights)
    return recipe


def steps_within(recipe: Recipe, seconds: float, device: torch.device, precision: str) -> int:
    """How many steps of a recipe, at least one, fit into a time on a machine that does nothing else."""
    modules = (*recipe.models.values(), *getattr(recipe, "frozen", {}).values())
    for module in modules:
        module.to(device)
    began = 0.0
    for step in range(1 + TIMED):
        if step == 1:
            began = _clock(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(precision, device)):
            loss, _ = recipe.loss(to_device(recipe.batch(step), device), step)
        loss.backward()
    took = _clock(device) - began
    for module in modules:  # as it was: processes that make batches start before models are moved
        module.zero_grad(set_to_none=True)
        module.to("cpu")
    return max(1, int(seconds * TIMED / took))


def _clock(device: torch.device) -> float:
    """Seconds: on a CPU those of the process's own threads, however many others wait for it."""
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    torch.cuda.synchronize(device)
    return time.monotonic()
