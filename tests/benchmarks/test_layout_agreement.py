"""Looks of made pictures: the truth agrees with itself, and wrong, blurred or missing things cost what they should."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.layout_agreement import TRUTH, TrueStreet, appearance, look
from benchmarks.pictures import sheet
from benchmarks.rollouts import scene_at
from dist4d_env.data.open import open_dataset
from dist4d_env.models.segmenter import CLASSES, TownSegmenter, load_segmenter
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleWorld

pytestmark = pytest.mark.medium


TIMES = (1.0, 2.0)


@pytest.fixture(scope="module")
def segmenter() -> TownSegmenter:
    return load_segmenter()


@pytest.fixture(scope="module")
def scenes(town_dataroot: Path):
    dataset = open_dataset(town_dataroot)
    return [dataset.load(name) for name in dataset.scene_names("val")]


@pytest.fixture(scope="module")
def shown(scenes):
    """Per scene the true frames and classes at TIMES."""
    streets = [TrueStreet(scene, scene.rig.at_size(64, 112)) for scene in scenes]
    return [
        [street.show(scene_at(scene, time, scene.ego_pose, scene.ego_pose, 0.5, 0)) for time in TIMES]
        for street, scene in zip(streets, scenes, strict=True)
    ]


def test_the_street_is_the_oracles_and_knows_its_classes(scenes, shown):
    scene, (frame, classes) = scenes[0], shown[0][0]
    rig = scene.rig.at_size(64, 112)
    oracle = OracleWorld()
    states = oracle.reset([WorldStart(scene, rig, 0.0, 0)])
    ((_, same, _),) = oracle.step(states, [scene_at(scene, TIMES[0], scene.ego_pose, scene.ego_pose, 0.5, 0)])
    assert (frame.rgb == same.rgb).all() and (frame.depth == same.depth).all()
    assert classes.shape == frame.depth.shape and set(np.unique(classes)) <= set(range(len(CLASSES)))
    ahead = classes[rig.names.index("CAM_FRONT")]
    assert (ahead[:8] == CLASSES.index("background")).all()  # sky and facades
    assert np.isin(ahead[-12:], [CLASSES.index("drivable"), CLASSES.index("markings")]).mean() > 0.8


def runs_of(segmenter, shown, change):
    """Looks of every scene: the truth's, and those of the true pictures after ``change``."""
    return [
        (
            f"scene{k}",
            {
                TRUTH: [look(segmenter, frame.rgb, classes) for frame, classes in steps],
                "changed": [look(segmenter, change(frame.rgb), classes) for frame, classes in steps],
            },
        )
        for k, steps in enumerate(shown)
    ]


def test_the_truth_agrees_with_itself_and_a_swap_of_cameras_does_not(segmenter, shown):
    cells = appearance(runs_of(segmenter, shown, lambda rgb: np.roll(rgb, 2, 0)), 1.0)["all"]
    assert cells[TRUTH]["miou"]["mean"] > 0.5
    assert cells[TRUTH]["share_of_truth"]["mean"] == cells[TRUTH]["sharpness"]["mean"] == 1
    assert cells[TRUTH]["frechet"]["mean"] == pytest.approx(0, abs=1e-6)
    assert cells["changed"]["share_of_truth"]["mean"] < 0.7  # the same pictures at other places: as sharp, as real, disobedient
    assert cells["changed"]["sharpness"]["mean"] == pytest.approx(1)
    assert cells["changed"]["frechet"]["mean"] == pytest.approx(0, abs=1e-6)
    assert cells["changed"]["pictures"] == 6 * len(TIMES) * len(shown)


def test_blur_keeps_the_layout_and_loses_looks(segmenter, shown):
    def blurred(sigma: float):
        return lambda rgb: np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in rgb])

    little, much = (appearance(runs_of(segmenter, shown, blurred(s)), 1.0)["all"]["changed"] for s in (0.6, 2.0))
    assert little["share_of_truth"]["mean"] > 0.85
    assert 1 > little["sharpness"]["mean"] > much["sharpness"]["mean"]
    assert 0 < little["frechet"]["mean"] < much["frechet"]["mean"] / 2


def test_the_cars_own_body_is_not_looked_at(segmenter, shown):
    """It is a vehicle to the renderer, larger than all others, and worlds show it as it was recorded."""
    (frame, classes), body = shown[0][0], np.zeros(shown[0][0][1].shape, bool)
    body[:, -20:] = True
    painted = np.where(body[..., None], np.uint8(255), frame.rgb)
    own = np.where(body, CLASSES.index("vehicles"), classes)
    whole, street = look(segmenter, painted, own), look(segmenter, painted, own, body)
    assert sum(street["confusion"]) == (~body).sum() < sum(whole["confusion"])
    assert street["energy"] == look(segmenter, frame.rgb, own, body)["energy"] != whole["energy"]


def test_windows_seeds_and_scenes(segmenter, shown):
    (frame, classes), grey = shown[0][0], np.full_like(shown[0][0][0].rgb, 128)
    true, good, bad = ({"x": look(segmenter, rgb, classes)} for rgb in (frame.rgb, frame.rgb, grey))
    steps = {"truth": [true["x"]] * 8, "early": [bad["x"]] * 4 + [good["x"]] * 4}
    table = appearance([("a", {TRUTH: steps["truth"], "model": steps["early"]}), ("a", {"model": [good["x"]] * 8})], 1.0)
    assert set(table) == {"2-4s", "6-8s", "all"}
    half, whole = table["2-4s"]["model"]["share_of_truth"], table["6-8s"]["model"]["share_of_truth"]
    assert whole["mean"] == 1 and whole["std"] == 0 and whole["n"] == 2
    assert half["mean"] < 1 and half["std"] > 0 and np.isnan(half["scene_error"])
    assert set(appearance([("a", {TRUTH: steps["truth"][:3]})], 1.0)) == {"all"}  # it ended before four seconds


def test_a_sheet_has_a_column_per_time_and_two_lines_per_row(shown):
    frames = [frame for frame, _ in shown[0]]
    picture = sheet({"truth": frames, "splat": frames}, TIMES, (0, 1, 2))
    assert picture.shape == (2 * (26 + 2 * 64), 2 * 3 * 112 + 6, 3) and picture.dtype == np.uint8
    assert (picture[26 : 26 + 64, :112] == frames[0].rgb[0]).all()
    assert (picture[26 : 26 + 64, 3 * 112 + 6 : 4 * 112 + 6] == frames[1].rgb[0]).all()
