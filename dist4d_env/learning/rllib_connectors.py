"""RLlib's connectors between the environment and a policy: what it sees, and what its numbers mean (``learning.views``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from dist4d_env.learning.views import View

GIVEN = "dist4d_given"
"""Where the environment's latest observations wait, by episode, until the actions that answer them become plans."""


class SeeAsPolicy(ConnectorV2):
    """Env to module: replaces the latest observation of each episode by what a ``View`` makes of it, all in one batch."""

    def __init__(
        self, input_observation_space: gym.Space | None = None, input_action_space: gym.Space | None = None, *, view: View
    ) -> None:
        self.view = view
        super().__init__(input_observation_space, input_action_space)

    def recompute_output_observation_space(self, input_observation_space: gym.Space, input_action_space: gym.Space) -> gym.Space:
        return self.view.observation_space

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: Sequence[Any],
        shared_data: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        running = list(self.single_agent_episode_iterator(episodes))
        latest = [episode.get_observations(-1) for episode in running]
        given = {key: np.stack([observation[key] for observation in latest]) for key in latest[0]}
        if shared_data is not None:
            kept = {key: given[key] for key in ("ego", "route")}
            shared_data[GIVEN] = {episode.id_: row for row, episode in enumerate(running)}, kept
        seen = self.view.observe(given)
        for row, episode in enumerate(running):
            episode.observation_space = self.observation_space
            episode.set_observations(at_indices=-1, new_data={key: value[row] for key, value in seen.items()})
        return batch


class ActAsPolicy(ConnectorV2):
    """Module to env: actions as the environment takes them; what the policy chose stays what is learned from."""

    def __init__(
        self, input_observation_space: gym.Space | None = None, input_action_space: gym.Space | None = None, *, view: View
    ) -> None:
        self.view = view
        super().__init__(input_observation_space, input_action_space)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: Sequence[Any],
        shared_data: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        chosen = batch[Columns.ACTIONS]
        keys = list(chosen)  # (episode id,), of ended episodes as well, whose actions nobody looks at
        actions = np.stack([chosen[key][0] for key in keys])
        if isinstance(self.view.action_space, gym.spaces.Box):
            actions = np.clip(actions, -1.0, 1.0)
        if self.view.action == "route":
            assert shared_data is not None
            rows, given = shared_data[GIVEN]
            at = [rows[key[0]] for key in keys]
            actions = self.view.act(actions, {name: value[at] for name, value in given.items()})
        batch[Columns.ACTIONS_FOR_ENV] = {key: [actions[place]] for place, key in enumerate(keys)}
        return batch
