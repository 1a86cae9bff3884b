"""Networks that spoil a scene's own frames are held back there, judged by remembered frames alone; others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import preset
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.hidden import APART, Change, fit_gains, held_back, judged
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.replay import SplatWorld
from tests.worlds.street import make_scene, make_start, scene_at, truth


def pipelines(brightness: float) -> tuple[DiSTTPipeline, DiSTSPipeline]:
    """The tiny classes, shrunk and untrained: they show the filled splat, with every colour raised by ``brightness`` of 255."""
    import torch

    tiny = preset("tiny")
    codec = RGBDCodec(**{**tiny.codec, "width": 16, "deep_width": 16, "blocks": 1})
    dist_t = DiSTTTransformer(**{**tiny.dist_t, "width": 40, "depth": 1})
    composer, dist_s = Composer(widths=(8, 8), blocks=1), DiSTSUNet(widths=(8, 8), blocks=1)
    with torch.no_grad():
        for network, colours in ((composer.net, slice(3, 6)), (dist_s.net, slice(7, 10))):
            network.head.bias.view(-1, 4)[colours] = 2 * brightness / 255
    return DiSTTPipeline(codec, dist_t, composer), DiSTSPipeline(dist_s)


def error(world, scene, lateral: float) -> float:
    """Mean difference of colours from the true street, of the second frame."""
    (state,) = world.reset([make_start(scene, 1.0)])
    for time, beside in ((1.0, 0.0), (1.2, lateral)):
        ((state, frame, _),) = world.step([state], [scene_at(scene, time, beside)])
    return float(np.abs(frame.rgb.astype(float) - truth(scene, scene_at(scene, 1.2, lateral)).rgb).mean())


@pytest.mark.parametrize("memory", ["log", "history"])
@pytest.mark.parametrize("lateral", [0.0, 0.6])
def test_networks_that_spoil_a_scene_are_held_back_there(memory, lateral) -> None:
    spoilt, scene = pipelines(40.0), make_scene()
    bare = error(GenerativeWorld(*spoilt, memory, PolicyConfig(check=0)), scene, lateral)
    held = error(GenerativeWorld(*spoilt, memory), scene, lateral)
    splat = error(SplatWorld(memory), scene, lateral)
    assert bare > splat + 25 and held < splat + 5


def test_networks_that_do_no_harm_are_left_as_they_are() -> None:
    scene, harmless = make_scene(), pipelines(0.0)
    memory = Memory.from_log(scene, scene.rig, 0.0)
    frames = held_back(scene, scene.rig, memory, "log", 2)
    assert len(frames) == 2 and judged(frames, "log", *harmless, 1) == (None, None)
    assert judged([], "log", *pipelines(40.0), 1) == (None, None), "nothing to judge by"


def test_adapted_weights_keep_the_gains_that_they_were_given() -> None:
    dist_t, dist_s = pipelines(40.0)
    dist_t.composer.register_to_config(gains=(0.5, 0.5, 0.5, 0.5))
    (state,) = GenerativeWorld(dist_t, dist_s).reset([make_start(make_scene(), 1.0)])
    assert state.gains[0] is None and state.gains[1] is not None
    dist_s.unet.register_to_config(gains=(0.5, 0.5, 0.5, 0.5))
    (state,) = GenerativeWorld(dist_t, dist_s).reset([make_start(make_scene(), 1.0)])
    assert state.gains == (None, None)


def test_it_is_judged_once_for_a_memory_and_the_same_again() -> None:
    scene, spoilt = make_scene(), pipelines(40.0)
    world = GenerativeWorld(*spoilt)
    first, again = (world.reset([make_start(scene, start, seed)])[0] for start, seed in ((0.5, 0), (1.5, 7)))
    assert first.gains is again.gains and first.gains[0] is not None
    assert GenerativeWorld(*spoilt).reset([make_start(scene, 0.5)])[0].gains == first.gains


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hidden_frames_are_drawn_from_others(count) -> None:
    """Log: none within ``APART``; history: earlier ones, and up to the start no later frame is looked at at all."""
    scene = make_scene()
    log = held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 0.0), "log", count)
    past = held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 1.6, "history"), "history", count)
    assert len(log) == len(past) == count
    for frame in log:
        assert min(abs(known.time - frame.time) for known in frame.memory.frames) >= APART
    for frame in past:
        assert max(known.time for known in frame.memory.frames) <= frame.time - APART and frame.time <= 1.5


def test_with_one_frame_there_is_nothing_to_hide() -> None:
    scene = make_scene()
    assert held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 0.2, "history"), "history", 2) == []


def test_gains_are_of_least_squared_error() -> None:
    """Of twice the change that was wanted a half is kept, of its opposite nothing, of a part of it all."""
    wanted = np.random.default_rng(0).normal(0, 10, (1, 40, 40, 3))
    kind = np.repeat(np.arange(4), 10)[None, :, None] * np.ones((1, 40, 40), int)
    made = wanted * np.array([2.0, -1.0, 0.5, 0.0])[kind][..., None]
    change = Change(wanted, made, kind, np.ones((1, 40, 40), bool))
    assert change.error > 1 and fit_gains([change]) == (0.5, 0.0, 1.0, 1.0)
