"""Inputs of a planner in another process: those of models of the UniAD and VAD kind, in nuScenes' conventions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dist4d_env.geometry.transforms import invert, pose_from_xy_yaw
from dist4d_env.planners.adaptors.common import driving_command, lidar_points
from dist4d_env.planners.contract import PlannerInput
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.ego import EgoState

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
"""The order in which those models were trained on nuScenes' cameras; cameras of other names come after them."""

COMMANDS = {"right": 0, "left": 1, "forward": 2}

GRAVITY = 9.81  # m/s^2

EGO_FROM_LIDAR = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0.0], [0, 0, 1, 1.84], [0, 0, 0, 1]])
"""nuScenes' LIDAR_TOP as it is mounted, x to the right, y forward: the frame of those models."""


def remote_inputs(given: PlannerInput, scene: Scene, position: float, step: int) -> dict[str, Any]:
    """One decision as named arrays. position: the ego's arc length on the route; step: decisions since the start.

    ===================== ============ ===================================================================================
    time, step                         s since the scene's first keyframe; decisions since the episode's start
    ego                   (7,)         x, y, yaw, speed, acceleration, front wheel angle, yaw rate of the rear axle, global
    global_from_ego       (4, 4)       the same pose; the simulator drives in the plane, so z, roll and pitch are 0
    can_bus               (18,)        ``can_bus``
    command                            0 right, 1 left, 2 forward: what the route does over the next 20 m
    route                 (20, 2)      x, y in the ego frame of the route 2.5, 5, ... 50 m ahead
    ego_from_lidar        (4, 4)       EGO_FROM_LIDAR
    camera_names          (V,)         the rig's in the order of CAMERAS, where the observation has pictures
    images                (V, H, W, 3) uint8 RGB, as the world made them, in the order of camera_names
    intrinsics            (V, 3, 3)    for images of this size
    ego_from_camera       (V, 4, 4)    camera frame: x right, y down, z forward
    lidar2img             (V, 4, 4)    from LiDAR coordinates to (u z, v z, z, 1)
    lidar                 (P, 4)       float32 x, y, z in the ego frame (m), intensity 0 to 255 (0: unknown), where asked for
    observation/NAME                   everything else of the environment's observation as it is, such as "agents"
    ===================== ============ ===================================================================================
    """
    ego = given.ego
    pose = pose_from_xy_yaw(ego.x, ego.y, ego.yaw)
    inputs: dict[str, Any] = {
        "time": given.time,
        "step": step,
        "ego": np.array([ego.x, ego.y, ego.yaw, ego.speed, ego.acceleration, ego.steering, ego.yaw_rate]),
        "global_from_ego": pose,
        "can_bus": can_bus(ego),
        "command": COMMANDS[driving_command(scene.route, position)],
        "route": scene.route.ahead(pose, near=position),
        "ego_from_lidar": EGO_FROM_LIDAR,
    }
    names = scene.rig.names
    inputs |= {f"observation/{name}": value for name, value in given.observation.items() if name not in (*names, "lidar")}
    if "lidar" in given.observation:
        inputs["lidar"] = lidar_points(given.observation)
    if names and set(names) <= set(given.observation):
        views = sorted(range(len(names)), key=lambda view: (*CAMERAS, names[view]).index(names[view]))
        shown = [names[view] for view in views]
        images = np.stack([given.observation[name] for name in shown])
        rig = scene.rig.at_size(*images.shape[1:3])
        intrinsics, cameras = rig.intrinsics[views], rig.ego_from_camera[views]
        inputs |= {"camera_names": np.array(shown), "images": images, "intrinsics": intrinsics, "ego_from_camera": cameras}
        full = np.tile(np.eye(4), (len(views), 1, 1))
        full[:, :3, :3] = intrinsics
        inputs["lidar2img"] = full @ invert(cameras) @ EGO_FROM_LIDAR
    return inputs


def can_bus(ego: EgoState) -> np.ndarray:
    """(18,) the vector that BEVFormer made of nuScenes' CAN bus and UniAD and VAD took over.

    0-2 position, global (z is 0); 3-6 orientation as a quaternion w, x, y, z; 7-9 acceleration in the ego frame with gravity, as
    the IMU reads it (x along, y across the heading, z 9.81); 10-12 rotation rates (x and y are 0: the simulator neither rolls nor
    pitches); 13-15 velocity in the ego frame (y is 0 at the rear axle, z is 0); 16 and 17 heading in [0, 2 pi) and in degrees.
    Models take differences to their previous frame themselves. Steering, pedals and wheel speeds are no part of it.
    """
    heading = ego.yaw % (2 * math.pi)
    return np.array([
        ego.x, ego.y, 0.0,
        math.cos(ego.yaw / 2), 0.0, 0.0, math.sin(ego.yaw / 2),
        ego.acceleration, ego.speed * ego.yaw_rate, GRAVITY,
        0.0, 0.0, ego.yaw_rate,
        ego.speed, 0.0, 0.0,
        heading, math.degrees(heading),
    ])  # fmt: skip
