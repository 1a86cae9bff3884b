"""Real frames of a rig of one camera drive in every world that shows pictures, and look like what was recorded there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.prepare import depth_root, prepare_keyframe
from dist4d_env.data.open import open_dataset

pytestmark = pytest.mark.medium
SCENE = "scene-9100"
STEPS = 4


@pytest.fixture(scope="module")
def kitti(kitti_real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The frames, and a folder with depth for every fifth of the first two seconds and a half."""
    place = tmp_path_factory.mktemp("depth")
    scene = open_dataset(kitti_real).load(SCENE)
    for keyframe in range(0, 26, 5):
        done = prepare_keyframe(scene, keyframe, depth_root(kitti_real, place), CurationConfig(height=112))
        assert done.written == 1
    return kitti_real, place


@pytest.mark.parametrize("world", ["replay", "splat", "dist4d"])
def test_a_drive_along_real_frames(kitti, world, monkeypatch):
    """Two seconds at the first speed: what is shown is nearer to the frame that was recorded there than the first frame is."""
    monkeypatch.setenv("DIST4D_DEPTH", str(kitti[1]))
    scene = open_dataset(kitti[0]).load(SCENE)
    ahead = np.linalg.norm(scene.ego.global_from_ego[:, :3, 3] - scene.ego.global_from_ego[0, :3, 3], axis=1)
    there = int(np.argmin(np.abs(ahead - 0.5 * STEPS * scene.ego.speed[0])))
    recorded = scene.sensors.rgb(there, 64, 112)[0].astype(float)
    with closing(gym.make("DiST4D-nuScenes-v0", dataroot=str(kitti[0]), scenes=SCENE, world=world, horizon=3.0)) as env:
        first, _ = env.reset(seed=0, options={"start": 0.0})
        assert env.observation_space.contains(first) and first["CAM_FRONT"].shape == (64, 112, 3)
        for _ in range(STEPS):
            now, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
        assert np.isfinite(reward) and not (terminated or truncated) and info["world"]["trust"] > 0.5
    stayed, went = (np.abs(each["CAM_FRONT"].astype(float) - recorded).mean() for each in (first, now))
    assert went < 20 < stayed
    assert 1.0 < np.median(now["CAM_FRONT/depth"]) < 60.0
