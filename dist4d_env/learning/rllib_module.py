"""RLlib's module: a ``TorchRLModule`` for Dict observations around the networks that drive without RLlib."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from dist4d_env.learning.networks import PolicyNetwork, linear_layers
from dist4d_env.learning.policy_files import Policy, PolicyConfig
from dist4d_env.learning.views import View

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
        self.discrete = isinstance(view.action_space, spaces.Discrete)
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


class MeanAction(nn.Module):
    """The network of a ``Policy`` around any RLModule of flattened observations (the vector recipe)."""

    def __init__(self, module: Any, outputs: int) -> None:
        super().__init__()
        self.module, self.outputs = module, outputs

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        flat = torch.cat([inputs[key].flatten(1) for key in sorted(inputs)], -1)  # as FlattenObservations does
        return self.module.forward_inference({Columns.OBS: flat})[Columns.ACTION_DIST_INPUTS][:, : self.outputs]


def policy_of(module: Any, config: PolicyConfig) -> Policy:
    """The module's most likely action as a policy of its own; that of ``DrivingModule`` can be saved and drives without RLlib."""
    if not isinstance(module, DrivingModule):
        return Policy(config, MeanAction(module, config.view.outputs))
    network = PolicyNetwork(config.view, config.hidden, config.activation)
    network.load_state_dict({name: value.detach().cpu() for name, value in module.policy.state_dict().items()})
    return Policy(config, network)
