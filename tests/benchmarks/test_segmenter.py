"""The town segmenter: its classes, its training from class images, and what the shipped one sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import judges
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.metrics.images.accuracy import confusion, intersection_over_union
from dist4d_env.models.pretrained import SHIPPED, WEIGHTS_FILE
from dist4d_env.models.segmenter import (
    CLASSES,
    TRAINED_AT,
    TownSegmenter,
    layout_classes,
    load_segmenter,
    pictures,
    segmenter_for,
)
from dist4d_env.town.textures_ground import SEMANTICS
from dist4d_env.town.writer import write_dataset
from dist4d_env.training.segmenter import Options, SegmenterRecipe, blurred, load_pictures, run

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three keyframes of one val scene, with class images."""
    out = tmp_path_factory.mktemp("semantics") / "town"
    return write_dataset(out, "val", count=1, size=(64, 112), duration=1.0, semantics=True, workers=1)


def test_every_class_of_the_renderer_has_its_place() -> None:
    found = {name: CLASSES[layout_classes(np.array(k, np.uint8))] for k, name in enumerate(SEMANTICS)}
    assert found["road"] == "drivable" and found["crossing"] == found["marking"] == "markings"
    assert found["vehicle"] == "vehicles" and found["two_wheeler"] == found["pedestrian"] == "people"
    assert {found[name] for name in ("sky", "sidewalk", "building", "cone", "barrier", "terrain")} == {"background"}


def test_pictures_come_with_their_classes(town: Path) -> None:
    rgb, classes = load_pictures(town)
    assert rgb.shape == (18, 64, 112, 3) and classes.shape == (18, 64, 112) and classes.max() < len(CLASSES)
    road = rgb[classes == CLASSES.index("drivable")].astype(int)
    assert np.ptp(road.mean(0)) < 25 < road.mean()  # asphalt is grey


def test_batches_are_their_seeds(town: Path) -> None:
    data = load_pictures(town)
    first, second, other = (SegmenterRecipe(data, data, 4, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.batch(3), second.batch(3), strict=True))
    assert not torch.equal(first.batch(3)[0], first.batch(4)[0]) and not torch.equal(first.batch(3)[0], other.batch(3)[0])
    assert not torch.equal(first.batch(3)[0], first.batch(3, rank=1)[0])
    images, truth = first.batch(0)
    assert images.shape == (4, 3, 64, 112) and images.abs().max() <= 1 and truth.dtype == torch.int64


def test_it_learns_and_its_run_can_be_loaded(town: Path, tmp_path: Path) -> None:
    data = load_pictures(town)
    recipe = SegmenterRecipe(data, data, 4, 0)
    before = recipe.loss(recipe.batch(0), 0)[0].item()
    assert run(Options(town, town, tmp_path / "run", steps=40, batch=4, learning_rate=3e-3)) == 0
    model = load_segmenter(tmp_path / "run" / "weights" / "segmenter")
    recipe.model.load_state_dict(model.state_dict())
    assert recipe.loss(recipe.batch(0), 0)[0].item() < 0.7 * before
    assert set(recipe.validate()) == {"miou", "miou_blurred", *CLASSES}
    assert recipe.pictures()["val"].shape == (3 * 64, 4 * 112, 3)
    with pytest.raises(ConfigError, match="--resume"):
        run(Options(town, town, tmp_path / "run"))


def test_windows_hold_pictures_and_their_classes_together(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist4d_env.training.segmenter.augmented", lambda images, *_: images)
    rgb, classes = load_pictures(town)
    painted = np.repeat(classes[..., None] * 50, 3, -1)  # a picture of its own classes
    recipe = SegmenterRecipe((painted, classes), (painted, classes), 4, 0, crop=(32, 48))
    images, truth = recipe.batch(1)
    assert images.shape == (4, 3, 32, 48) and truth.shape == (4, 32, 48)
    assert torch.equal(((images[:, 0] + 1) * 127.5).round(), truth * 50.0)
    assert not torch.equal(images, recipe.batch(2)[0]) and torch.equal(images, recipe.batch(1)[0])
    people = (truth == CLASSES.index("people")).sum((1, 2))
    assert (people[:2] > 0).all()  # the crowded half of the batch
    with pytest.raises(ConfigError, match="65x48 do not fit into pictures of 64x112"):
        SegmenterRecipe((rgb, classes), (rgb, classes), 4, 0, crop=(65, 48))


def test_large_patches_in_windows_learn_too(town: Path, tmp_path: Path) -> None:
    options = Options(town, town, tmp_path / "run", steps=40, crop="48x64", patch=4, blur=3.0, batch=4, learning_rate=3e-3)
    assert run(options) == 0
    model = load_segmenter(tmp_path / "run" / "weights" / "segmenter")
    rgb, truth = load_pictures(town)
    found, _ = model.look(rgb)
    assert found.shape == truth.shape
    assert model.features(pictures(rgb[:1]))[0].shape == (1, 32, 16, 28)
    assert intersection_over_union(confusion(found, truth, len(CLASSES)))[CLASSES.index("background")] > 0.7


def test_a_town_without_class_images_is_refused(town_dataroot: Path) -> None:
    with pytest.raises(DataError, match="--semantics"):
        load_pictures(town_dataroot)


def test_blur_keeps_the_mean_and_lowers_contrast() -> None:
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    soft = blurred(images, 1.0)
    assert soft.shape == images.shape and soft.mean().item() == pytest.approx(images.mean().item(), abs=0.01)
    assert soft.std() < 0.5 * images.std()
    torch.testing.assert_close(blurred(torch.full((1, 3, 16, 16), 0.3), 1.2), torch.full((1, 3, 16, 16), 0.3))


def test_a_picture_looks_the_same_among_others(town: Path) -> None:
    rgb, _ = load_pictures(town)
    model = TownSegmenter(widths=(8, 16)).eval()
    classes, features = model.look(rgb[:3])
    alone = model.look(rgb[1:2])
    assert features.shape == (3, 16) and (classes[1] == alone[0][0]).all() and (features[1] == alone[1][0]).all()
    assert (model(pictures(rgb[1:2]))[0].argmax(0).numpy() == classes[1]).all()


@pytest.mark.parametrize("height", TRAINED_AT)
def test_the_shipped_ones_find_road_paint_and_vehicles(town: Path, tmp_path: Path, height: int) -> None:
    if height != 64:
        town = write_dataset(tmp_path / "town", "val", count=1, size=(height, 400), duration=0.5, semantics=True, workers=1)
    rgb, truth = load_pictures(town)
    found, small = (
        intersection_over_union(confusion(load_segmenter(folder).look(rgb)[0], truth, len(CLASSES)))
        for folder in (segmenter_for((height, 400)), None)
    )
    for name, least in (("background", 0.9), ("drivable", 0.75), ("markings", 0.3), ("vehicles", 0.4)):
        assert found[CLASSES.index(name)] > least, (name, found)
    assert (found[:4] >= small[:4]).all()  # at its size none sees better


def test_the_judge_of_a_size_is_the_nearest_and_small() -> None:
    sizes = {(32, 56): 64, (64, 112): 64, (96, 168): 64, (128, 224): 224, (224, 400): 224, (448, 800): 224}
    assert {size: segmenter_for(size) for size in sizes} == {size: SHIPPED / TRAINED_AT[h] for size, h in sizes.items()}
    assert all((SHIPPED / name / WEIGHTS_FILE).stat().st_size < 1e6 for name in TRAINED_AT.values())


def test_the_numbers_of_a_card(town: Path, tmp_path: Path) -> None:
    result = judges.main(judges.Options(town, town, weights="tiny", out=tmp_path / "judges.json"))
    apart = result["frechet"]
    assert result["segmenter"] == "segmenter" and result["pictures"] == 18 and set(result["iou"]) == set(CLASSES)
    assert result["miou"] > result["miou_blurred"] - 0.05
    assert apart["noise of 3 %"] < apart["blurred by 1 pixels"] < apart["a quarter of the resolution"]
    assert apart["blurred by 0.7 pixels"] < apart["blurred by 1 pixels"]
    assert apart["another town"] > 0 and apart["through the codec"] > 0 and (tmp_path / "judges.json").exists()
