"""Replayed and reactive traffic: what agents do, and the array contract that every traffic model obeys."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.scenes.scene import Scene, Tracks
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.idm import IdmParameters, IdmTraffic
from dist4d_env.simulation.replay import ReplayTraffic
from dist4d_env.simulation.traffic import OpenLoopTraffic, TrafficModel, TrafficState, row_of

from .road import Agent, make_scene

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "idm.json"
CAR = VehicleParameters()
FAR = np.array([-500.0, -500.0, 0.0, 0.0, 0.0, 0.0, 0.0])
MODELS = (ReplayTraffic, IdmTraffic)
make_model = pytest.mark.parametrize("make", MODELS)


def standing(x: float, y: float = 0.0) -> np.ndarray:
    return np.array([x, y, 0.0, 0.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Street:
    """One episode in one scene of a model."""

    model: TrafficModel
    scene: Scene
    number: int
    row: int
    agents: AgentArrays
    state: TrafficState

    @classmethod
    def of(cls, model: TrafficModel, scene: Scene, row: int = 0) -> Street:
        number = model.add(scene)
        return cls(model, scene, number, row, *model.start(np.array([number]), np.array([row]), len(scene.tracks)))

    def step(self, ego: np.ndarray) -> Street:
        agents, state = self.model.step(np.array([self.number]), np.array([self.row]), ego[None], self.agents, self.state)
        return replace(self, row=self.row + 1, agents=agents, state=state)

    def drive(self, ego: np.ndarray, steps: int) -> list[Street]:
        """This and the next ``steps`` instants."""
        streets = [self]
        for _ in range(steps):
            streets.append(streets[-1].step(ego))
        return streets

    def anticipate(self, *rows: int) -> list[Boxes]:
        ahead = self.model.anticipate(
            np.array([self.number]), np.array([self.row]), self.agents, self.state, np.array([rows], int)
        )
        return [ahead[0, place].boxes(self.scene.tracks.category, self.scene.tracks.size) for place in range(len(rows))]

    @property
    def boxes(self) -> Boxes:
        return self.agents[0].boxes(self.scene.tracks.category, self.scene.tracks.size)

    @property
    def speed(self) -> np.ndarray:
        return self.state["speed"][0]


def replayed(*agents: Agent, duration: float = 12.0, row: int = 0) -> Street:
    return Street.of(ReplayTraffic(), make_scene(*agents, duration=duration), row)


def reactive(*agents: Agent, duration: float = 12.0) -> Street:
    return Street.of(IdmTraffic(CAR), make_scene(*agents, duration=duration))


def crossing(seed: int = 0, count: int = 18, rows: int = 101) -> Scene:
    """Vehicles and pedestrians on curved paths through each other, parked cars and cones; the first and the last are edited."""
    rng, time = np.random.default_rng(seed), np.arange(rows) * 0.1
    base = make_scene(duration=(rows - 1) * 0.1)
    kinds = ("car", "pedestrian", "truck", "car", "bicycle", "traffic_cone")
    category = np.array([CATEGORIES.index(kinds[index % len(kinds)]) for index in range(count)], np.int8)
    position, velocity = np.zeros((count, rows, 3)), np.zeros((count, rows, 2))
    valid, size = np.zeros((count, rows), bool), np.ones((count, 3))
    for index in range(count):
        pace = {"pedestrian": 1.5, "traffic_cone": 0.0}.get(kinds[index % len(kinds)], 8.0) * (index % 7 != 3)
        start, toward = rng.uniform(-25, 25, 2), rng.uniform(-15, 15, 2)
        heading = (toward - start) / np.hypot(*(toward - start))
        bend = 0.03 * pace * rng.uniform(-1, 1) * np.array([-heading[1], heading[0]])
        velocity[index] = pace * heading + bend * time[:, None]
        position[index, :, :2] = start + pace * heading * time[:, None] + bend * time[:, None] ** 2 / 2
        position[index, :, 2], size[index] = rng.uniform(0.5, 1.0), (0.6 + 0.5 * pace, 0.6 + 0.15 * pace, 1.6)
        valid[index, rng.integers(0, 30) * (index % 2) : rows - rng.integers(0, 30) * (index % 3 == 0)] = True
    yaw = deterministic.arctan2(velocity[..., 1], velocity[..., 0])
    names = tuple(f"agent-{index}" for index in range(count))
    recorded = Tracks(names, names, category, size, base.tracks.time, position, yaw, velocity, valid)
    changed = position.copy()
    changed[[0, -1], :, 1] += 1.0
    return replace(base, tracks=replace(recorded, position=changed), recorded_tracks=recorded)


def wandering(row: int, lane: float = 0.0) -> np.ndarray:
    """An ego that crosses the crossing, stops and goes on."""
    x = -20.0 + 5.0 * 0.1 * min(row, 40) + 5.0 * 0.1 * max(row - 90, 0)
    return np.array([x, lane, 0.0, 5.0 * (not 40 <= row < 90), 0.0, 0.0, 0.0])


def test_replay_shows_tracks_at_their_times() -> None:
    street = replayed(Agent(0, 3.5, vx=5.0), Agent(20, 0, vx=-2.0, yaw=np.pi, category="bus"), duration=4.0)
    tracks = street.scene.tracks
    for row, now in enumerate(street.drive(FAR, 40)):
        boxes = now.boxes
        assert boxes.token.tolist() == [0, 1]
        assert boxes.position[:, 0] == pytest.approx([0.5 * row, 20 - 0.2 * row])
        assert np.array_equal(boxes.category, tracks.category) and np.array_equal(boxes.velocity[0], [5.0, 0.0])


def test_replay_keeps_to_validity_windows() -> None:
    street = replayed(Agent(0, 0, first=1.0, last=2.0), Agent(9, 0, last=0.5), Agent(5, 0), duration=3.0)
    tokens = [now.boxes.token.tolist() for now in street.drive(FAR, 35)]
    assert tokens[:6] == [[1, 2]] * 6 and tokens[6:10] == [[2]] * 4
    assert tokens[10:21] == [[0, 2]] * 11 and tokens[21:31] == [[2]] * 10
    assert tokens[31:] == [[]] * 5, "past the log's end there is nobody"


def test_replay_anticipates_the_log() -> None:
    street = replayed(Agent(0, 0, vx=5.0), duration=3.0, row=3)
    ahead = street.anticipate(8, 13, 40)
    assert [b.position[0, 0] for b in ahead[:2]] == pytest.approx([4.0, 6.5]) and len(ahead[2]) == 0
    assert street.boxes.position[0, 0] == pytest.approx(1.5)


def test_replay_gives_a_whole_decision_at_once() -> None:
    """As its steps give it, for episodes that differ and for branches of one state."""
    model = ReplayTraffic()
    assert isinstance(model, OpenLoopTraffic) and not isinstance(IdmTraffic(), OpenLoopTraffic)
    for each in (crossing(0), crossing(1, count=7)):
        model.add(each)
    for numbers, rows in (([0, 1, 1], [3, 0, 98]), ([0, 0, 0], [4, 4, 4]), ([1], [96])):
        scenes, row = np.array(numbers), np.array(rows)
        agents, state = model.start(scenes, row, 18)
        decision = model.advance(scenes, row, 5, 18)
        for tick in range(5):
            agents, state = model.step(scenes, row + tick, np.zeros((len(scenes), 7)), agents, state)
            assert_same(agents, decision[:, tick])


def test_rows_are_the_nearest_ticks() -> None:
    assert [row_of(time) for time in (0.0, 0.149, 0.151, 12.7)] == [0, 1, 2, 127]


def test_unhindered_agents_drive_as_logged() -> None:
    agents = (Agent(0, 3.5, vx=8.0), Agent(30, 3.5, vx=6.0), Agent(10, -5, vy=1.2, category="pedestrian", length=0.6, width=0.6))
    pairs = zip(reactive(*agents, duration=6.0).drive(FAR, 60), replayed(*agents, duration=6.0).drive(FAR, 60), strict=True)
    for mine, logged in ((mine.boxes, logged.boxes) for mine, logged in pairs):
        assert np.array_equal(mine.token, logged.token)
        np.testing.assert_allclose(mine.position, logged.position, atol=1e-6)
        np.testing.assert_allclose(mine.velocity, logged.velocity, atol=1e-6)


def test_brakes_behind_the_stopped_ego_on_its_logged_path() -> None:
    """The log would drive through the ego; the agent stops behind it, gently, and stays on its line."""
    history = reactive(Agent(0, 0, vx=8.0)).drive(standing(50.0), 119)
    x = np.array([now.boxes.position[0, 0] for now in history])
    speed = np.array([now.speed[0] for now in history])
    rear_bumper = 50.0 + CAR.rear_axle_to_center - CAR.length / 2
    gap = rear_bumper - (x + 4.5 / 2)
    assert gap.min() > 0.3 and gap[-1] < 4.0
    assert speed[-1] < 0.1 and (np.diff(speed) / 0.1).min() > -4.0
    assert all(abs(now.boxes.position[0, 1]) < 1e-9 for now in history)


def test_drives_on_when_the_ego_goes_and_catches_up() -> None:
    street = reactive(Agent(0, 0, vx=6.0), duration=30.0).drive(standing(40.0), 80)[-1]
    delay = 6.0 * 8.0 - float(street.boxes.position[0, 0])
    street = street.drive(FAR, 170)[-1]
    behind = 6.0 * 25.0 - float(street.boxes.position[0, 0])
    assert delay > 10 and behind < 0.7 * delay
    assert street.speed[0] <= 1.2 * 6.0 + 1e-6


def test_delayed_agents_finish_their_path_and_are_gone() -> None:
    street = reactive(Agent(0, 0, vx=6.0, last=6.0), duration=6.0).drive(standing(25.0), 60)[-1]
    assert len(street.boxes) == 1, "held up when its log ends, it is still there"
    assert len(street.drive(FAR, 100)[-1].boxes) == 0


@pytest.mark.parametrize("parked", [0, 3])
def test_never_runs_into_its_leader(parked: int) -> None:
    """A column behind the stopped ego, beside parked cars, all with logs that would pile up."""
    column = [Agent(-15.0 * i, 0, vx=9.0 - i * 0.3) for i in range(5)]
    kerb = [Agent(10.0 + 8 * i, 2.3, width=1.8) for i in range(parked)]
    for now in reactive(*column, *kerb).drive(standing(60.0), 119):
        boxes = now.boxes
        first, second = np.triu_indices(len(boxes), 1)
        xy, size = boxes.position[:, :2], boxes.size[:, :2]
        hits = overlap(xy[first], boxes.yaw[first], size[first], xy[second], boxes.yaw[second], size[second])
        assert not hits.any(), (boxes.token[first[hits]], boxes.token[second[hits]])


def test_yields_to_what_steps_into_its_path() -> None:
    """A pedestrian on the road before a car: the log shows them through each other, and as logged they do not mind each other."""
    walker = Agent(45, -0.5, category="pedestrian", length=0.6, width=0.6)
    car = Agent(0, 0, vx=7.0)
    assert reactive(car, walker).drive(standing(200.0, 50.0), 100)[-1].boxes.position[0, 0] == pytest.approx(70.0)
    assert reactive(car, walker).drive(standing(38.0), 100)[-1].boxes.position[0, 0] + 4.5 / 2 < 38.0


def test_furniture_is_replayed() -> None:
    cone = Agent(30, 2, category="traffic_cone", length=0.4, width=0.4)
    history = reactive(cone, Agent(10, 6, vx=0.1), duration=4.0).drive(standing(10.0, 6.0), 40)
    assert all(now.boxes.token.tolist() == [0, 1] for now in history)
    assert history[-1].boxes.position[1, 0] == pytest.approx(10.4)


def test_reactive_traffic_anticipates() -> None:
    """On schedule with the log, held up at the present speed along the path, never beyond its end."""
    street = reactive(Agent(0, 0, vx=8.0))
    assert street.anticipate(5, 10)[1].position[0, 0] == pytest.approx(8.0)
    street = street.drive(standing(40.0), 70)[-1]
    x, v = float(street.boxes.position[0, 0]), float(street.speed[0])
    assert street.anticipate(75)[0].position[0, 0] == pytest.approx(x + 0.5 * v)
    assert len(street.anticipate(200_000)[0]) == 0, "at its path's end it is gone"


def test_reactive_traffic_as_it_was_recorded() -> None:
    """Positions along the paths, speeds and who is there, as the former implementation in numpy had them (m, m/s)."""
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 6
    for case in golden:
        street = Street.of(IdmTraffic(CAR), crossing(case["seed"]))
        for row in range(151):
            if row % 15 == 0:
                expected = case["instants"][row // 15]
                np.testing.assert_allclose(street.state["position"][0], expected["position"], atol=2e-6)
                np.testing.assert_allclose(street.speed, expected["speed"], atol=2e-6)
                assert street.boxes.token.tolist() == expected["token"]
            street = street.step(wandering(row, case["lane"]))


def test_parameters_make_traffic_more_patient() -> None:
    scene, ego = make_scene(Agent(0, 0, vx=8.0), duration=12.0), standing(50.0)
    usual, wide = (Street.of(IdmTraffic(CAR, p), scene).drive(ego, 119)[-1] for p in (None, IdmParameters(gap=6.0)))
    assert wide.boxes.position[0, 0] < usual.boxes.position[0, 0] - 3.0


def assert_same(one: AgentArrays, other: AgentArrays) -> None:
    assert np.array_equal(one.values, other.values) and np.array_equal(one.valid, other.valid)


def together(model: TrafficModel, scenes: list[Scene], width: int, ticks: int = 40) -> list[tuple[AgentArrays, AgentArrays]]:
    """Agents and what is anticipated (B, 2) tick by tick of two episodes in each scene, eight rows apart."""
    scene = np.repeat([model.add(each) for each in scenes], 2)
    row = np.tile([0, 8], len(scenes))
    agents, state = model.start(scene, row, width)
    history = []
    for tick in range(ticks):
        rows = (row + tick)[:, None] + np.array([3, 70])
        history.append((agents, model.anticipate(scene, row + tick, agents, state, rows)))
        ego = np.stack([wandering(at + tick) for at in row.tolist()])
        agents, state = model.step(scene, row + tick, ego, agents, state)
        assert agents.valid.shape == (len(scene), width) and all(part.shape[0] == len(scene) for part in state.values())
    return history


@make_model
def test_episodes_do_not_depend_on_each_other(make: Callable[[], TrafficModel]) -> None:
    """Bit for bit the same alone, beside others, in another order of scenes and with more room for tracks."""
    scenes = [crossing(0), crossing(1, count=5), make_scene(), crossing(2, count=11)]
    batch = together(make(), scenes, 25)
    for place, scene in enumerate(scenes):
        count = len(scene.tracks)
        for (agents, ahead), (own, own_ahead) in zip(batch, together(make(), [scene], count), strict=True):
            mine = slice(2 * place, 2 * place + 2)
            assert_same(agents[mine, :count], own)
            assert_same(ahead[mine, :, :count], own_ahead)
            assert not agents.valid[mine, count:].any() and not agents.values[:, mine, count:].any()


@make_model
def test_models_are_pure(make: Callable[[], TrafficModel]) -> None:
    """Nothing handed in is written to, the same twice gives the same, also after more scenes and from read-only views."""
    model = make()
    scene, row, ego = np.array([model.add(crossing(0))] * 2), np.array([2, 30]), np.stack([wandering(2), wandering(30)])
    agents, state = model.start(scene, row, 20)
    kept = pickle.dumps((scene, row, ego, agents, dict(state)))
    once, _ = model.step(scene, row, ego, agents, state)
    expected = model.anticipate(scene, row, agents, state, row[:, None] + 5)
    assert pickle.dumps((scene, row, ego, agents, dict(state))) == kept
    model.add(crossing(3, count=9))
    spread = AgentArrays(np.repeat(agents.values, 2, 2)[:, :, ::2], np.repeat(agents.valid, 2, 1)[:, ::2])
    for array in (scene, row, ego, spread.values, spread.valid, *state.values()):
        array.flags.writeable = False
    assert_same(model.step(scene, row, ego, spread, state)[0], once)
    assert_same(model.anticipate(scene, row, spread, state, row[:, None] + 5), expected)


@make_model
def test_a_state_grows_by_zeros(make: Callable[[], TrafficModel]) -> None:
    """An episode goes on the same when room is made for a scene with more tracks."""
    model = make()
    street = Street.of(model, crossing(0)).drive(wandering(0), 20)[-1]
    wide = replace(
        street,
        agents=street.agents.fitted(30),
        state={name: np.pad(part, ((0, 0), (0, 12))) for name, part in street.state.items()},
    )
    for _ in range(10):
        street, wide = street.step(wandering(street.row)), wide.step(wandering(street.row))
        assert_same(wide.agents[:, :18], street.agents)


@make_model
def test_agents_are_as_the_boxes_of_the_log(make: Callable[[], TrafficModel]) -> None:
    scene = crossing(0)
    boxes, tracks = Street.of(make(), scene, row=30).boxes, scene.tracks
    assert np.array_equal(boxes.token, np.flatnonzero(tracks.valid[:, 30])) and boxes.token.dtype == np.int64
    assert np.array_equal(boxes.size, tracks.size[boxes.token]) and boxes.category.dtype == np.int8
    np.testing.assert_allclose(boxes.position, tracks.position[boxes.token, 30], atol=1e-2)


@make_model
def test_an_empty_street(make: Callable[[], TrafficModel]) -> None:
    street = Street.of(make(), make_scene())
    assert len(street.step(FAR).boxes) == 0 and len(street.anticipate(3)[0]) == 0
    assert street.anticipate() == []
