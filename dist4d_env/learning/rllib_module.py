"""The policy as RLlib trains it: a ``TorchRLModule`` for Dict observations, around the networks that drive without RLlib."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from dist4d_env.learning.networks import PolicyNetwork
from dist4d_env.learning.policy_files import Policy, PolicyConfig, outputs_of
from dist4d_env.learning.views import View

VALUE_SCALE = 10.0
"""About what an episode's discounted rewards come to: the value is learned in this unit, so that its gradients, which go through
the same encoder, do not drown those of the policy."""


class DrivingModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Actor and critic on one encoder: six cameras through the same convolutions, or vectors with a set of agents.

    model_config: ``view`` (a ``View``'s fields), ``hidden`` (widths of the layers after the encoder) and ``spread`` (logarithm of
    the actions' standard deviation at the start).
    """

    def setup(self) -> None:
        view, hidden = View(**self.model_config["view"]), tuple(self.model_config["hidden"])
        self.discrete = isinstance(view.action_space, spaces.Discrete)
        self.action_dist_cls = TorchCategorical if self.discrete else TorchDiagGaussian
        self.policy = PolicyNetwork(view.sees, outputs_of(view), hidden, "tanh")
        # Begin with what 0 means (follow the route at constant speed), not with a random choice of each seed.
        nn.init.orthogonal_(self.policy.head.weight, 0.01)
        nn.init.zeros_(self.policy.head.bias)
        if not self.discrete:
            self.spread = nn.Parameter(torch.full((outputs_of(view),), float(self.model_config["spread"])))
        layers: list[nn.Module] = []
        for before, after in pairwise([self.policy.encoder.features, *hidden]):
            layers += [nn.Linear(before, after), nn.Tanh()]
        self.value = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def get_non_inference_attributes(self) -> list[str]:
        """What env runners do without."""
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
        seen = dict(batch[Columns.OBS])
        if "cameras" in seen:
            seen["cameras"] = seen["cameras"].float() / 255.0
        return self.policy.encoder(seen)

    def _distribution(self, features: torch.Tensor) -> torch.Tensor:
        mean = self.policy.head(self.policy.layers(features))
        return mean if self.discrete else torch.cat([mean, self.spread.expand_as(mean)], -1)


class MeanAction(nn.Module):
    """What a ``Policy`` asks, answered by any RLModule that sees flattened observations (the vector recipe)."""

    def __init__(self, module: Any, outputs: int) -> None:
        super().__init__()
        self.module, self.outputs = module, outputs

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        flat = torch.cat([seen[key].flatten(1) for key in sorted(seen)], -1)  # as FlattenObservations does
        return self.module.forward_inference({Columns.OBS: flat})[Columns.ACTION_DIST_INPUTS][:, : self.outputs]


def policy_of(module: Any, config: PolicyConfig) -> Policy:
    """The module's most likely action as a policy of its own; that of ``DrivingModule`` can be saved and drives without RLlib."""
    if not isinstance(module, DrivingModule):
        return Policy(config, MeanAction(module, outputs_of(config.view)))  # type: ignore[arg-type]
    network = PolicyNetwork(config.view.sees, outputs_of(config.view), config.hidden, config.activation)
    network.load_state_dict({name: value.detach().cpu() for name, value in module.policy.state_dict().items()})
    return Policy(config, network)
