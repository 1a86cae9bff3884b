"""The moving average of the weights, which is what a run validates and exports."""

from __future__ import annotations

import torch
from torch import nn

Weights = dict[str, dict[str, torch.Tensor]]
"""Weights and buffers by model and name."""


def copied(models: dict[str, nn.Module]) -> Weights:
    """The models' weights and buffers, apart from them."""
    return {name: {key: value.detach().clone() for key, value in model.state_dict().items()} for name, model in models.items()}


@torch.no_grad()
def update_average(average: Weights, models: dict[str, nn.Module], decay: float) -> None:
    """Move the averages towards the models; buffers are copied."""
    for name, model in models.items():
        trained = dict(model.named_parameters())
        for key, value in model.state_dict().items():
            if key in trained:
                average[name][key].lerp_(value, 1 - decay)
            else:
                average[name][key].copy_(value)


class Averaged:
    """Within this context the models carry their averaged weights and are in evaluation mode."""

    def __init__(self, models: dict[str, nn.Module], average: Weights) -> None:
        self.models, self.average = models, average

    def __enter__(self) -> None:
        self.kept = copied(self.models)
        for name, model in self.models.items():
            model.load_state_dict(self.average[name])
            model.eval()

    def __exit__(self, *error: object) -> None:
        for name, model in self.models.items():
            model.load_state_dict(self.kept[name])
            model.train()
