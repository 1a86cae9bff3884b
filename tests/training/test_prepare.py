"""Training samples: nothing shows the network its answer, everything is repeatable, nothing is made twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.models.presets import PRESETS
from dist4d_env.training.cli import TrainDiSTS
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.options import DataOptions
from dist4d_env.training.prepare import Keyframes, plan, prepare, scene_samples
from dist4d_env.training.samples import BETWEEN, NEXT, SPACE, SampleSettings, SampleStore, write_scene, write_settings
from tests.models.made import small_preset

from .conftest import made_scene

SETTINGS = SampleSettings(32, 48, chunk=2, chunk_every=1, flawed=0.0)


@pytest.mark.parametrize("keyframes", [3, 9])
def test_the_target_is_never_among_its_sources(keyframes: int) -> None:
    plans = plan(keyframes, SETTINGS, np.random.default_rng(0))
    assert {one.kind for one in plans} == {NEXT, BETWEEN, SPACE}
    assert all(one.target not in one.sources for one in plans)
    assert all(max(one.sources) == one.reference < one.target for one in plans if one.kind == NEXT)


def test_strides_spread_the_sources_of_dense_keyframes() -> None:
    plans = plan(41, SampleSettings(32, 48, chunk=2, strides=(1, 5)), np.random.default_rng(0))
    away = {kind: {abs(s - a.target) for a in plans if a.kind == kind for s in a.sources} for kind in (NEXT, BETWEEN, SPACE)}
    assert away == {NEXT: {1, 2, 3, 4, 5, 10, 15, 20}, BETWEEN: {1, 2, 5, 10}, SPACE: {1, 2, 5, 10}}
    assert all(0 <= k < 41 and k != one.target for one in plans for k in one.sources)
    assert all(0 <= one.reference < one.target for one in plans if one.kind != SPACE)
    with pytest.raises(ConfigError, match="strides must be"):
        SampleSettings(32, 48, strides=(0,))


@pytest.mark.medium
def test_samples_of_a_town_scene(town_dataroot: Path, tmp_path: Path) -> None:
    dataset = open_dataset(town_dataroot)
    name = dataset.scene_names("val")[0]
    prepare(dataset, [name], tmp_path, SETTINGS, workers=1)
    (scene,) = SampleStore(tmp_path).scenes
    again = scene_samples(dataset.load(name), SETTINGS)
    for key, array in scene.arrays.items():
        np.testing.assert_array_equal(array, again[key], err_msg=key)
    # A splat of the past is nearer to the next frame than the past itself is, in colour and in depth.
    rows = np.flatnonzero(np.array(scene.kind) == NEXT)
    assert len(rows)
    for row in rows:
        reference, truth = scene.frame(int(scene.reference[row])), scene.frame(int(scene.target[row]))
        shown = scene.images(row)
        moved = np.abs(reference.global_from_camera - truth.global_from_camera).max() > 0.5
        if moved:
            target = truth.rgb.astype(float)
            assert np.abs(shown.base_rgb - target).mean() < np.abs(reference.rgb - target).mean()


@pytest.mark.medium
def test_another_data_set_is_mixed_in(town_dataroot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small-test", small_preset())
    data = DataOptions(dataroot=town_dataroot, split="val", val_split="none", scenes=1, workers=1, also=town_dataroot)
    recipe = TrainDiSTS(tmp_path, preset="small-test", data=data, strides=(1, 2)).recipe()
    assert isinstance(recipe, DiSTSRecipe)
    stores = recipe.samples.stores
    assert [(store.folder.name, store.settings.strides) for store in stores] == [("train", (1, 2)), ("also", (1, 2))]
    away = [{abs(int(s.target[k]) - int(s.reference[k])) for s in store.scenes for k in range(len(s.kind))} for store in stores]
    assert all(2 in one for one in away) and all(len(store.scenes) == 1 for store in stores)
    recipe.batch(0)


def test_a_run_learns_from_its_own_scenes_in_a_shared_folder(town_dataroot: Path, tmp_path: Path) -> None:
    names = open_dataset(town_dataroot).scene_names("val")
    data = DataOptions(dataroot=town_dataroot, split="val", scenes=1, workers=1, samples=tmp_path / "shared")
    options = TrainDiSTS(tmp_path / "run", data=data)
    for kind, settings in (("train", options.settings()), ("val", options.settings(exact=True))):
        write_settings(tmp_path / "shared" / kind, settings)
        for seed, name in enumerate([*reversed(names), "of-another-run"]):
            write_scene(tmp_path / "shared" / kind, name, made_scene(seed))
    stores = [*options.training_stores(), options.validation_store()]
    assert [[scene.folder.name for scene in store.scenes] for store in stores if store] == [names[:1]] * 2
    folder = tmp_path / "shared" / "train"
    assert [scene.folder.name for scene in SampleStore(folder, [*names, *names]).scenes] == sorted(names)
    assert len(SampleStore(folder).scenes) == 3
    with pytest.raises(DataError, match="holds no samples of scene-9"):
        SampleStore(folder, ["scene-9", *names])


def test_a_finished_scene_is_made_again_only_where_its_files_have_changed(town_dataroot: Path, tmp_path: Path) -> None:
    dataset = open_dataset(town_dataroot)
    names = dataset.scene_names("val")[:1]
    prepare(dataset, names, tmp_path, SETTINGS, workers=1)
    kept = (tmp_path / names[0] / "kind.npy").stat().st_mtime_ns
    prepare(dataset, names, tmp_path, SETTINGS, workers=1)
    assert (tmp_path / names[0] / "kind.npy").stat().st_mtime_ns == kept
    depth = dataset.load(names[0]).sensors.find_depth(1, 0)
    before = depth.stat()
    os.utime(depth, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    try:
        prepare(dataset, names, tmp_path, SETTINGS, workers=1)
    finally:
        os.utime(depth, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tmp_path / names[0] / "kind.npy").stat().st_mtime_ns > kept
    assert not list(tmp_path.glob(".*-*"))
    with pytest.raises(DataError, match="other settings"):
        prepare(dataset, names, tmp_path, SampleSettings(32, 48, chunk=3), workers=1)


def test_an_empty_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"settings\.json is missing"):
        SampleStore(tmp_path)


MANY = """
import resource, sys
from pathlib import Path
from dist4d_env.training.samples import SampleStore
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
store = SampleStore(Path(sys.argv[1]))
for scene in store.scenes:
    assert all(len(array) for array in scene.arrays.values()), scene.folder
    assert scene.images(0).masks.shape == (3, 32, 48, 4) and scene.frame(1).depth.shape == (3, 32, 48)
print(len(store.scenes))
"""


def test_many_scenes_need_few_open_files(tmp_path: Path) -> None:
    """Eight scenes of eighteen arrays each, in a process that may open 64 files."""
    write_settings(tmp_path, SETTINGS)
    for seed in range(8):
        write_scene(tmp_path, f"scene-{seed}", made_scene(seed))
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "8\n", done.stderr


def test_too_few_keyframes_are_told_by_what_is_missing(tiny_root: Path, broken_root: Path) -> None:
    """Depth is not advised where it would not help."""
    with pytest.raises(DataError, match=r"has 4 keyframes with images, 0 of them with depth; .* 3 or more.*dist4d_env prepare"):
        Keyframes.read(open_dataset(tiny_root).load("scene-0103"), SETTINGS)
    scene = open_dataset(broken_root).load("scene-0103")
    for keyframe in (1, 3):
        scene.sensors.image_path(keyframe, 2).unlink()
    with pytest.raises(
        DataError, match=r"has 2 keyframes with images, 0 of them with depth.*: choose longer scenes, or fetch"
    ) as told:
        Keyframes.read(scene, SETTINGS)
    assert "prepare" not in str(told.value)
