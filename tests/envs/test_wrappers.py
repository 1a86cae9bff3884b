"""Each wrapper does what it says, and both environment checkers accept it."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.data.nuscenes import RING
from dist4d_env.envs.wrappers import (
    ActionRepeat,
    BirdsEyeView,
    DiscreteControls,
    FlatVectors,
    FrameHistory,
    StackCameras,
    VectorOnly,
)
from dist4d_env.envs.wrappers.transforms import log8, metres
from dist4d_env.errors import ActionError, ConfigError

PICTURES = {"world": "replay", "observation": ("cameras", "depth", "ego")}
VECTORS = {"observation": ("ego", "route", "agents")}
CASES = {
    "mosaic": (PICTURES, StackCameras, {}),
    "mosaic with depth": (PICTURES, StackCameras, {"depth": "log8"}),
    "channels": (PICTURES, StackCameras, {"layout": "channels", "depth": "log8"}),
    "dict": (PICTURES, StackCameras, {"layout": "dict", "depth": "log8"}),
    "birdseye": ({"observation": ("ego", "bev")}, BirdsEyeView, {}),
    "vectors": (VECTORS, VectorOnly, {}),
    "flat": (VECTORS, FlatVectors, {}),
    "history": ({"observation": ("ego",)}, FrameHistory, {"frames": 3}),
    "history of pictures": ({**PICTURES, "observation": ("cameras",)}, FrameHistory, {"frames": 2, "keys": ("CAM_FRONT",)}),
    "repeat": ({"observation": ("ego",), "decision_dt": 0.1}, ActionRepeat, {"times": 3}),
    "discrete": ({"observation": ("ego",)}, DiscreteControls, {}),
}


class Counted:
    """A sensor whose keys are no boxes."""

    def space(self, scene, size):
        return {"phase": spaces.Discrete(3), "lamps": spaces.MultiBinary(4), "gears": spaces.MultiDiscrete([2, 5])}

    def observe(self, now, into):
        for row in now.rows:
            into["phase"][row], into["lamps"][row], into["gears"][row] = 2, [0, 1, 1, 0], [1, 4]


CASES |= {
    f"{name} beside counts": ({"observation": ("ego", "agents", Counted())}, wrapper, {})
    for name, wrapper in (("vectors", VectorOnly), ("flat", FlatVectors))
}


@pytest.mark.parametrize("name", CASES)
def test_both_checkers_accept_it(make_env, name):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    settings, wrapper, arguments = CASES[name]
    env = wrapper(make_env(**settings).unwrapped, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")  # that is what wrappers are for
        check_env(env, skip_render_check=True)
        sb3_check_env(env)


@pytest.mark.parametrize("name", CASES)
def test_it_can_be_made_again_from_its_spec(make_env, name):
    settings, wrapper, arguments = CASES[name]
    env = wrapper(make_env(**settings), **arguments)
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space and again.action_space == env.action_space
    first, second = env.reset(seed=3)[0], again.reset(seed=3)[0]
    assert gym.utils.env_checker.data_equivalence(first, second)
    again.close()


def test_the_mosaic_has_left_on_the_left(make_env):
    bare = make_env(**PICTURES)
    seen, _ = bare.reset(seed=1)
    mosaic = StackCameras(bare, depth="log8").observation(seen)
    height, width = seen["CAM_FRONT"].shape[:2]
    places = {"CAM_FRONT_LEFT": (0, 0), "CAM_FRONT": (0, 1), "CAM_FRONT_RIGHT": (0, 2),
              "CAM_BACK_LEFT": (1, 0), "CAM_BACK": (1, 1), "CAM_BACK_RIGHT": (1, 2)}  # fmt: skip
    for camera, (row, column) in places.items():
        window = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        assert np.array_equal(mosaic["cameras"][window], seen[camera])
        assert np.array_equal(mosaic["depth"][window], log8(seen[f"{camera}/depth"]))
    assert np.array_equal(mosaic["ego"], seen["ego"]) and set(mosaic) == {"cameras", "depth", "ego"}


def test_channels_are_in_ring_order(make_env):
    bare = make_env(**PICTURES)
    seen, _ = bare.reset(seed=1)
    stack = StackCameras(bare, "channels").observation(seen)
    assert set(stack) == {"cameras", "ego"}
    for index, camera in enumerate(RING):
        assert np.array_equal(stack["cameras"][3 * index : 3 * index + 3].transpose(1, 2, 0), seen[camera])


@given(st.floats(0, 100))
def test_depth_comes_back_to_within_a_hundredth(depth):
    code = log8(np.array([depth], np.float32))
    assert code.dtype == np.uint8
    assert abs(float(metres(code)[0]) - depth) <= 0.0092 * (1 + depth)


def test_the_birdseye_view_keeps_what_is_thin(make_env):
    bare = make_env(observation=("ego", "bev"))
    seen, _ = bare.reset(seed=1)
    small = BirdsEyeView(bare, cells=50).observation(seen)
    assert small.shape == (12, 50, 50)
    for channel in range(12):
        for row, column in ((10, 25), (24, 25), (40, 3)):
            block = seen["bev"][channel, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert small[channel, row, column] == block.max()
    assert np.array_equal(BirdsEyeView(bare, cells=200).observation(seen), seen["bev"])


def test_vectors_lie_one_behind_the_other(make_env):
    bare = make_env(**VECTORS)
    seen, _ = bare.reset(seed=1)
    vector = VectorOnly(bare, agents=5).observation(seen)
    assert vector.shape == (10 + 40 + 45,)
    assert np.array_equal(vector[:10], seen["ego"])
    assert np.array_equal(vector[10:50].reshape(20, 2), seen["route"])
    assert np.array_equal(vector[50:].reshape(5, 9), seen["agents"][:5])
    flat = FlatVectors(bare).observation(seen)
    assert np.array_equal(flat["agents"].reshape(64, 9), seen["agents"]) and flat["ego"] is seen["ego"]


def test_counts_of_other_sensors_stay_as_they_are(make_env):
    bare = make_env(observation=("ego", "agents", Counted()))
    seen, _ = bare.reset(seed=1)
    assert VectorOnly(bare).observation_space == VectorOnly(make_env(observation=("ego", "agents"))).observation_space
    flat = FlatVectors(bare)
    assert flat.observation_space["phase"] == spaces.Discrete(3) and flat.observation_space["agents"].shape == (64 * 9,)
    assert flat.observation(seen) in flat.observation_space and flat.observation(seen)["gears"].tolist() == [1, 4]


def test_history_is_the_last_frames_oldest_first(make_env):
    env = FrameHistory(make_env(observation=("ego", "route")), frames=3, keys=("ego",))
    seen = [env.reset(seed=0)[0]]
    assert np.array_equal(seen[0]["ego"], np.tile(seen[0]["ego"][:10], 3))
    for _ in range(3):
        seen.append(env.step(np.array([0.5, 0.0], np.float32))[0])
    now = [one["ego"][20:] for one in seen]
    assert np.array_equal(seen[3]["ego"], np.concatenate(now[1:])) and not np.array_equal(now[1], now[2])
    assert seen[3]["route"].shape == (20, 2)
    again, _ = env.reset()
    assert np.array_equal(again["ego"], np.tile(again["ego"][:10], 3))  # nothing of the last episode


def test_a_repeated_action_is_that_many_decisions(make_env):
    action = np.array([0.2, 0.0], np.float32)
    settings = {"observation": ("ego",), "decision_dt": 0.1, "horizon": 1.0}
    slow, fast = ActionRepeat(make_env(**settings), 4), make_env(**settings)
    slow.reset(seed=2)
    fast.reset(seed=2)
    for count in (4, 4, 2):  # the horizon comes after ten
        seen, reward, _, truncated, info = slow.step(action)
        outcomes = [fast.step(action) for _ in range(count)]
        assert np.array_equal(seen["ego"], outcomes[-1][0]["ego"])
        assert reward == pytest.approx(sum(outcome[1] for outcome in outcomes))
        terms = [outcome[4]["reward_terms"]["progress"] for outcome in outcomes]
        assert info["reward_terms"]["progress"] == pytest.approx(sum(terms))
    assert truncated and outcomes[-1][3]


def test_every_index_is_a_pair(make_env):
    env = DiscreteControls(make_env(), pedals=(-1.0, 0.0, 0.5), wheels=(-0.2, 0.2))
    assert env.action_space.n == 6
    assert [env.action(index).tolist() for index in (0, 1, 5)] == [
        pytest.approx([-1.0, -0.2]), pytest.approx([-1.0, 0.2]), pytest.approx([0.5, 0.2])
    ]  # fmt: skip
    env.reset(seed=0)
    for wrong in (6, -1, 0.5):
        with pytest.raises(ActionError, match="whole number"):
            env.step(wrong)


@pytest.mark.parametrize(
    ("settings", "wrap"),
    [
        (PICTURES, lambda env: StackCameras(env, layout="grid")),
        (PICTURES, lambda env: StackCameras(env, depth="linear")),
        (VECTORS, StackCameras),
        ({"world": "replay", "observation": ("cameras",)}, lambda env: StackCameras(env, depth="log8")),
        (VECTORS, BirdsEyeView),
        ({"observation": ("ego", "bev")}, lambda env: BirdsEyeView(env, cells=70)),
        ({"observation": ("bev",)}, VectorOnly),
        (VECTORS, lambda env: VectorOnly(env, agents=0)),
        (VECTORS, lambda env: VectorOnly(VectorOnly(env))),
        (VECTORS, lambda env: FrameHistory(env, frames=0)),
        (VECTORS, lambda env: FrameHistory(env, keys=("bev",))),
        (VECTORS, lambda env: ActionRepeat(env, times=0)),
        (VECTORS, lambda env: DiscreteControls(env, pedals=(2.0,))),
        (VECTORS, lambda env: DiscreteControls(env, pedals=())),
        ({**VECTORS, "action": "trajectory"}, DiscreteControls),
    ],
)
def test_what_cannot_work_is_said_when_it_is_wrapped(make_env, settings, wrap):
    with pytest.raises(ConfigError):
        wrap(make_env(**settings))
