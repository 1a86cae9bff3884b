"""Road users keep apart, keep their lanes, follow, give way, and cross where one crosses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from shapely import STRtree
from shapely.ops import unary_union

from dist4d_env.geometry.boxes import rectangle_corners
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.lights import AMBER, GREEN, RED, crossed
from dist4d_env.town import generate
from dist4d_env.town.actors import CAR, PEDESTRIAN, Body
from dist4d_env.town.drives import Drive, conflicts, lane_path, make_drive
from dist4d_env.town.generate import generate_scene, scene_outline
from dist4d_env.town.junctions import STOP
from dist4d_env.town.layout import Town, make_town
from dist4d_env.town.model import Signal, TownScene
from dist4d_env.town.pedestrians import across
from dist4d_env.town.signals import AMBER_TICKS, STOP_LINE, states_of
from dist4d_env.town.traffic import DT, HARDEST, Driver, Walker, simulate
from town.conftest import scene_of

SCENES = (("train", 0), ("val", 0), ("val", 1))
BODY = Body(CAR, (4.5, 1.8, 1.5), 0, 1.35)


@pytest.fixture(scope="module", params=SCENES, ids=lambda which: "-".join(map(str, which)))
def played(request: pytest.FixtureRequest) -> TownScene:
    return scene_of(*request.param)


@pytest.fixture(scope="module")
def crossroads() -> Town:
    """The layout of val scene 3, a four-way junction."""
    return make_town("val", 3, scene_outline("val", 3).layout.seed)


def vehicles(scene: TownScene) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Centres (T, 2) and headings (T,) of every motor vehicle that drives, while it is there."""
    for actor in scene.actors:
        if actor.name.startswith(("vehicle.car", "vehicle.truck", "vehicle.bus", "vehicle.motorcycle")):
            position, yaw = actor.position[actor.valid, :2], actor.yaw[actor.valid]
            if len(position) > 1 and np.hypot(*(position[-1] - position[0])) > 1.0:
                yield position, yaw


def test_nobody_ever_overlaps(played: TownScene) -> None:
    """Footprints of all actors and of the ego, at every tick."""
    size = VehicleParameters()
    axle = played.ego_pose
    centre = axle[:, :2, 3] + size.rear_axle_to_center * axle[:, :2, 0]
    ego = rectangle_corners(*centre.T, yaw_of(axle), size.length, size.width)
    for tick in range(len(played.time)):
        rows = [ego[tick]]
        for actor in played.actors:
            if actor.valid[tick]:
                rows.append(rectangle_corners(*actor.position[tick, :2], actor.yaw[tick], *actor.size[:2]))
        footprints = shapely.polygons(np.array(rows))
        first, second = STRtree(footprints).query(footprints, predicate="intersects")
        assert (first == second).all(), f"tick {tick}: {first[first != second]} meet"


def test_actors_come_and_go_at_keyframes_only(played: TownScene) -> None:
    for actor in played.actors:
        changes = np.flatnonzero(np.diff(actor.valid.astype(int)) == -1)
        assert (changes % 5 == 0).all() and actor.valid[: changes[0] + 1 if len(changes) else None].all()


def test_everybody_stays_in_a_lane(played: TownScene) -> None:
    """Driving centres keep within half a lane's width of a lane's middle that runs their way (bicycles keep to the edge)."""
    middles = np.concatenate([
        np.column_stack([lane.centerline, np.full(len(lane.centerline), lane.width)]) for lane in played.layout.lanes
    ])  # fmt: skip
    tree = STRtree(shapely.points(middles[:, :2]))
    judged = 0
    for position, yaw in vehicles(played):
        point, near = tree.query(shapely.points(position), predicate="dwithin", distance=3.0)
        x, y, heading, width = middles[near].T
        along = np.cos(heading - yaw[point]) > 0.8
        aside = np.abs((position[point, 1] - y) * np.cos(heading) - (position[point, 0] - x) * np.sin(heading))
        inside = np.zeros(len(position), bool)
        inside[point[along & (aside < width / 2)]] = True
        on_map = np.abs(position - played.ego_pose[:, :2, 3].mean(0)).max(1) < 150  # open ends lie beyond
        assert inside[on_map].all()
        judged += on_map.sum()
    assert judged > 300


def test_the_ego_keeps_to_the_middle_and_drives_like_a_person(played: TownScene) -> None:
    lanes = shapely.union_all([shapely.linestrings(lane.centerline[:, :2]) for lane in played.layout.lanes])
    assert shapely.distance(lanes, shapely.points(played.ego_pose[:, :2, 3])).max() < 0.5
    step = np.diff(played.ego_pose[:, :2, 3], axis=0) / DT
    speed = np.hypot(*step.T)
    assert speed.sum() * DT > 85 and speed.max() < 15
    acceleration = np.diff(speed) / DT
    assert -4.2 < acceleration.min() and acceleration.max() < 2.0


def test_people_step_on_the_road_on_crossings_only(played: TownScene) -> None:
    road = unary_union([*played.layout.road, *played.layout.intersections]).buffer(-0.4)
    crossings = unary_union(played.layout.crossings).buffer(0.6)
    people = 0
    for actor in played.actors:
        if actor.name == PEDESTRIAN:
            on_road = shapely.contains_xy(road, *actor.position[actor.valid, :2].T)
            assert shapely.contains_xy(crossings, *actor.position[actor.valid, :2][on_road].T).all()
            people += 1
    assert people > 3


def straight_drive(length: float, speed: float) -> Drive:
    """A drive along x without junctions."""
    x = np.arange(0.0, length, 0.5)
    return Drive(np.stack([x, 0 * x, 0 * x], -1), np.full(len(x), speed), (), ())


def test_a_follower_neither_hits_nor_loses_its_leader() -> None:
    leader, follower = Driver(BODY, straight_drive(400, 4.0), 40.0, 4.0), Driver(BODY, straight_drive(400, 12.0), 0.0, 12.0)
    traffic = simulate([leader, follower], [], {}, 200)
    gap = traffic.position[0, :, 0] - traffic.position[1, :, 0] - BODY.size[0]
    assert gap.min() > 1.5
    assert gap[-1] < 12 and abs(traffic.speed[1, -1] - 4.0) < 0.3
    assert np.diff(traffic.speed[1]).min() / DT >= -HARDEST - 1e-9


def test_of_two_that_would_meet_on_a_junction_one_waits(crossroads: Town) -> None:
    layout = crossroads.layout
    meets = conflicts(layout)
    origin = {j: i for i, lane in enumerate(layout.lanes) for j in lane.successors}
    pairs = [(a, b) for a in meets for b in meets[a] if a < b and {a, b} <= set(origin)]
    assert len(pairs) > 5
    for a, b in pairs[:: max(len(pairs) // 5, 1)]:
        drivers = []
        for connector in (a, b):
            lane = origin[connector]
            start = max(lane_path(layout.lanes[lane]).length - 30.0, 0.0)
            drive = make_drive(layout, [lane, connector, layout.lanes[connector].successors[0]], start, 0.0, 1.0)
            drivers.append(Driver(BODY, drive, 0.0, 6.0))
        traffic = simulate(drivers, [], meets, 250)
        inside = []
        for row, driver in enumerate(drivers):
            begin, end, _ = driver.drive.junctions[0]
            s = np.concatenate([[0.0], np.cumsum((traffic.speed[row, 1:] + traffic.speed[row, :-1]) / 2 * DT)])
            inside.append((s + driver.front > begin + 0.5) & (s - driver.rear < end))
            assert s[-1] > end, "nobody waits for ever"
        assert not (inside[0] & inside[1]).any()


def test_drivers_let_people_cross(crossroads: Town) -> None:
    """Someone who is already on the crossing when a car comes is passed by neither before nor beside it."""
    layout, shown = crossroads.layout, 0
    places = {index: (street, which) for street in crossroads.streets for which, (_, index) in enumerate(street.crossings)}
    for number, lane in enumerate(layout.lanes):
        if lane.is_connector or not lane.successors:
            continue
        start = max(lane_path(lane).length - 45.0, 0.0)
        drive = make_drive(layout, [number, lane.successors[0]], start, 0.0, 1.0)
        kerb, _, index = drive.crossings[0]
        street, which = places[index]
        walk = across(street, which, 1, 1.5, 4.0, 10.0)
        assert walk.crossing is not None
        person = Walker(Body(PEDESTRIAN, (0.6, 0.6, 1.75), 0, 0.0), walk, walk.crossing[0], 1.2)
        traffic = simulate([Driver(BODY, drive, 0.0, 7.0)], [person], conflicts(layout), 200)
        crossing = person.start + np.arange(200) * DT * person.pace < walk.crossing[1]
        s = np.concatenate([[0.0], np.cumsum((traffic.speed[0, 1:] + traffic.speed[0, :-1]) / 2 * DT)])
        bumper = s + BODY.axle + BODY.size[0] / 2
        assert kerb > 20 and crossing.sum() > 40
        assert (bumper[crossing] <= kerb + 0.1).all()
        assert bumper[-1] > kerb, "afterwards the driver goes on"
        shown += 1
    assert shown >= 3


def approach(town: Town, signal: Signal, speed: float, before: float = 45.0) -> Driver:
    """A car on its way to a light, over its first connector."""
    lane = next(i for i, lane in enumerate(town.layout.lanes) if signal.connectors[0] in lane.successors)
    start = lane_path(town.layout.lanes[lane]).length - before
    lanes = [lane, signal.connectors[0], *town.layout.lanes[signal.connectors[0]].successors[:1]]
    return Driver(BODY, make_drive(town.layout, lanes, start, 0.0, 1.0), 0.0, speed)


def bumper_past_line(driver: Driver, speed: np.ndarray) -> np.ndarray:
    """Metres (T,) of the front bumper beyond the stop line of the first junction."""
    s = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * DT)])
    return s + driver.front - driver.drive.junctions[0][0] - (STOP - STOP_LINE)


def test_drivers_stop_at_red_and_go_on_green(crossroads: Town) -> None:
    signals, meets = crossroads.layout.signals, conflicts(crossroads.layout)
    assert len(signals) == 4
    for row, signal in enumerate(signals):
        driver, states = approach(crossroads, signal, 8.0), np.full((4, 300), GREEN, np.int8)
        states[row, :150] = RED
        traffic = simulate([driver], [], meets, 300, signals, states)
        past = bumper_past_line(driver, traffic.speed[0])
        assert -2.0 < past[149] < -0.4 and traffic.speed[0, 149] < 0.3, "it waits at the line"
        assert past[250] > 5.0 and np.diff(traffic.speed[0]).min() / DT > -4.0
        free = bumper_past_line(driver, simulate([driver], [], meets, 300, signals, np.full_like(states, GREEN)).speed[0])
        assert free[149] > 15.0


@pytest.mark.parametrize(("left", "goes"), [(12.0, True), (34.0, False)])
def test_amber_stops_who_can_stop_gently(crossroads: Town, left: float, goes: bool) -> None:
    """Metres left to the line when it turns amber, at 8 m/s; who goes is over the line before it is red."""
    signal = crossroads.layout.signals[0]
    driver, states = approach(crossroads, signal, 8.0, left + BODY.axle + BODY.size[0] / 2), np.full((4, 200), RED, np.int8)
    states[0, :AMBER_TICKS] = AMBER
    traffic = simulate([driver], [], conflicts(crossroads.layout), 200, crossroads.layout.signals, states)
    past = bumper_past_line(driver, traffic.speed[0])
    assert (past[AMBER_TICKS] > 0) == goes and (past[-1] > 0) == goes


def test_people_wait_until_traffic_along_their_street_has_red(crossroads: Town) -> None:
    signal = crossroads.layout.signals[0]
    street, which = next(
        (street, which)
        for street in crossroads.streets
        for which, (_, index) in enumerate(street.crossings)
        if index == signal.crossing
    )
    walk = across(street, which, 1, 1.5, 4.0, 10.0)
    assert walk.crossing is not None
    person, states = Walker(Body(PEDESTRIAN, (0.6, 0.6, 1.75), 0, 0.0), walk, 0.0, 1.2), np.full((4, 200), RED, np.int8)
    states[0, :100] = GREEN
    far = Driver(BODY, straight_drive(400, 4.0), 0.0, 0.0)
    traffic = simulate([far], [person], {}, 200, crossroads.layout.signals, states)
    begin = walk.at(np.array(walk.crossing[0]))[:2]
    assert np.hypot(*(traffic.position[1, 99] - begin)) < 1.0
    assert np.hypot(*(traffic.position[1, 150] - begin)) > 3.0


def test_nobody_in_a_recorded_scene_runs_a_red_light(played: TownScene) -> None:
    """Front bumpers of the ego and of all vehicles cross stop lines on green or amber alone."""
    signals, states = played.layout.signals, states_of(played, len(played.time))
    if not signals:
        pytest.skip("no four-way junction here")
    lines, size, seen = np.stack([signal.line for signal in signals]), VehicleParameters(), []
    axle = played.ego_pose
    fronts = [axle[:, :2, 3] + (size.rear_axle_to_center + size.length / 2) * axle[:, :2, 0]]
    for actor in played.actors:
        if actor.name.startswith("vehicle"):
            front = actor.position[:, :2] + actor.size[0] / 2 * np.stack([np.cos(actor.yaw), np.sin(actor.yaw)], -1)
            fronts.append(np.where(actor.valid[:, None], front, np.nan))
    for front in fronts:
        move, line, _ = crossed(front[:-1], front[1:], lines)
        seen += states[line, move].tolist()
    assert RED not in seen and len(seen) > 0


@pytest.mark.medium
def test_the_same_seed_is_the_same_scene_bit_for_bit() -> None:
    first, again = scene_of("val", 1), generate_scene("val", 1)
    assert first.token == again.token and np.array_equal(first.ego_pose, again.ego_pose)
    assert len(first.actors) == len(again.actors)
    for a, b in zip(first.actors, again.actors, strict=True):
        assert (a.instance, a.name, a.size, a.style) == (b.instance, b.name, b.size, b.style)
        assert np.array_equal(a.position, b.position) and np.array_equal(a.yaw, b.yaw) and np.array_equal(a.valid, b.valid)
    other = generate_scene("val", 1, seed=1)
    assert other.token != first.token and not np.array_equal(other.ego_pose, first.ego_pose)


@pytest.mark.parametrize(
    ("split", "count"),
    [
        pytest.param("val", 8, marks=pytest.mark.medium),
        pytest.param("test", 8, marks=pytest.mark.medium),
        pytest.param("train", 48, marks=pytest.mark.slow),
    ],
)
def test_only_attempts_that_fail_are_left_out(split: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a scene's first good attempt is what a search from the beginning finds."""
    known, tried = generate._SUCCEED[split], []

    def try_scene(*given: object) -> object:
        tried.append(found := attempt(*given))
        return found

    attempt = generate._try_scene
    monkeypatch.setattr(generate, "_try_scene", try_scene)
    monkeypatch.setattr(generate, "_SUCCEED", dict.fromkeys(generate._SUCCEED, ()))
    assert len(known) == count
    for index in range(count):
        tried.clear()
        generate_scene(split, index)
        assert len(tried) - 1 == known[index], f"{split} {index}"
    monkeypatch.undo()


def test_scenes_begin_with_the_attempt_that_is_known_to_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt, tried = generate._try_scene, []
    monkeypatch.setattr(generate, "_try_scene", lambda *given: tried.append(1) or attempt(*given))
    generate_scene("val", 5)
    assert len(tried) == 1 and generate._SUCCEED["val"][5] > 0
    for seed, looks, ticks in ((1, "plain", 201), (1, "wild", 201), (0, "plain", 601)):
        assert generate.attempts(scene_outline("val", 5, seed, looks), ticks)[0] == 0, "nothing is known of others"


def test_all_looks_begin_with_the_same_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wild scene is searched with what a plain one is: the attempts that fail are the same."""
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(generate, "_try_scene", lambda *given: asked.append(given))
    for looks in ("plain", "wild"):
        with pytest.raises(RuntimeError, match="no traffic"):
            generate_scene("val", 5, looks=looks)
    plain, wild = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    first = generate._SUCCEED["val"][5]
    assert first > 0 and len(plain) == len(wild) == generate._ATTEMPTS - first
    for one, other in zip(plain, wild, strict=True):
        assert one[0] is other[0] and np.array_equal(one[1], other[1]) and one[3:] == other[3:]
        assert one[2].bit_generator.state == other[2].bit_generator.state  # type: ignore[attr-defined]
