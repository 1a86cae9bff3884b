"""The array contract of traffic models, and reactive traffic as it was recorded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.scenes.scene import Scene, Tracks
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.simulation.lanes import LaneTraffic
from dist4d_env.simulation.replay import ReplayTraffic
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.traffic import OpenLoopTraffic, TrafficModel, TrafficState

from .road import make_scene

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "idm.json"
make_model = pytest.mark.parametrize("make", [ReplayTraffic, IdmTraffic, LaneTraffic])


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

    @property
    def boxes(self) -> Boxes:
        return self.agents[0].boxes(self.scene.tracks.category, self.scene.tracks.size)


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


def test_reactive_traffic_as_it_was_recorded() -> None:
    """Positions along the paths, speeds and who is there, as the former implementation in numpy had them (m, m/s)."""
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 6
    for case in golden:
        street = Street.of(IdmTraffic(), crossing(case["seed"]))
        for row in range(151):
            if row % 15 == 0:
                expected = case["instants"][row // 15]
                np.testing.assert_allclose(street.state["position"][0], expected["position"], atol=2e-6)
                np.testing.assert_allclose(street.state["speed"][0], expected["speed"], atol=2e-6)
                assert street.boxes.token.tolist() == expected["token"]
            street = street.step(wandering(row, case["lane"]))


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
    street = Street.of(model, crossing(0))
    for row in range(20):
        street = street.step(wandering(row))
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


class Lying(IdmTraffic):
    """Reactive traffic whose answer to one method is spoilt."""

    def __init__(self, method: str, spoil: Callable[[AgentArrays], object]) -> None:
        super().__init__()
        self.method, self.spoil = method, spoil

    def start(self, *given):  # type: ignore[no-untyped-def]
        agents, state = super().start(*given)
        return (self.spoil(agents) if self.method == "start" else agents), state

    def step(self, *given):  # type: ignore[no-untyped-def]
        agents, state = super().step(*given)
        if self.method == "bare step":
            return agents
        return (self.spoil(agents) if self.method == "step" else agents), state

    def anticipate(self, *given):  # type: ignore[no-untyped-def]
        agents = super().anticipate(*given)
        return self.spoil(agents) if self.method == "anticipate" else agents


class LyingReplay(ReplayTraffic):
    def advance(self, *given):  # type: ignore[no-untyped-def]
        return not_finite(super().advance(*given))


def not_finite(agents: AgentArrays) -> AgentArrays:
    values = agents.values.copy()
    values[3, ..., 5] = np.nan
    return AgentArrays(values, agents.valid)


@pytest.mark.parametrize("method", ["start", "step", "anticipate"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (not_finite, r"gave a value that is not finite: values\[3, 0"),
        (
            lambda agents: AgentArrays(agents.values[..., :-1], agents.valid[..., :-1]),
            r"gave values \(6, 1.*, 17\) and valid .*, 18\)",
        ),
        (lambda agents: AgentArrays(agents.values[:4], agents.valid), r"gave values \(4, 1"),
        (lambda agents: AgentArrays(agents.values, agents.valid[..., 0]), "valid"),
        (lambda agents: AgentArrays(agents.values, agents.valid * 0.5), "valid of float64"),
        (lambda agents: agents.values, "gave ndarray, not simulation.agents.AgentArrays"),
        (lambda agents: None, "gave NoneType"),
    ],
)
def test_a_model_that_lies_is_named(method: str, spoil: Callable[[AgentArrays], object], said: str) -> None:
    with pytest.raises(ConfigError, match=f"traffic model Lying .*{said}") as caught:
        drive_a_little(Lying(method, spoil))
    assert len(str(caught.value)) <= 300


def test_answers_without_a_state_and_whole_decisions_are_checked() -> None:
    with pytest.raises(ConfigError, match="traffic model Lying gave AgentArrays, not its agents and its state"):
        drive_a_little(Lying("bare step", lambda agents: agents))
    with pytest.raises(ConfigError, match=r"traffic model LyingReplay gave a value that is not finite: values\[3, 0, 5\]"):
        drive_a_little(LyingReplay())
    drive_a_little(Lying("none", lambda agents: agents))


def drive_a_little(model: TrafficModel) -> None:
    simulator = Simulator(SimulatorConfig(traffic=model), [crossing()])
    state = simulator.reset([0], [0.0])
    state, _ = simulator.step(state, np.zeros((1, 2)))
    simulator.scenes_at(state)
