"""States in parts: what is packed comes back bit for bit, and only what is new travels."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.service.state_parts import pack, unpack
from tests.envs.worlds import assert_same
from tests.worlds.street import make_scene, make_start, scene_at


@pytest.fixture
def new_key():
    numbers = itertools.count()
    return lambda: f"key-{next(numbers)}"


@pytest.fixture(scope="module")
def world():
    return make_world("dist4d")


def arrays(value) -> dict[str, np.ndarray]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name != "frame"}


def drive(world, state, scene, laterals, since=0.0):
    """States and frames, half a second apart."""
    out = []
    for index, lateral in enumerate(laterals):
        ((state, frame, _),) = world.step([state], [scene_at(scene, since + 0.5 * index, lateral)])
        out.append((state, frame))
    return out


@pytest.mark.medium
def test_a_state_goes_on_from_its_parts_alone_and_only_new_ones_travel(world, new_key):
    scene = make_scene()
    (start,) = world.reset([make_start(scene)])
    known, older, sent = None, {}, []
    for state, frame in drive(world, start, scene, [0.0, 0.0, 0.3, 0.3, 0.3]):
        packed, known = pack((state, frame), new_key, known)
        sent.append(packed.nbytes)
        whole = packed.completed(older)
        older = whole.parts
        back, shown = unpack(whole).value
        assert_same(arrays(shown), arrays(frame))
        generated = [f.prepared for f in state.memory.frames if f.generated]
        again = [f.prepared for f in back.memory.frames if f.generated]
        for one, other in zip(generated, again, strict=True):
            assert_same(arrays(one), arrays(other))
    assert sent[2] < 0.2 * sum(len(part.content) for part in older.values())  # no chunk, no log: one frame
    ahead = [0.3, 0.3, 2.6]
    for (_, ours), (_, theirs) in zip(*(drive(world, s, scene, ahead, 2.5) for s in (state, back)), strict=True):
        assert_same(arrays(ours), arrays(theirs))


def test_what_a_state_no_longer_holds_is_let_go(world, new_key):
    scene = make_scene()
    (start,) = world.reset([make_start(scene)])
    known, older, counts = None, {}, []
    for state, frame in drive(world, start, scene, [0.0, 0.0, 3.0, 6.0]):  # a new chunk at every step but the first
        packed, known = pack((state, frame), new_key, known)
        older = packed.completed(older).parts
        counts.append(sum(b"Chunk" in part.content for part in older.values()))
        assert set(known.objects) == set(older)
    assert counts == [0, 1, 1, 1]


def test_scenes_of_a_data_set_go_by_name_and_edited_ones_with_their_tracks(town_dataroot, new_key):
    dataset = open_dataset(town_dataroot)
    scene = dataset.load(dataset.names()[0])
    start = WorldStart(scene, scene.rig.at_size(64, 112), 0.0, 7)
    packed, _ = pack(start, new_key)
    assert packed.nbytes < 5000 and unpack(packed).value.scene is dataset.load(scene.name)
    edited = apply_all((Insert("car", ahead=15.0),), scene)
    back = unpack(pack(replace(start, scene=edited), new_key)[0]).value.scene
    assert_same(vars(back.tracks), vars(edited.tracks))
    assert_same(vars(back.recorded.tracks), vars(scene.tracks))
    assert back.map is scene.map
