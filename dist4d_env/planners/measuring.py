"""A planner that measures: obstacles from depth images and lights from pictures, a rule-based planner behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import Plan, PlannerContext, PlannerInput, PlannerNeeds
from dist4d_env.planners.idm import IdmPlanner
from dist4d_env.planners.observed_agents import observed
from dist4d_env.planners.pdm_closed import PdmClosed
from dist4d_env.planners.seen_lights import SeenLights
from dist4d_env.planners.seen_obstacles import SeenObstacles

_FORWARD = 0.7  # cosine of the angle to the ego's heading within which a camera is a front camera
_FARTHEST = 100.0  # m of depth images


@dataclass(frozen=True)
class MeasuringConfig:
    """driver: "pdm", proposals scored as PDM-Closed does, or "idm", the leader alone; cameras: "all", or "front": the one that
    looks straight ahead; late: decisions by which pictures are older than the planner takes them for; noise: standard deviation
    of depth, as a share of it, independent from pixel to pixel; coarse: only every so many-th row and column of depth, colours
    averaged."""

    driver: Literal["pdm", "idm"] = "pdm"
    cameras: Literal["all", "front"] = "all"
    late: int = 0
    noise: float = 0.0
    coarse: int = 1

    def __post_init__(self) -> None:
        if self.driver not in ("pdm", "idm") or self.cameras not in ("all", "front"):
            raise ConfigError(f"driver={self.driver!r} is pdm or idm, cameras={self.cameras!r} all or front")
        if self.late < 0 or not 0 <= self.noise < 1 or self.coarse < 1:
            raise ConfigError(
                f"late={self.late!r} is at least 0, noise={self.noise!r} in [0, 1), coarse={self.coarse!r} at least 1"
            )


class MeasuringPlanner:
    """Sees agents in depth images alone, follows them from decision to decision, and plans among them by rules; nothing learned.

    Points above the road near the route are clustered into boxes (``seen_obstacles``), which PDM-Closed or the IDM then takes
    for the agents. Traffic lights are obeyed only as far as pictures show them (``seen_lights``): a lamp that covers less than
    about a pixel, or that no camera shows, is not obeyed. Of the map it uses what others do: the route, speed limits, the
    drivable area, stop lines and where heads of lamps are. Same seed, same plans; the seed draws the noise of ``noise``.
    """

    requires = PlannerNeeds(cameras=True, map=True, history=1)

    def __init__(self, config: MeasuringConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or MeasuringConfig(), vehicle or VehicleParameters()
        self._driver = PdmClosed(vehicle=vehicle) if self.config.driver == "pdm" else IdmPlanner(vehicle=vehicle)

    def reset(self, context: PlannerContext, seed: int) -> None:
        scene = context.scene
        self._rig, self._views = scene.rig, _views(scene.rig, self.config.cameras)
        self._obstacles = SeenObstacles(scene.rig, scene.route.points, scene.map, self.vehicle)
        self._lights = SeenLights(scene.lights)
        self._pictures: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=self.config.late + 1)
        self._rng = np.random.default_rng(seed)
        self._driver.reset(context, seed)

    def plan(self, observation: PlannerInput) -> Plan:
        self._pictures.append(self._taken(observation))
        rgb, depth = self._pictures[0]
        ego, views, step = observation.ego, self._views, self.config.coarse
        height, width = depth.shape[1:]
        intrinsics = self._rig.at_size(height * step, width * step).intrinsics[views] / np.array([[step], [step], [1.0]])
        agents = self._obstacles.look(depth, intrinsics, views, ego, observation.time)
        poses = pose_from_xy_yaw(ego.x, ego.y, ego.yaw) @ self._rig.ego_from_camera[views]
        lights = self._lights.look(rgb, depth, intrinsics, poses, observation.time)
        shown = {**observation.observation, "agents": agents.as_observed(ego)}
        return self._driver.plan(replace(observation, observation=shown, state=None, lights=lights))

    def _taken(self, given: PlannerInput) -> tuple[np.ndarray, np.ndarray]:
        """Colour (V, h, w, 3) and depth (V, h, w) of the cameras used, as the planner gets to see them."""
        names = [self._rig.names[view] for view in self._views]
        rgb = np.stack([observed(given, name) for name in names])
        depth = np.stack([np.asarray(observed(given, f"{name}/depth"), float)[..., 0] for name in names])
        step = self.config.coarse
        if step > 1:
            height, width = (side // step for side in depth.shape[1:])
            if min(height, width) < 1:
                raise ConfigError(f"coarse={step} leaves nothing of pictures of {depth.shape[1]}x{depth.shape[2]}")
            rgb, depth = rgb[:, : height * step, : width * step], depth[:, : height * step, : width * step]
            rgb = rgb.reshape(len(names), height, step, width, step, 3).mean((2, 4))
            depth = depth[:, step // 2 :: step, step // 2 :: step]
        if self.config.noise:
            depth = np.clip(depth * (1 + self.config.noise * self._rng.standard_normal(depth.shape)), 0.0, _FARTHEST)
        return rgb, depth


def _views(rig: CameraRig, cameras: str) -> np.ndarray:
    """Numbers of the cameras of a rig that are looked at."""
    ahead = rig.ego_from_camera[:, 0, 2]
    if cameras == "all":
        return np.arange(len(ahead))
    front = int(np.argmax(ahead))
    if ahead[front] < _FORWARD:
        raise ConfigError(f"none of the cameras {', '.join(rig.names)} looks ahead: use cameras='all'")
    return np.array([front])


VARIANTS: Mapping[str, MeasuringConfig] = MappingProxyType(
    {
        "idm": MeasuringConfig(driver="idm"),
        "front": MeasuringConfig(cameras="front"),
        "late": MeasuringConfig(late=1),
        "noisy": MeasuringConfig(noise=0.1),
        "coarse": MeasuringConfig(coarse=2),
    }
)
"""The planners ``measuring_NAME`` of the registry."""


def __getattr__(name: str) -> Any:
    """Factories without arguments of the variants."""
    if name in VARIANTS:
        return partial(MeasuringPlanner, VARIANTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
