"""The networks of the policies, plain torch: encoders that Stable-Baselines3 trains and that run without it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from dist4d_env.geometry.cameras import RING
from dist4d_env.learning.depth_scan import SCAN_FEATURES
from dist4d_env.learning.views import AGENT_SIZE, LEADER_SIZE, NEAR_STATE_SIZE, STATE_SIZE

WIDTH, AGENT_WIDTH = 128, 64


class VectorEncoder(nn.Module):
    """{"state": (B, S), "leaders": (B, L), "agents": (B, A, F)} to (B, features): each agent by the same layers, then the largest
    of each feature (a set has no order)."""

    features = WIDTH + AGENT_WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.agents = nn.Sequential(nn.Linear(AGENT_SIZE, AGENT_WIDTH), nn.ReLU(), nn.Linear(AGENT_WIDTH, AGENT_WIDTH), nn.ReLU())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE + LEADER_SIZE, WIDTH), nn.ReLU())

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = seen["agents"]
        there = rows[..., -1:] > 0
        agents = torch.where(there, self.agents(rows), 0.0).amax(1)  # (B, AGENT_WIDTH); no feature is below zero
        return torch.cat([self.state(torch.cat([seen["state"], seen["leaders"]], -1)), agents], -1)


class CameraEncoder(nn.Module):
    """{"state": (B, S), "cameras": (B, 18, H, W) in [0, 1]} to (B, features): one convolutional encoder for all six cameras."""

    features = 2 * WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.camera = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d((4, 7)), nn.Flatten(), nn.Linear(32 * 28, 64), nn.ReLU(),
        )  # fmt: skip
        self.ring = nn.Sequential(nn.Linear(64 * len(RING), WIDTH), nn.ReLU())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE, WIDTH), nn.ReLU())

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        batch, _, height, width = seen["cameras"].shape
        views = self.camera(seen["cameras"].reshape(batch * len(RING), 3, height, width))
        return torch.cat([self.state(seen["state"]), self.ring(views.reshape(batch, -1))], -1)


class ScanEncoder(nn.Module):
    """{"state": (B, S), "scan": (B, F)} to (B, features): the scan and the ego's own numbers as they are, without the route's
    shape, for every input more is something that a few thousand decisions must learn to ignore."""

    features = NEAR_STATE_SIZE + SCAN_FEATURES

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([seen["state"][:, :NEAR_STATE_SIZE], seen["scan"]], -1)


Encoder = VectorEncoder | CameraEncoder | ScanEncoder


def make_encoder(sees: str) -> Encoder:
    """The encoder for what a policy sees (``View.sees``)."""
    return {"vectors": VectorEncoder, "images": CameraEncoder, "scan": ScanEncoder}[sees]()


class PolicyNetwork(nn.Module):
    """From what is seen to the policy's most likely action: encoder, layers, head.

    sees: ``View.sees``; activation, squash: as the algorithm trained them (PPO: tanh layers, a head that is clipped; SAC: ReLU
    layers, a tanh head).
    """

    def __init__(self, sees: str, outputs: int, hidden: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.encoder = make_encoder(sees)
        sizes = [self.encoder.features, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU() if activation == "relu" else nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head(self.layers(self.encoder(seen)))
