"""Planners to compare with: plain ones, strong ones and bad ones, behind ``planners.contract.Planner``.

Names that command lines take, and what they stand for; nothing is imported until a planner is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ERRORS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "bias": (0.5, 0.75, 1.0, 1.5, 2.0),
        "delay": (0.5, 1.0, 2.0, 3.0, 4.0),
        "noise": (1.0, 2.0, 3.0, 4.0, 5.0),
        "late": (1.0, 2.0, 3.0, 4.0, 5.0),
    }
)
"""The experts with errors that have names: kind of error and its strengths, mild to gross (m, s, m, s).

Noise begins at a metre: the tracker smooths less of it away, and PDMS cannot tell the ride from the faultless one."""

PLANNERS: Mapping[str, str] = MappingProxyType(
    {
        "constant_velocity": "dist4d_env.planners.constant_velocity:ConstantVelocity",
        "lane_keeping": "dist4d_env.planners.lane_keeping:LaneKeeping",
        "log": "dist4d_env.planners.log_follower:LogFollower",
        "lane": "dist4d_env.planners.lane_follower:LaneFollower",
        "idm": "dist4d_env.planners.idm:IdmPlanner",
        "pdm_closed": "dist4d_env.planners.pdm_closed:PdmClosed",
        "mpc": "dist4d_env.planners.mpc:SamplingMPC",
        "imagine": "dist4d_env.planners.imagine:ImaginingPlanner",
        "ppo": "dist4d_env.learning.policy_planner:Shipped",
        **{
            f"expert_{kind}_{strength:g}": f"dist4d_env.planners.experts:{kind}_{strength:g}"
            for kind in ERRORS
            for strength in ERRORS[kind]
        },
    }
)
"""Short name to "module:attribute"; the attribute is called without arguments."""

ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "constant_velocity": "straight on at the present speed",
        "lane_keeping": "keeps its acceleration and the route, sees nobody",
        "log": "drives as the recorded ego did (privileged)",
        "lane": "follows the route at the recorded mean speed, keeps its distance (privileged)",
        "idm": "intelligent driver model along the route",
        "pdm_closed": "best of 15 simulated and scored proposals along the route",
        "mpc": "samples controls through the vector simulator",
        "imagine": "tries plans in the generated world, reads its depth",
        "ppo": "the shipped policy, trained by PPO on vectors",
        "expert_bias": "the recorded drive, beside its path (privileged)",
        "expert_delay": "the recorded drive, some time behind it (privileged)",
        "expert_noise": "the recorded drive, every plan off by chance (privileged)",
        "expert_late": "the recorded drive, braking late (privileged)",
    }
)
"""A line about each planner, for tables; experts with errors by kind."""
