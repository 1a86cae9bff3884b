"""Planning by imagination: candidate plans are rolled out in the generated world and compared by the free space in its depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig, ego_points
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.planners.contract import (
    PLAN_DT,
    PLAN_TICKS,
    POSE_TICKS,
    ImaginedInstant,
    Plan,
    PlannerContext,
    PlannerInput,
    PlannerNeeds,
    in_ego_frame,
)
from dist4d_env.planners.route_profile import PathSamples, RoutePosition, RouteProfile, posted_limit
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState

_LOOK, _SPACING = 45.0, 0.5  # m of the path that are looked along, and between its poses
_FORWARD = 0.3  # cosine of the angle to the ego's heading within which a camera looks ahead
_FARTHEST = 60.0  # m; beyond it a pixel covers more than a car's width
_LOWEST, _TILT, _HIGHEST = 0.5, 0.02, 2.2  # m above the road; the lower bound rises with distance, as errors of depth do
_SPECK = 4  # points before a place counts as taken: one or two are edges where near and far mix


@dataclass(frozen=True)
class Candidate:
    """speed: share of the speed limit that is wished for; offset: metres to the left of the route."""

    speed: float
    offset: float = 0.0


@dataclass(frozen=True)
class ImagineConfig:
    """candidates: what is tried, the safest first, which wins ties; times: s at which it is looked at; pull, braking: m/s^2;
    beside: m wanted on either side; reaction: s, and rest: m, that make a safe distance; contact: s within which an obstacle
    that comes nearer is penalised; free_speed: m/s where the map has no limit; the rest weigh progress (shares of what is
    reachable), a missing safe distance, an expected contact, distrust, metres beside the route, squared m/s^2 and leaving the
    road."""

    candidates: tuple[Candidate, ...] = (Candidate(0.0), Candidate(0.4), Candidate(0.75), Candidate(1.0))
    times: tuple[float, ...] = (1.0,)
    pull: float = 1.5
    braking: float = 3.5
    beside: float = 0.25
    reaction: float = 0.9
    rest: float = 2.0
    contact: float = 3.0
    free_speed: float = 13.0
    progress: float = 1.0
    distance_weight: float = 2.0
    contact_weight: float = 3.0
    distrust_weight: float = 0.5
    offset_weight: float = 0.15
    effort_weight: float = 0.01
    road_weight: float = 5.0

    def __post_init__(self) -> None:
        if not self.candidates or not self.times:
            raise ConfigError("imagination needs at least one candidate and one time to look at it")
        if min(self.pull, self.braking, self.contact, self.free_speed) <= 0:
            raise ConfigError("imagination: pull, braking, contact and free_speed must be above zero")


class ImaginingPlanner:
    """Tries a handful of drives along the route in copies of the running world and takes the one that looks best there.

    Every candidate is followed for a second in a branch of the environment (``snapshot`` and ``restore``), so that the world
    generates what the cameras would see. From those RGB-D frames comes how far the rest of the candidate's path is free, and, by
    how fast that shrinks from frame to frame, how soon the ego would touch something; frames that the world trusts less count
    less. Of the simulator only the ego's own motion is used, of the map the road's edge and speed limits: no box, no recording.
    Cost: candidates x times frames of the world per plan. Same seed, same plans.
    """

    requires = PlannerNeeds(cameras=True, map=True, imagination=True)

    def __init__(self, config: ImagineConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or ImagineConfig(), vehicle or VehicleParameters()

    def reset(self, context: PlannerContext, seed: int) -> None:
        if context.imagination is None:
            raise ConfigError("nothing to imagine with: run the planner by run_episode, in a world with pictures")
        self._imagination, self._rig, self._map = context.imagination, context.scene.rig, context.scene.map
        self._profile = RouteProfile(context.scene.route, posted_limit(context.scene, self.config.free_speed))
        self._s: float | None = None

    def plan(self, observation: PlannerInput) -> Plan:
        ego = observation.ego
        start = self._profile.locate(ego, self._s)
        self._s = start.s
        shares = np.array([candidate.speed for candidate in self.config.candidates])
        driven = self._profile.drive(start, ego.speed, shares, self.config.pull, self.config.braking)
        poses = [self._poses(start, i, metres[POSE_TICKS::POSE_TICKS]) for i, metres in enumerate(driven)]
        plans = [Plan(in_ego_frame(each, ego), PLAN_DT) for each in poses]
        inside = self._stays_on_road(ego, plans)
        futures = self._imagination.try_plans(plans, self.config.times)
        reachable = max(float(driven[:, -1].max()), 1.0)
        values = np.array([self._value(start, i, driven[i], reachable, future) for i, future in enumerate(futures)])
        return plans[int(np.argmax(values - self.config.road_weight * ~inside))]

    def _stays_on_road(self, ego: EgoState, plans: list[Plan]) -> np.ndarray:
        """(C,) whether the tracker, following each plan for its 4 s, keeps the ego on the drivable area of the map."""
        if self._map is None:
            return np.ones(len(plans), bool)
        rows = simulate_plans(ego, np.stack([plan.trajectory for plan in plans]), PLAN_DT, PLAN_TICKS, self.vehicle)
        off = off_drivable(self._map, ego_corners(rows.reshape(-1, 7), self.vehicle)).reshape(len(plans), -1)
        return ~off.any(1)

    def _poses(self, start: RoutePosition, index: int, driven: np.ndarray) -> np.ndarray:
        """Global poses (N, 3) of a candidate after metres driven (N,)."""
        return self._profile.poses(start, driven, self.config.candidates[index].offset)

    def _value(
        self, start: RoutePosition, index: int, driven: np.ndarray, reachable: float, future: tuple[ImaginedInstant, ...]
    ) -> float:
        """The value of an imagined rollout: progress less the weighted penalties of ``ImagineConfig``."""
        c = self.config
        front = self.vehicle.rear_axle_to_center + self.vehicle.length / 2
        free = [self._free(start, index, driven, instant, future[0].time) - front for instant in future]
        speeds = [instant.ego.speed for instant in future]
        missing = [1 - gap / (c.rest + c.reaction * speed) for gap, speed in zip(free, speeds, strict=True)][1:]
        steps = np.diff([instant.time for instant in future])
        closing = -np.diff(free) / steps
        left = np.maximum(free[1:], 0.0) / np.maximum(closing, 0.1)
        effort = float(np.mean([instant.ego.acceleration**2 for instant in future[1:]]))
        return (
            c.progress * float(driven[-1]) / reachable
            - c.distance_weight * float(np.clip(missing, 0.0, 1.5).max())
            - c.contact_weight * float(np.clip(1 - left / c.contact, 0.0, 1.0).max() ** 2)
            - c.distrust_weight * (1 - min(instant.trust for instant in future[1:]))
            - c.offset_weight * abs(c.candidates[index].offset)
            - c.effort_weight * effort
        )

    def _free(self, start: RoutePosition, index: int, driven: np.ndarray, instant: ImaginedInstant, begun: float) -> float:
        """Metres from the rear axle to the first obstacle on the rest of a candidate's path in an imagined frame."""
        tick = min(round((instant.time - begun) / TICK), PLAN_TICKS)
        metres = np.arange(0.0, _LOOK + _SPACING, _SPACING)
        path = in_ego_frame(self._poses(start, index, driven[tick] + metres), instant.ego)
        points = obstacle_points(instant.frame, self._rig)
        return free_distance(points, PathSamples(metres, path), self.vehicle.width / 2 + self.config.beside)


def obstacle_points(frame: RGBDFrame, rig: CameraRig) -> np.ndarray:
    """(P, 2) x, y in the ego frame of the points above the road in the depth of the cameras that look ahead.

    rig: the vehicle's cameras at any size; the frame brings the intrinsics of its own.
    """
    views = np.flatnonzero(rig.ego_from_camera[:, 0, 2] > _FORWARD)
    depth = frame.depth[views]
    points = ego_points(depth, frame.intrinsics[views], rig.ego_from_camera[views])
    near = depth.reshape(-1) < _FARTHEST
    height, distance = points[:, 2], np.hypot(points[:, 0], points[:, 1])
    return points[near & (height > _LOWEST + _TILT * distance) & (height < _HIGHEST), :2]


def free_distance(points: np.ndarray, path: PathSamples, half_width: float) -> float:
    """Metres along a path until ``points`` (P, 2) stand within ``half_width`` of it; its length if none.

    Points before its first pose do not count.
    """
    end = float(path.s[-1])
    if not len(points):
        return end
    at, beside, _, _ = path.project(points)
    blocking = np.sort(at[(np.abs(beside) < half_width) & (at > 0) & (at < end)])
    return float(blocking[_SPECK - 1]) if len(blocking) >= _SPECK else end
