"""Parts of generated pictures: what is taken from the truth, and what is left."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401
from benchmarks.misleading import PARTS, Drive, LastSeen, Mixed, off, summary
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.worlds.replay import SplatWorld


@pytest.mark.medium
def test_parts_are_the_truths_and_the_rest_is_the_worlds(town_dataroot: Path) -> None:
    keywords = {"dataset": "nuscenes", "dataroot": str(town_dataroot), "scenes": "val", "world": "oracle"}
    env = gym.make("DiST4D-nuScenes-v0", observation=["cameras", "depth", "ego"], action="trajectory", **keywords)
    observation, _ = env.reset(seed=0, options={"scene": "town-val-0000", "start": 1.2})
    whole = LastSeen(SplatWorld("log"))
    whole.begin(env.unwrapped)
    made = whole.pictures(observation)
    shown = {part: Mixed(whole, part).pictures(observation) for part in PARTS}
    env.close()
    names = [name for name in made if f"{name}/depth" in made]
    true_agents = 0
    for name in names:
        depth = f"{name}/depth"
        np.testing.assert_array_equal(shown["depth"][name], made[name])
        np.testing.assert_array_equal(shown["depth"][depth], observation[depth])
        np.testing.assert_array_equal(shown["colours"][name], observation[name])
        np.testing.assert_array_equal(shown["colours"][depth], made[depth])
        agents, rest = ((shown[part][depth] == observation[depth]) for part in ("agents", "all but agents"))
        assert (agents | rest).all()
        true_agents += int((shown["agents"][depth] != made[depth]).sum())
    assert 0 < true_agents < 0.2 * sum(made[name][..., 0].size for name in names)


def test_plans_that_failed_are_left_out_of_means() -> None:
    drives = [
        Drive("measuring", type("Scenario", (), {"name": name, "scene": name})(), None, "tiny", "code") for name in ("a", "b")
    ]
    metres = {"a": [0.0, 2.0], "b": [float("nan"), 1.0]}
    done = {f"measuring code {name}": {"stored": {"metres": found}} for name, found in metres.items()}
    row = summary(drives, done)["stored"]["measuring"]
    assert row["decisions"] == 4
    assert row["metres"]["mean"] == pytest.approx(1.0) and row["differ"]["mean"] == pytest.approx(2 / 3)


def test_pixels_that_stand_in_the_way_are_told_from_road_and_sky() -> None:
    level = np.array([[[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]])  # 1.5 m up, ahead along x
    intrinsics = np.array([[[10.0, 0, 4], [0, 10, 4], [0, 0, 1]]])
    below = np.arange(8) + 0.5 - 4
    road = np.where(below > 0, 15 / np.maximum(below, 0.1), 100.0)[None, :, None].repeat(8, 2).astype(np.float32)
    true = RGBDFrame(np.zeros((1, 8, 8, 3), np.uint8), road, intrinsics, level, np.zeros(1))
    assert off(road, true, level) == (0.0, 0.0)
    floats = road.copy()
    floats[0, 5, :2] *= 0.7  # 10 m ahead of the camera, less by 3: half a metre up
    floats[0, 7, :2] *= 0.95
    assert off(floats, true, level) == (2 / 64, 0.0)
    shown = RGBDFrame(true.rgb, floats, intrinsics, level, np.zeros(1))
    assert off(road, shown, level) == (0.0, 2 / 64)
