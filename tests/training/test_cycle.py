"""Cycle consistency: a model's side view is splatted back to the real cameras, and the real frame supervises it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.data.nuscenes import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.models.conditions import SplatImages
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.cycle import CLEARANCE, REACH, completed_by, cycle_samples, prepare_cycle, room, side_views
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.prepare import Keyframes
from dist4d_env.training.samples import CYCLE, SampleSettings, SampleStore, write_scene, write_settings

from .conftest import HEIGHT, WIDTH, small_preset

SETTINGS = SampleSettings(HEIGHT, WIDTH, chunk=2, noisy=0.0)


@pytest.fixture(scope="module")
def scene(town_dataroot: Path) -> Scene:
    dataset = open_dataset(town_dataroot)
    return dataset.load(dataset.scene_names("val")[0])


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a DiST-S that has learnt nothing: it completes a splat by its fill."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    DiSTSPipeline(DiSTSUNet(**small_preset().dist_s)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cycle(town_dataroot: Path, scene: Scene, untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("cycle")
    prepare_cycle(open_dataset(town_dataroot), [scene.name], folder, SETTINGS, str(untrained), workers=1)
    return SampleStore(folder)


def test_the_cycle_ends_at_the_real_frame(cycle: SampleStore, scene: Scene) -> None:
    (samples,) = cycle.scenes
    rows = [row for _, row in cycle.rows(CYCLE)]
    assert len(rows) == len(samples.kind) > len(samples.arrays["time"])  # both sides of most keyframes
    lost = []
    for row in rows:
        target = int(samples.target[row])
        real = scene.sensors.rgbd(target, HEIGHT, WIDTH)
        np.testing.assert_array_equal(samples.frame(target).rgb, real.rgb)
        back = samples.images(row)
        valid = back.masks[..., 0] > 0
        known = valid & (back.masks[..., 2] > 200)
        error = np.abs(back.base_rgb.astype(float) - real.rgb)
        assert error[known].mean() < 12, "what was seen from the side returns to where it came from"
        assert error[known].mean() < error[~valid].mean()
        lost.append(1 - valid.mean())
    assert 0 < np.mean(lost) < 0.5  # the way there and back leaves holes to fill


def test_the_way_back_starts_from_what_the_model_made(scene: Scene) -> None:
    """Nothing of the real frame reaches the condition except through the model's side view."""

    def grey(images: SplatImages, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full_like(images.base_rgb, 128), images.base_depth.astype(np.float32)

    arrays = cycle_samples(scene, SETTINGS, grey)
    assert set(np.unique(arrays["splat_base_rgb"][arrays["splat_masks"][..., 0] > 0])) == {128}
    assert len(np.unique(arrays["frame_rgb"])) > 100


def test_cycle_samples_repeat_and_continue(
    cycle: SampleStore, town_dataroot: Path, scene: Scene, untrained: Path, tmp_path: Path
) -> None:
    again = cycle_samples(scene, SETTINGS, completed_by(DiSTSPipeline.from_pretrained(untrained)))
    for name, array in cycle.scenes[0].arrays.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)
    dataset = open_dataset(town_dataroot)
    file = cycle.folder / scene.name / "kind.npy"
    kept = file.stat().st_mtime_ns
    prepare_cycle(dataset, [scene.name], cycle.folder, SETTINGS, str(untrained), workers=1)
    assert file.stat().st_mtime_ns == kept
    torch.manual_seed(1)
    DiSTSPipeline(DiSTSUNet(**small_preset().dist_s)).save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="did not make"):
        prepare_cycle(dataset, [scene.name], cycle.folder, SETTINGS, str(tmp_path / "other"), workers=1)


def test_samples_of_another_kind_are_not_taken_for_cycles(
    store: SampleStore, town_dataroot: Path, scene: Scene, untrained: Path
) -> None:
    with pytest.raises(DataError, match="did not make"):
        prepare_cycle(open_dataset(town_dataroot), [scene.name], store.folder, store.settings, str(untrained), workers=1)


def test_side_views_keep_out_of_things(scene: Scene) -> None:
    rig = scene.rig.at_size(HEIGHT, WIDTH)
    known = Keyframes.read(scene, (HEIGHT, WIDTH))
    source = known.sources()[2]
    found = list(side_views(known, 2, source, rig, np.random.default_rng(0)))
    shifts = [float((np.linalg.inv(known.poses[2]) @ poses @ np.linalg.inv(rig.ego_from_camera))[0, 1, 3]) for poses, _ in found]
    assert [np.sign(shift) for shift in shifts] == [1, -1]
    assert all(0 < abs(shift) <= REACH for shift in shifts)
    assert all(seen.valid.mean() > 0.5 for _, seen in found)
    walls = replace(known, frames=[replace(f, depth=np.full_like(f.depth, 0.3)) for f in known.frames])
    assert not list(side_views(walls, 2, walls.sources()[2], rig, np.random.default_rng(0)))


def test_room_ends_before_what_stands_beside_a_camera() -> None:
    cameras = np.array([[1.5, 0.5, 1.5], [0.0, -0.5, 1.5]])
    car = np.array([[1.6, 2.5, 1.4], [0.0, 0.5, 0.0], [5.0, 1.0, 1.5]])  # beside the first; ground; ahead of both
    assert room(car, cameras, 1.0) == pytest.approx(2.0 - CLEARANCE)
    assert room(car, cameras, -1.0) == np.inf


def test_stage_two_mixes_both_kinds(store: SampleStore, cycle: SampleStore) -> None:
    preset = small_preset()
    alone = DiSTSRecipe(preset, store, None, 4, 0)
    mixed = DiSTSRecipe(preset, store, None, 4, 0, extra=cycle)
    only = DiSTSRecipe(preset, store, None, 4, 0, extra=cycle, share=1.0)
    views = cycle.scenes[0].arrays["frame_rgb"].shape[1]
    real = {frame.tobytes() for frame in cycle.scenes[0].arrays["frame_rgb"].reshape(-1, HEIGHT, WIDTH, 3)}

    def from_cycle(recipe: DiSTSRecipe, step: int) -> int:
        truth = recipe.batch(step).truth
        images = ((truth[:, :3] + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
        return sum(np.ascontiguousarray(image).tobytes() in real for image in images)

    assert [from_cycle(alone, step) for step in range(3)] == [0, 0, 0]
    assert [from_cycle(only, step) for step in range(3)] == [4 * views] * 3
    counts = [from_cycle(mixed, step) // views for step in range(20)]
    assert 20 < sum(counts) < 60 and set(counts) > {1, 2, 3}
    one, two = mixed.batch(7), DiSTSRecipe(preset, store, None, 4, 0, extra=cycle).batch(7)
    assert torch.equal(one.truth, two.truth) and torch.equal(one.views.base, two.views.base)
    loss, _ = mixed.loss(one, 7)
    assert torch.isfinite(loss)


def test_a_store_without_cycles_is_no_second_stage(store: SampleStore) -> None:
    with pytest.raises(DataError, match="holds no cycle samples"):
        DiSTSRecipe(small_preset(), store, None, 2, 0, extra=store)


def test_extra_samples_of_another_size_wait_for_their_turn(store: SampleStore, cycle: SampleStore, tmp_path: Path) -> None:
    write_settings(tmp_path, replace(SETTINGS, height=HEIGHT * 2))
    write_scene(tmp_path, "scene", dict(cycle.scenes[0].arrays))
    recipe = DiSTSRecipe(small_preset(), store, None, 2, 0, extra=SampleStore(tmp_path), share=1.0)
    assert recipe.batch(0).truth.shape[0] == 2 * store.scenes[0].arrays["frame_rgb"].shape[1]
