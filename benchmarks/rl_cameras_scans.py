"""How a camera policy begins, and what worlds show of the way ahead while it does: parts of ``benchmarks.rl_cameras``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.learning.depth_scan import REACH, SCAN_SIZE, scan
from dist4d_env.learning.views import View, Way, one
from dist4d_env.planners.contract import PLAN_DT, Plan, PlannerContext, PlannerInput, PlannerNeeds

if TYPE_CHECKING:
    from benchmarks.rl_cameras import Options

NEAR, CLOSE = 30.0, 5.0
"""Metres: how near something must be to matter for braking, and by how much two scans of it may differ."""


class Start:
    """What every camera policy is before it has learned: its head is zero, and zero follows the route at constant speed.

    scans: of the strip that the ego needs, one per decision, where there is a view to scan with.
    """

    def __init__(self, decision_dt: float, view: View | None = None) -> None:
        self.requires, self.view, self.scans = PlannerNeeds(rate_hz=1 / decision_dt), view, list[float]()

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is remembered."""

    def plan(self, observation: PlannerInput) -> Plan:
        given = one(observation.observation)
        if self.view:
            self.scans.append(float(scan(given, self.view.rays, Way.of(given))[0, SCAN_SIZE // 2]))
        return Plan(View().act(np.zeros((1, 2)), given)[0].astype(float), PLAN_DT)


def make(world: str, groups: tuple[str, ...], decision_dt: float, options: Options) -> gym.Env:
    """An environment for drivers that see some groups of observations."""
    return gym.make(
        "DiST4D-nuScenes-v0", dataroot=options.dataroot, scenes=options.scenes, world=world, weights=options.weights,
        observation=groups, action="trajectory", horizon=options.horizon, decision_dt=decision_dt, device="cpu",
    )  # fmt: skip


def scans_compared(view: View, decision_dt: float, options: Options) -> dict[str, dict[str, float]]:
    """Each world's scan of the strip that the ego needs beside the truth's, while the start policy drives the same way in all.

    near: share of instants with something nearer than 30 m in truth; error_m: median difference there where both see it; missed:
    share of the near ones that the world shows over 5 m farther, or not; invented: share of all instants at which it shows
    something near that is over 5 m farther in truth, or not there.
    """
    scans = {world: scans_in(world, view, decision_dt, options) for world in options.worlds}
    truth = scans.pop(options.worlds[-1])
    near = truth < NEAR
    result = {}
    for world, seen in scans.items():
        both = near & (seen < REACH)
        result[world] = {
            "instants": float(len(truth)), "near": float(near.mean()),
            "error_m": float(np.median(np.abs(seen - truth)[both])) if both.any() else float("nan"),
            "missed": float((seen > truth + CLOSE)[near].mean()) if near.any() else float("nan"),
            "invented": float(((seen < NEAR) & (seen < truth - CLOSE)).mean()),
        }  # fmt: skip
    return result


def scans_in(world: str, view: View, decision_dt: float, options: Options) -> np.ndarray:
    """Metres free in the middle strip at every decision of the start policy, one episode per scene from where it begins."""
    planner = Start(decision_dt, view)
    env = make(world, view.groups, decision_dt, options)
    for scene in env.unwrapped.scene_names:  # type: ignore[attr-defined]
        run_episode(env, planner, options.seed, RunOptions(scene, 0.0))
    env.close()
    return np.array(planner.scans)
