"""A policy that RLlib trained on the planning benchmark; RLlib itself is not needed, nor is anything unpickled.

DIST4D_POLICY=runs/rllib/best python -m dist4d_env evaluate --planner dist4d_env.learning.rllib_planner:FromEnvironment
"""

from __future__ import annotations

from dist4d_env.learning.policy_planner import FromEnvironment, SB3Planner


class RLlibPlanner(SB3Planner):
    """Drives with the policy of a folder that ``agents/train_rllib.py`` wrote: weights in safetensors and a config.json, the same
    files as of policies that Stable-Baselines3 trained.

    Raises WeightsError where the folder holds no policy, as RLlib's own checkpoints do not.
    """


__all__ = ["FromEnvironment", "RLlibPlanner"]
