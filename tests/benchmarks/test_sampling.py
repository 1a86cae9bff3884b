"""Fewer evaluations are held against the most on the same noise, and what is judged is what the networks made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sampling import Options, frechet, losses
from benchmarks.side_by_side import aside, closed_loop, completion, one_steps, tables
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.worlds.factory import make_world


def cell(psnr: float) -> dict[str, dict[str, float]]:
    return {"all": {"psnr": psnr, "ssim": psnr / 100, "delta1": 0.9, "share": 1.0}}


UNITS = [
    {"one_step": {"splat": cell(20), "1": cell(23), "30": cell(24)}, "view": {"splat": cell(20), "1": cell(26), "30": cell(25)}},
    {"one_step": {"splat": cell(22), "1": cell(26), "30": cell(26)}},
]


def test_losses_are_paired_and_positive_where_less_is_worse():
    rows = losses(UNITS, {"one_step": {"1": 1.5, "30": 1.0}, "view": {"1": 0.9, "30": 1.0}}, "30")
    assert set(rows["one_step"]) == {"1"}
    assert rows["one_step"]["1"]["psnr"] == {"mean": 0.5, "std": pytest.approx(np.sqrt(0.5)), "n": 2}
    assert rows["one_step"]["1"]["frechet"] == pytest.approx(0.5)
    assert rows["view"]["1"]["psnr"]["mean"] == -1 and rows["view"]["1"]["frechet"] == pytest.approx(-0.1)


def test_a_protocol_that_a_scene_lacks_is_averaged_over_the_others():
    table = tables(UNITS)
    assert table["one_step"]["mean"]["all"]["splat"]["psnr"] == {"mean": 21, "std": pytest.approx(np.sqrt(2)), "n": 2}
    assert table["view"]["mean"]["all"]["1"]["psnr"]["n"] == 1


def test_distances_are_over_the_features_of_all_units_together():
    rng = np.random.default_rng(0)
    truth, far = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 2
    units = [{"one_step": {"truth": truth[i : i + 20], "1": far[i : i + 20], "30": truth[i : i + 20]}} for i in (0, 20)]
    rows = frechet(units)["one_step"]
    assert set(rows) == {"1", "30"} and rows["30"] == pytest.approx(0, abs=1e-9) and 8 < rows["1"] < 16


def test_one_number_of_evaluations_is_no_comparison():
    with pytest.raises(ConfigError, match="two different"):
        Options(evaluations=(4, 4))
    with pytest.raises(ConfigError, match="from 1 on"):
        Options(evaluations=(0, 4))


@pytest.fixture(scope="module")
def scene(town_dataroot: Path):
    dataset = open_dataset(town_dataroot)
    return dataset.load(dataset.scene_names("val")[0])


def test_evaluations_reach_the_network_and_noise_is_the_seeds(scene):
    torch.manual_seed(0)
    unet = DiSTSUNet(widths=(8, 8), blocks=1)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    pipeline = DiSTSPipeline(unet)
    asked = []
    unet.net.register_forward_hook(lambda module, told, made: asked.append(float(told[1][0, 0])))
    ways = {"one": completion(pipeline, 1), "again": completion(pipeline, 1), "four": completion(pipeline, 4)}
    views = aside(ways, scene, seed=0, instants=1)
    assert 1 <= len(views) <= 2
    assert asked == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25] * len(views)
    for scores, frames in views:
        assert np.array_equal(frames["one"].rgb, frames["again"].rgb) and not np.array_equal(
            frames["one"].rgb, frames["four"].rgb
        )
        assert set(scores) == {"splat", "one", "again", "four"} and scores["one"] == scores["again"]


def test_two_metres_aside_is_judged_at_the_moved_cameras(scene):
    def filled(splat, seed):
        return splat.filled()

    ((near, frames), *_), ((far, moved), *_) = (aside({"filled": filled}, scene, 0, 1, metres) for metres in (0.25, 2.0))
    assert near["filled"]["all"]["psnr"] > far["filled"]["all"]["psnr"] + 1
    assert far["filled"] == far["splat"]
    apart = frames["truth"].global_from_camera[:, :3, 3] - moved["truth"].global_from_camera[:, :3, 3]
    assert np.linalg.norm(apart, axis=1) == pytest.approx(1.75, abs=1e-6)


def test_steps_are_scored_at_their_own_times(scene):
    splat = {"splat": make_world("dist4d", weights="splat", memory="history")}
    steps = closed_loop(splat, scene, seed=0, duration=2.0)
    assert [float(frames["truth"].time[0]) for _, frames in steps] == [2.5, 3.0, 3.5, 4.0]
    assert steps[0][0]["splat"]["all"]["psnr"] > steps[-1][0]["splat"]["all"]["psnr"]
    one = one_steps(splat, scene, seed=0, starts=2)
    assert len(one) == 2 and all(
        np.array_equal(frames["splat"].global_from_camera, frames["truth"].global_from_camera) for _, frames in one
    )
    with pytest.raises(ConfigError, match="shorter --duration"):
        closed_loop(splat, scene, seed=0, duration=20.0)
