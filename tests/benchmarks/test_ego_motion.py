"""The ego motion found in pictures of exactly known motion."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ego_motion import Matches, difference, ego_motion, rigid_motion, robust_motion
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import apply, pose_from_xy_yaw
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleWorld
from tests.geometry.analytic import make_rig

MOTION = pose_from_xy_yaw(1.2, -0.1, np.radians(1.5))


def test_a_rigid_motion_is_found_exactly_among_matches_half_of_which_are_wrong() -> None:
    random, rig = np.random.default_rng(0), make_rig()
    view = np.repeat(np.arange(6), 40)
    pixel = random.uniform((5, 5), (107, 59), (240, 2))
    depth = random.uniform(4, 40, 240)
    camera = np.column_stack([(pixel - (56, 32)) / (0.8 * 112) * depth[:, None], depth])
    poses = rig.ego_from_camera[view]
    after = np.einsum("nij,nj->ni", poses[:, :3, :3], camera) + poses[:, :3, 3]
    before = apply(MOTION, after)
    assert np.allclose(rigid_motion(before, after), MOTION)
    wrong = random.permutation(240)[:120]
    before[wrong] += random.uniform(-5, 5, (120, 3))
    found = robust_motion(Matches(view, before, after, pixel), rig)
    assert found.motion is not None and np.allclose(found.motion, MOTION, atol=1e-5)
    assert found.matches == 240 and 120 <= found.agree < 150
    few = Matches(view, before, after, pixel).take(np.arange(5))
    assert robust_motion(few, rig).motion is None


def test_differences_of_motions() -> None:
    metres, degrees = difference(MOTION, pose_from_xy_yaw(1.2, 0.2, np.radians(-179)))
    assert metres == pytest.approx(0.3) and degrees == pytest.approx(179.5)


def frames(scene: Scene, size: tuple[int, int]) -> tuple[RGBDFrame, RGBDFrame]:
    """The true pictures before and after ``MOTION``, agents where they are recorded at these times."""
    rig = scene.rig.at_size(*size)
    world = OracleWorld()
    (state,) = world.reset([WorldStart(scene, rig, 0.0, 0)])
    shown = []
    for time, pose in ((1.0, scene.ego_pose(1.0)), (1.2, scene.ego_pose(1.0) @ MOTION)):
        boxes: Boxes = scene.boxes(time)
        now = SceneAt(time, pose, boxes, np.zeros(0), np.zeros((0, 4, 4)), ())
        ((_, frame, _),) = world.step([state], [now])
        shown.append(frame)
    return shown[0], shown[1]


@pytest.mark.medium
def test_a_known_motion_is_found_in_true_pictures(town_dataroot) -> None:
    scene = open_dataset(town_dataroot).load("town-val-0000")
    for size, metres, degrees in (((64, 112), 0.05, 0.2), ((224, 400), 0.02, 0.1)):
        first, second = frames(scene, size)
        found = ego_motion(first, second, scene.rig.at_size(*size))
        assert found.motion is not None and found.agree > 50
        off = difference(found.motion, MOTION)
        assert off[0] < metres and off[1] < degrees, (size, off, found)
        still = ego_motion(first, first, scene.rig.at_size(*size))
        assert still.motion is not None and np.allclose(still.motion, np.eye(4), atol=1e-3)
    nothing = np.zeros(first.depth.shape, bool)
    assert ego_motion(first, second, scene.rig.at_size(224, 400), (nothing, nothing)).motion is None
