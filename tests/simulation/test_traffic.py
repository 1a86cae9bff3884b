"""Replayed and reactive traffic, models from elsewhere, and several kinds beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401  (registers the environment)
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.scenes.lights import AMBER, GREEN, NO_LIGHTS, RED, TrafficLights
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.simulation.replay import ReplayTraffic
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.traffic import row_of
from tests.envs.worlds import assert_same

from .road import Agent, light_at, make_scene

CAR = VehicleParameters()
FAR = np.array([-500.0, -500.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def standing(x: float, y: float = 0.0) -> np.ndarray:
    return np.array([x, y, 0.0, 0.0, 0.0, 0.0, 0.0])


@dataclass
class Instant:
    """One episode at a row of the log: the agents as boxes and as arrays, the model's own state."""

    row: int
    boxes: Boxes
    agents: AgentArrays
    state: dict[str, np.ndarray]


class Playing:
    """One episode of one scene under a traffic model, tick by tick."""

    def __init__(self, model, *agents: Agent, duration: float = 12.0, lights: TrafficLights = NO_LIGHTS) -> None:
        self.model, self.scene = model, make_scene(*agents, duration=duration, lights=lights)
        self.number = np.array([model.add(self.scene)])

    def start(self, row: int = 0) -> Instant:
        return self._instant(row, *self.model.start(self.number, np.array([row]), len(self.scene.tracks)))

    def step(self, now: Instant, ego: np.ndarray) -> Instant:
        after = self.model.step(self.number, np.array([now.row]), ego[None], now.agents, now.state)
        return self._instant(now.row + 1, *after)

    def play(self, ego: np.ndarray, steps: int, now: Instant | None = None) -> list[Instant]:
        history = [now or self.start()]
        for _ in range(steps):
            history.append(self.step(history[-1], ego))
        return history

    def anticipate(self, now: Instant, rows: list[int]) -> list[Boxes]:
        expected = self.model.anticipate(self.number, np.array([now.row]), now.agents, now.state, np.array([rows]))
        return [self._boxes(expected[0, place]) for place in range(len(rows))]

    def _instant(self, row: int, agents: AgentArrays, state) -> Instant:
        return Instant(row, self._boxes(agents[0]), agents, dict(state))

    def _boxes(self, agents: AgentArrays) -> Boxes:
        return agents.boxes(self.scene.tracks.category, self.scene.tracks.size)


def replay(*agents: Agent, duration: float = 12.0) -> Playing:
    return Playing(ReplayTraffic(), *agents, duration=duration)


def idm(*agents: Agent, duration: float = 12.0, lights: TrafficLights = NO_LIGHTS) -> Playing:
    return Playing(IdmTraffic(CAR), *agents, duration=duration, lights=lights)


def test_replay_shows_tracks_at_their_times():
    playing = replay(Agent(0, 3.5, vx=5.0), Agent(20, 0, vx=-2.0, yaw=np.pi, category="bus"), duration=4.0)
    for row, now in enumerate(playing.play(FAR, 40)):
        assert now.boxes.token.tolist() == [0, 1] and now.state == {}
        assert now.boxes.position[:, 0] == pytest.approx([0.5 * row, 20 - 0.2 * row])
        assert np.array_equal(now.boxes.category, playing.scene.tracks.category)
        assert np.array_equal(now.boxes.velocity[0], [5.0, 0.0])


def test_replay_keeps_to_validity_windows():
    playing = replay(Agent(0, 0, first=1.0, last=2.0), Agent(9, 0, last=0.5), Agent(5, 0), duration=3.0)
    seen = [now.boxes.token.tolist() for now in playing.play(FAR, 35)]
    assert seen[:6] == [[1, 2]] * 6 and seen[6:10] == [[2]] * 4
    assert seen[10:21] == [[0, 2]] * 11 and seen[21:31] == [[2]] * 10
    assert seen[31:] == [[]] * 5, "past the log's end there is nobody"


def test_replay_anticipates_the_log():
    playing = replay(Agent(0, 0, vx=5.0), duration=3.0)
    now = playing.start(3)
    ahead = playing.anticipate(now, [8, 13, 40])
    assert [boxes.position[0, 0] for boxes in ahead[:2]] == pytest.approx([4.0, 6.5]) and len(ahead[2]) == 0
    assert now.boxes.position[0, 0] == pytest.approx(1.5)


def test_rows_are_the_nearest_ticks():
    assert [row_of(time) for time in (0.0, 0.149, 0.151, 12.7)] == [0, 1, 2, 127]


def test_unhindered_agents_drive_as_logged():
    agents = (Agent(0, 3.5, vx=8.0), Agent(30, 3.5, vx=6.0), Agent(10, -5, vy=1.2, category="pedestrian", length=0.6, width=0.6))
    reactive, replayed = idm(*agents, duration=6.0).play(FAR, 60), replay(*agents, duration=6.0).play(FAR, 60)
    for mine, logged in zip(reactive, replayed, strict=True):
        assert np.array_equal(mine.boxes.token, logged.boxes.token)
        np.testing.assert_allclose(mine.boxes.position, logged.boxes.position, atol=1e-6)
        np.testing.assert_allclose(mine.boxes.velocity, logged.boxes.velocity, atol=1e-6)


def test_brakes_behind_the_stopped_ego_on_its_logged_path():
    """The log would drive through the ego; the agent stops behind it, gently, and stays on its line."""
    history = idm(Agent(0, 0, vx=8.0)).play(standing(50.0), 119)
    x = np.array([now.boxes.position[0, 0] for now in history])
    speed = np.array([now.state["speed"][0, 0] for now in history])
    rear_bumper = 50.0 + CAR.rear_axle_to_center - CAR.length / 2
    gap = rear_bumper - (x + 4.5 / 2)
    assert gap.min() > 0.3 and gap[-1] < 4.0
    assert speed[-1] < 0.1 and (np.diff(speed) / 0.1).min() > -4.0
    assert all(abs(now.boxes.position[0, 1]) < 1e-9 for now in history)


def front_of(history: list[Instant]) -> np.ndarray:
    """Metres (T,) along x of the first agent's front bumper."""
    return np.array([now.boxes.position[0, 0] for now in history]) + 4.5 / 2


def test_a_delayed_agent_stops_at_red_and_goes_on_green():
    """Held up by the ego at 20 m for 4 s, it comes to the light at 60 m, which it had passed on time, when it is red."""
    states = np.repeat([GREEN, RED, GREEN], [50, 150, 200])
    playing = idm(Agent(0, 0, vx=8.0), duration=40.0, lights=light_at(60.0, states))
    held = playing.play(standing(20.0), 40)[-1]
    waits = playing.play(FAR, 155, held)
    front, speed = front_of(waits), np.array([now.state["speed"][0, 0] for now in waits])
    assert 57.0 < front[-1] < 59.9 and speed[-1] < 0.1
    assert np.diff(speed).min() / 0.1 > -4.0
    assert front_of(playing.play(FAR, 60, waits[-1]))[-1] > 75.0, "on green it goes on"
    free = idm(Agent(0, 0, vx=8.0), duration=40.0)
    assert front_of(free.play(FAR, 155, free.play(standing(20.0), 40)[-1]))[-1] > 100.0


@pytest.mark.parametrize(("left", "goes"), [(30.0, False), (4.0, True)])
def test_amber_lets_through_who_could_not_stop_gently(left, goes):
    playing = idm(Agent(0, 0, vx=8.0), duration=40.0, lights=light_at(80.0, np.repeat([AMBER, RED], [120, 281])))
    history = playing.play(standing(20.0), 30)
    now = history[-1]
    now.state.update(position=np.array([[80.0 - left - 2.25]]), speed=np.array([[7.0]]))
    assert (front_of(playing.play(FAR, 80, now))[-1] > 80.0) == goes


def test_on_schedule_the_log_says_when_one_goes():
    """A recorded agent that passes a red light, as some do, does so again; one on foot knows no lights for cars."""
    red = light_at(20.0, np.full(121, RED))
    agents = (Agent(0, 0, vx=8.0), Agent(0, 1, vx=1.5, category="pedestrian", length=0.6, width=0.6))
    for mine, logged in zip(idm(*agents, lights=red).play(FAR, 119), idm(*agents).play(FAR, 119), strict=True):
        assert np.array_equal(mine.boxes.position, logged.boxes.position)
    late = idm(agents[1], lights=light_at(5.0, np.full(121, RED)))
    assert front_of(late.play(FAR, 90, late.play(standing(3.0), 20)[-1]))[-1] > 8.0


def test_lights_of_scenes_beside_each_other_are_their_own():
    """Episodes of three scenes, two of them with lights, in one batch as each alone."""
    model, parts = IdmTraffic(CAR), []
    kinds = (light_at(38.0, np.full(121, RED)), NO_LIGHTS, light_at(30.0, np.full(121, RED)))
    for lights in kinds:
        alone = idm(Agent(0, 0, vx=8.0), lights=lights)
        parts.append(alone.play(FAR, 60, alone.play(standing(20.0), 40)[-1]))
        model.add(alone.scene)
    agents, state = model.start(np.arange(3), np.zeros(3, int), 1)
    for row in range(100):
        ego = np.repeat((standing(20.0) if row < 40 else FAR)[None], 3, 0)
        agents, state = model.step(np.arange(3), np.full(3, row), ego, agents, state)
    for index, history in enumerate(parts):
        assert np.array_equal(state["position"][index], history[-1].state["position"][0])
    assert state["position"][1, 0] > 45 > 38 - 2.25 > state["position"][0, 0] > 30 - 2.25 > state["position"][2, 0] > 20


def test_drives_on_when_the_ego_goes_and_catches_up():
    playing = idm(Agent(0, 0, vx=6.0), duration=30.0)
    held = playing.play(standing(40.0), 80)[-1]
    delay = 6.0 * 8.0 - held.boxes.position[0, 0]
    after = playing.play(FAR, 170, held)[-1]
    behind = 6.0 * 25.0 - after.boxes.position[0, 0]
    assert delay > 10 and behind < 0.7 * delay
    assert after.state["speed"][0, 0] <= 1.2 * 6.0 + 1e-6


def test_delayed_agents_finish_their_path_and_are_gone():
    playing = idm(Agent(0, 0, vx=6.0, last=6.0), duration=6.0)
    held = playing.play(standing(25.0), 60)[-1]
    assert len(held.boxes) == 1, "held up when its log ends, it is still there"
    assert len(playing.play(FAR, 100, held)[-1].boxes) == 0


@pytest.mark.parametrize("parked", [0, 3])
def test_never_runs_into_its_leader(parked):
    """A column behind the stopped ego, beside parked cars, all with logs that would pile up."""
    column = [Agent(-15.0 * i, 0, vx=9.0 - i * 0.3) for i in range(5)]
    kerb = [Agent(10.0 + 8 * i, 2.3, width=1.8) for i in range(parked)]
    for now in idm(*column, *kerb).play(standing(60.0), 119):
        boxes = now.boxes
        first, second = np.triu_indices(len(boxes), 1)
        rectangles = [(boxes.position[side, :2], boxes.yaw[side], boxes.size[side, :2]) for side in (first, second)]
        hits = overlap(*rectangles[0], *rectangles[1])
        assert not hits.any(), (boxes.token[first[hits]], boxes.token[second[hits]])


def test_yields_to_what_steps_into_its_path():
    """A pedestrian on the road before a car: the car stops short of it; without the car's log it would not be there."""
    walker, late = Agent(45, -0.5, category="pedestrian", length=0.6, width=0.6), Agent(0, 0, vx=7.0)
    # The log of both shows them through each other, which a log cannot: as logged they do not disturb each other.
    assert idm(late, walker).play(standing(200.0, 50.0), 100)[-1].boxes.position[0, 0] == pytest.approx(70.0)
    assert idm(late, walker).play(standing(38.0), 100)[-1].boxes.position[0, 0] + 4.5 / 2 < 38.0


def test_furniture_is_replayed():
    cone = Agent(30, 2, category="traffic_cone", length=0.4, width=0.4)
    history = idm(cone, Agent(10, 6, vx=0.1), duration=4.0).play(standing(10.0, 6.0), 40)
    assert all(now.boxes.token.tolist() == [0, 1] for now in history)
    assert history[-1].boxes.position[1, 0] == pytest.approx(10.4)


def test_reactive_traffic_is_pure():
    playing = idm(Agent(0, 0, vx=8.0), Agent(-12, 0, vx=8.0))
    start = playing.start()
    kept = start.agents.values.copy(), start.state["position"].copy(), start.state["speed"].copy()
    once, again = playing.step(start, standing(30)), playing.step(start, standing(30))
    for before, now in zip(kept, (start.agents.values, start.state["position"], start.state["speed"]), strict=True):
        assert np.array_equal(before, now)
    assert np.array_equal(once.agents.values, again.agents.values)
    assert all(np.array_equal(once.state[name], again.state[name]) for name in once.state)


def test_reactive_traffic_anticipates():
    """On schedule with the log, held up at the present speed along the path, never beyond its end."""
    playing = idm(Agent(0, 0, vx=8.0))
    assert playing.anticipate(playing.start(), [5, 10])[1].position[0, 0] == pytest.approx(8.0)
    held = playing.play(standing(40.0), 70)[-1]
    expected = held.boxes.position[0, 0] + 0.5 * held.state["speed"][0, 0]
    assert playing.anticipate(held, [75])[0].position[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("playing", [replay, idm])
def test_an_empty_street(playing):
    history = playing().play(FAR, 2)
    assert all(len(now.boxes) == 0 for now in history)


@dataclass
class Pushed:
    """Traffic from elsewhere with state of its own: every track stands beside where the ego was, moved on by what it has counted.

    Compared by value and so not hashable, as any dataclass may be.
    """

    step_length: float = 1.0
    scenes: list[Scene] = field(default_factory=list)

    def add(self, scene: Scene) -> int:
        self.scenes.append(scene)
        return len(self.scenes) - 1

    def start(self, scene, row, tracks):
        state = {"count": np.zeros(len(scene)), "track_count": np.zeros((len(scene), tracks))}
        return self._agents(scene, np.zeros((len(scene), 7)), state["count"], tracks), state

    def step(self, scene, row, ego, agents, state):
        state = {name: array + 1 for name, array in state.items()}
        return self._agents(scene, ego, state["count"], agents.valid.shape[1]), state

    def anticipate(self, scene, row, agents, state, rows):
        still = np.zeros(rows.shape[1], int)
        return agents[:, None][:, still]

    def _agents(self, scene, ego, count, tracks):
        agents = AgentArrays.empty(len(scene), tracks)
        for index, number in enumerate(scene.tolist()):
            there = len(self.scenes[number].tracks)
            agents.valid[index, :there] = True
            agents.values[0, index, :there] = ego[index, 0] + self.step_length * count[index]
            agents.values[1, index, :there] = 6.0
        return agents


STREET = make_scene(Agent(18, 0, vx=6.0), Agent(-12, 0, vx=9.0), Agent(40, 3.5, vx=4.0), duration=8.0)


def test_models_of_every_kind_beside_each_other():
    """Also two objects of one class, each with a state of its own: every episode as if it were alone."""
    kinds = ("replay", "idm", "tests.simulation.test_traffic:Pushed", Pushed(2.0), Pushed(3.0), Pushed)
    together = Simulator()
    numbers = [together.add(STREET, kind) for kind in kinds]
    state = together.reset(numbers * 2, [0.0, 0.5] * len(kinds))
    alone = []
    for number, start in zip(numbers * 2, state.time.tolist(), strict=True):
        fresh = Pushed(kinds[number].step_length) if isinstance(kinds[number], Pushed) else kinds[number]
        simulator = Simulator(SimulatorConfig(traffic=fresh), [STREET])
        alone.append((simulator, simulator.reset([0], [start])))
    for _ in range(6):
        state, _ = together.step(state, np.tile([0.3, 0.05], (len(state), 1)))
        for index, (simulator, one) in enumerate(alone):
            after, _ = simulator.step(one, [[0.3, 0.05]])
            alone[index] = simulator, after
            assert np.array_equal(state.ego[index], after.ego[0])
            assert np.array_equal(state.agents.values[:, index], after.agents.values[:, 0])
            assert np.array_equal(state.agents.valid[index], after.agents.valid[0])


SETTINGS = {"scenes": "val", "world": "none", "observation": ("ego", "agents"), "horizon": 2.0, "termination": ()}
MODELS = pytest.mark.parametrize(
    "traffic", ["idm", "tests.simulation.test_traffic:Pushed", Pushed(2.0)], ids=["idm", "path", "object"]
)
GO = np.array([0.3, 0.05], np.float32)


@MODELS
def test_environments_take_any_model(town_dataroot, traffic):
    """The single one, and each row of a vector one as it is alone; the state of the traffic goes with a snapshot."""
    alone = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), traffic=traffic, **SETTINGS)
    together = gym.make_vec(
        "DiST4D-nuScenes-v0", 2, vectorization_mode="vector_entry_point", dataroot=str(town_dataroot), traffic=traffic, **SETTINGS
    )
    observations, _ = together.reset(seed=[4, 5])
    alone.reset(seed=5)
    row = together.unwrapped.envs[1]
    for step in range(4):
        if step == 2:
            kept, kept_row = alone.unwrapped.snapshot(), row.snapshot()
        observation, *_ = alone.step(GO)
        observations, *_ = together.step(np.stack([GO, GO]))
        assert_same({key: value[1] for key, value in observations.items()}, observation)
    for snapshot in (kept, kept_row):  # either goes on in either
        alone.unwrapped.restore(snapshot)
        row.restore(snapshot)
        for _ in range(2):
            again, *_ = alone.step(GO)
            observations, *_ = together.step(np.stack([GO, GO]))
        assert_same(again, observation)
        assert_same({key: value[1] for key, value in observations.items()}, observation)
    trace = alone.unwrapped.trace()
    assert len(trace.time) == 21 and np.isfinite(trace.position[trace.valid]).all()
    alone.close()
    together.close()


def test_scenarios_bring_models_of_their_own(town_dataroot):
    """Beside episodes with the traffic of the environment, which stay as they are."""
    keywords = {"dataroot": str(town_dataroot), **SETTINGS}
    together = gym.make_vec("DiST4D-nuScenes-v0", 2, vectorization_mode="vector_entry_point", **keywords)
    alone = [gym.make("DiST4D-nuScenes-v0", **keywords) for _ in range(2)]
    together.reset(seed=[1, 2])
    for seed, env in enumerate(alone, 1):
        env.reset(seed=seed)
    scenario = Scenario(alone[0].unwrapped.scene_names[0], 0.5, traffic="tests.simulation.test_traffic:Pushed")
    together.reset(seed=[None, 9], options={"scenario": scenario, "reset_mask": np.array([False, True])})
    alone[1].reset(seed=9, options={"scenario": scenario})
    for _ in range(3):
        observations, *_ = together.step(np.stack([GO, GO]))
        for row, env in enumerate(alone):
            observation, *_ = env.step(GO)
            assert_same({key: value[row] for key, value in observations.items()}, observation)
    for env in (*alone, together):
        env.close()


class Incomplete:
    def add(self, scene: Scene) -> int:
        return 0


@pytest.mark.parametrize(
    "traffic, message",
    [
        ("jam", "traffic 'jam' is unknown.*'idm'"),
        ("idn", "did you mean 'idm'"),
        ("no.such.module:Traffic", "cannot be imported"),
        (Incomplete, "has no start, step, anticipate"),
        (3, "neither a name nor an object"),
    ],
)
def test_what_is_no_traffic_is_refused_by_name(traffic, message):
    with pytest.raises(ConfigError, match=message):
        Simulator(SimulatorConfig(traffic=traffic), [STREET])
