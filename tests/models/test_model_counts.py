"""The benchmark of model sizes: counts on fake tensors are those of real runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import VIEWS, build, count

from .made import small_preset
from .published import SMALL_FRAME_VAE, SMALL_UNET


@pytest.mark.parametrize("part", ["codec_encode", "codec_decode", "composer", "dist_s"])
def test_counts_are_those_of_a_real_run(part: str) -> None:
    one = small_preset()
    counted = count(one, part)
    with torch.no_grad():
        model, step = build(one, part)
        with FlopCounterMode(display=False) as counter:
            step()
    assert counted["parameters_m"] * 1e6 == pytest.approx(sum(p.numel() for p in model.parameters()))
    assert counted["gflop"] * 1e9 == pytest.approx(counter.get_total_flops())


def test_attention_is_counted() -> None:
    """Fused attention, which torch's counter does not know on a CPU, is part of the count."""
    one = small_preset()
    counted = count(one, "dist_t")["gflop"] * 1e9
    with torch.no_grad():
        _, step = build(one, "dist_t")
        with FlopCounterMode(display=False) as without_attention:  # the CPU's fused attention is unknown to the counter
            step()
    tokens = (one.height // 16) * (one.width // 16)
    lead, width = VIEWS * one.chunk, one.dist_t["width"]
    spatial = 4 * lead * tokens * tokens * width
    blocks = one.dist_t["depth"] + one.dist_t["control_depth"]
    assert counted > without_attention.get_total_flops() + blocks * spatial


def test_parts_of_the_published_kind_are_counted() -> None:
    made = small_preset()
    kind = {"depth_code": "linear", "backbone": "svd", "unet": SMALL_UNET, "vae": SMALL_FRAME_VAE}
    one = type(made)(made.height, made.width, made.chunk, made.steps, dist_s=kind)
    unet, vae = count(one, "dist_s"), count(one, "dist_s_vae")
    assert unet["parameters_m"] > 0 and vae["parameters_m"] > 0 and vae["gflop"] > 0
    assert unet["parameters_m"] != vae["parameters_m"]
