"""Edits: what each does to a straight road's traffic, and what holds for all of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edit_tracks import MOST_ACCELERATION, EditFrame
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Remove, Slow, Stop
from dist4d_env.scenes.edits_apply import apply, apply_all
from dist4d_env.scenes.scene import Scene
from tests.simulation.road import Agent, make_scene

LEAD, PARKED, WALKER, LATE = 0, 1, 2, 3
FRONT = 1.4 + 4.084 / 2  # of the ego, m ahead of its rear axle


def street() -> Scene:
    """The ego at 8 m/s from x = 0; a lead 25 m ahead at its speed, a parked car, somebody on foot, and one who appears later."""
    return make_scene(
        Agent(25.0, 0.0, vx=8.0),
        Agent(60.0, -3.0),
        Agent(15.0, 6.0, vy=0.0, vx=1.2, category="pedestrian", length=0.7, width=0.7),
        Agent(0.0, 3.5, vx=10.0, first=3.0),
    )


def speeds(scene: Scene, index: int) -> np.ndarray:
    return np.hypot(*scene.tracks.velocity[index].T)


EVERY = (
    Remove("nearest pedestrian"), Slow("lead", at=1.0, speed=3.0), Stop("lead", at=1.0), Insert(ahead=45.0, speed=5.0),
    Insert(ahead=50.0, lateral=7.0, heading=math.pi, speed=6.0), CutIn(at=1.5, gap=5.0), Jaywalk(), Cross(ahead=35.0),
    Oncoming(meet=6.0, lateral=7.0, duration=3.0), Door(ahead=45.0), Door("agent-1"), CutIn("agent-3", at=4.0),
)  # fmt: skip


@pytest.mark.parametrize("edit", EVERY, ids=lambda edit: edit.kind)
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_every_edit_leaves_a_consistent_scene(edit: Edit, start: float) -> None:
    before = street()
    after = apply(edit, before, start)
    tracks, recorded = after.tracks, before.tracks
    plain = after.recorded
    assert plain.tracks is recorded and plain.recorded is plain
    assert tracks.instance[: len(recorded)] == recorded.instance
    first = round(start / 0.1)
    for index in range(len(tracks)):
        rows = np.flatnonzero(tracks.valid[index])
        changed = index >= len(recorded) or not np.array_equal(tracks.position[index], recorded.position[index])
        if not changed or len(rows) < 3:
            continue
        assert not tracks.position[index, ~tracks.valid[index]].any() and not tracks.velocity[index, ~tracks.valid[index]].any()
        if index < len(recorded):  # the past is as it was
            assert np.array_equal(tracks.position[index, :first], recorded.position[index, :first])
        inner = rows[1:-1][np.diff(rows)[1:] + np.diff(rows)[:-1] == 2]
        moved = (tracks.position[index, inner + 1, :2] - tracks.position[index, inner - 1, :2]) / 0.2
        assert np.allclose(moved, tracks.velocity[index, inner], atol=1e-9)
        acceleration = np.diff(np.diff(tracks.position[index, rows, :2], axis=0), axis=0) / 0.01
        assert np.hypot(*acceleration.T).max() < MOST_ACCELERATION + 1e-6
        fast = np.hypot(*moved.T) > 0.5
        if tracks.name[index] != "movable_object.debris":  # a door turns about its hinge
            course = np.arctan2(moved[:, 1], moved[:, 0])
            turned = (course - tracks.yaw[index, inner] + np.pi) % (2 * np.pi) - np.pi
            assert np.abs(turned[fast]).max(initial=0.0) < 0.05
        assert np.isfinite(tracks.position[index]).all() and (np.abs(tracks.yaw[index]) <= math.pi).all()


@given(
    at=st.floats(0.0, 6.0), deceleration=st.floats(0.5, 9.0), speed=st.floats(0.0, 7.0),
    hold=st.one_of(st.none(), st.floats(0.0, 4.0)),
)  # fmt: skip
def test_whoever_slows_is_never_ahead_of_the_log(at: float, deceleration: float, speed: float, hold: float | None) -> None:
    before = street()
    after = apply(Slow("lead", at=at, speed=speed, deceleration=deceleration, hold=hold), before)
    lag = before.tracks.position[LEAD, :, 0] - after.tracks.position[LEAD, :, 0]
    there = after.tracks.valid[LEAD]
    assert (lag[there] >= -1e-9).all() and (np.diff(after.tracks.position[LEAD, there, 0]) >= -1e-9).all()
    steps = np.diff(after.tracks.position[LEAD, there, 0]) / 0.1
    assert np.diff(steps).min(initial=0.0) / 0.1 > -deceleration - 1e-6
    if hold is None and at + 8.0 / deceleration + 0.2 < 10.0:
        assert steps[-1] == pytest.approx(min(speed, 8.0), abs=1e-6)


def test_a_lead_that_stops_stands_where_its_braking_ends() -> None:
    after = apply(Stop("lead", at=2.0, deceleration=4.0), street(), 1.0)
    x = after.tracks.position[LEAD, :, 0]
    assert x[30] == pytest.approx(25 + 8 * 3.0)  # at = 2 s after a start at 1 s
    assert x[-1] - x[30] == pytest.approx(8**2 / (2 * 4.0), abs=0.5)  # v²/2a, give or take a tick's rounding
    assert (speeds(after, LEAD)[55:] < 1e-9).all() and after.tracks.valid[LEAD].all()
    resumed = apply(Stop("lead", at=2.0, deceleration=4.0, hold=1.0), street(), 1.0)
    assert speeds(resumed, LEAD)[-5] > 3.0


def test_a_delayed_agent_stays_until_the_end_of_its_path() -> None:
    scene = make_scene(Agent(20.0, 0.0, vx=8.0, last=4.0))
    after = apply(Slow("lead", at=1.0, speed=4.0, deceleration=4.0), scene)
    there = np.flatnonzero(after.tracks.valid[0])
    assert there[-1] > 60 and after.tracks.position[0, there, 0].max() <= 20 + 8 * 4.0 + 1e-9


def test_removed_rows_stay_so_that_everybody_keeps_a_number() -> None:
    after = apply(Remove("lead"), street())
    assert len(after.tracks) == 4 and not after.tracks.valid[LEAD].any()
    assert LEAD not in after.boxes(2.0).token and LEAD in after.recorded.boxes(2.0).token
    assert not apply(Remove("all"), street()).tracks.valid.any()
    assert apply(Remove("all car"), street()).tracks.valid.any(1).tolist() == [False, False, True, False]


def test_inserted_agents_are_where_they_were_asked_to_be() -> None:
    scene = street()
    one = apply(Insert("truck", ahead=45.0, lateral=0.5, profile=((0.0, 2.0), (4.0, 6.0)), at=1.0), scene, 0.5)
    tracks = one.tracks
    assert tracks.instance[-1] == "edit-0" and tracks.name[-1] == "vehicle.truck" and not tracks.valid[-1, :15].any()
    centre = 8 * 0.5 + 1.4
    assert tracks.position[-1, 15] == pytest.approx([centre + 45.0, 0.5, 1.45])
    assert speeds(one, -1)[25] == pytest.approx(2.0 + 2.0, abs=0.06)  # two seconds after the start
    assert tracks.size[-1].tolist() == [7.0, 2.45, 2.9]
    other = apply(Insert(ahead=30.0, lateral=7.0, heading=math.pi, speed=5.0, size=(4.0, 1.8, 1.5)), one)
    assert other.tracks.instance[-1] == "edit-1" and other.tracks.velocity[-1, 10] == pytest.approx([-5.0, 0.0])
    aside = apply(Insert(ahead=30.0, lateral=-3.0, heading=math.pi / 2, speed=2.0, straight=True), scene)
    assert aside.tracks.velocity[-1, 10] == pytest.approx([0.0, 2.0], abs=1e-9)


def test_an_inserted_agent_is_a_target_for_later_edits() -> None:
    after = apply_all((Insert(ahead=12.0, speed=8.0), Stop("edit-0", at=1.0), Remove("agent-0")), street())
    assert (speeds(after, 4)[35:] < 1e-9).all() and not after.tracks.valid[LEAD].any()
    assert EditFrame(after, 0.0).scene.tracks.instance[4] == "edit-0"


def test_a_cut_in_ends_ahead_of_the_logged_ego() -> None:
    edit = CutIn(at=1.0, duration=2.0, lateral=3.5, speed=6.0, gap=5.0, deceleration=2.0, final_speed=2.0)
    tracks = apply_all((Remove("lead"), edit), street()).tracks
    assert tracks.position[-1, 10, 1] == pytest.approx(3.5) and tracks.position[-1, 30, 1] == pytest.approx(0.0, abs=1e-9)
    rear = tracks.position[-1, 30, 0] - tracks.size[-1, 0] / 2
    assert rear - (8 * 3.0 + FRONT) == pytest.approx(5.0)
    assert tracks.velocity[-1, -5, 0] == pytest.approx(2.0)


def test_a_recorded_vehicle_cuts_in_at_its_own_pace() -> None:
    before = street()
    after = apply(CutIn("agent-3", at=4.0, duration=2.0), before)
    assert np.allclose(after.tracks.position[LATE, :, 0], before.tracks.position[LATE, :, 0])
    assert after.tracks.position[LATE, 35, 1] == 3.5 and abs(after.tracks.position[LATE, 65, 1]) < 1e-9


@pytest.mark.parametrize(("x", "vx"), [(-35.0, 12.0), (405.0, 8.0)], ids=["before the route", "past its end"])
def test_a_vehicle_cuts_in_from_where_it_is_also_beyond_the_route(x: float, vx: float) -> None:
    before = make_scene(Agent(x, 3.5, vx=vx, first=0.5))
    after = apply(CutIn("agent-0", at=1.0, duration=3.0), before)
    there = after.tracks.valid[0]
    assert np.allclose(after.tracks.position[0, there, 0], before.tracks.position[0, there, 0])
    assert np.array_equal(after.tracks.position[0, :11], before.tracks.position[0, :11])
    assert np.abs(after.tracks.position[0, there, 1][40:]).max() < 1e-9


def test_a_vehicle_that_the_log_loses_for_a_while_still_cuts_in() -> None:
    before = street()
    valid = before.tracks.valid.copy()
    valid[LATE, 39] = valid[LATE, 45:50] = False
    lost = replace(before, tracks=replace(before.tracks, valid=valid))
    after = apply(CutIn("agent-3", at=4.0, duration=2.0), lost)
    assert np.array_equal(after.tracks.valid[LATE], valid[LATE]) and abs(after.tracks.position[LATE, 65, 1]) < 1e-9


def test_a_vehicle_does_not_jump_when_it_begins_to_cut_in() -> None:
    before = street()
    position = before.tracks.position.copy()
    position[LATE, 41:, 0] += 0.3  # a leap in the log, just where the edit begins
    leaping = replace(before, tracks=replace(before.tracks, position=position))
    with pytest.raises(ConfigError, match=r"cut_in: agent-3: it would accelerate with"):
        apply(CutIn("agent-3", at=4.1, duration=3.0), leaping)


@pytest.mark.parametrize(
    ("other", "said"),
    [(Agent(0.0, 0.0, vx=10.0), r"6\.0 s after the start its place is taken by car agent-1"), (None, r"taken by the logged ego")],
)
def test_a_vehicle_cuts_in_only_where_there_is_room(other: Agent | None, said: str) -> None:
    beside = Agent(0.0, 3.5, vx=10.0) if other else Agent(0.0, 3.5, vx=8.0)
    scene = make_scene(*(agent for agent in (beside, other) if agent))
    with pytest.raises(ConfigError, match=said):
        apply(CutIn("agent-0", at=4.0, duration=2.0), scene)


@pytest.mark.parametrize("to", [0.0, 0.3, 2.0, 4.5, 9.0])
def test_wherever_a_jaywalker_goes_it_is_in_the_middle_in_time(to: float) -> None:
    y = apply_all((Remove("all"), Jaywalk(ahead=60.0, to=to)), street()).tracks.position[-1, :, 1]
    arrival = (60.0 - (FRONT - 1.4)) / 8.0 - 0.5
    assert np.argmax(y >= -0.01) * 0.1 == pytest.approx(arrival, abs=0.12)


@pytest.mark.parametrize("early", [-0.4, 0.0, 1.0])
def test_jaywalkers_and_crossing_cars_are_timed_against_the_logged_ego(early: float) -> None:
    for edit in (Jaywalk(ahead=50.0, early=early), Cross(ahead=50.0, side="left", early=early)):
        tracks = apply_all((Remove("all"), edit), street(), 0.5).tracks
        arrival = (50.0 - (FRONT - 1.4)) / 8.0 + 0.5
        y = tracks.position[-1, :, 1]
        rows = np.flatnonzero(tracks.valid[-1])
        crossed = float(np.interp(0.0, np.sign(y[-1]) * y[rows], rows * 0.1))
        assert crossed == pytest.approx(arrival - early, abs=0.06)
        assert tracks.position[-1, rows[0], 0] == pytest.approx(8 * 0.5 + 1.4 + 50.0)
    walker = apply(Jaywalk(ahead=50.0, lateral=-6.0, speed=1.5), street()).tracks
    assert walker.position[-1, 0, 1] == -6.0 and not walker.velocity[-1, 5].any()  # waits at the kerb


def test_an_oncoming_car_meets_the_logged_ego_when_it_was_told() -> None:
    tracks = apply_all((Remove("all"), Oncoming(meet=5.0, speed=9.0, into=1.0, lateral=7.0, duration=2.0)), street()).tracks
    assert tracks.position[-1, 50, :2] == pytest.approx([8 * 5.0 + 1.4, 1.0])
    assert tracks.position[-1, 0, 1] == 7.0 and tracks.velocity[-1, 10, 0] == pytest.approx(-9.0)


@pytest.mark.parametrize(("edit", "side"), [(Door(ahead=45.0, lateral=-2.6), 1), (Door(ahead=45.0, lateral=2.9), -1)])
def test_a_door_opens_towards_the_lane(edit: Door, side: int) -> None:
    tracks = apply(edit, street()).tracks
    car, door = -2, -1
    there = np.flatnonzero(tracks.valid[door])
    opening, still = tracks.position[door, there[0]], tracks.position[door, there[-1]]
    assert (still[1] - opening[1]) * side > 0.3 and not tracks.velocity[door, -3].any()
    assert abs(still[1] - edit.lateral) > tracks.size[car, 1] / 2
    assert there[0] * 0.1 == pytest.approx((45.0 - (FRONT - 1.4)) / 8.0 - edit.before - edit.duration, abs=0.1)


def test_a_parked_car_of_the_scene_opens_its_door() -> None:
    scene = street()
    after = apply(Door("agent-1"), scene)
    assert len(after.tracks) == 5 and after.tracks.position[-1, -1, 1] > -3.0 + 1.0
    assert after.tracks.part_of == {4: after.tracks.instance.index("agent-1")}
    with pytest.raises(ConfigError, match=r"door: car agent-0 is not parked"):
        apply(Door("lead"), scene)
    with pytest.raises(ConfigError, match=r"door: car agent-1 is not parked"):
        apply_all((Remove("agent-1"), Door("agent-1")), scene)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Stop("nobody"), r"stop: road has no instance 'nobody'"),
        (Stop("nearest bus"), r"stop: target 'nearest bus': there is none in road"),
        (Stop("nearest tram"), r"'tram' is no category"),
        (Remove("all bus"), r"remove: target 'all bus': there is none"),
        (Stop("agent-3", at=1.0), r"stop: car agent-3 is not there 1 s after the start"),
        (Stop("lead", at=30.0), r"30 s after the start is past the end"),
        (Insert(ahead=23.6), r"insert: the car: 0\.0 s after the start its place is taken by car agent-0"),
        (Insert(ahead=1.0), r"taken by the logged ego"),
        (Jaywalk(ahead=200.0), r"jaywalk: the logged ego of road does not pass 200 m ahead"),
        (Jaywalk(ahead=8.0), r"would have to set out .* before the scenario starts"),
        (Insert(ahead=40.0, profile=((0.0, 0.0), (0.5, 20.0))), r"it would accelerate with 40 m/s²"),
        (CutIn(lateral=9.0, duration=0.6, at=0.0), r"cut_in: the car: it would accelerate"),
        (CutIn("agent-2"), r"is a pedestrian"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_reason(edit: Edit, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        apply(edit, street())


def test_no_lead_and_a_start_outside_are_refused() -> None:
    scene = make_scene(Agent(20.0, 3.5, vx=8.0), Agent(20.0, 0.0, vx=-8.0, yaw=math.pi), Agent(-20.0, 0.0, vx=8.0))
    with pytest.raises(ConfigError, match=r"no vehicle drives within 80 m ahead on the route of road"):
        apply(Stop("lead"), scene)
    with pytest.raises(ConfigError, match=r"lies outside road"):
        apply(Remove("all"), scene, 99.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Stop("lead", at=-1.0), r"stop: at must be a number in \[0, 10000\]"),
        (lambda: Stop(""), r"stop: target must be an instance token"),
        (lambda: Slow("lead", deceleration=math.nan), r"slow: deceleration must be"),
        (lambda: Insert("tram"), r"insert: category must be one of car"),
        (lambda: Insert(size=(1.0, 2.0)), r"insert: size must be three numbers"),  # type: ignore[arg-type]
        (lambda: Insert(profile=((1.0, 2.0), (1.0, 3.0))), r"insert: profile must be pairs"),
        (lambda: Insert(speed=1.0, profile=((0.0, 2.0),)), r"exclude each other"),
        (lambda: Cross(side="above"), r"cross: side must be one of left, right"),
        (lambda: Jaywalk(lateral=0.5), r"jaywalk: lateral must be at least 1\.5 m"),
        (lambda: Jaywalk(lateral=-5.0, to=-1.0), r"jaywalk: to must be on the other side"),
        (lambda: Door(angle=3.0), r"door: angle must be a number in \[0\.2, 1\.3\]"),
        (lambda: Insert(ahead="far"), r"insert: ahead must be a number in \[-10000, 10000\], not 'far'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_impossible_values_are_refused_when_an_edit_is_made(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_height_follows_the_ground() -> None:
    """On a slope an inserted car stands on the road, and one that is moved along keeps its wheels on it."""
    from dataclasses import replace

    flat = street()
    poses = flat.ego.global_from_ego.copy()
    poses[:, 2, 3] = 0.05 * poses[:, 0, 3]
    tracks = replace(flat.tracks, position=flat.tracks.position + np.array([0, 0, 0.05]) * flat.tracks.position[..., :1])
    sloped = replace(flat, ego=replace(flat.ego, global_from_ego=poses), tracks=tracks)
    after = apply_all((Insert(ahead=40.0, lateral=-3.0), Stop("lead", at=1.0)), sloped)
    x, _, z = after.tracks.position[-1, 0]
    assert z - 1.68 / 2 == pytest.approx(0.05 * x, abs=0.15)
    lead = after.tracks.position[LEAD, -1]
    assert lead[2] - 0.8 == pytest.approx(0.05 * lead[0], abs=0.15)


def test_reacting_traffic_minds_what_was_edited() -> None:
    """The log drives on behind a lead that now stops; a recorded follower that reacts does not drive into it."""
    from dist4d_env.simulation.idm import IdmTraffic

    scene = make_scene(Agent(40.0, 3.5, vx=8.0), Agent(22.0, 3.5, vx=8.0), Agent(10.0, 7.0, vx=3.0), speed=0.0)
    after = apply_all((Stop("agent-0", at=1.0, deceleration=3.0), Insert(ahead=60.0, lateral=7.0)), scene)
    assert after.edited.tolist() == [True, False, False, True] and not scene.edited.any()
    recorded = replace(after, recorded_tracks=None)
    assert not recorded.edited.any()
    far, tracks, traffic, gaps = np.tile([-40.0, 0, 0, 0, 0, 0, 0], (2, 1)), len(after.tracks), IdmTraffic(), []
    scene = np.array([traffic.add(after), traffic.add(recorded)])
    agents, state = traffic.start(scene, np.zeros(2, int), tracks)
    for row in range(95):
        agents, state = traffic.step(scene, np.full(2, row), far, agents, state)
        gaps.append(agents.position[:, 0, 0] - agents.position[:, 1, 0] - 4.5)
    assert (np.min(gaps, axis=0) > 0.3).tolist() == [True, False]
