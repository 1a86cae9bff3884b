"""Learned policies as files: weights in safetensors, everything else in a readable config.json. No pickles.

Stable-Baselines3's own zip files hold pickles, which run code when they are loaded; so a policy is exported after training and
loaded here, without Stable-Baselines3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import nn

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.learning.networks import PolicyNetwork
from dist4d_env.learning.route_frame import Batch
from dist4d_env.learning.views import View
from dist4d_env.models.arguments import MOST_LEVELS, check_channels, check_choice
from dist4d_env.planners.contract import failure_text
from dist4d_env.scenes.edits import MOST, is_number
from dist4d_env.scenes.files import keep_beside, recovered, replacing_folder

FORMAT = "dist4d-policy-2"
WEIGHTS, CONFIG = "policy.safetensors", "config.json"
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError, OverflowError, SafetensorError,
)  # fmt: skip
"""What reading a broken folder of weights and configuration may raise."""


@dataclass(frozen=True)
class PolicyConfig:
    """view: its inputs and actions; decision_dt: s; hidden: widths of its layers; activation: "tanh" or "relu"; squash: whether
    the head ends in a tanh; about: how it was trained, for people."""

    view: View
    decision_dt: float
    hidden: tuple[int, ...]
    activation: str = "tanh"
    squash: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_number(self.decision_dt, 0.1, MOST):
            raise ConfigError(f"decision_dt must be a number of seconds from 0.1 on, not {self.decision_dt!r}")
        if not isinstance(self.hidden, list | tuple) or len(self.hidden) > MOST_LEVELS:
            raise ConfigError(f"hidden must be a list of at most {MOST_LEVELS} widths, not {self.hidden!r}")
        check_channels(**{f"hidden[{layer}]": width for layer, width in enumerate(self.hidden)})
        check_choice("activation", self.activation, ("tanh", "relu"))
        check_choice("squash", self.squash, (False, True))
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a list, where it was read from a file


class Policy:
    """A policy that acts deterministically: ``act`` maps the environment's observations to its actions."""

    def __init__(self, config: PolicyConfig, network: nn.Module) -> None:
        self.config, self.network = config, network.eval()

    @classmethod
    def load(cls, folder: str | Path) -> Policy:
        """The policy that ``save`` wrote. Raises WeightsError for files that are missing, broken or of another format."""
        folder = Path(folder)
        try:
            stored = json.loads((recovered(folder) / CONFIG).read_text())
            if stored.get("format") != FORMAT:
                raise WeightsError(f"{folder / CONFIG} is not a policy of format {FORMAT!r}: train it with this version")
            view = View(**stored["view"])
            config = PolicyConfig(
                view,
                stored["decision_dt"],
                stored["hidden"],
                stored["activation"],
                stored["squash"],
                stored.get("about", {}),
            )
            tensors = load_file(folder / WEIGHTS)
            broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
            if broken:
                raise WeightsError(f"{folder / WEIGHTS}: {broken[0]} isn't finite; train the policy again")
            others = [f"{name} is {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype != torch.float32]
            if others:
                raise WeightsError(f"{folder / WEIGHTS}: {others[0]}, not torch.float32; save it as Policy.save does")
            with torch.device("meta"):  # shapes alone: no size is too large
                network = PolicyNetwork(view, config.hidden, config.activation)
            network.load_state_dict(tensors, assign=True)
        except WeightsError:
            raise
        except UNREADABLE as error:
            raise WeightsError(
                f"no policy can be read from {folder} ({failure_text(error)}): it takes {CONFIG} and {WEIGHTS}"
            ) from error
        return cls(config, network)

    def save(self, folder: str | Path) -> Path:
        """Write the two files; at any instant the folder has both of the old policy or both of the new one."""
        folder = Path(folder)
        tensors = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        with replacing_folder(folder) as fresh:
            (fresh / WEIGHTS).write_bytes(serialise(tensors))
            (fresh / CONFIG).write_text(json.dumps({"format": FORMAT, **asdict(self.config)}, indent=1) + "\n")
            keep_beside(folder, fresh)
        return folder

    def act(self, observations: Batch) -> np.ndarray:
        """The environment's actions (B, ...) for its observations (B, ...)."""
        view = self.config.view
        inputs = {key: torch.from_numpy(np.asarray(value)) for key, value in view.observe(observations).items()}
        if "cameras" in inputs:
            inputs["cameras"] = inputs["cameras"].float() / 255.0
        with torch.no_grad():
            head = self.network(inputs)
        if isinstance(view.action_space, spaces.Discrete):
            return head.argmax(-1).numpy()
        action = torch.tanh(head) if self.config.squash else head.clamp(-1.0, 1.0)
        return view.act(action.numpy(), observations)
