"""NAVSIM-style agents: an ``AgentInput`` of four frames at 2 Hz in, a ``Trajectory`` in the ego frame out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.planners.adaptors.common import AdaptorError, History, Moment, driving_command, lidar_points
from dist4d_env.planners.contract import Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame

FRAMES, SPACING = 4, 0.5
"""NAVSIM's history: this many frames, so many seconds apart."""

COMMANDS = ("left", "forward", "right", "unknown")
"""The order of ``driving_command``'s four numbers, of which one is 1."""

CAMERAS = {
    "CAM_FRONT": "cam_f0", "CAM_FRONT_LEFT": "cam_l0", "CAM_FRONT_RIGHT": "cam_r0",
    "CAM_BACK_LEFT": "cam_l2", "CAM_BACK_RIGHT": "cam_r2", "CAM_BACK": "cam_b0",
}  # fmt: skip
"""NAVSIM's names of nuScenes' cameras; its two that look straight to the sides, cam_l1 and cam_r1, stay empty, like those that a
rig lacks."""


@dataclass
class Camera:
    """image: (H, W, 3) uint8 RGB; sensor2lidar: the camera's pose in the ego frame, which stands in for the LiDAR's (x forward,
    y left); intrinsics: (3, 3) for this image; distortion: (5,) zeros. All None where a camera is missing or not asked for."""

    image: np.ndarray | None = None
    sensor2lidar_rotation: np.ndarray | None = None
    sensor2lidar_translation: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    distortion: np.ndarray | None = None
    camera_path: None = None


@dataclass
class Cameras:
    """The eight cameras of NAVSIM by their names."""

    cam_f0: Camera
    cam_l0: Camera
    cam_l1: Camera
    cam_l2: Camera
    cam_r0: Camera
    cam_r1: Camera
    cam_r2: Camera
    cam_b0: Camera


@dataclass
class Lidar:
    """lidar_pc: (6, N) float32 x, y, z in the ego frame of that instant, intensity (0 to 255, 0: unknown), ring
    and sensor (always 0: unknown); None where the observation has no "lidar" or the agent does not ask for it."""

    lidar_pc: np.ndarray | None = None
    lidar_path: None = None


@dataclass
class EgoStatus:
    """ego_pose: (3,) x, y, heading in the present ego frame; ego_velocity, ego_acceleration: (2,) along and across the heading,
    in the frame of that instant; driving_command: (4,) one-hot, see COMMANDS."""

    ego_pose: np.ndarray
    ego_velocity: np.ndarray
    ego_acceleration: np.ndarray
    driving_command: np.ndarray
    in_global_frame: bool = False


@dataclass
class AgentInput:
    """Four frames, oldest first; the last is now."""

    ego_statuses: list[EgoStatus]
    cameras: list[Cameras]
    lidars: list[Lidar]


class NavsimAgent:
    """Drives a NAVSIM-style agent: an object with ``compute_trajectory(agent_input) -> trajectory``.

    Of the agent these are used where it has them: ``initialize()`` once, before its first episode; ``get_sensor_config()``, for
    the cameras, LiDAR and frames it wants (without it, all of them); ``requires_scene``, which must not be true. Its trajectory
    has ``poses`` (N, 3) in the ego frame and, if they are not 0.5 s apart, ``trajectory_sampling.interval_length``.

    Raises ConfigError for an object that is no such agent and for decisions that do not fit into 2 Hz, AdaptorError for what is
    no trajectory.
    """

    def __init__(self, agent: Any) -> None:
        if not callable(getattr(agent, "compute_trajectory", None)):
            raise ConfigError(f"{_name(agent)} has no compute_trajectory(agent_input): it is no NAVSIM-style agent")
        if getattr(agent, "requires_scene", False):
            raise ConfigError(f"{_name(agent)} requires NAVSIM's scene, the recorded future included, which no planner is given")
        self.agent = agent
        self._initialized = False
        config = agent.get_sensor_config() if hasattr(agent, "get_sensor_config") else None
        self._sensors = [_sensors(config, frame, tuple(CAMERAS.values())) for frame in range(FRAMES)]
        self._lidar = [bool(_sensors(config, frame, ("lidar_pc",))) for frame in range(FRAMES)]
        self.requires = PlannerNeeds(cameras=any(self._sensors), history=FRAMES, rate_hz=1 / SPACING, lidar=any(self._lidar))

    def reset(self, context: PlannerContext, seed: int) -> None:
        steps = SPACING / context.decision_dt
        if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
            given = context.decision_dt
            raise ConfigError(f"a NAVSIM agent takes a frame every {SPACING} s: decision_dt={given} does not divide that")
        if not self._initialized and hasattr(self.agent, "initialize"):
            self.agent.initialize()
        self._initialized = True
        self._scene = context.scene
        self._position: float | None = None
        self._history = History((FRAMES - 1) * SPACING)

    def plan(self, observation: PlannerInput) -> Plan:
        self._history.add(observation)
        return _plan(self.agent.compute_trajectory(self.agent_input()), _name(self.agent))

    def agent_input(self) -> AgentInput:
        """What the agent is given now."""
        moments = self._history.last(FRAMES, SPACING)
        now = moments[-1].ego
        self._position = self._scene.route.project(now.x, now.y, self._position)[0]
        poses = in_ego_frame(np.array([(m.ego.x, m.ego.y, m.ego.yaw) for m in moments]), now)
        return AgentInput(
            [self._status(moment, pose) for moment, pose in zip(moments, poses, strict=True)],
            [_cameras(moment, names, self._scene.rig) for moment, names in zip(moments, self._sensors, strict=True)],
            [_lidar(moment) if wanted else Lidar() for moment, wanted in zip(moments, self._lidar, strict=True)],
        )

    def _status(self, moment: Moment, pose: np.ndarray) -> EgoStatus:
        ego = moment.ego
        position = self._scene.route.project(ego.x, ego.y, self._position)[0]
        command = np.zeros(len(COMMANDS), int)
        command[COMMANDS.index(driving_command(self._scene.route, position))] = 1
        velocity, acceleration = [ego.speed, 0.0], [ego.acceleration, ego.speed * ego.yaw_rate]
        return EgoStatus(pose.astype(np.float32), np.array(velocity, np.float32), np.array(acceleration, np.float32), command)


def _sensors(config: Any, frame: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``names`` that a sensor configuration wants at a frame: all without one."""
    if config is None:
        return names
    if hasattr(config, "get_sensors_at_iteration"):
        wanted = config.get_sensors_at_iteration(frame)
    else:
        marks = {name: getattr(config, name, False) for name in names}
        wanted = [name for name, mark in marks.items() if mark is True or (isinstance(mark, list) and frame in mark)]
    return tuple(name for name in names if name in wanted)


def _lidar(moment: Moment) -> Lidar:
    if "lidar" not in moment.observation:
        return Lidar()
    points = lidar_points(moment.observation)
    return Lidar(np.concatenate([points.T, np.zeros((2, len(points)), np.float32)]))


def _cameras(moment: Moment, names: tuple[str, ...], rig: CameraRig) -> Cameras:
    cameras = {name: Camera() for name in Cameras.__dataclass_fields__}
    for view, own in enumerate(rig.names):
        name = CAMERAS.get(own)
        if name not in names:
            continue
        if own not in moment.observation:
            raise AdaptorError(f"the agent wants {name}, but nothing shows {own}: choose a world with pictures")
        image = np.asarray(moment.observation[own])
        pose = rig.ego_from_camera[view]
        intrinsics = rig.at_size(*image.shape[:2]).intrinsics[view]
        cameras[name] = Camera(image, pose[:3, :3].copy(), pose[:3, 3].copy(), intrinsics, np.zeros(5))
    return Cameras(**cameras)


def _plan(trajectory: Any, name: str) -> Plan:
    if not hasattr(trajectory, "poses"):
        raise AdaptorError(f"{name}.compute_trajectory returned a {type(trajectory).__name__}: a trajectory has poses (N, 3)")
    try:
        poses = np.asarray(trajectory.poses, float)
        interval = float(getattr(getattr(trajectory, "trajectory_sampling", None), "interval_length", SPACING))
    except (TypeError, ValueError) as error:
        raise AdaptorError(f"{name}.compute_trajectory returned poses or a sampling that are no numbers ({error})") from error
    if poses.ndim != 2 or poses.shape[1] != 3 or not len(poses):
        raise AdaptorError(f"{name}.compute_trajectory returned poses of shape {poses.shape}, not (N, 3) x, y, heading")
    if not np.isfinite(poses).all() or not interval > 0:
        raise AdaptorError(f"{name}.compute_trajectory returned poses that are not finite, or an interval of {interval} s")
    return Plan(poses, interval)


def _name(thing: Any) -> str:
    return type(thing).__name__
