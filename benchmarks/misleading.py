"""Which part of a generated picture makes a planner plan otherwise than on the true one?

Planners drive in the truth. Others of their kind are shown, of every state that they come to, other pictures:

- ``stored``: the true ones through JPEG and 16-bit depth; ``resampled``: the true ones with pixel centres half a pixel aside;
- ``splat``, ``dist4d``: those of these worlds, with the log in memory;
- ``dist4d`` in parts: with the true pixels of agents, with all true pixels but those, with true depth, with true colours. Agents
  are what lies in their boxes in either picture, and the pixels beside it.

How far plans are from those on the true pictures after 2 s says what matters, and what no world can avoid. Beside it, of each
kind of pictures, how many pixels stand above the road nearer than in truth, and how many that stand there are shown farther away.

    python -m benchmarks.misleading --out benchmarks/results/misleading.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from benchmarks.agreement import Clusters
from benchmarks.common import result_file, run
from benchmarks.decisions import DecisionOptions, Drive, drive_all
from benchmarks.fidelity import PATIENCE, TRUTH
from benchmarks.resampled_oracle import ResampledOracle
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import DIFFERS, OtherPictures, SecondOpinions, Shown, Stored, between, observed
from dist4d_env.geometry.cameras import ego_points
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource, widened
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.replay import SplatWorld

Part = Literal["agents", "all but agents", "depth", "colours"]
PARTS: tuple[Part, ...] = ("agents", "all but agents", "depth", "colours")
ABOVE, WITHIN, OFF = (0.3, 2.3), 40.0, 0.15
"""Metres above the road and from the ego of what may stand in the ego's way; share of its depth by which a pixel is wrong."""


@dataclass(frozen=True)
class Options(DecisionOptions):
    """Which part of a generated picture makes planners plan otherwise."""


def main(options: Options) -> dict[str, Any]:
    drives, finished = drive_all(options, TRUTH, driven)
    pictures = summary(drives, finished.done)
    pixels = {shown: np.mean([found[shown]["pixels"] for found in finished.done.values()], 0) for shown in pictures}
    result = result_file("misleading", options, {
        "differs_from": DIFFERS, "pictures": pictures,
        "pixels": {shown: dict(zip(("too_near", "too_far"), shares.tolist(), strict=True)) for shown, shares in pixels.items()},
    }, finished)  # fmt: skip
    for shown, planners in pictures.items():
        cells = (f"{name} {row['metres']['mean']:.2f} m, {100 * row['differ']['mean']:.0f} %" for name, row in planners.items())
        near, far = 1e4 * pixels[shown]
        print(f"{shown:<28}" + "; ".join(cells) + f"; of 10,000 pixels {near:.0f} too near, {far:.0f} too far")
    return result


def driven(drive: Drive) -> tuple[str, dict[str, dict[str, list[float]]]]:
    """Drives an episode; of each kind of pictures ``metres``, of each decision how far the plan on them is from the one on
    the true ones, and ``pixels``, the mean shares that are too near and too far."""
    generated = LastSeen(_generative(drive.weights))
    shown: dict[str, Shown] = {"stored": Stored(), "resampled": OtherPictures(ResampledOracle())}
    shown |= {"splat": OtherPictures(SplatWorld("log")), "dist4d": generated}  # asked in this order: parts come after the whole
    shown |= {f"dist4d, {part} true": Mixed(generated, part) for part in PARTS}
    compared = {name: Compared(one) for name, one in shown.items()}
    opinions = SecondOpinions({name: (make_planner(drive.planner), one) for name, one in compared.items()})
    options = RunOptions(plan_limit=PATIENCE, reset_limit=PATIENCE, scenario=drive.scenario, opinions=opinions)
    log = run_episode(_environment(drive.settings), make_planner(drive.planner), 0, options, None, drive.planner)
    drive.check(log, opinions)
    plans, count = log.plans.poses, len(log.plans.step)
    return drive.name, {
        name: {"metres": between(plans, opinions.plans_of(name)[:count]).tolist(), "pixels": np.mean(one.off, 0).tolist()}
        for name, one in compared.items()
    }


class Compared:
    """Pictures, of which is kept how many pixels above the road are too near and too far."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.off: list[tuple[float, float]] = []

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        self._driving, self.off = driving, []
        self._shown.begin(driving)

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Those that are shown."""
        shown = self._shown.pictures(observation)
        rig, true = self._driving.scene.rig, self._driving.episode.frame
        assert true is not None
        depth = np.stack([shown[f"{name}/depth"][..., 0] for name in rig.names])
        self.off.append(off(depth, true, rig.ego_from_camera))
        return shown


def off(depth: np.ndarray, true: RGBDFrame, ego_from_camera: np.ndarray) -> tuple[float, float]:
    """Of a depth image (V, H, W) the share of pixels that stand ``ABOVE`` the road, ``WITHIN`` reach, and are more than ``OFF``
    nearer than in the true frame, and of those that stand there in the true frame and are shown as much farther away."""

    def stand(z: np.ndarray) -> np.ndarray:
        x, y, height = ego_points(z, true.intrinsics, ego_from_camera).T
        return ((height > ABOVE[0]) & (height < ABOVE[1]) & (np.hypot(x, y) < WITHIN)).reshape(z.shape)

    near, far = stand(depth) & (depth < (1 - OFF) * true.depth), stand(true.depth) & (depth > (1 + OFF) * true.depth)
    return float(near.mean()), float(far.mean())


class LastSeen(OtherPictures):
    """Another world's pictures, the last of which are kept for those that show parts of them."""

    driving: DiST4DDrivingEnv
    last: RGBDFrame

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        super().begin(driving)
        self.driving = driving

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All of the other world's."""
        shown = super().pictures(observation)
        names = self.driving.scene.rig.names
        frame = self.driving.episode.frame
        assert frame is not None
        rgb, depth = np.stack([shown[name] for name in names]), np.stack([shown[f"{name}/depth"][..., 0] for name in names])
        self.last = replace(frame, rgb=rgb, depth=depth)
        return shown


@dataclass
class Mixed:
    """The other world's last pictures with a part of the true ones."""

    of: LastSeen
    part: Part

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The mixture."""
        driving, made = self.of.driving, self.of.last
        true = driving.episode.frame
        assert true is not None
        if self.part == "depth":
            mixed = replace(made, depth=true.depth)
        elif self.part == "colours":
            mixed = replace(made, rgb=true.rgb)
        else:
            boxes = driving.scene_at().boxes
            agents = widened((SplatSource.from_frame(true, boxes).owner >= 0) | (SplatSource.from_frame(made, boxes).owner >= 0))
            kept = agents if self.part == "agents" else ~agents
            mixed = replace(made, rgb=np.where(kept[..., None], true.rgb, made.rgb), depth=np.where(kept, true.depth, made.depth))
        return observed(mixed, driving.scene.rig.names)


def summary(drives: list[Drive], done: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> dict[str, Any]:
    """pictures -> planner -> decisions, mean metres between plans and the share of plans that differ, over scenes."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(drive.planner for drive in drives):
        own = [drive for drive in drives if drive.planner == name]
        for shown in done[own[0].name]:
            pairs = [(drive.scenario.scene, metres) for drive in own for metres in done[drive.name][shown]["metres"]]
            apart = np.array([metres for _, metres in pairs], float)
            clusters = Clusters([scene for scene, _ in pairs], 0, 500)
            differ = np.where(np.isfinite(apart), (apart > DIFFERS).astype(float), np.nan)
            row = {"decisions": len(apart), "metres": vars(clusters.mean(apart)), "differ": vars(clusters.mean(differ))}
            table.setdefault(shown, {})[name] = row
    return table


@lru_cache(maxsize=1)
def _environment(settings: EnvSettings) -> gym.Env:
    return settings.make()


@lru_cache(maxsize=1)
def _generative(weights: str) -> GenerativeWorld:
    return GenerativeWorld.from_pretrained(weights, "log")


if __name__ == "__main__":
    run(main, Options)
