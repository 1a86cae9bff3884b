"""Pictures of edited scenes: cut from what was recorded, drawn as the edits say; oracle, memory and log agree about it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.scenes.edits import Door, Edit, Insert, Remove, Stop
from dist4d_env.scenes.edits_apply import apply, apply_all
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.frame_cache import load_source
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.oracle import OracleWorld
from dist4d_env.worlds.replay import ReplayWorld
from tests.worlds.street import make_scene, make_start, scene_at, truth

CAR = (4.5, 1.9, 1.6)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def shown(world, scene, time, memory_start=0.0):
    (state,) = world.reset([make_start(scene, memory_start)])
    ((_, frame, info),) = world.step([state], [scene_at(scene, time)])
    return frame, info


@pytest.mark.parametrize("edit", [Remove("a"), Stop("c", at=0.2, deceleration=8.0), Stop("a", at=0.3, deceleration=6.0)])
def test_recorded_agents_leave_the_picture_or_move_in_it(edit: Edit) -> None:
    """Removed ones vanish, slowed ones are where their box is: what the frames show of them is cut out by the recorded boxes."""
    scene = apply(edit, make_scene())
    frame, info = shown(ReplayWorld(), scene, 1.5)
    right, wrong = truth(scene, scene_at(scene, 1.5)), truth(scene.recorded, scene_at(scene.recorded, 1.5))
    assert info.source == ("replay",) * 6
    differs = np.abs(right.depth - wrong.depth) > 0.5  # (the formula paints a car by its place in the list)
    off, off_log = (np.abs(frame.depth - picture.depth)[differs] for picture in (right, wrong))
    assert differs.sum() > 50 and np.mean(off < 0.5) > 0.6 and np.mean(off_log < 0.5) < 0.1


def test_until_an_edit_begins_the_log_itself_is_shown() -> None:
    scene = apply(Stop("c", at=1.8), make_scene())
    assert shown(ReplayWorld(), scene, 1.5)[1].source == ("log",) * 6
    assert shown(ReplayWorld(), scene, 3.0)[1].source == ("replay",) * 6


def test_edited_and_recorded_scenes_share_their_frames() -> None:
    plain = make_scene(name="shared")
    edited = apply_all((Remove("all"), Insert(ahead=30.0)), plain)
    assert load_source(edited, 2, 64, 112) is load_source(plain, 2, 64, 112)
    assert set(load_source(edited, 2, 64, 112).box_token.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("size", [CAR, (5.6, 2.3, 2.2), (3.6, 1.6, 1.3)])
def test_an_inserted_agent_has_the_appearance_of_a_recorded_one(size: tuple[float, float, float]) -> None:
    """The street's cars are alike, so the donor must look like the inserted car drawn by the formula, place and size."""
    scene = apply_all((Insert(ahead=14.0, lateral=0.3, size=size),), make_scene())
    frame, _ = shown(ReplayWorld(), scene, 1.0)
    want, without = truth(scene, scene_at(scene, 1.0)), truth(scene.recorded, scene_at(scene.recorded, 1.0))
    body = np.abs(want.depth - without.depth) > 1.0
    assert body.sum() > 60
    beside = (np.abs(want.depth - without.depth) < 0.01) & (np.abs(frame.depth - want.depth) > 1.0) & (want.depth < 50)
    assert beside.sum() < 0.35 * body.sum()  # an outline as wide as the box
    near = np.abs(frame.depth[body] - want.depth[body]) < 0.5
    assert near.mean() > 0.75
    # The same memory without its appearance bank shows the empty street there.
    memory = Memory.from_log(scene, scene.rig, 0.0)
    assert memory.appearance is not None
    now = scene_at(scene, 1.0)
    cameras = now.global_from_ego @ scene.rig.ego_from_camera
    bare = replace(memory, appearance=None).render(scene.rig, cameras, now.boxes, 1.0)
    assert (np.abs(bare.depth[body] - want.depth[body]) < 0.5).mean() < 0.1


def test_one_donor_shows_an_agent_all_the_time_and_history_shows_nothing_from_the_future() -> None:
    scene = apply_all((Insert(ahead=14.0, size=CAR),), make_scene())
    bank = Memory.from_log(scene, scene.rig, 0.0).appearance
    assert bank is not None and list(bank.views) == [3]
    assert len({view.token for view in bank.views[3]}) == 1
    early = Memory.from_log(scene, scene.rig, 0.4, "history").appearance
    assert early is not None and all(len({view.source().frame.time[0] for view in views}) == 1 for views in early.views.values())
    assert pickle.loads(pickle.dumps(bank)).views.keys() == bank.views.keys()


@pytest.mark.parametrize(("category", "turned"), [("car", True), ("bus", True), ("truck", False)])
def test_what_has_a_cab_is_not_shown_back_to_front(category: str, turned: bool) -> None:
    """The only one of its kind comes towards the ego: a truck's cab is no good for the tail of one that drives ahead."""
    scene = make_scene()
    kinds = np.array([CATEGORIES.index(name) for name in ("pedestrian", "pedestrian", category)], np.int8)
    scene = replace(scene, tracks=replace(scene.tracks, category=kinds))
    scene = apply_all((Insert(category, ahead=20.0),), scene)
    bank = Memory.from_log(scene, scene.rig, 0.0).appearance
    assert bank is not None and any(view.turned for view in bank.views[3]) == turned


def test_a_kind_that_nobody_can_lend_to_is_a_plain_body() -> None:
    scene = apply_all((Insert("pedestrian", ahead=10.0),), make_scene())
    bank = Memory.from_log(scene, scene.rig, 0.0).appearance
    assert bank is not None and not bank.views
    (with_it, info), (without, _) = shown(ReplayWorld(), scene, 0.5), shown(ReplayWorld(), scene.recorded, 0.5)
    assert info.source == ("replay",) * 6
    nearer = without.depth - with_it.depth > 1.0
    boxes, points = scene_at(scene, 0.5).boxes, SplatSource.from_frame(with_it, scene_at(scene, 0.5).boxes)
    assert nearer.sum() > 20 and (points.owner_token[nearer] == boxes.token[-1]).mean() > 0.5  # without its feet


@pytest.fixture(scope="module")
def town(town_dataroot):
    return open_dataset(town_dataroot).load("town-val-0000")


def at(scene, time):
    nothing = np.zeros(0), np.zeros((0, 4, 4)), ()
    return SceneAt(time, scene.ego_pose(time), scene.boxes(time), *nothing)


@pytest.mark.parametrize("category", ["car", "truck", "bus", "motorcycle", "bicycle", "pedestrian", "traffic_cone", "barrier"])
def test_the_oracle_draws_what_was_inserted_where_it_is(town, category: str) -> None:
    scene = apply_all((Remove("all"), Insert(category, ahead=9.0, heading=np.pi / 2)), town, 1.0)
    world, rig = OracleWorld(), scene.rig.at_size(64, 112)
    empty, met = (
        world.step(world.reset([WorldStart(s, rig, 1.0, 0)]), [at(s, 1.0)])[0][1] for s in (apply(Remove("all"), town), scene)
    )
    front = scene.rig.names.index("CAM_FRONT")
    body = empty.depth[front] - met.depth[front] > 0.5
    assert body.sum() > 8
    length = scene.tracks.size[-1, 0]
    reach = 9.0 + 1.4 - 1.7  # from the front camera to the middle of the box, give or take
    assert abs(float(np.median(met.depth[front][body])) - reach) < length / 2 + 1.5
    assert np.array_equal(met.depth[rig.names.index("CAM_BACK")], empty.depth[rig.names.index("CAM_BACK")])


def test_the_oracle_draws_doors_and_the_same_things_the_same(town) -> None:
    scene = apply_all((Remove("all"), Door(ahead=16.0, before=0.5)), town, 0.0)
    world, rig = OracleWorld(), scene.rig.at_size(32, 56)
    (state,) = world.reset([WorldStart(scene, rig, 0.0, 0)])
    time = float(np.flatnonzero(scene.tracks.valid[-1])[-1]) / 10 - 2.0
    ((_, first, _),), ((_, again, _),) = (
        world.step([state], [at(scene, time)]), OracleWorld().step([pickle.loads(pickle.dumps(state))], [at(scene, time)])
    )  # fmt: skip
    assert np.array_equal(first.rgb, again.rgb)
    boxes = scene.boxes(time)
    shut = replace(at(scene, time), boxes=boxes.select(boxes.token != len(scene.tracks) - 1))
    ((_, closed, _),) = world.step([state], [shut])
    assert (first.depth < closed.depth - 0.1).any()
    car, door = state.inserted
    assert door.style == car.style, "a door is of its car's paint"


def test_a_door_has_the_colours_of_its_car(town) -> None:
    scene = apply(Door(ahead=16.0, before=0.5), town)
    bank = Memory.from_log(scene, scene.rig.at_size(64, 112), 0.0).appearance
    assert bank is not None
    car, door = len(scene.tracks) - 2, len(scene.tracks) - 1
    assert bank.views[car] and door not in bank.views
    colours = [{tuple(rgb) for rgb in body.frame.rgb[body.keep].tolist()} for body in (bank.stand_ins[car], bank.stand_ins[door])]
    assert colours[1] <= colours[0] and len(colours[1]) > 1


@pytest.mark.parametrize("world", ["oracle", "replay"])
def test_what_is_removed_after_it_was_inserted_is_not_there(town, world: str) -> None:
    scene = apply_all((Insert(ahead=12.0), Remove("edit-0")), apply(Remove("all"), town))
    rig, shows = scene.rig.at_size(32, 56), make_world(world)
    with_it, without = (
        shows.step(shows.reset([WorldStart(s, rig, 0.0, 0)]), [at(s, 1.0)])[0][1] for s in (scene, apply(Remove("all"), town))
    )
    assert np.array_equal(with_it.rgb, without.rgb) and np.array_equal(with_it.depth, without.depth)


def test_the_splat_world_is_the_replay_world(town) -> None:
    scene = apply_all((Insert(ahead=12.0, at=0.0),), apply(Remove("all"), town))
    (state,) = make_world("dist4d", weights="splat").reset([WorldStart(scene, scene.rig.at_size(32, 56), 0.0, 0)])
    assert state.memory.appearance is not None
