"""The shipped weights draw pictures of any size that the environment is asked for."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.models.composition import coarse_size

from .worlds import assert_same


@pytest.mark.medium
@pytest.mark.parametrize("memory", ["log", "history"])
def test_weights_draw_other_sizes_alone_and_in_a_vector(make_env, memory):
    size = (128, 208)
    keywords = {"world": "dist4d", "memory": memory, "size": size, "horizon": 1.0}
    env = make_env(**keywords)
    first, second = env.reset(seed=3), env.step(np.array([0.2, 0.3], np.float32))
    assert first[0]["CAM_FRONT"].shape == (*size, 3) and second[0]["CAM_BACK/depth"].shape == (*size, 1)
    assert {"log", "dist_t", "dist_s"} >= set(second[4]["world"]["source"])
    settings = env.unwrapped.spec.kwargs | {"num_envs": 2}
    vector = gym.make_vec("DiST4D-nuScenes-v0", vectorization_mode="vector_entry_point", **settings)
    alone = vector.reset(seed=[3, 5])[0], vector.step(np.array([[0.2, 0.3], [0.0, -0.1]], np.float32))[0]
    for (mine, *_), batch in zip((first, second), alone, strict=True):
        assert_same(mine, {name: batch[name][0] for name in mine})
    vector.close()


@pytest.mark.parametrize("size", [(72, 112), (64, 100), (48, 80), (464, 816)])
def test_sizes_that_cannot_be_drawn_are_refused(make_env, size):
    with pytest.raises(ConfigError, match="multiples of 16"):
        make_env("dist4d", size=size)


def test_large_pictures_are_generated_from_a_reduced_copy():
    assert coarse_size((64, 112), (64, 112)) == (64, 112) == coarse_size((128, 224), (64, 112))
    assert coarse_size((224, 400), (64, 112)) == (112, 208) == coarse_size((448, 800), (64, 112))
    assert coarse_size((224, 400), (224, 400)) == (224, 400)
    for height in range(64, 449, 16):
        for width in range(112, 801, 16):
            small = coarse_size((height, width), (64, 112))
            assert all(side % 16 == 0 for side in small) and small[0] * small[1] <= 26_000
            assert 0.75 < small[0] / height / (small[1] / width) < 1.25
