"""The end-to-end planner: shapes, the same plans for the same seed, what it refuses, what its variants see, and how it drives."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode, to_action
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.learning.end_to_end import (
    SHIPPED,
    VARIANTS,
    EndToEndConfig,
    EndToEndPlanner,
    coarsened,
    fitting_rig,
    scaled_calibration,
)
from dist4d_env.learning.end_to_end_network import (
    FORMAT,
    HINT_CELLS,
    HINTS,
    SIDEWAYS,
    STATE,
    TIMES,
    EndToEndNetwork,
    NetworkConfig,
    as_answer,
    load_network,
    state_numbers,
    waypoints,
)
from dist4d_env.learning.route_grid import CELLS, CHANNELS
from dist4d_env.planners.contract import Plan, PlannerContext, PlannerInput
from dist4d_env.registry import END_TO_END
from dist4d_env.simulation.ego import EgoState
from tests.learning.end_to_end import STRAIGHT, THREE, untrained
from tests.learning.test_route_grid import CURVE
from tests.planners.test_measuring import CAR, HEIGHT, WIDTH, depth_images
from tests.simulation.road import make_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("network") / "end_to_end")


def context(rig: CameraRig = THREE) -> PlannerContext:
    return PlannerContext(replace(make_scene(), rig=rig), 0.5, 10.0)


def given(time: float, names=THREE.names, size=(HEIGHT, WIDTH), **other) -> PlannerInput:
    """An ego at 8 m/s behind a standing car; pictures with some colour in them."""
    ego = EgoState(8.0 * time, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)
    shown = {"ego": np.array([8, 0, 0, 0, 0, 0, 0, 10, 0, 5], np.float32), "route": STRAIGHT.astype(np.float32)}
    for name, depth in zip(names, depth_images(THREE, ego, ((35.0, 0.0), CAR)), strict=True):
        rows = np.arange(size[0]) * HEIGHT // size[0]
        columns = np.arange(size[1]) * WIDTH // size[1]
        depth = depth[rows][:, columns].astype(np.float32)
        shown |= {name: np.repeat((depth * 2.5).astype(np.uint8)[..., None], 3, -1), f"{name}/depth": depth[..., None]}
    return PlannerInput(time, ego, {**shown, **other})


def plans(config: EndToEndConfig, looks: int = 4, seed: int = 0, **keywords) -> np.ndarray:
    planner = EndToEndPlanner(config)
    planner.reset(context(), seed)
    return np.stack([planner.plan(given(0.5 * look, **keywords)).trajectory for look in range(looks)])


def test_shapes_and_size():
    network = EndToEndNetwork().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 4e6
    rgb = torch.randint(0, 256, (2, 3, 64, 112, 3), dtype=torch.uint8)
    cells = torch.randint(-1, 60 * 24, (2, 3, 32, 56)).short()
    counts = torch.randint(0, 9, (2, CHANNELS, *CELLS)).to(torch.uint8)
    answer = network(rgb, cells, counts, torch.randn(2, STATE))
    assert answer.speed.shape == answer.beside.shape == (2, 8)
    assert answer.brake.shape == answer.light.shape == (2,) and answer.hints.shape == (2, HINTS, *HINT_CELLS)
    alone = network(rgb[1:], cells[1:], counts[1:], torch.zeros(1, STATE))
    other = network(rgb[:1], cells[1:], counts[1:], torch.zeros(1, STATE))
    assert not torch.equal(alone.speed, other.speed), "colours reach the plan"
    dark = network(rgb[:1], torch.full_like(cells[1:], -1), counts[1:], torch.zeros(1, STATE))
    assert torch.equal(dark.speed, network(rgb[1:], torch.full_like(cells[1:], -1), counts[1:], torch.zeros(1, STATE)).speed), (
        "pixels without a cell do not"
    )


@pytest.mark.parametrize("route", [STRAIGHT, CURVE], ids=["straight", "curve"])
def test_plans_become_answers_and_back(route):
    """A plan along the route, beside it: what the network is taught is what the planner drives."""
    speed, beside = np.linspace(-1, -6, 8), np.linspace(0.0, 0.8, 8)
    plan = waypoints(speed, beside, 8.0, route)
    again = as_answer(plan[None], np.array([8.0]), route[None])
    np.testing.assert_allclose(again[0][0], speed, atol=0.05)
    np.testing.assert_allclose(again[1][0], beside, atol=0.02)
    assert np.hypot(*np.diff(plan[:, :2], axis=0).T).max() < 4.1 and np.abs(plan[:, 2]).max() < 1.2
    standing = waypoints(np.full(8, -8.0), np.zeros(8), 8.0, route)
    np.testing.assert_allclose(standing[:, 0], 0.0, atol=0.02)
    assert waypoints(np.full(8, 99.0), np.zeros(8), 8.0, STRAIGHT)[-1, 0] == pytest.approx(40.0 * TIMES[-1])


def test_state_numbers_are_turned_over_by_a_mirror():
    ego, seen = np.array([[8, 1, 2, 0.1, 0.05, 0.4, 0.1, 10, 1, 5.0]]), np.ones((1, 2))
    flip = np.array([1, 1, -1, -1, -1, -1, -1, 1, -1, 1])
    here, there = state_numbers(ego, CURVE[None], seen), state_numbers(ego * flip, CURVE[None] * [1, -1], seen)
    mirrored = here.copy()
    mirrored[:, SIDEWAYS] *= -1
    np.testing.assert_allclose(there, mirrored, atol=1e-6)
    assert here.shape == (1, STATE) and here.dtype == np.float32


@pytest.mark.parametrize("config", [EndToEndConfig(), EndToEndConfig(noise=0.1), EndToEndConfig(late=1)], ids=str)
def test_same_seed_same_plan_bit_for_bit(folder, config):
    config = replace(config, weights=folder, brake=1.0)
    first = plans(config)
    assert first.shape == (4, 8, 3) and np.array_equal(first, plans(config)) and np.isfinite(first).all()
    for plan in first:
        to_action(Plan(plan), "trajectory")
    assert np.array_equal(first, plans(config, seed=1)) == (config.noise == 0)


def test_pictures_of_other_sizes_are_scaled(folder):
    """Twice the size, the same street: nearly the same plan; the calibration goes with the pictures."""
    small, large = (plans(EndToEndConfig(folder, brake=1.0), size=size) for size in ((64, 112), (128, 224)))
    assert np.abs(small - large).max() < 0.5
    trained = EndToEndPlanner(EndToEndConfig(folder)).trained
    seen = np.array(scaled_calibration(fitting_rig(THREE, THREE.names, trained.calibration), (128, 224), (64, 112)))
    np.testing.assert_allclose(seen[:, :9].reshape(-1, 3, 3), THREE.intrinsics, atol=1e-9)


def test_variants_see_less(folder):
    """Each variant changes what reaches the network, and so the plans; the plain planner is not among them."""
    whole = plans(EndToEndConfig(folder, brake=1.0))
    for name in ("front", "late", "noisy", "coarse"):
        assert not np.array_equal(whole, plans(replace(VARIANTS[name], weights=folder, brake=1.0))), name
    rgb, depth = np.zeros((1, 4, 4, 3), np.uint8), np.arange(16.0).reshape(1, 4, 4)
    rgb[0, 0, 0] = 200
    mean, middle = coarsened(rgb, depth, 2)
    assert (mean[0, :2, :2] == 50).all() and not mean[0, 2:].any() and (middle[0, :2, :2] == 5.0).all()
    assert set(END_TO_END) == set(VARIANTS)


def test_without_depth(tmp_path):
    """A network without depth asks for none and sees the road as flat."""
    config = EndToEndConfig(untrained(tmp_path / "flat", depth=False), brake=1.0)
    shown = given(0.0).observation
    planner = EndToEndPlanner(config)
    planner.reset(context(), 0)
    colours = {name: value for name, value in shown.items() if not name.endswith("/depth")}
    plan = planner.plan(PlannerInput(0.0, given(0.0).ego, colours))
    assert plan.trajectory.shape == (8, 3)


def test_an_emergency_is_a_brake(folder):
    """Above the threshold the plan asks the tracker for a speed below zero, straight ahead."""
    plan = plans(EndToEndConfig(folder, brake=1e-9), looks=1)[0]
    assert (plan[:, 0] < 8.0 * TIMES - 4.0 * TIMES).all() and not plan[:, 1:].any()


def test_refusals_are_one_clear_error(folder, tmp_path):
    planner = EndToEndPlanner(EndToEndConfig(folder))
    with pytest.raises(ConfigError, match="has no CAM_2 but CAM_0, CAM_1: train one"):
        two = replace(THREE, names=THREE.names[:2], intrinsics=THREE.intrinsics[:2], ego_from_camera=THREE.ego_from_camera[:2])
        planner.reset(context(two), 0)
    moved = THREE.ego_from_camera.copy()
    moved[1, 2, 3] += 0.8
    with pytest.raises(ConfigError, match=r"CAM_1 of this rig is 0.8 m and 0 degrees from where the planner was trained"):
        planner.reset(context(replace(THREE, ego_from_camera=moved)), 0)
    planner.reset(context(), 0)
    shown = given(0.0)
    for missing in ("CAM_1", "CAM_1/depth", "route"):
        less = {name: value for name, value in shown.observation.items() if name != missing}
        with pytest.raises(ConfigError, match=f"needs '{missing}': add it to the environment's observation"):
            planner.plan(PlannerInput(0.0, shown.ego, less))
    for wrong in ({"cameras": "back"}, {"late": -1}, {"noise": 1.0}, {"coarse": 3}, {"brake": 0.0}):
        with pytest.raises(ConfigError):
            EndToEndConfig(**wrong)
    for wrong in ({"cameras": ()}, {"calibration": ((1.0,),)}, {"size": (63, 112)}):
        with pytest.raises(ConfigError):
            NetworkConfig(**{"cameras": ("A",), "calibration": ((0.0,) * 25,), **wrong})


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored["cameras"].__setitem__(0, None), lambda stored: stored.update(cameras="CAM_FRONT"),
        lambda stored: stored["calibration"][0].__setitem__(0, float("nan")),
        lambda stored: stored["calibration"][0].__setitem__(0, 10**400),
        lambda stored: stored["calibration"][0].__setitem__(3, "x"),
        lambda stored: stored["calibration"].pop(), lambda stored: stored.update(size=[64, 1e308]),
        lambda stored: stored.update(size=[100_000, 112]), lambda stored: stored.update(size=None),
        lambda stored: stored.update(depth=1), lambda stored: stored.update(depth="log"), lambda stored: stored.update(x=1),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused_at_loading(folder, tmp_path, change):
    shutil.copytree(folder, tmp_path / "changed")
    stored = json.loads((folder / "config.json").read_text())
    change(stored)
    (tmp_path / "changed" / "config.json").write_text(json.dumps(stored))
    with pytest.raises(WeightsError, match="no end-to-end network is in") as caught:
        load_network(tmp_path / "changed")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_broken_weights_are_one_clear_error(folder, tmp_path):
    with pytest.raises(WeightsError, match="no end-to-end network is in"):
        load_network(tmp_path)
    text = (folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace(FORMAT, "another"))
    with pytest.raises(WeightsError, match="train it with this version"):
        load_network(tmp_path)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "network.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no end-to-end network is in"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["end_to_end", *(f"end_to_end_{variant}" for variant in END_TO_END)])
def test_shipped_networks_load(name):
    planner = make_planner(name)
    assert planner.requires.cameras and not planner.requires.map and not planner.requires.privileged
    assert sum(parameter.numel() for parameter in planner.network.parameters()) <= 4e6
    assert planner.trained.cameras == ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT") and planner.trained.about["samples"] > 0
    assert all(path.endswith(("config.json", "network.safetensors")) for path in planner.files)


def test_the_grid_reaches_the_plan_whatever_training_does_to_it():
    """A step that pushes all units between them below zero, from where no gradient would bring them back, changes nothing."""
    network = EndToEndNetwork().eval()
    grids = torch.rand(4, network.flat[0].in_features)
    before = network.flat(grids)
    with torch.no_grad():
        network.flat[0].bias -= 100.0
        assert torch.allclose(network.flat(grids), before, atol=1e-3) and (before.std(0) > 0).float().mean() > 0.5


def test_the_shipped_planner_looks():
    """Most units between grid and plan are in use, and a car that stands in the way makes the plan shorter."""
    network, trained = load_network(SHIPPED)
    assert (network.flat(torch.rand(64, network.flat[0].in_features)) > 0).any(0).float().mean() > 0.5
    numbers = np.array(trained.calibration)
    intrinsics, mounted = numbers[:, :9].reshape(-1, 3, 3), numbers[:, 9:].reshape(-1, 4, 4)
    rig = CameraRig(trained.cameras, intrinsics, mounted, *trained.size)
    reached = {}
    for metres in (9.0, 60.0):
        planner = EndToEndPlanner()
        planner.reset(context(rig), 0)
        for here in (0.0, 4.0, 8.0):
            ego = EgoState(here, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)
            depth = depth_images(rig, ego, ((8.0 + 3.4 + 2.25 + metres, 0.0), CAR)).astype(np.float32)
            shown = {name: np.full((*trained.size, 3), 90, np.uint8) for name in rig.names}
            shown |= {f"{name}/depth": image[..., None] for name, image in zip(rig.names, depth, strict=True)}
            plan = planner.plan(replace(given(here / 8.0, **shown), ego=ego))
        reached[metres] = plan.trajectory[3, 0]
    assert reached[9.0] < reached[60.0] - 3.0


@pytest.mark.medium
def test_it_drives_through_the_registry(town_dataroot):
    """In a world with pictures, twice the same to the last bit; without them it is the planner's failure that says why."""
    keywords = {"dataroot": str(town_dataroot), "scenes": "val", "action": "trajectory", "horizon": 2.5}
    env = gym.make("DiST4D-nuScenes-v0", world="oracle", **keywords)
    options = RunOptions("town-val-0001", 0.0, 600.0)
    first, again = (run_episode(env, make_planner("end_to_end"), 0, options) for _ in range(2))
    env.close()
    assert first.error is None and first.outcome in ("horizon", "collision", "off_road")
    assert np.array_equal(first.trace.ego, again.trace.ego) and first.trace.ego[-1, 3] >= 0
    blind = gym.make("DiST4D-nuScenes-v0", world="none", **keywords)
    failed = run_episode(blind, make_planner("end_to_end"), 0, options)
    blind.close()
    assert failed.outcome == "planner_error" and "needs 'CAM_FRONT_LEFT': add it" in failed.error
