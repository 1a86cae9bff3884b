"""Policies of Stable-Baselines3: encoders as its feature extractor, and the trained actor as a policy of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from dist4d_env.learning.networks import PolicyNetwork, make_encoder
from dist4d_env.learning.policy_files import Policy, PolicyConfig
from dist4d_env.learning.views import View


class EncoderExtractor(BaseFeaturesExtractor):
    """An encoder of ``learning.networks`` as a feature extractor."""

    def __init__(self, observation_space: gym.Space, view: View) -> None:
        encoder = make_encoder(view)
        super().__init__(observation_space, encoder.features)
        self.encoder = encoder

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.encoder(inputs)


def policy_kwargs(view: View, hidden: Sequence[int] = (128, 128)) -> dict[str, Any]:
    """``policy_kwargs`` of PPO and SAC with "MultiInputPolicy": encoder and widths of the layers after it (actor and critic)."""
    return {
        "features_extractor_class": EncoderExtractor,
        "features_extractor_kwargs": {"view": view},
        "net_arch": list(hidden),
    }


def policy_of(model: BaseAlgorithm, view: View, decision_dt: float = 0.5, about: Mapping[str, Any] | None = None) -> Policy:
    """The most likely action of a model made with ``policy_kwargs``: a policy to save, which drives without Stable-Baselines3.

    decision_dt: s between decisions of the environment it was trained in; about: stored with the policy, for people.
    """
    trained: Any = model.policy
    ppo = isinstance(trained, ActorCriticPolicy)
    if ppo:
        parts = trained.features_extractor.encoder, trained.mlp_extractor.policy_net, trained.action_net
    else:
        parts = trained.actor.features_extractor.encoder, trained.actor.latent_pi, trained.actor.mu
    hidden = tuple(layer.out_features for layer in parts[1] if isinstance(layer, nn.Linear))
    config = PolicyConfig(view, decision_dt, hidden, "tanh" if ppo else "relu", not ppo, dict(about or {}))
    network = PolicyNetwork(view, hidden, config.activation)
    for own, part in zip((network.encoder, network.layers, network.head), parts, strict=True):
        own.load_state_dict({name: value.detach().cpu() for name, value in part.state_dict().items()})
    return Policy(config, network)
