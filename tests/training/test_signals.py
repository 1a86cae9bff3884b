"""The painter of traffic lights learns what lamps look like, and that what was remembered of them may be old."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.errors import DataError
from dist4d_env.models.pretrained import load_model
from dist4d_env.models.signals import SignalPainter, signal_layout
from dist4d_env.scenes.lights import UNKNOWN
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.samples import SampleSettings, SampleStore, write_scene, write_settings
from dist4d_env.training.signals import SignalsRecipe, lamps_seen
from tests.models.made import small_preset

from .conftest import HEIGHT, WIDTH, made_scene

HEADS = np.array([[8.0, 1.0, 1.9, np.pi], [6.0, -1.2, 2.0, np.pi]])
COLOURS = np.array([(255, 20, 10), (255, 170, 20), (20, 240, 160)])


def with_lamps(arrays: dict[str, np.ndarray], states: np.ndarray) -> dict[str, np.ndarray]:
    """A made scene with two heads before its cameras; splats show the states of their references."""

    def lit(image: np.ndarray, target: int, states: np.ndarray) -> np.ndarray:
        poses = arrays["global_from_camera"][target]
        drawn = signal_layout(HEADS, states, arrays["intrinsics"], poses, HEIGHT, WIDTH).astype(float) / 255
        dark = np.where(drawn[..., 3:] > 0, 30.0, image)
        cover = drawn[..., :3]
        return (dark * (1 - cover.sum(-1, keepdims=True)) + cover @ COLOURS).astype(np.uint8)

    rows = list(zip(arrays["reference"], arrays["target"], strict=True))
    arrays["splat_base_rgb"] = np.stack(
        [lit(image, t, states[r]) for image, (r, t) in zip(arrays["splat_base_rgb"], rows, strict=True)]
    )
    arrays["frame_rgb"] = np.stack([lit(image, k, states[k]) for k, image in enumerate(arrays["frame_rgb"])])
    return arrays | {"heads": HEADS, "head_state": states.astype(np.int8)}


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder: Path = tmp_path_factory.mktemp("lit")
    write_settings(folder, SampleSettings(HEIGHT, WIDTH, chunk=2))
    generator = np.random.default_rng(0)
    for seed in range(6):
        states = np.cumsum(generator.integers(0, 2, (4, 2)), 0) % 3 + 1
        write_scene(folder, f"scene-{seed}", with_lamps(made_scene(seed), states))
    return SampleStore(folder)


def test_it_learns_to_show_the_state_of_now(lit: SampleStore, tmp_path: Path) -> None:
    recipe = SignalsRecipe(small_preset(), lit, None, 8, 0)
    before = recipe.validate()
    assert before["stale_painted"] == pytest.approx(before["stale_before"]), "untrained, it leaves pictures as they are"
    after = train(recipe, LoopOptions(tmp_path, 100, 3e-3, warmup=10, decay=0.5, ema=0.9))
    assert after["stale_painted"] > after["stale_before"] + 4 and after["steady_painted"] > 26
    assert load_model(SignalPainter, tmp_path / "weights" / "signals").config.depth_code == "log"
    assert recipe.pictures()["heads"].ndim == 3


def test_samples_where_a_seen_lamp_changed_are_known(lit: SampleStore) -> None:
    steady, stale = lamps_seen(lit)
    assert steady and stale and not set(steady) & set(stale)
    for number, row, _ in (*steady, *stale):
        scene = lit.scenes[number]
        before, now = (scene.head_states(int(k)) for k in (scene.reference[row], scene.target[row]))
        assert ((number, row) in {place[:2] for place in stale}) == (before != now).any()


def test_batches_follow_from_their_step(lit: SampleStore) -> None:
    recipe = SignalsRecipe(small_preset(), lit, None, 3, 0)
    first, again, other = recipe.batch(0), recipe.batch(0), recipe.batch(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image) and first.image.shape == (3, 4, HEIGHT, WIDTH)
    assert first.signals.max() > 0.3


def test_streets_without_lights_are_refused(store: SampleStore, tmp_path: Path) -> None:
    assert not store.scenes[0].signals(0).any() and not len(store.scenes[0].head_states(0))
    with pytest.raises(DataError, match="no lamps are seen"):
        SignalsRecipe(small_preset(), store, None, 1, 0)
    write_settings(tmp_path, SampleSettings(HEIGHT, WIDTH, chunk=2))
    write_scene(tmp_path, "dark", with_lamps(made_scene(0), np.full((4, 2), UNKNOWN)))
    with pytest.raises(DataError, match="no lamps are seen"):
        lamps_seen(SampleStore(tmp_path))
