"""The weights that ship: whole, small, and better than the splat on streets they were not trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.lights import Oracle, heads_of
from benchmarks.rollouts import logged, scene_at
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.metrics.images.accuracy import psnr
from dist4d_env.models.conditions import scene_attributes
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import PRESETS, preset
from dist4d_env.models.pretrained import SHIPPED, load_model
from dist4d_env.models.signals import SignalPainter, signal_layout
from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.training.prepare import prepare
from dist4d_env.training.samples import NEXT, SPACE, SampleSettings, SampleStore, SceneSamples

LIMIT = 16e6


@pytest.fixture(scope="module")
def samples(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> SceneSamples:
    """A val scene's splats, its own frames hidden, without depth noise."""
    dataset = open_dataset(town_dataroot)
    folder = tmp_path_factory.mktemp("samples")
    settings = SampleSettings(64, 112, chunk=1, chunk_every=1, between=0.0, flawed=0.0)
    prepare(dataset, dataset.scene_names("val")[:1], folder, settings, workers=1)
    return SampleStore(folder).scenes[0]


def gain(made: np.ndarray, samples: SceneSamples, row: int) -> float:
    """Decibels by which generated pictures are nearer to the truth than the filled splat."""
    truth, base = samples.frame(int(samples.target[row])).rgb, samples.images(row).base_rgb
    return psnr(made, truth) - psnr(base, truth)


def test_small_and_documented() -> None:
    for folder in (path for path in SHIPPED.iterdir() if path.is_dir()):
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < LIMIT
        head = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
        assert head["license"] == "apache-2.0" and head["library_name"] == "dist4d_env"


@pytest.mark.parametrize("part", ["codec", "dist_t", "composer", "dist_s"])
def test_configuration_is_the_presets(part: str) -> None:
    config = json.loads((SHIPPED / "tiny" / part / "config.json").read_text())
    for name, value in getattr(preset("tiny"), part).items():
        assert config[name] == (list(value) if isinstance(value, tuple) else value)


def test_presets_name_what_ships() -> None:
    assert {path.parent.name for path in SHIPPED.glob("*/dist_t")} <= set(PRESETS)


def test_dist_t_beats_the_splat_one_step_ahead(samples: SceneSamples) -> None:
    pipeline = DiSTTPipeline.from_pretrained("tiny")
    rows = np.flatnonzero(np.array(samples.kind) == NEXT)[::2]
    gains = []
    for row in rows:
        reference = samples.frame(int(samples.reference[row]))
        made = pipeline([reference], [[samples.conditions(row)]], generator=torch.Generator().manual_seed(0))
        gains.append(gain(made.rgb[0, 0], samples, row))
    assert np.mean(gains) > 0.5, gains


def test_dist_s_beats_the_splat_of_a_hidden_frame(samples: SceneSamples) -> None:
    pipeline = DiSTSPipeline.from_pretrained("tiny")
    rows = np.flatnonzero(np.array(samples.kind) == SPACE)[::3]
    made = [pipeline([samples.images(row)], generator=torch.Generator().manual_seed(0)) for row in rows]
    gains = [gain(one.rgb[0], samples, row) for one, row in zip(made, rows, strict=True)]
    assert np.mean(gains) > 0.5, gains


def test_painted_lights_show_the_state_that_they_are_told(town_dataroot: Path) -> None:
    """True pictures from before stop lines, all lights in one state, painted for another: nearest to the truth of that one."""
    dataset, painter, rows = open_dataset(town_dataroot), load_model(SignalPainter, SHIPPED / "tiny" / "signals"), []
    for name in dataset.scene_names("val"):
        scene = dataset.load(name)
        oracle = Oracle(scene, scene.rig.at_size(64, 112), 0.0)
        for (left, right), (before, state) in zip(
            scene.lights.stop_line[:4], ((RED, GREEN), (GREEN, AMBER), (AMBER, RED), (RED, AMBER)), strict=True
        ):
            (x, y), along = (left + right) / 2, left - right
            pose = pose_from_xy_yaw(x, y, float(np.arctan2(-along[0], along[1]))) @ pose_from_xy_yaw(-8.0, 0.0, 0.0)
            lights, old = (np.full(len(scene.lights), s, np.int8) for s in (state, before))
            now = replace(scene_at(scene, 1.0, lambda _, pose=pose: pose, logged(scene), 0.5, 0), lights=lights)
            frame = oracle.show(now, old)
            signals = signal_layout(*heads_of(scene, lights), frame.intrinsics, frame.global_from_camera, 64, 112)
            rows += oracle.rows(now, painter.paint(frame, signals, scene_attributes(scene.description)), {})
    heads = [row["right"] for row in rows if row.get("large")]
    assert len(heads) >= 5 and np.mean(heads) > 0.75
