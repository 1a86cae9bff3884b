"""The recorded drive as a planner."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame


class LogFollower:
    """Drives as the recorded ego did, at the same times; past the log's end on along the route at the last logged speed."""

    requires = PlannerNeeds(privileged=True)

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._log, self._route = context.scene.ego, context.scene.route
        pose = self._log.global_from_ego
        self._poses = np.column_stack([pose[:, :2, 3], np.unwrap(yaw_of(pose))])
        self._end = self._route.project(*self._poses[-1, :2].tolist())[0]

    def plan(self, observation: PlannerInput) -> Plan:
        times = observation.time + PLAN_DT * np.arange(1, PLAN_POSES + 1)
        poses = np.column_stack([np.interp(times, self._log.time, column) for column in self._poses.T])
        beyond = times > self._log.time[-1]
        if beyond.any():
            onward = (times[beyond] - self._log.time[-1]) * max(float(self._log.speed[-1]), 0.0)
            poses[beyond] = self._route.sample(self._end + onward)
        return Plan(in_ego_frame(poses, observation.ego), PLAN_DT)
