"""Depth scans: obstacles are found where they stand, in drawn pictures and in the town."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.learning.depth_scan import FRONT, LANES, REACH, SCAN_FEATURES, SCAN_SIZE, calibration_of, scan, scan_features
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.views import View, route_plans
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario

SIZE = (64, 112)
MIDDLE = SCAN_SIZE // 2


def ring() -> CameraRig:
    """Six level cameras 1.5 m above the ground, one every 60 degrees from the front left clockwise."""
    mounting = np.tile(np.eye(4), (6, 1, 1))
    for row, angle in enumerate(np.radians([60, 0, -60, -120, 180, 120])):
        cos, sin = np.cos(angle), np.sin(angle)
        mounting[row, :3, :3] = np.array([[sin, 0, cos], [-cos, 0, sin], [0, -1, 0]])
        mounting[row, :3, 3] = [1.0, 0.0, 1.5]
    intrinsics = np.tile(np.array([[90.0, 0, 56], [0, 90, 32], [0, 0, 1]]), (6, 1, 1))
    return CameraRig(RING, intrinsics, mounting, *SIZE)


VIEW = View(RING, "route", SIZE, True, calibration_of(ring()))


def picture(*walls: tuple[float, float, float, float]) -> dict[str, np.ndarray]:
    """Depth of flat ground and of upright walls across the ego's x axis: at x, from y to y, so many metres high."""
    direction, origin = VIEW.rays.direction, VIEW.rays.origin
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = -origin[:, 2] / direction[:, 2]
        depth = np.where(ground > 0, ground, np.inf)
        for x, right, left, height in walls:
            at = (x - origin[:, 0]) / direction[:, 0]
            y, z = (origin[:, axis] + at * direction[:, axis] for axis in (1, 2))
            depth = np.where((at > 0) & (y > right) & (y < left) & (z > 0) & (z < height), np.minimum(depth, at), depth)
    images = np.minimum(depth, 100.0).reshape(6, 1, *SIZE, 1).astype(np.float32)
    return {f"{name}/depth": image for name, image in zip(RING, images, strict=True)}


def route(radius: float = np.inf) -> dict[str, np.ndarray]:
    """Straight on, or a left turn of a radius."""
    ahead = 2.5 * np.arange(1, 21)
    if np.isinf(radius):
        return {"route": np.stack([ahead, 0 * ahead], -1)[None]}
    return {"route": np.stack([radius * np.sin(ahead / radius), radius * (1 - np.cos(ahead / radius))], -1)[None]}


def free(pictures: dict[str, np.ndarray], radius: float = np.inf) -> np.ndarray:
    return scan(stacked(pictures), VIEW.rays, RouteFrame.of(route(radius)))[0]


def stacked(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """(B, V, H, W, 1)."""
    return np.stack([pictures[f"{name}/depth"] for name in RING], 1)


def test_an_empty_road_is_free():
    assert free(picture()).tolist() == [REACH] * SCAN_SIZE


@drawn(st.floats(5, 40), st.integers(0, SCAN_SIZE - 1))
def test_a_wall_stands_in_its_strip_and_no_other(x, strip):
    seen = free(picture((x, LANES[strip] + 0.2, LANES[strip + 1] - 0.2, 1.6)))
    assert seen[strip] == pytest.approx(x - FRONT, abs=0.01)
    assert (np.delete(seen, strip) == REACH).all()


def test_the_nearer_one_counts_and_kerbs_and_bridges_do_not():
    seen = free(picture((30.0, -1, 1, 1.6), (18.0, -1, 1, 1.6), (9.0, -4, 4, 0.3)))
    assert seen[MIDDLE] == pytest.approx(18.0 - FRONT, abs=0.01)


def test_strips_follow_the_route_into_a_turn():
    """Straight ahead of the ego, but 8 m outside a left turn: not in the way; on the turn: in the way."""
    assert free(picture((24.0, -1, 1, 1.6)), 30.0)[MIDDLE] == REACH
    angle = 24.0 / 30.0
    x, y = 30.0 * np.sin(angle), 30.0 * (1 - np.cos(angle))
    assert free(picture((x, y - 1, y + 1, 1.6)), 30.0)[MIDDLE] == pytest.approx(24.0 - FRONT, abs=1.5)


def test_stray_pixels_are_no_obstacle():
    pictures = picture()
    front = pictures["CAM_FRONT/depth"]
    front[0, 34, [55, 56], 0] = 12.0  # two pixels, 1.4 m above the road
    assert free(pictures)[MIDDLE] == REACH
    front[0, 33, [55, 56], 0] = 12.0
    assert free(pictures)[MIDDLE] == pytest.approx(12.0 + 1.0 - FRONT, abs=0.01)


def test_a_batch_is_its_rows():
    one, two = picture((12.0, -1, 1, 1.6)), picture((25.0, -1, 1, 1.6))
    both = {key: np.concatenate([one[key], two[key]]) for key in one}
    routes = {"route": np.concatenate([route()["route"], route(30.0)["route"]])}
    together = scan(stacked(both), VIEW.rays, RouteFrame.of(routes))
    assert np.array_equal(together, [free(one), free(two, 30.0)])


def test_features_say_when_to_brake():
    ego = np.zeros((2, 10))
    ego[:, 0] = 10.0
    far, near = np.full(SCAN_SIZE, REACH), np.full(SCAN_SIZE, REACH)
    near[MIDDLE] = 11.0
    features = scan_features(ego, np.stack([far, near]))
    assert features.shape == (2, SCAN_FEATURES)
    assert features[1, -2:] == pytest.approx([1.1 / 5, 5.0 / 5])  # 1.1 s away; 5 m/s^2 stop within 10 m
    assert features[0, -1] < 0.25 < features[1, -1]


def test_views_that_cannot_be():
    with pytest.raises(ConfigError, match="name cameras="):
        View(scan=True)
    with pytest.raises(ConfigError, match="calibration"):
        View(RING, scan=True).observe({**picture(), **route(), "ego": np.zeros((1, 10))})
    assert VIEW == View(**{**vars(View(RING, scan=True)), "calibration": [list(row) for row in VIEW.calibration]})


def test_the_town_is_scanned_as_it_is(town_dataroot):
    """Where a vehicle stands squarely in the strip, the oracle's depth shows nothing free beyond its rear; and what is shown as
    an obstacle in the strip is at most a little nearer than the nearest box that reaches into it."""
    rig = open_dataset(town_dataroot, None, "val").load("town-val-0000").rig.at_size(*SIZE)
    view = View(RING, "route", SIZE, True, calibration_of(rig))
    venv = gym.make_vec(
        "DiST4D-nuScenes-v0", 2, vectorization_mode="vector_entry_point", dataroot=str(town_dataroot), scenes="val",
        world="oracle", size=SIZE, observation=("depth", "ego", "route", "agents"), action="trajectory", horizon=4.0,
        termination=(), scenario=Scenario("town-val-0000", name="blocked", edits=(Insert(category="car", ahead=18.0),)),
    )  # fmt: skip
    given, _ = venv.reset(seed=3)
    square = 0
    for _ in range(7):
        frame = RouteFrame.of(given)
        seen = view.observe(given)["scan"][:, MIDDLE] * 30.0
        rows = given["agents"].astype(float)
        along, left, heading = frame.project(rows[..., :2])
        turn = rows[..., 2] - heading
        length = np.abs(np.cos(turn)) * rows[..., 3] + np.abs(np.sin(turn)) * rows[..., 4]
        width = np.abs(np.sin(turn)) * rows[..., 3] + np.abs(np.cos(turn)) * rows[..., 4]
        begins = along - length / 2 - FRONT
        vehicle = (rows[..., 8] > 0.5) & (rows[..., 7] < 5) & (begins > 1.0) & (begins < 30.0)
        for member in range(2):
            for which in np.flatnonzero(vehicle[member] & (np.abs(left[member]) < 0.5)):
                square += 1
                assert seen[member] < begins[member, which] + 2.5
            reaching = (rows[member, :, 8] > 0.5) & (np.abs(left[member]) < width[member] / 2 + 1.5)
            reaching &= begins[member] + length[member] > 0
            if seen[member] < 25.0:
                assert reaching.any() and seen[member] > begins[member, reaching].min() - 1.5
        given, *_ = venv.step(route_plans(np.full((2, 2), [0.4, 0.0]), given["ego"][:, 0].astype(float), frame))
    venv.close()
    assert square > 0
