"""Action following: boxes in depth images by hand, and a short run beside the oracle."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import action_following
from benchmarks.action_following import VEHICLE, Options, Shot, surroundings, through_box, vehicles
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import BASE, make_boxes, make_rig, render


def shot(boxes, shown) -> Shot:
    """The analytic street with the cars ``shown`` in the picture, where ``boxes`` are said to be."""
    pose = pose_from_xy_yaw(0, 0, 0)
    frame = render(make_rig(), pose, shown)
    pose[:3, 3] += BASE
    return Shot(frame, pose, boxes, 0.0)


class Red:
    """Takes what is painted red for a vehicle."""

    def look(self, rgb):
        return np.where((rgb == (255, 0, 0)).all(-1), VEHICLE, 0), None


def painted(seen: Shot, mask: np.ndarray) -> Shot:
    """With the masked pixels of camera 1 red."""
    rgb = seen.frame.rgb.copy()
    rgb[1][mask] = (255, 0, 0)
    return replace(seen, frame=replace(seen.frame, rgb=rgb))


def test_rays_through_a_box() -> None:
    boxes, rig = make_boxes((0, 12.0, 0.0, 0.0)), make_rig()
    pose = pose_from_xy_yaw(0, 0, 0)
    pose[:3, 3] += BASE
    camera = pose @ rig.ego_from_camera[1]
    enters, leaves = through_box(boxes, 0, camera, rig.intrinsics[1], 64, 112)
    middle = enters[32:36, 54:58]
    assert np.allclose(middle, 12.0 - 2.25 - camera[0, 3] + BASE[0]) and (leaves[enters > 0] > enters[enters > 0]).all()
    assert (through_box(boxes, 0, pose @ rig.ego_from_camera[4], rig.intrinsics[4], 64, 112)[1] == 0).all()


def test_a_car_that_stands_elsewhere_is_found_out() -> None:
    here, aside, gone = make_boxes((0, 12.0, 1.0, 0.1)), make_boxes((0, 12.0, 1.9, 0.1)), make_boxes()
    truth = [shot(here, here)]
    found = [vehicles([shot(here, shown)], truth, make_rig(), Red()) for shown in (here, aside, gone)]
    assert all(len(cars) == len(found[0]) >= 1 for cars in found)
    right, moved, missing = (float(np.mean([car["box"] for car in cars])) for cars in found)
    assert right > 0.9 and 0.3 < moved < 0.8 and missing < 0.2
    assert all(car["silhouette"] == 1.0 for car in found[0]) and found[1][0]["silhouette"] < 0.8
    hidden = replace(truth[0], frame=replace(truth[0].frame, depth=np.full_like(truth[0].frame.depth, 3.0)))
    assert vehicles([shot(here, here)], [hidden], make_rig(), Red()) == []


def test_a_car_that_is_drawn_elsewhere_is_found_out() -> None:
    """What the segmenter finds beside the box counts against it, but not within another vehicle's box."""
    rig, alone, two = make_rig(), make_boxes((0, 12.0, 0.0, 0.0)), make_boxes((0, 12.0, 0.0, 0.0), (1, 14.0, 3.0, 0.0))

    def hull(boxes, index) -> np.ndarray:
        here = shot(boxes, boxes)
        return through_box(boxes, index, here.pose @ rig.ego_from_camera[1], rig.intrinsics[1], 64, 112)[1] > 0

    def segmented(boxes, mask) -> float:
        here = shot(boxes, boxes)
        return vehicles([painted(here, mask)], [here], rig, Red())[0]["segmented"]

    car = hull(alone, 0)
    right, aside = segmented(alone, car), segmented(alone, np.roll(car, 3, 1))
    assert right > 0.95 and segmented(alone, np.zeros_like(car)) == 0.0
    width = int(car.any(0).sum())
    assert aside == pytest.approx((width - 3) / (width + 3), abs=0.05)
    assert segmented(alone, surroundings(car)) < 0.6
    assert segmented(two, hull(two, 0) | hull(two, 1)) == segmented(two, hull(two, 0))


@pytest.mark.medium
def test_a_short_run_stores_the_ceiling_beside_a_world(town_dataroot, tmp_path) -> None:
    out = tmp_path / "following.json"
    options = Options(scenes=1, seconds=2.0, dataroot=town_dataroot, split="val", worlds=("oracle", "splat"), out=out)
    action_following.main(options)
    found = json.loads(out.read_text())["worlds"]
    for path in action_following.PATHS:
        true, made = found["oracle"][path], found["splat"][path]
        assert true["motion"]["all"]["steps"] == made["motion"]["all"]["steps"] == 3
        assert true["motion"]["all"]["found"] == 3 and true["motion"]["all"]["metres"]["mean"] < 0.3
        assert {"unseen, log", "unseen, history"} < true["motion"].keys() and "unseen, log" in made["motion"]
        assert true["vehicles"]["count"] == made["vehicles"]["count"] and true["vehicles"]["silhouette"]["mean"] in (1.0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["following.json"]


def test_bad_input_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--worlds oracle and any of"):
        Options(worlds=("splat",))
