"""Networks that spoil a scene's own frames are held back there, judged by remembered frames alone; others stay as they are."""

from __future__ import annotations

from dataclasses import replace

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
from dist4d_env.worlds.hidden import APART, Change, HiddenFrame, _gains, fit_gains, held_back, judged
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.replay import SplatWorld
from tests.worlds import street
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
    frames = held_back(scene, scene.rig, memory, "log", PolicyConfig())
    assert len(frames) == 2 and judged(frames, "log", *harmless, PolicyConfig()) == (None, None)
    assert judged([], "log", *pipelines(40.0), PolicyConfig()) == (None, None), "nothing to judge by"


def changed(error: float) -> Change:
    """A change in the right direction, of which so much of the splat's error is left that ``error`` of it is squared error."""
    wanted = np.random.default_rng(0).normal(0, 10, (1, 40, 40, 3))
    kind = np.repeat(np.arange(4), 10)[None, :, None] * np.ones((1, 40, 40), int)
    return Change(wanted, wanted * (1 + np.sqrt(error)), kind, np.ones((1, 40, 40), bool))


def test_only_what_is_worse_than_the_splat_is_held_back() -> None:
    best = 1 / (1 + np.sqrt(2.0))
    assert _gains([changed(0.5)], "log") is None and _gains([], "log") is None
    assert _gains([changed(2.0)], "log") == pytest.approx([best / 2] * 4, abs=2e-3)
    assert _gains([changed(2.0)], "history") == pytest.approx([best] * 4, abs=2e-3)
    assert _gains([changed(0.2), changed(1.7)], "log") is None, "the mean of frames decides"


@pytest.mark.parametrize("memory", ["log", "history"])
def test_a_scene_in_which_the_ego_stands_is_judged_too(memory, monkeypatch) -> None:
    monkeypatch.setattr(street, "SPEED", 0.0)
    scene, spoilt = make_scene(), pipelines(40.0)
    bare = error(GenerativeWorld(*spoilt, memory, PolicyConfig(check=0)), scene, 0.0)
    held = error(GenerativeWorld(*spoilt, memory), scene, 0.0)
    assert bare > 25 and held < 8


def test_the_info_says_how_much_is_held_back() -> None:
    scene = make_scene()
    for brightness in (0.0, 40.0):
        world = GenerativeWorld(*pipelines(brightness))
        (state,) = world.reset([make_start(scene, 1.0)])
        shares = []
        for time, beside in ((1.0, 0.0), (1.2, 0.0), (1.4, 0.6)):
            ((state, _, info),) = world.step([state], [scene_at(scene, time, beside)])
            shares.append(info.held_back)
        assert shares == [0.0] * 3 if not brightness else shares[0] == 0.0 and min(shares[1:]) > 0.9


class Flat(street.StreetSensors):
    """With a third of the contrast."""

    def rgbd(self, *which):
        frame = super().rgbd(*which)
        return replace(frame, rgb=frame.rgb // 3)


def test_other_pictures_under_the_same_names_are_judged_by_themselves() -> None:
    """What a world has shown before changes nothing."""
    scene, spoilt = make_scene(), pipelines(40.0)
    other = replace(scene, sensors=Flat(**vars(scene.sensors)))
    world = GenerativeWorld(*spoilt)
    world.reset([make_start(scene, 1.0)])
    (after,), (alone,) = (w.reset([make_start(other, 1.0)]) for w in (world, GenerativeWorld(*spoilt)))
    assert after.gains == alone.gains != world.reset([make_start(scene, 1.0)])[0].gains


def test_it_is_judged_as_frames_are_drawn(monkeypatch) -> None:
    """By the same number of evaluations of each network and of frames in a splat; each from a frame before."""
    scene, (dist_t, dist_s) = make_scene(), pipelines(40.0)
    use, seen = PolicyConfig(steps_t=2, steps_s=3, count=1), []
    monkeypatch.setattr(HiddenFrame, "by_dist_t", lambda self, net, steps, *how: seen.append(steps) or self.truth)
    monkeypatch.setattr(HiddenFrame, "by_dist_s", lambda self, net, steps, *how: seen.append(steps) or self.truth)
    rendered = Memory.render
    monkeypatch.setattr(Memory, "render", lambda self, *how: seen.append(how[-1]) or rendered(self, *how))
    frames = held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 0.0), "log", use)
    judged(frames, "log", dist_t, dist_s, use)
    assert seen == [1, 1, 2, 3, 2, 3]
    assert all(frame.reference_time < frame.time for frame in frames)


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
    use = PolicyConfig(check=count)
    log = held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 0.0), "log", use)
    past = held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 1.6, "history"), "history", use)
    assert len(log) == len(past) == count
    for frame in log:
        assert min(abs(known.time - frame.time) for known in frame.memory.frames) >= APART
    for frame in past:
        assert max(known.time for known in frame.memory.frames) <= frame.time - APART and frame.time <= 1.5


def test_with_one_frame_there_is_nothing_to_hide() -> None:
    scene = make_scene()
    assert held_back(scene, scene.rig, Memory.from_log(scene, scene.rig, 0.2, "history"), "history", PolicyConfig()) == []


def test_with_history_it_is_judged_a_few_times_in_a_scene() -> None:
    scene, world = make_scene(), GenerativeWorld(*pipelines(40.0), "history")
    gains = [world.reset([make_start(scene, start)])[0].gains for start in np.arange(0.0, 3.0, 0.1)]
    assert len({id(one) for one in gains}) == len(world._judged) == 4, "on 1, 2, 3 and 4 frames"


def test_gains_are_of_least_squared_error() -> None:
    """Of twice the change that was wanted a half is kept, of its opposite nothing, of a part of it all; of a kind that nothing
    changed as much as of all pixels."""
    wanted = np.random.default_rng(0).normal(0, 10, (1, 40, 40, 3))
    kind = np.repeat(np.arange(4), 10)[None, :, None] * np.ones((1, 40, 40), int)
    made = wanted * np.array([2.0, -1.0, 0.5, 0.0])[kind][..., None]
    change, every = Change(wanted, made, kind, np.ones((1, 40, 40), bool)), (wanted * made).sum() / np.square(made).sum()
    assert change.error > 1 and fit_gains([change]) == pytest.approx((0.5, 0.0, 1.0, every), abs=1e-3)
