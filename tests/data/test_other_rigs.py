"""Data sets with five cameras, one, other names and several image sizes: from the reader to the frames of worlds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import ImageTransform
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.factory import make_world
from tests.data import other_rigs

SIZE = (64, 112)
NAMES = {
    "five": ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK_LEFT"),
    "one": ("CAM_FRONT",),
    "renamed": ("left", "front", "right", "rear"),
    "sizes": ("left", "front", "right"),
}


@pytest.fixture(scope="session")
def roots(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rigs")
    return {name: other_rigs.write(town_dataroot, folder / name, name) for name in other_rigs.RIGS}


@pytest.fixture(params=other_rigs.RIGS)
def rig(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scene_of(dataset: Dataset) -> Scene:
    return dataset.load(dataset.names()[0])


def test_a_rig_has_the_cameras_of_its_data_set(roots: dict[str, Path], rig: str) -> None:
    scene = scene_of(open_dataset(roots[rig]))
    assert scene.rig.names == NAMES[rig]
    poses, time = scene.sensors.cameras(0)
    assert poses.shape == (len(NAMES[rig]), 4, 4) and time.shape == (len(NAMES[rig]),)
    frame = scene.sensors.rgbd(1, *SIZE)
    assert frame.rgb.shape == (len(NAMES[rig]), *SIZE, 3) and frame.depth.shape == frame.rgb.shape[:3]
    assert np.array_equal(frame.intrinsics, scene.rig.at_size(*SIZE).intrinsics)


def test_cameras_of_several_sizes_are_shown_through_the_crop_of_each(roots: dict[str, Path]) -> None:
    scene = scene_of(open_dataset(roots["sizes"]))
    assert scene.rig.sizes == ((96, 128), (80, 112), (64, 160)) and (scene.rig.height, scene.rig.width) == (96, 128)
    shown = scene.rig.at_size(*SIZE)
    assert shown.sizes == () and (shown.height, shown.width) == SIZE
    for view, size in enumerate(scene.rig.sizes):
        expected = ImageTransform.cover(size, SIZE).intrinsics(scene.rig.intrinsics[view])
        np.testing.assert_array_equal(shown.intrinsics[view], expected)


def test_images_and_depth_show_what_the_rig_says(roots: dict[str, Path], rig: str) -> None:
    """The town itself, drawn through the rig, agrees with the files."""
    scene = scene_of(open_dataset(roots[rig]))
    view_rig = scene.rig.at_size(*SIZE)
    world = make_world("oracle")
    logged = scene.sensors.rgbd(1, *SIZE)
    for view, time in enumerate(logged.time.tolist()):  # cameras expose one after the other
        (state,) = world.reset([WorldStart(scene, view_rig, time, 0)])
        ((_, truth, _),) = world.step([state], [_scene_at(scene, time)])
        assert truth is not None
        error = np.abs(logged.rgb[view].astype(int) - truth.rgb[view])
        assert error.mean() < 12, NAMES[rig][view]
        near = (truth.depth[view] < 40) & (logged.depth[view] < 100)
        assert np.median(np.abs(logged.depth[view] / truth.depth[view] - 1)[near]) < 0.03


@pytest.mark.parametrize("settings", [{"world": "replay"}, {"world": "splat"}, {"world": "dist4d"}], ids=lambda s: s["world"])
def test_worlds_show_any_rig(roots: dict[str, Path], rig: str, settings: dict[str, str]) -> None:
    scene = scene_of(open_dataset(roots[rig]))
    world = make_world(settings["world"])
    (state,) = world.reset([WorldStart(scene, scene.rig.at_size(*SIZE), 0.0, 0)])
    sources = []
    for time, lateral in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.5)):
        ((state, frame, info),) = world.step([state], [_scene_at(scene, time, lateral)])
        assert frame is not None and frame.rgb.shape == (len(NAMES[rig]), *SIZE, 3)
        assert len(info.source) == len(NAMES[rig]) and 0 <= info.trust <= 1
        sources.append(info.source[0])
    assert sources[0] == "log" and sources[2] != "log"


@pytest.mark.parametrize("world", ["none", "replay", "splat", "dist4d"])
def test_environments_drive_any_rig(roots: dict[str, Path], rig: str, world: str) -> None:
    observation = ("ego", "route", "agents") if world == "none" else ("cameras", "depth", "ego", "route")
    keywords = {"dataroot": str(roots[rig]), "scenes": "val", "world": world, "observation": observation, "horizon": 2.0}
    env = gym.make("DiST4D-nuScenes-v0", render_mode="rgb_array", **keywords)
    seen, _ = env.reset(seed=0)
    for _ in range(2):
        assert seen in env.observation_space
        cameras = {key for key in seen if f"{key}/depth" in seen}
        assert cameras == (set() if world == "none" else set(NAMES[rig]))
        seen, _, _, _, info = env.step(np.array([0.1, 0.0], np.float32))
    assert len(info["world"]["source"]) == (0 if world == "none" else len(NAMES[rig]))
    assert env.render().ndim == 3  # type: ignore[union-attr]


def _scene_at(scene: Scene, time: float, lateral: float = 0.0):  # type: ignore[no-untyped-def]
    from dist4d_env.simulation.scene_at import SceneAt

    pose = scene.ego_pose(time)
    pose[:3, 3] += lateral * pose[:3, 1]
    nothing = np.zeros(0)
    return SceneAt(time, pose, scene.boxes(time), nothing, np.zeros((0, 4, 4)), ())


def test_a_scene_with_another_rig_is_refused_by_name(town_dataroot: Path, tmp_path: Path) -> None:
    """The second scene has lost its rear camera."""
    root = Path(shutil.copytree(town_dataroot, tmp_path / "town"))
    table = root / "v1.0-town" / "sample_data.json"
    rows = [
        row for row in json.loads(table.read_text()) if not ("CAM_BACK/" in row["filename"] and "val-0001" in row["filename"])
    ]
    table.write_text(json.dumps(rows))
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(root), scenes="val", world="replay")
    env.reset(seed=0, options={"scene": "town-val-0000"})
    with pytest.raises(ConfigError, match=r"town-val-0001 has the cameras CAM_FRONT_LEFT.*environment has .*CAM_BACK,.*one rig"):
        env.reset(seed=0, options={"scene": "town-val-0001"})
