"""What holds for every world: bits that depend on the seed and the truth alone, and errors that say what to do."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch

from dist4d_env.errors import DataError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import preset
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import Memory
from tests.worlds.street import make_scene, make_start, scene_at

ROUTE = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.4), (1.5, 0.4))
"""Seconds and metres beside the log."""


def same_answer(a, b) -> bool:
    (first, first_info), (second, second_info) = a, b
    if any(getattr(first_info, n) != getattr(second_info, n) for n in ("source", "trust", "deviation_m")):
        return False
    if first is None or second is None:
        return first is second
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in ("rgb", "depth", "global_from_camera", "time"))


def answers(world, states, scenes):
    """The next states, and what the world showed and said."""
    results = world.step(states, scenes)
    return [state for state, _, _ in results], [(frame, info) for _, frame, info in results]


WORLDS = {
    "none": lambda: make_world("none"),
    "replay": lambda: make_world("replay"),
    "replay of the past": lambda: make_world("replay", memory="history"),
    "splat": lambda: make_world("dist4d", weights="splat"),
    "splat of the past": lambda: make_world("dist4d", weights="splat", memory="history"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_alone_in_a_batch_and_after_restore_the_bits_are_the_same(name):
    scene, make = make_scene(), WORLDS[name]
    world, starts = make(), [make_start(scene, seed=seed) for seed in (1, 2, 3)]
    together, alone = world.reset(starts), make().reset(starts[1:2])
    lone_world = make()
    for time, lateral in ROUTE:
        scenes = [scene_at(scene, time, lateral * k) for k in range(3)]
        kept = pickle.dumps(alone)
        together, batch = answers(world, together, scenes)
        alone, single = answers(lone_world, alone, scenes[1:2])
        _, restored = answers(make(), pickle.loads(kept), scenes[1:2])
        assert same_answer(batch[1], single[0]) and same_answer(single[0], restored[0])
        assert all(0 <= info.trust <= 1 for _, info in batch)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Weights of the tiny preset, shrunk, as they are before training."""
    torch.manual_seed(0)
    tiny = preset("tiny")
    codec = RGBDCodec(**{**tiny.codec, "width": 16, "deep_width": 16, "blocks": 1})
    dist_t = DiSTTTransformer(**{**tiny.dist_t, "width": 40, "depth": 1})
    folder = tmp_path_factory.mktemp("untrained")
    DiSTTPipeline(codec, dist_t, Composer(widths=(8, 8), blocks=1)).save_pretrained(folder)
    DiSTSPipeline(DiSTSUNet(widths=(8, 8), blocks=1)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("memory", ["log", "history"])
def test_before_training_the_models_show_the_memorys_splat(untrained, memory):
    """What training starts from: the composition is the filled splat, on the path and beside it, but for rounded depth."""
    scene = make_scene()
    world = make_world("dist4d", weights=untrained, memory=memory)
    (state,) = world.reset([make_start(scene)])
    memory_alone = Memory.from_log(scene, scene.rig, 0.0, memory)
    sources = set()
    for time, lateral in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0)):
        now = scene_at(scene, time, lateral)
        (state,), ((frame, info),) = answers(world, [state], [now])
        if info.source[0] != "log":
            splat = memory_alone.render(scene.rig, frame.global_from_camera, now.boxes, time)
            rgb, depth = splat.filled()
            if memory == "log":  # nothing generated can have entered what the log shows
                np.testing.assert_array_equal(frame.rgb, rgb)
                np.testing.assert_allclose(frame.depth, depth, rtol=2e-3)
            np.testing.assert_array_equal(frame.rgb[splat.valid], rgb[splat.valid])
        sources.add(info.source[0])
    assert sources == {"log", "dist_t"}


def test_what_was_generated_enters_memory_only_where_nothing_real_was_seen(untrained):
    scene = make_scene()
    world = GenerativeWorld.from_pretrained(untrained, memory="history", device="cpu", policy=PolicyConfig(chunk=2))
    (state,) = world.reset([make_start(scene)])
    first = state.memory
    for time in (0.0, 0.5, 1.0, 1.5):
        now = scene_at(scene, time)
        real = first.render(scene.rig, now.global_from_ego @ scene.rig.ego_from_camera, now.boxes, time)
        (state,), ((_, info),) = answers(world, [state], [now])
        newest = state.memory.frames[-1]
        if info.source[0] == "log":
            assert state.memory is first
        else:
            assert newest.generated and newest.time == pytest.approx(time)
            added = newest.source().keep
            # Hardly ever: a generated point before a real one may hide it and be no surface of its own.
            assert added.any() and np.mean(real.valid[added]) < 0.02
            assert not (added & newest.source().edge).any()
    assert [f.time for f in state.memory.frames if not f.generated] == [0.0]


@pytest.mark.parametrize("make", [lambda weights: make_world("replay"), lambda weights: make_world("dist4d", weights=weights)])
def test_a_scene_with_images_at_its_first_keyframe_alone_can_be_driven(untrained, make):
    """As nuScenes scenes of which only the first keyframe was downloaded; the memory is the log's."""
    scene = make_scene(without=tuple(range(1, 9)))
    world = make(untrained)
    (state,) = world.reset([make_start(scene)])
    for time, lateral in ROUTE:
        (state,), ((frame, info),) = answers(world, [state], [scene_at(scene, time, lateral)])
        assert frame.rgb.std() > 20 and np.isfinite(frame.depth).all() and (info.source[0] == "log") == (time == 0)
        assert 0 < info.trust <= 1


def test_an_episode_that_starts_between_keyframes_has_something_to_show(untrained):
    scene = make_scene()
    world = make_world("dist4d", weights=untrained)
    (state,) = world.reset([make_start(scene, 0.7)])
    _, ((frame, info),) = answers(world, [state], [scene_at(scene, 0.7)])
    assert info.source == ("dist_t",) * 6 and frame.rgb.std() > 20


def test_missing_weights_and_empty_pasts_say_what_to_do(tmp_path, untrained):
    with pytest.raises(WeightsError, match=r"no weights at .*nowhere.*splat"):
        make_world("dist4d", weights=tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"codec.*config\.json is missing"):
        make_world("dist4d", weights=shutil.copytree(untrained, tmp_path / "part", ignore=shutil.ignore_patterns("codec")))
    blind = make_scene(without=tuple(range(9)), name="blind")
    for world in (make_world("replay"), make_world("dist4d", weights=untrained)):
        with pytest.raises(DataError, match=r"blind.*prepare"):
            world.reset([make_start(blind)])
    early = make_scene(without=(0, 1, 2))
    with pytest.raises(DataError, match="no keyframe with images and metric depth up to the start"):
        make_world("replay", memory="history").reset([make_start(early, 0.5)])
