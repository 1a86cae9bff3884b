"""An end-to-end model in another process: its inputs are in its own conventions, and its waypoints become plans."""

from __future__ import annotations

import math
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.planners.remote import RemoteConfig, RemotePlanner
from dist4d_env.planners.remote.end_to_end import EndToEnd, plan_of
from dist4d_env.planners.remote.inputs import CAMERAS, EGO_FROM_LIDAR
from tests.planners.test_remote import PATIENT, ROOT, served

SAVING = """
import os, sys
import numpy as np
sys.path.insert(0, "examples")
from end_to_end_model import Served
from dist4d_env.planners.remote.planner_server import serve

class Saving(Served):
    def plan(self, inputs):
        batch = self.model_inputs(inputs)
        np.savez(os.environ["SEEN"], img=batch["img"], points=batch["points"][0], command=batch["ego_fut_cmd"],
                 lidar2img=batch["img_metas"][0]["lidar2img"], can_bus=batch["img_metas"][0]["can_bus"],
                 depth=np.stack([inputs["observation/%s/depth" % name] for name in inputs["camera_names"]]))
        return super().plan(inputs)

serve(Saving, port=0, lidar=True)
"""


def test_a_small_model_of_the_public_kind_drives(town_dataroot, tmp_path):
    """Images of its own size, padded; LiDAR points that its calibration puts where the pictures' depth has them; CAN bus."""
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="oracle", action="trajectory", horizon=1.5,
                   size=(80, 144), observation=("cameras", "depth", "ego", "route", "lidar"))  # fmt: skip
    with served("-c", SAVING, SEEN=str(tmp_path / "seen.npz")) as address:
        planner = RemotePlanner(RemoteConfig(address, **PATIENT))
        assert planner.requires.cameras and planner.requires.lidar
        logs = [run_episode(env, planner, 0, RunOptions("town-val-0000", 0.5, plan_limit=600.0)) for _ in range(2)]
    env.close()
    assert logs[0].error is None and len(logs[0].steps) == 4
    assert np.array_equal(logs[0].trace.ego, logs[1].trace.ego), "nothing is left over from the episode before"
    seen = np.load(tmp_path / "seen.npz")
    assert seen["img"].shape == (1, 6, 3, 96, 160) and seen["img"].dtype == np.float32
    assert not seen["img"][..., 80:, :].any() and not seen["img"][..., 144:].any() and abs(seen["img"]).max() < 3
    assert seen["can_bus"].shape == (18,) and seen["command"].sum() == 1 and seen["points"].shape[1] == 5
    speed = seen["can_bus"][13]
    first = logs[0].plans.poses[-1]
    assert 0.3 * speed < first[0, 0] < 0.5 * speed + 0.3, "half a second at the CAN bus's speed, and what it saw"
    errors = []
    points = np.column_stack([seen["points"][:, :3], np.ones(len(seen["points"]))])
    for view in range(len(CAMERAS)):
        u, v, z = (points @ seen["lidar2img"][view].T)[:, :3].T
        inside = (z > 1) & (u >= 0) & (u < 144 * z) & (v >= 0) & (v < 80 * z)
        shown = seen["depth"][view][(v[inside] / z[inside]).astype(int), (u[inside] / z[inside]).astype(int), 0]
        errors.append(np.abs(shown - z[inside]) / z[inside])
    assert np.median(np.concatenate(errors)) < 0.02 and len(np.concatenate(errors)) > 5_000


def test_waypoints_of_the_lidar_become_poses_of_the_axle():
    """On a circle of 20 m to the left about (0, 20) of the ego frame."""
    turn = np.arange(1, 61) * 0.01
    place = np.column_stack([20 * np.sin(turn), 20 - 20 * np.cos(turn)])
    mounted = place + 0.94 * np.column_stack([np.cos(turn), np.sin(turn)])
    lidar_from_ego = np.linalg.inv(EGO_FROM_LIDAR)
    poses = plan_of(mounted @ lidar_from_ego[:2, :2].T + lidar_from_ego[:2, 3], EGO_FROM_LIDAR)
    np.testing.assert_allclose(poses[:, :2], place, atol=0.06)
    np.testing.assert_allclose(poses[:, 2], turn, atol=0.06)
    np.testing.assert_allclose(plan_of(np.zeros((6, 2)), EGO_FROM_LIDAR), 0.0, atol=1e-12)
    ahead = plan_of(np.array([[0.0, 2], [0, 4], [0, 4.01]]), EGO_FROM_LIDAR)
    np.testing.assert_allclose(ahead, [[2, 0, 0], [4, 0, 0], [4.01, 0, 0]], atol=1e-9)


INPUTS = {
    "images": np.full((6, 30, 50, 3), (10, 20, 30), np.uint8),
    "lidar2img": np.tile(np.eye(4), (6, 1, 1)),
    "can_bus": np.zeros(18),
    "time": np.array(1.5),
    "command": np.array(1),
    "ego_from_lidar": EGO_FROM_LIDAR,
}


def test_channels_commands_and_episodes():
    paths = np.stack([np.full((6, 2), number) for number in (1.0, 2.0, 3.0)])
    adaptor = EndToEnd(lambda **_: paths, mean=(1, 2, 3), std=(1, 1, 1), rgb=False)
    adaptor.reset({"scene": "a", "seed": 4})
    batch = adaptor.model_inputs(INPUTS)
    np.testing.assert_array_equal(batch["img"][0, :, :, 0, 0], np.tile([29.0, 18.0, 7.0], (6, 1)))  # BGR, less the mean
    assert batch["points"][0].shape == (0, 5) and batch["ego_fut_cmd"].tolist() == [[0, 1, 0]]
    token = batch["img_metas"][0]["scene_token"]
    adaptor.reset({"scene": "a", "seed": 4})
    assert adaptor.model_inputs(INPUTS)["img_metas"][0]["scene_token"] != token, "a new episode, even of the same scene"
    plan, dt = adaptor.plan(INPUTS)
    assert dt == 0.5 and plan[0, :2] == pytest.approx(plan_of(paths[1], EGO_FROM_LIDAR)[0, :2]) and math.isfinite(plan[0, 2])
    for shape in ((6, 3), (6, 3, 2), (1, 6, 2), (2,), (1, 3, 6, 2)):
        with pytest.raises(ValueError, match=r"waypoints are \(N, 2\)"):
            EndToEnd(lambda shape=shape, **_: np.zeros(shape)).plan(INPUTS)


def test_the_adaptor_needs_numpy_alone():
    code = ("import importlib.util, sys; s = importlib.util.spec_from_file_location('end_to_end', sys.argv[1]); "
            "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); "
            "print(sorted({n.split('.')[0] for n in sys.modules} & {'dist4d_env', 'torch', 'gymnasium'}))")  # fmt: skip
    script = ROOT / "dist4d_env" / "planners" / "remote" / "end_to_end.py"
    assert subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True).stdout == "[]\n"
