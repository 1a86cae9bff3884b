"""Policy networks in plain torch: encoders that Stable-Baselines3 and RLlib train and that run without them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from dist4d_env.learning.depth_scan import SCAN_FEATURES
from dist4d_env.learning.views import AGENT_SIZE, LEADER_SIZE, NEAR_STATE_SIZE, STATE_SIZE, View

WIDTH, AGENT_WIDTH = 128, 64


class VectorEncoder(nn.Module):
    """{"state": (B, S), "leaders": (B, L), "agents": (B, A, F)} to (B, features): each agent by the same layers, then the largest
    of each feature (a set has no order)."""

    features = WIDTH + AGENT_WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.agents = nn.Sequential(nn.Linear(AGENT_SIZE, AGENT_WIDTH), nn.ReLU(), nn.Linear(AGENT_WIDTH, AGENT_WIDTH), nn.ReLU())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE + LEADER_SIZE, WIDTH), nn.ReLU())

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = inputs["agents"]
        there = rows[..., -1:] > 0
        agents = torch.where(there, self.agents(rows), 0.0).amax(1)  # (B, AGENT_WIDTH); no feature is below zero
        return torch.cat([self.state(torch.cat([inputs["state"], inputs["leaders"]], -1)), agents], -1)


class CameraEncoder(nn.Module):
    """{"state": (B, S), "cameras": (B, 3 V, H, W) in [0, 1]} to (B, features): one convolutional encoder for all V cameras."""

    features = 2 * WIDTH

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.camera = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d((4, 7)), nn.Flatten(), nn.Linear(32 * 28, 64), nn.ReLU(),
        )  # fmt: skip
        self.ring = nn.Sequential(nn.Linear(64 * count, WIDTH), nn.ReLU())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE, WIDTH), nn.ReLU())

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        batch, _, height, width = inputs["cameras"].shape
        views = self.camera(inputs["cameras"].reshape(batch * self.count, 3, height, width))
        return torch.cat([self.state(inputs["state"]), self.ring(views.reshape(batch, -1))], -1)


class ScanEncoder(nn.Module):
    """{"state": (B, S), "scan": (B, F)} to (B, features): the scan and the ego's own numbers as they are, without the route's
    shape, for every input more is something that a few thousand decisions must learn to ignore."""

    features = NEAR_STATE_SIZE + SCAN_FEATURES

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([inputs["state"][:, :NEAR_STATE_SIZE], inputs["scan"]], -1)


Encoder = VectorEncoder | CameraEncoder | ScanEncoder


def make_encoder(view: View) -> Encoder:
    """The encoder for a view's features."""
    if view.modality == "vectors":
        return VectorEncoder()
    return ScanEncoder() if view.modality == "scan" else CameraEncoder(len(view.cameras))


def linear_layers(sizes: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> list[nn.Module]:
    """Linear layers of these widths, each followed by an activation."""
    return [layer for before, after in pairwise(sizes) for layer in (nn.Linear(before, after), activation())]


class PolicyNetwork(nn.Module):
    """From a view's features to the policy's most likely action: encoder, layers of ``hidden`` widths, head.

    activation: as the algorithm trained it ("tanh" for PPO, "relu" for SAC).
    """

    def __init__(self, view: View, hidden: Sequence[int], activation: str = "tanh") -> None:
        super().__init__()
        self.encoder = make_encoder(view)
        sizes = [self.encoder.features, *hidden]
        self.layers = nn.Sequential(*linear_layers(sizes, nn.ReLU if activation == "relu" else nn.Tanh))
        self.head = nn.Linear(sizes[-1], view.outputs)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head(self.layers(self.encoder(inputs)))
