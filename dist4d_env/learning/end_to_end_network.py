"""The network of the end-to-end planner: pictures, lifted to a grid along the route, and the ego's own numbers to a plan.

One convolutional encoder looks at each camera's picture; its features fall into the cells where their pixels' depth lies, beside
counts of points of this and earlier frames. Convolutions over the grid and the ego's numbers give the plan; two more heads, which
only training asks, say where agents are and how they move, where road is, and whether a red light is ahead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import nn

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.geometry import deterministic
from dist4d_env.learning.depth_scan import Calibration, check_cameras
from dist4d_env.learning.policy_files import UNREADABLE
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.route_grid import BACK, CELL, CELLS, CHANNELS, COARSE, PAST
from dist4d_env.models.arguments import check_choice
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, failure_text
from dist4d_env.scenes.files import recovered, replacing_folder

FORMAT = "dist4d-end-to-end-2"
WEIGHTS, CONFIG = "network.safetensors", "config.json"
STATE = 8 + 20 + len(PAST)
"""The ego's numbers that the network is given."""
SIDEWAYS = (2, 3, 4, 6, *range(7, 28))
"""Those of them that change their sign where left and right change places."""
HINTS = 4
"""Channels of the auxiliary grid: occupied by an agent, its velocity along the route and to the left (10 m/s), drivable."""
HINT_CELLS = (CELLS[0] // 4, CELLS[1] // 4)
SETTLE = 1.5
"""Seconds in which, without a word from the network, a place beside the route becomes one on it."""
TIMES = PLAN_DT * np.arange(1, PLAN_POSES + 1)
FASTEST = 40.0
"""m/s that a plan does not exceed."""


@dataclass(frozen=True)
class NetworkConfig:
    """cameras: names of those it was trained with; calibration: of these, for pictures of ``size`` (height, width); depth:
    whether it is given depth; about: how it was trained, for people."""

    cameras: tuple[str, ...]
    calibration: Calibration
    size: tuple[int, int] = (64, 112)
    depth: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("depth", self.depth, (False, True))
        check_cameras(self.cameras, self.size, self.calibration)
        object.__setattr__(self, "cameras", tuple(self.cameras))  # lists, where they were read from a file
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "calibration", tuple(tuple(row) for row in self.calibration))
        if not self.calibration:
            raise ConfigError("the network needs the names of its cameras and 25 numbers of calibration of each")
        if any(side % 4 for side in self.size):
            raise ConfigError(f"size={self.size!r} must be a height and a width, both multiples of 4 from 16 on")


@dataclass(frozen=True)
class Answer:
    """speed: (B, 8) m/s by which the mean speed up to each waypoint is above the present speed; beside: (B, 8) metres to the left
    of where the ego would settle on the route; brake: (B,) logit of an emergency; hints: (B, 4, 30, 12); light: (B,) logit of a
    red light ahead."""

    speed: torch.Tensor
    beside: torch.Tensor
    brake: torch.Tensor
    hints: torch.Tensor
    light: torch.Tensor


def _layer(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class EndToEndNetwork(nn.Module):
    """Half a million parameters; see the module."""

    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = _layer(3, 16, 2), nn.Sequential(_layer(16, 32, 2), _layer(32, 32))
        self.across, self.down = nn.Conv2d(16, self.features, 1), nn.Conv2d(32, self.features, 1)
        self.points = _layer(CHANNELS, 24, 2)
        self.joined = _layer(24 + self.features, 32)
        self.middle = nn.Sequential(_layer(32, 64, 2), _layer(64, 64))
        self.hints = nn.Conv2d(64, HINTS, 1)
        self.far = nn.Sequential(_layer(64, 96, 2), _layer(96, 32))
        # Without the norms all of what the grid says to the plan can die: thousands of inputs, none of them negative.
        grid = nn.Linear(32 * (CELLS[0] // 8) * (CELLS[1] // 8), 128)
        self.flat = nn.Sequential(grid, nn.LayerNorm(128), nn.ReLU(), nn.Dropout(0.2))
        self.state = nn.Sequential(nn.Linear(STATE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.plan = nn.Sequential(
            nn.Linear(128 + 64, 128), nn.LayerNorm(128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 2 * PLAN_POSES + 2),
        )  # fmt: skip

    def forward(self, rgb: torch.Tensor, cells: torch.Tensor, counts: torch.Tensor, state: torch.Tensor) -> Answer:
        """rgb: (B, V, H, W, 3) uint8; cells: (B, V, H / 2, W / 2) and counts: (B, C, 120, 48) of ``route_grid.Lifted``; state:
        (B, 30) of ``state_numbers``."""
        seen = self._lifted(self._pictures(rgb), cells)
        points = self.points(torch.log1p(counts.float()) / 2.0)
        grid = self.middle(self.joined(torch.cat([points, seen], 1)))
        flat = self.flat(self.far(grid).flatten(1))
        out = self.plan(torch.cat([flat, self.state(state)], 1))
        n = PLAN_POSES
        return Answer(3.0 * out[:, :n], out[:, n : 2 * n], out[:, -2], self.hints(grid), out[:, -1])

    def _pictures(self, rgb: torch.Tensor) -> torch.Tensor:
        """(B V, H / 2 W / 2, F) features of every second pixel of each picture."""
        pictures = rgb.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        near = self.stem(pictures)
        wide = nn.functional.interpolate(self.down(self.deep(near)), size=near.shape[-2:])
        return torch.relu(self.across(near) + wide).flatten(2).transpose(1, 2)

    def _lifted(self, features: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """(B, F, 60, 24) the mean of the features whose pixels lie in each cell."""
        batch, room = len(cells), COARSE[0] * COARSE[1]
        flat = cells.reshape(batch, -1).long()
        place = torch.where(flat < 0, room, flat) + (room + 1) * torch.arange(batch)[:, None]  # the last place is for none
        rows = torch.cat([features, torch.ones_like(features[..., :1])], -1).reshape(-1, self.features + 1)
        sums = rows.new_zeros(batch * (room + 1), self.features + 1).index_add(0, place.reshape(-1), rows)
        sums = sums.reshape(batch, room + 1, -1)[:, :room]
        mean = sums[..., :-1] / sums[..., -1:].clamp(min=1.0)
        return mean.transpose(1, 2).reshape(batch, self.features, *COARSE)


def state_numbers(ego: np.ndarray, route: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(B, 30) float32 of the observations "ego" (B, 10) and "route" (B, 20, 2), and which earlier frames there are (B, 2)."""
    frame = RouteFrame.of({"route": route})
    own = ego[:, [0, 1, 3, 4, 6, 7, 8]] / np.array([10.0, 3.0, 0.5, 0.3, 0.5, 10.0, 1.0])
    bends = np.diff(frame.heading, axis=1, prepend=0.0) * 5.0
    columns = [own, frame.beside[:, None] / 2.0, bends, seen]
    return np.clip(np.concatenate(columns, 1), -5.0, 5.0).astype(np.float32)


def waypoints(speed: np.ndarray, beside: np.ndarray, now: float, route: np.ndarray) -> np.ndarray:
    """(8, 3) x, y, heading in the ego frame of an answer's speed and beside (8,), given the present speed (m/s) and the
    observation "route" (20, 2)."""
    frame = RouteFrame.of({"route": route[None]})
    along = np.clip(now + np.asarray(speed, float), -4.0, FASTEST) * TIMES
    start = float(frame.beside[0])
    left = np.asarray(beside, float) + start * deterministic.exp(-TIMES / SETTLE)
    place, heading = (part[0] for part in frame.at(np.maximum(along, 0.0)[None]))
    unit = np.stack([deterministic.cos(heading), deterministic.sin(heading)], -1)
    place = place + left[:, None] * np.stack([-unit[:, 1], unit[:, 0]], -1) + np.minimum(along, 0.0)[:, None] * unit
    ahead, aside = np.diff(along, prepend=0.0), np.diff(left, prepend=start)
    slope = deterministic.arctan2(aside, np.maximum(ahead, 2.0))
    return np.column_stack([place, (heading + slope + np.pi) % (2 * np.pi) - np.pi])


def as_answer(plans: np.ndarray, now: np.ndarray, route: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The speed and beside (B, 8) that mean plans (B, 8, 3): what ``waypoints`` takes."""
    frame = RouteFrame.of({"route": route})
    along, left, _ = frame.project(plans[..., :2])
    return along / TIMES - now[:, None], left - frame.beside[:, None] * deterministic.exp(-TIMES / SETTLE)


def hint_grid(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(HINTS - 1, 30, 12) of places (N, 2) along and left of the route that agents cover and their values (N, 2): 1 where there
    is one, and the values of the last."""
    grid = np.zeros((HINTS - 1, *HINT_CELLS), np.float32)
    row = np.floor((places[:, 0] + BACK) / (4 * CELL)).astype(int)
    column = np.floor(places[:, 1] / (4 * CELL)).astype(int) + HINT_CELLS[1] // 2
    inside = (row >= 0) & (row < HINT_CELLS[0]) & (column >= 0) & (column < HINT_CELLS[1])
    grid[0, row[inside], column[inside]] = 1.0
    grid[1:, row[inside], column[inside]] = values[inside].T
    return grid


def save_network(network: nn.Module, config: NetworkConfig, folder: str | Path) -> None:
    """Writes weights, in half precision, and config.json; the folder is at any instant the old or the new one."""
    tensors = {
        name: value.detach().half() if value.is_floating_point() else value.detach()
        for name, value in network.state_dict().items()
    }
    with replacing_folder(folder) as fresh:
        (fresh / WEIGHTS).write_bytes(serialise(tensors))
        (fresh / CONFIG).write_text(json.dumps({"format": FORMAT, **asdict(config)}, indent=1) + "\n")


def load_network(folder: str | Path) -> tuple[EndToEndNetwork, NetworkConfig]:
    """What ``save_network`` wrote, ready to drive. Raises WeightsError for missing or broken files and those of other formats."""
    folder = Path(folder)
    try:
        stored = json.loads((recovered(folder) / CONFIG).read_text())
        if stored.pop("format", None) != FORMAT:
            raise WeightsError(f"{folder / CONFIG} is no network of format {FORMAT!r}: train it with this version")
        config, network = NetworkConfig(**stored), EndToEndNetwork()
        tensors = load_file(folder / WEIGHTS)
        broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise WeightsError(f"{folder / WEIGHTS}: {broken[0]} isn't finite; train the network again")
        kinds = {name: value.is_floating_point() for name, value in network.state_dict().items()}
        wrong = [name for name, tensor in tensors.items() if kinds.get(name) not in (None, tensor.is_floating_point())]
        wrong += [name for name, tensor in tensors.items() if name.endswith("running_var") and (tensor < 0).any()]
        if wrong:
            raise WeightsError(f"{folder / WEIGHTS}: {wrong[0]} holds values that it cannot have; train the network again")
        network.load_state_dict(tensors)
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(
            f"no end-to-end network is in {folder} ({failure_text(error)}): it takes {CONFIG} and {WEIGHTS}"
        ) from error
    return network.eval(), config
