"""The car's own body: it never enters a memory, is never filled into holes, and stands in every frame as it was last seen."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat_source import widened
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.prepare import scene_samples
from dist4d_env.training.samples import NEXT, SampleSettings
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.replay import SplatWorld
from dist4d_env.worlds.service.state_parts import pack, unpack
from dist4d_env.worlds.trust import camera_disagreement, memory_disagreement, trust
from tests.worlds.street import StreetSensors, make_scene, make_start, scene_at, truth

FRONT, BACK = 1, 4
DEPTH = 1.25


def body_mask(height: int = 64, width: int = 112) -> np.ndarray:
    """A bonnet and a boot at the lower edges of two cameras, cut off at the sides."""
    mask = np.zeros((6, height, width), bool)
    mask[FRONT, -12:, 5:-20] = mask[BACK, -16:, 10:-10] = True
    return mask


@dataclass(frozen=True)
class BodySensors(StreetSensors):
    """The street from a car that is in its own pictures, ``tint`` and 10 more per keyframe."""

    tint: int = 40
    known: bool = True

    def rgbd(self, keyframe: int, height: int, width: int) -> RGBDFrame:
        frame, mask = super().rgbd(keyframe, height, width), body_mask(height, width)
        frame.rgb[mask], frame.depth[mask] = self.tint + 10 * keyframe, DEPTH
        return replace(frame, body=mask if self.known else None)


def body_scene(name: str, tint: int = 40, known: bool = True) -> Scene:
    scene = make_scene(name=name)
    return replace(scene, sensors=BodySensors(**vars(scene.sensors), tint=tint, known=known))


@pytest.fixture(scope="module")
def tiny() -> GenerativeWorld:
    world = make_world("dist4d")
    assert isinstance(world, GenerativeWorld)
    return world


def frames(world, scene: Scene, laterals, start_time: float = 0.0, dt: float = 0.5):
    (state,) = world.reset([make_start(scene, start_time)])
    for k, lateral in enumerate(laterals):
        now = scene_at(scene, start_time + k * dt, lateral, dt=dt)
        ((state, frame, info),) = world.step([state], [now])
        yield state, now, frame, info


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_the_world_outside_does_not_depend_on_what_the_body_looks_like():
    """Bit for bit, holes included: neither splatted, nor looked up, nor smeared into what nobody saw."""
    mask = body_mask()
    for lateral, time in ((0.0, 1.5), (0.8, 1.75)):
        shown = []
        for tint in (0, 150):
            scene = body_scene(f"tint-{tint}", tint)
            now = scene_at(scene, time, lateral)
            poses = now.global_from_ego @ scene.rig.ego_from_camera
            splat = Memory.from_log(scene, scene.rig, 1.0, "history").render(scene.rig, poses, now.boxes, now.time)
            assert (splat.body == mask).all() and splat.valid[mask].all() and not splat.valid.all()
            shown.append((splat, splat.filled(), splat.background()))
        (one, filled, behind), (other, *again) = shown
        np.testing.assert_array_equal(one.valid, other.valid)
        for a, b in ((one.rgb, other.rgb), (filled[0], again[0][0]), (behind[0], again[1][0])):
            np.testing.assert_array_equal(a[~mask], b[~mask])
            assert (a[mask] == 0 + 20).all() and (b[mask] == 150 + 20).all()  # of keyframe 2, the last at the start
        assert (filled[1][mask] == DEPTH).all() and (behind[1][mask] == DEPTH).all()


def test_the_body_is_as_the_last_real_frame_shows_it():
    """Of the memory's real frames the latest up to the time, whatever frames are nearest."""
    scene = body_scene("last")
    poses = scene_at(scene, 0.0).global_from_ego @ scene.rig.ego_from_camera
    memory = Memory.from_log(scene, scene.rig, 0.0, "log")
    for time, keyframe in ((0.0, 0), (1.0, 2), (1.3, 2), (4.0, 8)):
        splat = memory.render(scene.rig, poses, scene.boxes(time), time)
        assert set(splat.rgb[body_mask()].ravel().tolist()) == {40 + 10 * keyframe}


def test_what_is_shown_is_nearer_to_the_truth_than_with_the_body_in_the_memory():
    mask = body_mask()
    for memory, gain in (("log", 1.0), ("history", 0.1)):  # dB; of the future nothing covers what the body leaves open
        quality = {}
        for known in (True, False):
            scene = body_scene(f"known-{known}", known=known)
            *_, (_, now, frame, info) = frames(SplatWorld(memory), scene, [0.0, 0.5, 0.5], 1.0)
            real = truth(scene, now)
            quality[known] = psnr(frame.rgb[~mask], real.rgb[~mask]), float(np.mean(frame.depth[~mask] / real.depth[~mask] < 0.5))
            assert (frame.body is None) == (not known) and 0 < info.trust < 1
        assert quality[True][0] > quality[False][0] + gain and quality[True][1] < 0.5 * quality[False][1]


@pytest.mark.medium
@pytest.mark.parametrize("grow", ["holes", "all"])
@pytest.mark.parametrize(("memory", "dt"), [("history", 0.5), ("log", 0.25)])
def test_generated_frames_have_the_body_on_top_and_the_memory_does_not(tiny, memory, dt, grow):
    mask, scene = body_mask(), body_scene("generated")
    world = GenerativeWorld(tiny.dist_t, tiny.dist_s, memory, PolicyConfig(grow=grow))
    sources = set()
    for k, (state, now, frame, info) in enumerate(frames(world, scene, [0.0, 0.0, 0.4, 0.4, 0.4], 1.0, dt)):
        sources |= set(info.source)
        keyframe = 2 if memory == "history" else int(now.time / 0.5 + 1e-6)
        assert (frame.body == mask).all() and (frame.depth[mask] == DEPTH).all(), k
        assert (frame.rgb[mask] == 40 + 10 * keyframe).all(), k
        for remembered in state.memory.frames:
            assert not (remembered.source().keep & widened(mask)).any()
    assert sources == {"log", "dist_t", "dist_s"} and any(f.generated for f in state.memory.frames)


@pytest.mark.medium
def test_states_travel_with_the_body(tiny):
    scene = body_scene("travels")
    *_, (state, now, frame, _) = frames(tiny, scene, [0.0, 0.4])
    numbers = itertools.count()
    packed, _ = pack((state, frame), lambda: f"{next(numbers)}")
    back, shown = unpack(packed).value
    np.testing.assert_array_equal(shown.body, body_mask())
    later = scene_at(scene, now.time + 0.5, 0.4)
    ((_, one, _),), ((_, other, _),) = (tiny.step([s], [later]) for s in (state, back))
    np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_array_equal(one.depth, other.depth)


@pytest.mark.medium
def test_training_samples_leave_the_body_out_of_splats():
    """Depth noise or not: outside the body no bit depends on it, on it stands the last real frame among the sources."""
    mask, settings = body_mask(), SampleSettings(64, 112, chunk=1, flawed=0.5)
    one, other = (scene_samples(body_scene("trained", tint), settings) for tint in (0, 150))
    for name in ("splat_base_rgb", "splat_other_rgb", "splat_masks"):
        a, b = one[name], other[name]
        same = np.broadcast_to(mask, a.shape[:4]) if name != "splat_masks" else np.zeros(a.shape[:4], bool)
        assert len(a) and (a[~same] == b[~same]).all(), name
    for kind, reference, shown in zip(one["kind"], one["reference"], one["splat_base_rgb"], strict=True):
        assert kind != NEXT or (shown[mask] == 10 * reference).all()


def test_neighbouring_cameras_are_not_compared_on_the_body():
    frame = truth(make_scene(), scene_at(make_scene(), 1.0))
    frame = replace(frame, body=np.arange(112) < np.full((6, 64, 1), 30))
    painted = replace(frame, rgb=np.where(frame.body[..., None], np.uint8(255), frame.rgb))
    assert camera_disagreement(painted) == camera_disagreement(frame) < camera_disagreement(replace(painted, body=None))


def test_a_large_body_does_not_make_a_frame_more_trustworthy():
    """It is shown as the memory holds it, so that it would always agree and never be generated."""
    scene = make_scene()
    now = scene_at(scene, 0.5)
    frame, memory = truth(scene, now), Memory.from_log(scene, scene.rig, 0.0, "history")
    splat = memory.render(scene.rig, frame.global_from_camera, now.boxes, now.time)
    body = np.zeros(frame.depth.shape, bool)
    body[:, -30:] = True
    tinted = replace(frame, rgb=frame.rgb // 2)
    covered = splat.with_body(replace(frame, body=body))
    street = ~body & splat.valid & ~splat.moving & (splat.confidence > 0.3)
    wrong = np.abs(tinted.rgb.astype(int) - splat.rgb)[street].mean() / 255
    shown = covered.over(tinted)
    assert memory_disagreement(shown, covered) == pytest.approx(wrong)
    share = np.where(body, np.float32(0), np.float32(0.6))  # TrustConfig.share: it halves
    assert trust(shown, covered, share, 0, 0) == pytest.approx(trust(shown, covered, 0 * share, 0, 0) / 2, rel=1e-4)


def test_a_mask_of_another_shape_or_kind_is_refused():
    frame = truth(make_scene(), scene_at(make_scene(), 1.0))
    for wrong in (np.zeros((6, 32, 56), bool), np.zeros((6, 64, 112), np.uint8)):
        with pytest.raises(ValueError, match="mask of the body"):
            replace(frame, body=wrong)
