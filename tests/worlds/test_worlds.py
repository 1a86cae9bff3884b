"""The world contract: purity, batches that equal singles, honest sources; and what each world shows."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.known_depth import known_depth
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import preset
from dist4d_env.models.pretrained import resolve_weights, save_model
from dist4d_env.models.signals import SignalPainter, signal_layout
from dist4d_env.scenes.lights import GREEN, RED, UNKNOWN, TrafficLights
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.contract import WorldTraits, world_traits
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.replay import ReplayWorld, SplatWorld
from dist4d_env.worlds.trust import trust
from tests.worlds.street import ego_pose, make_scene, make_start, scene_at, truth


@pytest.fixture(scope="module")
def models():
    """The tiny classes, shrunk, with random weights: their pictures are noise, their contract is real."""
    torch.manual_seed(0)
    tiny = preset("tiny")
    codec = RGBDCodec(**{**tiny.codec, "width": 16, "deep_width": 16, "blocks": 1})
    dist_t = DiSTTTransformer(**{**tiny.dist_t, "width": 40, "depth": 1})
    composer, dist_s = Composer(widths=(8, 8), blocks=1), DiSTSUNet(widths=(8, 8), blocks=1)
    with torch.no_grad():
        for model in (codec, dist_t, composer, dist_s):
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.02)
    return DiSTTPipeline(codec, dist_t, composer), DiSTSPipeline(dist_s)


def generative(models, memory="log", **policy) -> GenerativeWorld:
    return GenerativeWorld(*models, memory=memory, policy=PolicyConfig(**policy))


def psnr(a, b) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def same_frame(a, b) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("rgb", "depth", "global_from_camera", "time"))


def play(world, scene, laterals, seed=0, start_time=0.0, dt=0.5):
    """Frames and infos of an episode whose ego is ``laterals`` metres beside the log."""
    (state,) = world.reset([make_start(scene, start_time, seed)])
    out = []
    for k, lateral in enumerate(laterals):
        ((state, frame, info),) = world.step([state], [scene_at(scene, start_time + k * dt, lateral)])
        out.append((frame, info))
    return out


def test_names_lead_to_worlds_and_unknown_ones_to_an_error():
    assert make_world("none").step([None], [None])[0][1] is None
    assert isinstance(make_world("replay", memory="history"), ReplayWorld)
    assert make_world("dist4d", weights="splat").source == "splat"
    assert isinstance(make_world("splat", weights="tiny", memory="history"), SplatWorld)
    there = ReplayWorld()
    assert make_world(there) is there
    assert isinstance(make_world("dist4d_env.worlds.replay:ReplayWorld"), ReplayWorld)
    with pytest.raises(ConfigError, match="there are 'dist4d', 'splat', 'replay', 'oracle', 'none'"):
        make_world("unreal")
    with pytest.raises(ConfigError, match="history"):
        make_world("replay", memory="tomorrow")
    with pytest.raises(ConfigError, match="has no reset, step"):
        make_world(object())
    with pytest.raises(ConfigError, match="cannot take the object"):
        make_world(there, service="world")


def test_traits_are_known_of_names_and_worlds_and_have_defaults():
    assert world_traits("none") == world_traits(make_world("none")) == WorldTraits(shows_pictures=False)
    assert world_traits("oracle") == WorldTraits(measures_lidar=True, recalls=False)
    for name in ("dist4d", "splat", "replay"):
        assert world_traits(name) == WorldTraits(needs_images=True, recalls=name == "dist4d")
    assert world_traits(make_world("splat")) == WorldTraits(needs_images=True, recalls=False)
    assert world_traits(SimpleNamespace()) == WorldTraits()
    assert world_traits(SimpleNamespace(image_size=[32, 48])).image_size == (32, 48)


def test_replay_shows_the_log_on_it_and_reprojects_beside_it():
    scene = make_scene()
    (on, on_info), (beside, beside_info), (_, later_info) = play(ReplayWorld(), scene, [0, 0.8, 0])
    assert on_info.source == ("log",) * 6 and same_frame(on, scene.sensors.rgbd(0, 64, 112))
    assert beside_info.source == ("replay",) * 6 and abs(beside_info.deviation_m - 0.8) < 1e-6
    assert psnr(beside.rgb, truth(scene, scene_at(scene, 0.5, 0.8)).rgb) > 25
    assert later_info.source == ("log",) * 6 and later_info.trust == 1.0
    assert 0 < beside_info.trust < 1


def test_replay_is_not_the_log_when_traffic_differs():
    scene = make_scene()
    (state,) = ReplayWorld().reset([make_start(scene)])
    boxes = scene.boxes(0.5)
    moved = scene_at(scene, 0.5, boxes=boxes.select(boxes.token != 0))
    ((_, frame, info),) = ReplayWorld().step([state], [moved])
    assert info.source == ("replay",) * 6
    assert psnr(frame.rgb, truth(scene, moved).rgb) > 25


def test_history_never_shows_the_future():
    scene = make_scene()
    full = play(ReplayWorld("history"), scene, [0] * 4, start_time=0.5)
    blind = make_scene(without=tuple(range(2, 9)))
    for (a, _), (b, _) in zip(full, play(ReplayWorld("history"), blind, [0] * 4, start_time=0.5), strict=True):
        assert same_frame(a, b)


def test_generative_starts_from_the_log_then_generates(models):
    scene = make_scene()
    episode = play(generative(models), scene, [0, 0, 0.3, 3.0])
    assert [info.source[0] for _, info in episode] == ["log", "dist_t", "dist_s", "dist_t"]
    assert episode[2][1].deviation_m == pytest.approx(0.3)
    assert {"splat", "dist_t"} <= set(episode[1][1].timing_ms) and "dist_s" in episode[2][1].timing_ms
    for frame, info in episode:
        assert 0 <= info.trust <= 1 and np.isfinite(frame.depth).all() and frame.rgb.shape == (6, 64, 112, 3)


@pytest.mark.parametrize(("memory", "known"), [("log", True), ("history", False)])
def test_nothing_floats_in_front_of_what_the_log_shows(models, monkeypatch, memory, known):
    """The networks' noise would; with "history" it stays. Frame 1 is DiST-T's, the others DiST-S's."""
    scene, shown = make_scene(), []

    def remember(frame, splat, *others):
        shown.append((frame, splat))
        return trust(frame, splat, *others)

    monkeypatch.setattr("dist4d_env.worlds.dist4d.trust", remember)
    laterals = (0.0, 0.0, 0.4, 1.0)
    play(generative(models, memory), scene, laterals, start_time=0.5)
    assert len(shown) == 3
    for k, (frame, splat) in enumerate(shown, 1):
        now = scene_at(scene, 0.5 + 0.5 * k, laterals[k])
        settled = known_depth(frame, splat, now.global_from_ego)
        assert np.array_equal(settled.depth, frame.depth) == known


def test_a_chunk_is_kept_until_it_ends(models):
    scene = make_scene()
    infos = [info for _, info in play(generative(models, chunk=3), scene, [0] * 8)]
    assert [("dist_t" in i.timing_ms) for i in infos] == [False, True, False, False, True, False, False, True]


def test_traffic_that_left_the_chunk_calls_for_a_new_one(models):
    scene = make_scene()
    world = generative(models)
    (state,) = world.reset([make_start(scene)])
    for time in (0.0, 0.5):
        ((state, _, _),) = world.step([state], [scene_at(scene, time)])
    boxes = scene.boxes(1.0)
    position = boxes.position.copy()
    position[0, 0] += 1.0
    from dataclasses import replace

    changed = replace(boxes, position=position)
    ((_, _, info),) = world.step([state], [scene_at(scene, 1.0, boxes=changed)])
    assert "dist_t" in info.timing_ms
    ((_, _, info),) = world.step([state], [scene_at(scene, 1.0)])
    assert "dist_t" not in info.timing_ms


def test_beginning_beside_a_logged_frame_is_a_view_of_it(models):
    ((_, info),) = play(generative(models), make_scene(), [1.0])
    assert info.source == ("dist_s",) * 6


@pytest.mark.parametrize("memory", ["log", "history"])
@pytest.mark.medium
def test_batches_equal_singles_bit_for_bit(models, memory):
    scene = make_scene()
    world = generative(models, memory)
    starts = [make_start(scene, seed=seed) for seed in (1, 2, 3)]
    together, alone = world.reset(starts), [world.reset([s])[0] for s in starts]
    for time, lateral in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.4), (1.5, 0.4)):
        scenes = [scene_at(scene, time, lateral * k) for k in range(3)]
        results = world.step(together, scenes)
        together = [state for state, _, _ in results]
        for k in range(3):
            ((alone[k], frame, info),) = world.step([alone[k]], [scenes[k]])
            assert same_frame(frame, results[k][1]) and info.trust == results[k][2].trust


def test_seed_decides_the_noise_and_steps_are_pure(models):
    scene = make_scene()
    world = generative(models, "history")
    first, again, other = (play(world, scene, [0, 0, 0.5, 0.5], seed=seed) for seed in (1, 1, 2))
    assert all(same_frame(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not same_frame(first[1][0], other[1][0])


def test_a_pickled_state_continues_the_episode(models):
    scene = make_scene()
    world = generative(models, "history")
    (state,) = world.reset([make_start(scene)])
    for time in (0.0, 0.5):
        ((state, _, _),) = world.step([state], [scene_at(scene, time)])
    kept = pickle.dumps(state)
    ahead = [scene_at(scene, 1.0, 0.2), scene_at(scene, 1.5, 0.2), scene_at(scene, 2.0, 3.0)]
    frames = []
    for resumed in (state, state, pickle.loads(kept)):
        run = []
        for now in ahead:
            ((resumed, frame, _),) = world.step([resumed], [now])
            run.append(frame)
        frames.append(run)
    assert all(same_frame(a, b) and same_frame(a, c) for a, b, c in zip(*frames, strict=True))


def test_trust_falls_with_deviation_and_with_distance_from_what_is_real(models):
    scene = make_scene()
    near = play(generative(models), scene, [0, 0.2])[1][1].trust
    far = play(generative(models), scene, [0, 8.0])[1][1].trust
    assert far < near
    remembered = [info.trust for _, info in play(make_world("dist4d", weights="splat", memory="history"), scene, [0] * 8)]
    assert remembered[7] < remembered[3] < remembered[1] < remembered[0] == 1.0


def test_a_bad_policy_is_refused():
    with pytest.raises(ConfigError, match="chunk"):
        PolicyConfig(chunk=0)
    with pytest.raises(ConfigError, match="on_path"):
        PolicyConfig(on_path=3.0)
    with pytest.raises(ConfigError, match="grow"):
        PolicyConfig(grow="some")  # type: ignore[arg-type]


def test_what_enters_the_memory_is_the_policys_choice(models):
    scene = make_scene()
    kept = {}
    for grow in ("never", "holes", "all"):
        world = generative(models, "history", grow=grow)
        (state,) = world.reset([make_start(scene)])
        for k in range(4):
            ((state, _, _),) = world.step([state], [scene_at(scene, 0.5 * k)])
        kept[grow] = sum(int(frame.source().keep.sum()) for frame in state.memory.frames if frame.generated)
    assert kept["never"] == 0 < kept["holes"] < kept["all"]


def painter() -> SignalPainter:
    """Changes whatever it may, by state."""
    torch.manual_seed(3)
    made = SignalPainter((8, 8), 1).eval()
    torch.nn.init.normal_(made.net.head.weight, std=0.5)
    torch.nn.init.constant_(made.net.head.bias, 0.4)
    return made


def test_lights_are_painted_as_they_are_told_and_nothing_else(models):
    """In what either model shows; where nobody told anything, as recorded."""
    states = np.repeat(np.array([[RED, GREEN]], np.int8), 20, 1)
    place = (ego_pose(0.0) @ [16.0, 1.0, 2.5, 1.0])[:3]
    lit = TrafficLights(("light",), ((),), np.zeros((1, 2, 2)), states, np.array([[*place, np.pi]]), np.zeros(1, int))
    street, dark = replace(make_scene(), lights=lit), make_scene()
    bare, told = generative(models), GenerativeWorld(*models, memory="log", policy=PolicyConfig(), painter=painter())

    def show(world, scene, light=None):
        """A frame of DiST-T and, half a metre beside its path, one of DiST-S."""
        (state,), frames = world.reset([make_start(scene, 0.5, 0)]), []
        for lateral, time, source in ((0.0, 0.5, "log"), (0.0, 0.7, "dist_t"), (0.6, 1.2, "dist_s")):
            now = scene_at(scene, time, lateral)
            lights = None if light is None else np.array([light], np.int8)
            ((state, frame, info),) = world.step([state], [replace(now, lights=lights)])
            assert info.source[0] == source
            frames.append(frame)
        return frames[1:]

    without, red, green = show(bare, street), show(told, street, RED), show(told, street, GREEN)
    for same in (show(told, dark), show(told, street, UNKNOWN)):
        assert all(same_frame(a, b) for a, b in zip(without, same, strict=True))
    assert all(same_frame(a, b) for a, b in zip(red, show(told, street), strict=True)), "at 0.7 and 1.2 s it was red"
    for one, other, plain in zip(red, green, without, strict=True):
        drawn = signal_layout(lit.heads, np.array([RED]), one.intrinsics, one.global_from_camera, *one.depth.shape[1:])
        there = drawn[..., 3] > 0
        assert (one.rgb[there] != other.rgb[there]).any() and (one.rgb[there] != plain.rgb[there]).any()
    first = red[0].rgb != without[0].rgb
    drawn = signal_layout(lit.heads, np.array([RED]), red[0].intrinsics, red[0].global_from_camera, *red[0].depth.shape[1:])
    assert not first[drawn[..., 3] == 0].any() and np.array_equal(red[0].depth, without[0].depth)


def test_the_painter_is_part_of_a_folder_of_weights(tmp_path):
    for part in ("codec", "dist_t", "composer", "dist_s"):
        (tmp_path / part).symlink_to(resolve_weights("tiny") / part)
    assert GenerativeWorld.from_pretrained(tmp_path).painter is None
    save_model(painter(), tmp_path / "signals")
    assert GenerativeWorld.from_pretrained(tmp_path).painter.config.widths == [8, 8]
