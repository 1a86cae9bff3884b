"""Planners of the campaigns' tests, where each process that makes one has nothing else to import."""

from __future__ import annotations

import time

import numpy as np

from dist4d_env.planners.contract import Plan, PlannerNeeds


class Blind:
    """Goes on at 8 m/s whatever comes."""

    requires = PlannerNeeds()

    def reset(self, context, seed):
        pass

    def plan(self, observation):
        return Plan(np.column_stack([4.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))


class Fragile(Blind):
    """Gives up in every second decision."""

    def plan(self, observation):
        if observation.time > 0.4:
            raise RuntimeError("no idea")
        return super().plan(observation)


class Seeing(Blind):
    requires = PlannerNeeds(cameras=True)


class Dreaming(Blind):
    requires = PlannerNeeds(imagination=True)


class Broken(Blind):
    def __init__(self):
        raise KeyError("no weights")


class Stuck(Blind):
    """Hangs in every episode."""

    def plan(self, observation):
        time.sleep(600)


class Bare(Blind):
    """The same plans as arrays."""

    def plan(self, observation):
        return super().plan(observation).trajectory
