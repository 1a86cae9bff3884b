"""Policies of RLlib: a module around the package's networks, a view's connectors, and the trained module as a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from dist4d_env.learning.networks import PolicyNetwork, linear_layers
from dist4d_env.learning.policy_files import Policy, PolicyConfig
from dist4d_env.learning.views import View

OBSERVED = "dist4d_observed"
"""Key of the environment's latest observations, by episode, until the actions that answer them become plans."""


VALUE_SCALE = 10.0
"""About an episode's discounted rewards: the value is learned in this unit, so that its gradients, which go through the same
encoder, do not drown those of the policy."""


class DrivingModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Actor and critic on one encoder: all cameras through the same convolutions, or vectors with a set of agents.

    model_config: ``view`` (a ``View``'s fields), ``hidden`` (widths of the layers after the encoder) and ``spread`` (logarithm of
    the actions' standard deviation at the start).
    """

    def setup(self) -> None:
        model: Any = self.model_config
        view, hidden = View(**model["view"]), tuple(model["hidden"])
        self.discrete = isinstance(view.action_space, gym.spaces.Discrete)
        self.action_dist_cls = TorchCategorical if self.discrete else TorchDiagGaussian
        self.policy = PolicyNetwork(view, hidden)
        # Begin with what 0 means (follow the route at constant speed), not with a random choice of each seed.
        nn.init.orthogonal_(self.policy.head.weight, 0.01)
        nn.init.zeros_(self.policy.head.bias)
        if not self.discrete:
            self.spread = nn.Parameter(torch.full((view.outputs,), float(model["spread"])))
        self.value = nn.Sequential(*linear_layers([self.policy.encoder.features, *hidden]), nn.Linear(hidden[-1], 1))

    def get_non_inference_attributes(self) -> list[str]:
        """The parts that env runners do not need."""
        return ["value"]

    def _forward(self, batch: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self._distribution(self._features(batch))}

    def _forward_train(self, batch: dict[str, Any], **more: Any) -> dict[str, Any]:
        features = self._features(batch)
        return {Columns.ACTION_DIST_INPUTS: self._distribution(features), Columns.EMBEDDINGS: features}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        features = self._features(batch) if embeddings is None else embeddings
        return VALUE_SCALE * self.value(features).squeeze(-1)

    def _features(self, batch: dict[str, Any]) -> torch.Tensor:
        inputs = dict(batch[Columns.OBS])
        if "cameras" in inputs:
            inputs["cameras"] = inputs["cameras"].float() / 255.0
        return self.policy.encoder(inputs)

    def _distribution(self, features: torch.Tensor) -> torch.Tensor:
        mean = self.policy.head(self.policy.layers(features))
        return mean if self.discrete else torch.cat([mean, self.spread.expand_as(mean)], -1)


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
        self, *, batch: dict[str, Any], episodes: Sequence[Any], shared_data: dict[str, Any] | None = None, **more: Any
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

    def __call__(self, *, batch: dict[str, Any], shared_data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
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


def through_view(
    config: AlgorithmConfig, view: View, hidden: Sequence[int] = (128, 128), spread: float = -0.5
) -> AlgorithmConfig:
    """Gives a configuration the connectors of a view and ``DrivingModule`` with layers of ``hidden`` widths.

    spread: logarithm of the continuous actions' standard deviation at the start.
    """

    def observe(env: Any = None, spaces: Any = None, device: Any = None) -> ConnectorV2:
        return ViewObservations(view=view)

    def act(env: Any = None, spaces: Any = None, device: Any = None) -> ConnectorV2:
        return ViewActions(view=view)

    config.env_runners(env_to_module_connector=observe, module_to_env_connector=act)
    config.normalize_actions = config.clip_actions = False  # ViewActions clips
    model = {"view": asdict(view), "hidden": tuple(hidden), "spread": spread}
    spaces = view.observation_space, view.action_space
    config.rl_module(rl_module_spec=RLModuleSpec(DrivingModule, *spaces, model_config=model))
    return config


def policy_of(module: Any, decision_dt: float = 0.5, about: Mapping[str, Any] | None = None) -> Policy:
    """The most likely action of a ``DrivingModule``: a policy to save, which drives without RLlib.

    decision_dt: s between decisions of the environment it was trained in; about: stored with the policy, for people.
    """
    view, hidden = View(**module.model_config["view"]), tuple(module.model_config["hidden"])
    config = PolicyConfig(view, decision_dt, hidden, about=dict(about or {}))
    network = PolicyNetwork(config.view, config.hidden)
    network.load_state_dict({name: value.detach().cpu() for name, value in module.policy.state_dict().items()})
    return Policy(config, network)
