"""Which part of a generated picture makes a planner plan otherwise than on the true one?

Planners drive in the truth. Others of their kind are shown, of every state that they come to, other pictures:

- ``stored``: the true ones through JPEG and 16-bit depth; ``resampled``: the true ones with pixel centres half a pixel aside;
- ``splat``, ``dist4d``: those of these worlds, with the log in memory;
- ``dist4d`` in parts: with the true pixels of agents, with all true pixels but those, with true depth, with true colours. Agents
  are what lies in their boxes in either picture, and the pixels beside it.

How far plans are from those on the true pictures after 2 s says what matters, and what no world can avoid.

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
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource, widened
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.replay import SplatWorld

Part = Literal["agents", "all but agents", "depth", "colours"]
PARTS: tuple[Part, ...] = ("agents", "all but agents", "depth", "colours")


@dataclass(frozen=True)
class Options(DecisionOptions):
    """Which part of a generated picture makes planners plan otherwise."""


def main(options: Options) -> dict[str, Any]:
    drives, finished = drive_all(options, TRUTH, driven)
    pictures = summary(drives, finished.done)
    result = result_file("misleading", options, {"differs_from": DIFFERS, "pictures": pictures}, finished)
    for shown, planners in pictures.items():
        cells = (f"{name} {row['metres']['mean']:.2f} m, {100 * row['differ']['mean']:.0f} %" for name, row in planners.items())
        print(f"{shown:<28}" + "; ".join(cells))
    return result


def driven(drive: Drive) -> tuple[str, dict[str, list[float]]]:
    """Drives an episode; of each decision and each kind of pictures how far the plan on them is from the one on the true ones."""
    generated = LastSeen(_generative(drive.weights))
    shown: dict[str, Shown] = {"stored": Stored(), "resampled": OtherPictures(ResampledOracle())}
    shown |= {"splat": OtherPictures(SplatWorld("log")), "dist4d": generated}  # asked in this order: parts come after the whole
    shown |= {f"dist4d, {part} true": Mixed(generated, part) for part in PARTS}
    opinions = SecondOpinions({name: (make_planner(drive.planner), one) for name, one in shown.items()})
    options = RunOptions(plan_limit=PATIENCE, reset_limit=PATIENCE, scenario=drive.scenario, opinions=opinions)
    log = run_episode(_environment(drive.settings), make_planner(drive.planner), 0, options, None, drive.planner)
    plans, count = log.plans.poses, len(log.plans.step)
    return drive.name, {name: between(plans, opinions.plans_of(name)[:count]).tolist() for name in shown}


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


def summary(drives: list[Drive], done: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """pictures -> planner -> decisions, mean metres between plans and the share of plans that differ, over scenes."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(drive.planner for drive in drives):
        own = [drive for drive in drives if drive.planner == name]
        for shown in done[own[0].name]:
            pairs = [(drive.scenario.scene, metres) for drive in own for metres in done[drive.name][shown]]
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
