"""Which pixels count as seen, hidden or moving, and what a score of them says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.pixels import REGIONS, regions, silhouettes, with_reach
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.metrics.images.regional import score, specks
from tests.geometry.analytic import make_boxes, make_rig, render

RIG = make_rig(32, 56)
CARS = replace(make_boxes((7, 9, -2, 0.0), (9, 12, 3, 0.2)), velocity=np.array([[5.0, 0], [0, 0]]))


def seen_from(x: float, y: float = 0.0, boxes=CARS):
    return render(RIG, pose_from_xy_yaw(x, y, 0), boxes)


@pytest.fixture(scope="module")
def here():
    return seen_from(0.0)


def test_what_a_frame_shows_is_neither_hidden_nor_new(here):
    masks = regions(here, CARS, [here])
    assert tuple(masks) == REGIONS[: len(masks)] and masks["all"].all()
    assert masks["disoccluded"].mean() < 0.005 and masks["never_seen"].mean() < 0.005
    moving = masks["moving"]
    assert moving.any() and not (moving & (masks["disoccluded"] | masks["never_seen"])).any()
    parked = make_boxes((7, 9, -2, 0.0), (9, 12, 3, 0.2))
    assert not regions(here, parked, [here])["moving"].any()


def test_stepping_aside_uncovers_what_the_car_hid(here):
    parked = replace(CARS, velocity=np.zeros((2, 2)))
    aside = seen_from(0.0, 1.5)
    masks = regions(aside, parked, [here])
    assert 0.002 < masks["disoccluded"].mean() < 0.1
    assert not regions(aside, parked, [here, aside])["disoccluded"].any()
    behind_wheel = regions(aside, parked, [])
    assert behind_wheel["never_seen"].all() and not behind_wheel["disoccluded"].any()


def test_the_cars_own_body_is_in_no_region(here):
    """It moves with the cameras, so that by its points alone it was never there before."""
    body = np.zeros(here.depth.shape, bool)
    body[:, -8:] = True
    ahead = seen_from(6.0)
    shown = replace(ahead, depth=np.where(body, np.float32(0.8), ahead.depth))
    masks = regions(shown, CARS, [replace(here, body=body)])
    assert (masks["all"] == ~body).all() and not any((mask & body).any() for mask in masks.values())
    unknown = regions(shown, CARS, [here])
    assert (unknown["all"] & body).any() and ((unknown["disoccluded"] | unknown["never_seen"]) & body).any()


def test_the_sky_is_seen_from_everywhere_that_looks_at_it(here):
    ahead = seen_from(30.0)
    front = RIG.names.index("CAM_FRONT")
    sky = ahead.depth[front] >= 100
    masks = regions(ahead, CARS, [here])
    assert sky.mean() > 0.2
    assert not masks["never_seen"][front][sky].any()
    assert masks["disoccluded"][front][sky].mean() < 0.03  # behind the cars and the wall's edge


def test_a_perfect_frame_scores_perfectly_and_tiny_regions_are_left_out(here):
    masks = regions(here, CARS, [here])
    best = score(here, here, masks)
    assert set(best) == {"all", "moving", "silhouettes"} and best["all"]["specks"] == 0
    assert best["all"]["psnr"] == np.inf and best["all"]["ssim"] == pytest.approx(1)
    assert best["moving"]["abs_rel"] == 0 and best["moving"]["delta1"] == 1
    worse = score(replace(here, rgb=255 - here.rgb, depth=here.depth * np.float32(1.3)), here, masks)
    assert worse["all"]["psnr"] < 15 and worse["all"]["abs_rel"] == pytest.approx(0.3, abs=1e-4) and worse["all"]["delta1"] == 0


def test_silhouettes_are_around_outlines_and_not_on_roads_or_creases():
    road = np.broadcast_to(30.0 / np.arange(1, 31, dtype=np.float32)[:, None], (30, 40))  # linear in inverse depth
    crease = np.maximum(1 / road, 0.25)
    outline = np.array(road)
    outline[:, 20:] = 0.3 * road[:, 20:]
    found = silhouettes(np.stack([road, 1 / crease, outline]).astype(np.float32))
    assert not found[:2].any()
    assert found[2, :, 17:23].all() and not found[2, :, :17].any() and not found[2, :, 23:].any()


def test_specks_are_small_stand_out_and_are_not_texture():
    truth = np.full((1, 30, 40, 3), 90, np.uint8)
    truth[0, :, 20:] += np.uint8(100) * (np.arange(20) % 2 == 0)[:, None].astype(np.uint8)
    image = truth.copy()
    image[0, 5, 5] = 250  # one
    image[0, 10:12, 8:10] = 0  # another, of four pixels
    image[0, 20:24, 4:8] = 0  # too large
    image[0, 5, 30] += 60  # in texture
    assert specks(image, truth) == 2 and specks(truth, truth) == 0


def test_what_a_splat_reaches_and_what_not_are_all(here):
    masks = with_reach(regions(here, CARS, [here]), here.depth < 20)
    assert set(masks) == set(REGIONS)
    assert (masks["valid"] ^ masks["holes"] == masks["all"]).all() and masks["valid"].any() and masks["holes"].any()
