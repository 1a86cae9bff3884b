"""The end-to-end planner: pictures, the ego's own numbers and its route in, eight waypoints out; what is between is learned."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.learning.depth_scan import Calibration, calibration_of
from dist4d_env.learning.end_to_end_network import load_network, state_numbers, waypoints
from dist4d_env.learning.route_grid import PAST, Lifted, Lifter, Pictures
from dist4d_env.planners.contract import PLAN_DT, Plan, PlannerContext, PlannerInput, PlannerNeeds
from dist4d_env.planners.observed_agents import observed
from dist4d_env.planners.pdm_closed import emergency_brake

SHIPPED = Path(__file__).parent / "policies" / "end_to_end"
"""The trained network that comes with the package."""
ASIDE, TURNED = 0.5, 0.18
"""Metres and radians by which a camera may be mounted unlike the one that the network was trained with."""
_SKY = 100.0


@dataclass(frozen=True)
class EndToEndConfig:
    """weights: folder of a network, None for the shipped one; cameras: "all" that it was trained with, or "front": the one in the
    middle, the others are black; late: decisions by which pictures are older than the planner takes them for; noise: standard
    deviation of colours, as a share of white, and of depth, as a share of it, independent from pixel to pixel; coarse: how many
    rows and columns become one; brake: chance of an emergency from which on it brakes."""

    weights: str | Path | None = None
    cameras: Literal["all", "front"] = "all"
    late: int = 0
    noise: float = 0.0
    coarse: int = 1
    brake: float = 0.25

    def __post_init__(self) -> None:
        if self.cameras not in ("all", "front") or self.late < 0 or not 0 <= self.noise < 1:
            raise ConfigError(
                f"cameras={self.cameras!r} is all or front, late={self.late!r} at least 0, noise={self.noise!r} in [0, 1)"
            )
        if self.coarse not in (1, 2, 4) or not 0 < self.brake <= 1:
            raise ConfigError(f"coarse={self.coarse!r} is 1, 2 or 4, brake={self.brake!r} in (0, 1]")


class EndToEndPlanner:
    """Drives by a network that was trained to do as PDM-Closed does (``agents/train_end_to_end.py``, docs/end-to-end.md).

    It needs "cameras", "ego" and "route" in the observation, and "depth" unless its network was trained without. Other road users
    and lights reach it through pictures alone: it is given no map. Pictures of any size are scaled to the network's. Same seed,
    same plans; the seed draws the noise of ``noise``.
    """

    requires = PlannerNeeds(cameras=True, history=len(PAST))

    def __init__(self, config: EndToEndConfig | None = None) -> None:
        self.config = config or EndToEndConfig()
        folder = SHIPPED if self.config.weights is None else Path(self.config.weights)
        self.network, self.trained = load_network(folder)
        self.files = tuple(str(path) for path in sorted(folder.iterdir()))

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Raises ConfigError for a rig without the network's cameras, or with others in their place."""
        self._rig = fitting_rig(context.scene.rig, self.trained.cameras, self.trained.calibration)
        self._lifter: Lifter | None = None
        self._shown: deque[Pictures] = deque(maxlen=self.config.late + 1)
        self._views: deque[Pictures] = deque(maxlen=64)
        self._rng = np.random.default_rng(seed)

    def plan(self, observation: PlannerInput) -> Plan:
        ego, route = observed(observation, "ego"), np.asarray(observed(observation, "route"), float)
        view, lifted = self.look(observation, route)
        state = state_numbers(np.asarray(ego, float)[None], route[None], lifted.seen[None])
        with torch.no_grad():
            batch = (torch.from_numpy(part[None]) for part in (view.rgb, lifted.cells, lifted.counts))
            answer = self.network(*batch, torch.from_numpy(state))
        if float(torch.sigmoid(answer.brake[0])) >= self.config.brake:
            return Plan(emergency_brake(float(ego[0])), PLAN_DT)
        return Plan(waypoints(answer.speed[0].numpy(), answer.beside[0].numpy(), float(ego[0]), route), PLAN_DT)

    def look(self, given: PlannerInput, route: np.ndarray) -> tuple[Pictures, Lifted]:
        """The view that is taken for the present one, and what it and those before it show around the route."""
        trained = self.trained
        self._shown.append(taken(given, trained.cameras, trained.size, trained.depth))
        if self._lifter is None:
            shown = given.observation[trained.cameras[0]].shape[:2]
            self._lifter = Lifter(scaled_calibration(self._rig, shown, trained.size), trained.size, trained.depth)
        late = self._shown[0]
        now = self._worse(Pictures(given.time, late.rgb, late.depth, given.ego))
        before = [next((v for v in self._views if abs(now.time - ago - v.time) < 0.06), None) for ago in PAST]
        while self._views and self._views[0].time < now.time - max(PAST):
            self._views.popleft()
        self._views.append(now)
        return now, self._lifter.lift([now, *before], route)

    def _worse(self, view: Pictures) -> Pictures:
        """The view as the settings spoil it."""
        rgb, depth, config = view.rgb, view.depth, self.config
        if config.cameras == "front":
            front = int(np.argmax([row[9 + 2] for row in self.trained.calibration]))  # x of the direction it looks in
            others = np.arange(len(rgb)) != front
            rgb, depth = rgb.copy(), depth.copy()
            rgb[others], depth[others] = 0, _SKY
        if config.coarse > 1:
            rgb, depth = coarsened(rgb, depth, config.coarse)
        if config.noise:
            grey = 255 * config.noise * self._rng.standard_normal(rgb.shape)
            rgb = np.clip(np.rint(rgb + grey), 0, 255).astype(np.uint8)
            depth = np.clip(depth * (1 + config.noise * self._rng.standard_normal(depth.shape)), 0, _SKY).astype(np.float32)
        return Pictures(view.time, rgb, depth, view.ego)


def taken(given: PlannerInput, cameras: tuple[str, ...], size: tuple[int, int], depth: bool) -> Pictures:
    """The pictures of an observation at the network's size; sky everywhere where depth is not asked for. Raises ConfigError for
    what is not observed."""
    rgb = np.stack([_scaled(observed(given, name), size, cv2.INTER_AREA) for name in cameras])
    if not depth:
        return Pictures(given.time, rgb, np.full(rgb.shape[:3], _SKY, np.float32), given.ego)
    metres = [_scaled(np.asarray(observed(given, f"{name}/depth"))[..., 0], size, cv2.INTER_NEAREST) for name in cameras]
    return Pictures(given.time, rgb, np.stack(metres).astype(np.float32), given.ego)


def _scaled(picture: np.ndarray, size: tuple[int, int], how: int) -> np.ndarray:
    return picture if picture.shape[:2] == size else cv2.resize(picture, size[::-1], interpolation=how)


def coarsened(rgb: np.ndarray, depth: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (V, H, W, 3) and depth (V, H, W) of which ``step`` rows and columns each have become one, at their old size."""
    views, height, width = depth.shape
    mean = rgb.reshape(views, height // step, step, width // step, step, 3).mean((2, 4)).astype(np.uint8)
    middle = depth[:, step // 2 :: step, step // 2 :: step]
    return mean.repeat(step, 1).repeat(step, 2), middle.repeat(step, 1).repeat(step, 2)


def fitting_rig(rig: CameraRig, cameras: tuple[str, ...], trained: Calibration) -> CameraRig:
    """The named cameras of a rig. Raises ConfigError where it lacks one, or has it mounted over ``ASIDE`` metres or ``TURNED``
    radians from where the trained one is."""
    missing = [name for name in cameras if name not in rig.names]
    if missing:
        raise ConfigError(
            f"the planner was trained with {', '.join(cameras)}; this rig has no {', '.join(missing)} but "
            f"{', '.join(rig.names):.100}: train one for it (agents/train_end_to_end.py)"
        )
    index = [rig.names.index(name) for name in cameras]
    sizes = tuple(rig.sizes[view] for view in index) if rig.sizes else ()
    chosen = replace(
        rig, names=cameras, intrinsics=rig.intrinsics[index], ego_from_camera=rig.ego_from_camera[index], sizes=sizes
    )
    for name, mine, row in zip(cameras, chosen.ego_from_camera, trained, strict=True):
        theirs = np.array(row[9:]).reshape(4, 4)
        aside = float(np.linalg.norm(mine[:3, 3] - theirs[:3, 3]))
        turned = float(np.arccos(np.clip((np.trace(mine[:3, :3] @ theirs[:3, :3].T) - 1) / 2, -1.0, 1.0)))
        if aside > ASIDE or turned > TURNED:
            raise ConfigError(
                f"{name} of this rig is {aside:.1f} m and {np.degrees(turned):.0f} degrees from where the planner was trained "
                "with it: train one for this rig (agents/train_end_to_end.py)"
            )
    return chosen


def scaled_calibration(rig: CameraRig, shown: tuple[int, int], size: tuple[int, int]) -> Calibration:
    """Calibration of a rig whose pictures were shown at a size (height, width) and then scaled to another."""
    seen = rig.at_size(*shown)
    scale = np.diag([size[1] / shown[1], size[0] / shown[0], 1.0])
    return calibration_of(replace(seen, intrinsics=scale @ seen.intrinsics))


VARIANTS: Mapping[str, EndToEndConfig] = MappingProxyType(
    {
        "front": EndToEndConfig(cameras="front"),
        "late": EndToEndConfig(late=1),
        "noisy": EndToEndConfig(noise=0.1),
        "coarse": EndToEndConfig(coarse=2),
    }
)
"""The planners ``end_to_end_NAME`` of the registry."""


def __getattr__(name: str) -> Any:
    """Factories without arguments of the variants."""
    if name in VARIANTS:
        return partial(EndToEndPlanner, VARIANTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
