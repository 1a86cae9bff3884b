"""Planners written for other benchmarks, driven here unchanged. Neither NAVSIM nor nuPlan is imported: only shapes are matched.

``NavsimAgent(agent)`` takes an object with ``compute_trajectory(agent_input)``, ``NuplanPlanner(planner)`` one with
``initialize(initialization)`` and ``compute_planner_trajectory(planner_input)``.
"""

from dist4d_env.planners.adaptors.common import AdaptorError
from dist4d_env.planners.adaptors.navsim import NavsimAgent
from dist4d_env.planners.adaptors.nuplan import NuplanPlanner

__all__ = ["AdaptorError", "NavsimAgent", "NuplanPlanner"]
