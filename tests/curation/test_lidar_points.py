"""LiDAR gathered over time: what moves goes with its box, what stands stays, the ego's own body is left out."""

from __future__ import annotations

import numpy as np

from dist4d_env.curation.points import MARGIN, separate
from dist4d_env.curation.prepare import points_at, separated_sweeps
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import apply, invert, pose_from_xy_yaw
from dist4d_env.scenes.scene import LidarSweep


def car(x: float, y: float, yaw: float, token: int = 3) -> Boxes:
    """One car of 4 x 2 x 1.6 m that stands on the ground."""
    return Boxes(
        token=np.array([token]),
        category=np.array([0], np.int8),
        position=np.array([[x, y, 0.8]]),
        size=np.array([[4.0, 2.0, 1.6]]),
        yaw=np.array([yaw]),
        velocity=np.zeros((1, 2)),
    )


def sweep(points: list[tuple[float, float, float]]) -> LidarSweep:
    return LidarSweep(np.array([(*p, 0.0) for p in points], np.float32), np.eye(4), 0.0)


def test_points_follow_their_box_through_a_turn():
    ego = pose_from_xy_yaw(-10.0, 0.0, 0.0)
    taken = separate(sweep([(21.0, 0.5, 1.0), (30.0, 5.0, 2.0)]), car(20.0, 0.0, 0.0), ego)
    points, boxed = taken.at(car(40.0, 10.0, np.pi / 2))
    assert boxed.tolist() == [False, True]
    assert np.allclose(points[0], (30.0, 5.0, 2.0))  # stands still
    assert np.allclose(points[1], (39.5, 11.0, 1.0))  # a metre ahead of and half a metre to the left of the car's centre


def test_the_road_under_a_car_stays():
    taken = separate(sweep([(20.0, 0.0, 0.02)]), car(20.0, 0.0, 0.0), np.eye(4))
    points, boxed = taken.at(car(40.0, 0.0, 0.0))
    assert np.allclose(points, [(20.0, 0.0, 0.02)]) and not boxed.any()


def test_an_object_that_is_not_there_takes_its_points_along():
    taken = separate(sweep([(21.0, 0.5, 1.0)]), car(20.0, 0.0, 0.0), np.eye(4))
    assert len(taken.at(car(20.0, 0.0, 0.0, token=8))[0]) == 0


def test_the_own_body_is_dropped():
    ego = pose_from_xy_yaw(100.0, 50.0, 1.0)
    roof, road = apply(ego, np.array([[1.0, 0.0, 1.5], [6.0, 0.0, 0.0]]))
    taken = separate(sweep([tuple(roof), tuple(road)]), car(0.0, 0.0, 0.0), ego)
    assert np.allclose(taken.static, road, atol=1e-4) and len(taken.local) == 0


def test_carried_points_lie_in_the_boxes_of_their_new_time(town_dataroot):
    """Eleven sweeps of a town scene, three seconds of traffic: all that belongs to objects is inside them at the keyframe."""
    dataset = open_dataset(town_dataroot)
    scene = dataset.load(dataset.names()[0])
    time = float(scene.sensors.keyframe_time[5])
    points, boxed = points_at(scene, time, separated_sweeps(scene, scene.sensors.sweeps(5, 5, 5)))
    boxes = scene.boxes(time)
    inside = np.zeros(len(points), bool)
    for index, pose in enumerate(boxes.poses):
        inside |= (np.abs(apply(invert(pose), points)) <= boxes.size[index] / 2 + MARGIN + 0.01).all(1)
    assert boxed.sum() > 500 and inside[boxed].all()
