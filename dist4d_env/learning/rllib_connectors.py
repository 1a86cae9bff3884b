"""RLlib's connectors between the environment and a policy: features and actions of a view (``learning.views``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from dist4d_env.learning.views import View

OBSERVED = "dist4d_observed"
"""Key of the environment's latest observations, by episode, until the actions that answer them become plans."""


class _ViewConnector(ConnectorV2):
    def __init__(
        self, input_observation_space: gym.Space | None = None, input_action_space: gym.Space | None = None, *, view: View
    ) -> None:
        self.view = view
        super().__init__(input_observation_space, input_action_space)


class ViewObservations(_ViewConnector):
    """Env to module: replaces the latest observation of each episode by a view's features, all in one batch."""

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
        running = list(self.single_agent_episode_iterator(list(episodes)))
        latest = [episode.get_observations(-1) for episode in running]
        observations = {key: np.stack([observation[key] for observation in latest]) for key in latest[0]}
        if shared_data is not None:
            kept = {key: observations[key] for key in ("ego", "route")}
            shared_data[OBSERVED] = {episode.id_: row for row, episode in enumerate(running)}, kept
        features = self.view.observe(observations)
        for row, episode in enumerate(running):
            episode.observation_space = self.observation_space
            episode.set_observations(at_indices=-1, new_data={key: value[row] for key, value in features.items()})
        return batch


class ViewActions(_ViewConnector):
    """Module to env: actions as the environment takes them; learning uses the policy's own numbers."""

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
        keys = list(chosen)  # (episode id,), of ended episodes as well, whose actions are not used
        actions = np.stack([chosen[key][0] for key in keys])
        if isinstance(self.view.action_space, gym.spaces.Box):
            actions = np.clip(actions, -1.0, 1.0)
        if self.view.action == "route":
            assert shared_data is not None
            rows, observations = shared_data[OBSERVED]
            at = [rows[key[0]] for key in keys]
            actions = self.view.act(actions, {name: value[at] for name, value in observations.items()})
        batch[Columns.ACTIONS_FOR_ENV] = {key: [actions[place]] for place, key in enumerate(keys)}
        return batch
