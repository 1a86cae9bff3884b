"""The wrappers of N environments show each member what the single wrapper shows."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space

from dist4d_env.envs import wrappers
from dist4d_env.envs.wrappers import vector
from dist4d_env.errors import ActionError, ConfigError

PICTURES = {"world": "replay", "observation": ("cameras", "depth", "ego")}
CASES = {
    "mosaic": (PICTURES, "StackCameras", {"depth": "log8"}),
    "channels": (PICTURES, "StackCameras", {"layout": "channels"}),
    "dict": (PICTURES, "StackCameras", {"layout": "dict", "depth": "log8"}),
    "birdseye": ({"observation": ("bev",)}, "BirdsEyeView", {}),
    "vectors": ({"observation": ("ego", "route", "agents")}, "VectorOnly", {"agents": 8}),
    "flat": ({"observation": ("ego", "route", "agents")}, "FlatVectors", {}),
    "history": ({"observation": ("ego", "agents")}, "FrameHistory", {"frames": 3}),
    "history of one key": ({"observation": ("ego", "agents")}, "FrameHistory", {"frames": 2, "keys": ("ego",)}),
}


@pytest.fixture
def make_together(town_dataroot):
    made = []

    def make(world="none", **keywords):
        settings = {"dataroot": str(town_dataroot), "horizon": 1.0, **keywords}
        made.append(gym.make_vec("DiST4D-nuScenes-v0", 2, vectorization_mode="vector_entry_point", world=world, **settings))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


@pytest.mark.parametrize("name", CASES)
def test_members_see_what_they_see_alone(make_together, make_env, name):
    """Through the end of an episode and into the next."""
    settings, wrapper, arguments = CASES[name]
    together = getattr(vector, wrapper)(make_together(**settings), **arguments)
    alone = [getattr(wrappers, wrapper)(make_env(**settings, horizon=1.0), **arguments) for _ in range(2)]
    assert together.single_observation_space == alone[0].observation_space
    assert together.observation_space == batch_space(alone[0].observation_space, 2)
    seen, _ = together.reset(seed=7)
    expected = [env.reset(seed=7 + index)[0] for index, env in enumerate(alone)]
    over = [False, False]
    for step in range(5):
        assert together.observation_space.contains(seen)
        for index in range(2):
            own = {key: rows[index] for key, rows in seen.items()} if isinstance(seen, dict) else seen[index]
            assert data_equivalence(own, expected[index]), (step, index)
        actions = np.random.default_rng(step).uniform(-0.3, 0.3, (2, 2)).astype(np.float32)
        seen, *_ = together.step(actions)
        for index, env in enumerate(alone):
            if over[index]:
                expected[index], over[index] = env.reset()[0], False
            else:
                expected[index], _, terminated, truncated, _ = env.step(actions[index])
                over[index] = terminated or truncated


def test_a_masked_reset_leaves_the_others_their_past(make_together):
    together = vector.FrameHistory(make_together(observation=("ego",)), frames=2)
    together.reset(seed=0)
    before, *_ = together.step(np.full((2, 2), 0.5, np.float32))
    seen, _ = together.reset(options={"reset_mask": np.array([False, True])})
    assert np.array_equal(seen["ego"][0], before["ego"][0])
    assert np.array_equal(seen["ego"][1], np.tile(seen["ego"][1, :10], 2))


def test_indices_are_controls(make_together):
    together = make_together(observation=("ego",))
    discrete = vector.DiscreteControls(together, pedals=(-1.0, 0.5), wheels=(0.0, 0.3))
    assert discrete.action_space == batch_space(discrete.single_action_space, 2) and discrete.single_action_space.n == 4
    discrete.reset(seed=0)
    seen, *_ = discrete.step(np.array([0, 3]))
    together.reset(seed=0)
    expected, *_ = together.step(np.array([[-1.0, 0.0], [0.5, 0.3]], np.float32))
    assert np.array_equal(seen["ego"], expected["ego"])
    with pytest.raises(ActionError, match="whole number"):
        discrete.step(np.array([0, 4]))
    with pytest.raises(ConfigError, match="controls"):
        vector.DiscreteControls(make_together(observation=("ego",), action="discrete"))
