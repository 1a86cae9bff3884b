"""Validation of a policy while it is trained: the same episodes every time, with the metrics of the benchmark."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from dist4d_env.learning.policy_files import Policy

METRICS = ("pdms_v1", "ego_progress", "comfort", "time_to_collision")
FAILURES = ("collision", "off_road", "wrong_way")


def validate(policy: Policy, venv: gym.vector.VectorEnv, seed: int = 10_000) -> dict[str, float]:
    """Mean closed-loop PDMS, its parts, the reward, and the share of episodes that end by each failure."""
    observations, _ = venv.reset(seed=seed)
    finals: dict[int, dict[str, Any]] = {}
    causes: dict[int, str] = {}
    rewards = np.zeros(venv.num_envs)
    while len(finals) < venv.num_envs:
        running = np.array([index not in finals for index in range(venv.num_envs)])
        observations, reward, terminated, truncated, infos = venv.step(policy.act(observations))
        rewards += reward * running
        for index in np.flatnonzero((terminated | truncated) & running).tolist():
            final = infos["metrics"]["final"]
            valid = {name: final[name]["valid"][index] for name in METRICS}
            finals[index] = {name: float(final[name]["value"][index]) for name in METRICS if valid[name]}
            causes[index] = str(infos["ended_by"][index])
    mean = {name: float(np.mean([final[name] for final in finals.values() if name in final])) for name in METRICS}
    return {
        "pdms": mean["pdms_v1"], "progress": mean["ego_progress"], "comfort": mean["comfort"],
        "time_to_collision": mean["time_to_collision"], "reward": float(rewards.mean()),
        **{cause: sum(ended == cause for ended in causes.values()) / venv.num_envs for cause in FAILURES},
    }  # fmt: skip
