"""Traffic that leaves its logged paths: rules on made roads, and what must hold of it in towns and on real roads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from shapely.geometry import box

from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, rectangle_corners
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.scenes.lights import GREEN, NO_LIGHTS, RED, TrafficLights
from dist4d_env.scenes.maps import Lane, SceneMap, make_map
from dist4d_env.scenes.scene import TICK, Scene, Tracks
from dist4d_env.simulation.lane_kernels import STATE
from dist4d_env.simulation.lanes import LaneParameters, LaneTraffic
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

from .road import EAST, WEST, Agent, lane, light_at, make_scene, road_map

FAR = np.array([-900.0, -900.0, 0.0, 0.0, 0.0, 0.0, 0.0])
PERSON = {"category": "pedestrian", "length": 0.6, "width": 0.6}
MOTOR = np.array([name in (*VEHICLES, "motorcycle") for name in CATEGORIES])


@dataclass(frozen=True)
class Drive:
    """One episode: position (T, M, 3), yaw, valid (T, M) and, by name, the model's state (T, M)."""

    scene: Scene
    position: np.ndarray
    yaw: np.ndarray
    valid: np.ndarray
    state: dict[str, np.ndarray]

    @property
    def drivers(self) -> np.ndarray:
        """(M,) who drives by rules."""
        return self.state["change_length"][0] > 0

    @property
    def front(self) -> np.ndarray:
        """(T,) metres along x of the first agent's front."""
        return self.position[:, 0, 0] + self.scene.tracks.size[0, 0] / 2


def drive(scene: Scene, egos: np.ndarray | Sequence[np.ndarray] = FAR, ticks: int = 119, row: int = 0) -> Drive:
    """Plays lane traffic beside an ego that stands (7,) or is where it is tick by tick."""
    model = LaneTraffic()
    number, count = np.array([model.add(scene)]), len(scene.tracks)
    agents, state = model.start(number, np.array([row]), count)
    history = [(agents, state)]
    for tick in range(ticks):
        ego = egos if isinstance(egos, np.ndarray) and egos.ndim == 1 else egos[tick]
        history.append(model.step(number, np.array([row + tick]), ego[None], *history[-1]))
    own = {name: np.array([state[name][0] for _, state in history]) for name in STATE}
    return Drive(
        scene,
        np.array([agents.position[0] for agents, _ in history]),
        np.array([agents.yaw[0] for agents, _ in history]),
        np.array([agents.valid[0] for agents, _ in history]),
        own,
    )


def standing(x: float, y: float = 0.0) -> np.ndarray:
    return np.array([x, y, 0.0, 0.0, 0.0, 0.0, 0.0])


def road(*agents: Agent, lights: TrafficLights = NO_LIGHTS, scene_map: SceneMap | None = None, duration: float = 12.0) -> Scene:
    return make_scene(*agents, duration=duration, lights=lights, scene_map=scene_map or road_map())


def touching(driven: Drive) -> set[tuple[int, int]]:
    """Pairs of motor vehicles, one of which drives by rules, that overlap at some tick."""
    tracks, found = driven.scene.tracks, set()
    size, motor = tracks.size[:, :2], MOTOR[tracks.category]
    for position, yaw, valid in zip(driven.position, driven.yaw, driven.valid, strict=True):
        there = np.flatnonzero(valid & motor)
        first, second = (there[index] for index in np.triu_indices(len(there), 1))
        hits = overlap(position[first, :2], yaw[first], size[first], position[second, :2], yaw[second], size[second])
        hits &= driven.drivers[first] | driven.drivers[second]
        found |= set(zip(first[hits].tolist(), second[hits].tolist(), strict=True))
    return found


def test_stops_behind_the_ego_gently_and_drives_on():
    driven = drive(road(Agent(0, 0, vx=8.0), scene_map=narrow()), standing(50.0))
    rear = 50.0 + 1.4 - 4.1 / 2
    assert 0.5 < rear - driven.front[-1] < 4.0 and driven.state["speed"][-1, 0] < 0.2
    assert np.diff(driven.state["speed"][:, 0]).min() / TICK > -4.0
    leaves = [standing(50.0)] * 80 + [FAR] * 80
    assert drive(road(Agent(0, 0, vx=8.0), scene_map=narrow()), leaves, 160).front[-1] > 70.0


def narrow() -> SceneMap:
    """One lane along x."""
    return paved(1.75, lane("A", 0.0))


def test_waits_at_red_and_goes_on_green():
    driven = drive(
        road(Agent(0, 0, vx=8.0), lights=light_at(60.0, np.repeat([RED, GREEN], [150, 200])), duration=30.0), ticks=250
    )
    assert 57.5 < driven.front[149] < 60.0 and driven.state["speed"][149, 0] < 0.2
    assert driven.front[-1] > 80.0


@pytest.mark.parametrize("crossing", [True, False])
def test_lets_people_pass(crossing):
    """Who walks across the road is let by, on a crossing before it; the log of the car drives through."""
    layers = {"ped_crossing": [box(38, -1.75, 42, 1.75)] if crossing else [], "drivable_area": [box(WEST, -1.75, EAST, 1.75)]}
    scene = road(Agent(0, 0, vx=8.0), Agent(40, -6.0, vy=1.2, **PERSON), scene_map=make_map("road", layers, [lane("A", 0.0)]))
    driven = drive(scene)
    on_road = np.abs(driven.position[:, 1, 1]) < 1.3
    assert driven.front[on_road].max() < (38.0 if crossing else 39.7) and driven.front[-1] > 45.0
    assert (drive(road(Agent(0, 0, vx=8.0), scene_map=narrow())).front[on_road] > 39.7).any()


def test_changes_lanes_smoothly_past_who_is_slow_and_comes_back():
    slow = Agent(35, 0, vx=3.0, category="bicycle", length=1.8, width=0.6)
    driven = drive(road(Agent(0, 0, vx=10.0), slow, duration=20.0), ticks=199)
    y, x = driven.position[:, 0, 1], driven.position[:, 0, 0]
    assert y.max() == pytest.approx(3.5, abs=0.05) and abs(y[-1]) < 0.05, "over to the lane beside and back"
    assert x[-1] > driven.position[-1, 1, 0] + 20.0 and driven.state["speed"][:, 0].min() > 6.0
    speed = driven.state["speed"][1:-1, 0]
    turn = np.gradient(driven.yaw[:, 0], TICK)[1:-1]
    assert np.abs(turn * speed).max() < 3.0, "m/s^2 sideways"
    course = np.arctan2(np.gradient(y), np.gradient(x))
    np.testing.assert_allclose(driven.yaw[1:-1, 0], course[1:-1], atol=0.02, err_msg="it drives where it faces")
    assert np.abs(np.diff(y, 2)).max() < 0.02, "no jump sideways"
    assert driven.position[np.abs(y - 3.5) < 0.5, 0, 0].size > 10


@pytest.mark.parametrize("beside", [-3.0, 2.0])
def test_does_not_cut_in(beside):
    """With a faster one right behind or beside in the other lane it stays behind the slow one until that is by."""
    agents = (Agent(0, 0, vx=9.0), Agent(20, 0, vx=4.0, category="bicycle"), Agent(beside, 3.5, vx=10.0))
    driven = drive(road(*agents, duration=20.0), ticks=150)
    assert not touching(driven)
    changes = np.flatnonzero(driven.state["lane"][:, 0])
    assert len(changes) and driven.position[changes[0], 2, 0] > driven.position[changes[0], 0, 0] + 4.5


def paved(north: float, *lanes: Lane) -> SceneMap:
    """Lanes on ground from y = -1.75 up to ``north``."""
    return make_map("road", {"drivable_area": [box(WEST, -1.75, EAST, north)]}, lanes)


ONCOMING, UNPAVED = paved(5.25, lane("A", 0.0), lane("C", 3.5, np.pi)), paved(1.75, lane("A", 0.0), lane("B", 3.5))


@pytest.mark.parametrize("scene_map", [paved(1.75, lane("A", 0.0)), ONCOMING, UNPAVED], ids=["one lane", "oncoming", "unpaved"])
def test_there_is_no_change_into_oncoming_traffic_or_off_the_road(scene_map):
    driven = drive(road(Agent(0, 0, vx=10.0), Agent(25, 0, vx=3.0, category="bicycle"), scene_map=scene_map))
    assert np.abs(driven.position[:, 0, 1]).max() < 1e-6 and not driven.state["lane"].any()


def test_is_back_before_the_lane_beside_ends():
    short = replace(lane("B", 3.5), centerline=lane("B", 3.5).centerline[:210])  # up to x = 159
    scene_map = make_map(
        "road", {"drivable_area": [box(WEST, -1.75, EAST, 1.75), box(WEST, 0, 160, 5.25)]}, [lane("A", 0.0), short]
    )
    slow = [Agent(30.0 + 14 * place, 0, vx=3.5, category="bicycle") for place in range(3)]
    driven = drive(road(Agent(0, 0, vx=10.0), *slow, scene_map=scene_map, duration=30.0), ticks=290)
    x, y = driven.position[:, 0, :2].T
    assert y.max() > 3.0 and np.abs(y[x > 160]).max(initial=0.0) < 0.3 and np.abs(np.diff(y)).max() < 0.25


def test_of_two_whose_ways_cross_the_first_goes_first():
    """Logs that run through each other: nobody is touched, the later one waits and both get on."""
    agents = (Agent(0, 0, vx=8.0), Agent(42, -36, vy=8.0, yaw=np.pi / 2))
    driven = drive(make_scene(*agents, duration=12.0))
    assert touching(drive_log(driven.scene)) and not touching(driven)
    across = np.argmax(driven.position[:, 1, 1] > 3.0), np.argmax(driven.position[:, 0, 0] > 47.0)
    assert 0 < across[0] < across[1], "the second is nearer to where they meet"
    assert driven.state["speed"][:, 0].min() < 5.0 and driven.state["speed"][:, 1].min() > 6.0


def drive_log(scene: Scene) -> Drive:
    """The log, as if all drove."""
    tracks = scene.tracks
    everybody = {"change_length": np.ones((1, len(tracks)))}
    return Drive(scene, tracks.position.swapaxes(0, 1), tracks.yaw.T, tracks.valid.T, everybody)


def test_where_ways_merge_the_farther_one_follows():
    time = np.arange(121) * TICK
    scene = make_scene(Agent(0, 0, vx=8.0), Agent(-4, 12, vx=8.0), duration=12.0)
    y = 12 - 12 * np.clip((time * 8 - 14) / 30, 0, 1) ** 2 * (3 - 2 * np.clip((time * 8 - 14) / 30, 0, 1))
    position, yaw = scene.tracks.position.copy(), scene.tracks.yaw.copy()
    position[1, :, 1] = y
    yaw[1] = np.arctan2(np.gradient(y), 0.8)
    scene = replace(scene, tracks=replace(scene.tracks, position=position, yaw=yaw))
    driven = drive(scene)
    assert touching(drive_log(scene)) and not touching(driven)
    assert driven.position[-1, 0, 0] - driven.position[-1, 1, 0] > 6.0
    assert np.diff(driven.state["speed"], axis=0).min() / TICK > -6.0


def test_without_lanes_the_rules_hold_on_the_logged_path():
    column = [Agent(-14.0 * place, 0, vx=9.0 - 0.3 * place) for place in range(4)]
    driven = drive(make_scene(*column, duration=12.0), standing(60.0))
    assert not touching(driven) and np.abs(driven.position[..., 1]).max() == 0 and driven.front[-1] < 60.0
    assert not drive(make_scene(Agent(0, 0, vx=8.0), duration=4.0), ticks=60).valid[-1].any(), "gone at the end of the path"


def test_drives_on_along_the_lanes_when_its_log_is_over():
    driven = drive(road(Agent(0, 1.0, vx=8.0, last=3.0)), ticks=110)
    assert driven.valid[110, 0] and driven.front[-1] > 75.0 and abs(driven.position[-1, 0, 1]) < 0.1
    assert not drive(road(Agent(0, 1.0, vx=8.0, last=3.0), duration=30.0), ticks=250).valid[-1, 0], "100 m on it is gone"


def test_who_comes_later_enters_when_there_is_room():
    held = Agent(10, 0, vx=8.0)
    late = Agent(-4.0, 0, vx=8.0, first=2.0, last=9.0)  # enters at x = 12, where the first one is held up
    driven = drive(make_scene(held, late, duration=12.0), [standing(18.0)] * 60 + [FAR] * 60, 119)
    assert not driven.valid[20:55, 1].any() and not touching(driven)
    assert driven.valid[100, 1] and driven.position[np.argmax(driven.valid[:, 1]), 1, 0] == pytest.approx(12.0)


def test_where_lights_are_unknown_the_log_says_how_long_to_wait():
    time = np.arange(201) * TICK
    scene = make_scene(Agent(0, 0, vx=8.0), duration=20.0, scene_map=narrow())
    position = scene.tracks.position.copy()
    position[0, :, 0] = np.where(time < 5, 8 * time - 0.8 * time**2, 20.0) + np.maximum(time - 12, 0) * 5
    waiting = replace(scene, tracks=replace(scene.tracks, position=position))
    driven = drive(waiting, ticks=190)
    assert driven.position[118, 0, 0] == pytest.approx(20.0, abs=1.0) and driven.position[-1, 0, 0] > 40.0
    free = drive(replace(waiting, lights=light_at(300.0, np.full(201, GREEN))), ticks=118)
    assert free.position[-1, 0, 0] > 40.0, "with known lights a wait of the log means nothing"


def test_what_a_scenario_has_edited_does_as_edited():
    recorded = make_scene(Agent(0, 0, vx=8.0), Agent(30, 0, vx=8.0), duration=12.0, scene_map=narrow())
    moved = recorded.tracks.position.copy()
    moved[1, :, 0] = 30.0 + 2.0 * recorded.tracks.time
    velocity = recorded.tracks.velocity * [[[1.0]], [[0.25]]]
    tracks = replace(recorded.tracks, position=moved, velocity=velocity)
    edited = replace(recorded, tracks=tracks, recorded_tracks=recorded.tracks)
    driven = drive(edited)
    assert np.array_equal(driven.position[:, 1, 0], moved[1, :120, 0]) and not driven.drivers[1]
    assert not touching(driven) and driven.state["speed"][-1, 0] < 3.0


def test_other_parameters_keep_the_scenes():
    model = LaneTraffic()
    number = np.array([model.add(road(Agent(0, 0, vx=8.0)))])
    slower = model.tuned(replace(model.parameters, haste=0.5, cruise=1.0))
    speeds = []
    for each in (model, slower):
        agents, state = each.start(number, np.array([0]), 1)
        for row in range(60):
            agents, state = each.step(number, np.array([row]), FAR[None], agents, state)
        speeds.append(state["speed"][0, 0])
    assert speeds[0] > 7.5 and speeds[1] < 5.0
    with pytest.raises(ValueError, match="sideways and braking"):
        model.tuned(LaneParameters(sideways=9.0))


def test_restored_and_vector_episodes_are_those_of_one_alone(town_dataroot):
    dataset = open_dataset(town_dataroot)
    simulator = Simulator(SimulatorConfig(traffic="lanes"), [dataset.load(name) for name in dataset.scene_names("val")])
    actions, state = np.array([[0.4, 0.0], [-0.5, 0.1], [1.0, -0.1]]), simulator.reset([0, 1, 0], [0.0, 1.0, 2.0])
    alone = [simulator.reset([number], [start]) for number, start in ((0, 0.0), (1, 1.0), (0, 2.0))]
    kept = None
    for decision in range(12):
        state, _ = simulator.step(state, actions)
        alone = [simulator.step(one, actions[index : index + 1])[0] for index, one in enumerate(alone)]
        kept = state if decision == 5 else kept
    again = kept
    for _ in range(6):
        again, _ = simulator.step(again, actions)
    for index, one in enumerate(alone):
        for other in (state, again):
            assert np.array_equal(other.agents.values[:, index], one.agents.values[:, 0])
            assert all(np.array_equal(other.traffic[name][index], part[0]) for name, part in one.traffic.items())


def test_pictures_show_where_they_drive(town_dataroot):
    """The boxes that the world is given are the traffic's; in the town's true pictures the difference can be seen."""
    seen = {}
    for traffic in ("replay", "lanes"):
        env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="oracle", traffic=traffic, termination=())
        env.reset(seed=0, options={"scene": "town-val-0000", "start": 0.0})
        for _ in range(8):
            observation, *_ = env.step(np.zeros(2, np.float32))
        seen[traffic] = [part for name, part in observation.items() if name.startswith("CAM") and "/" not in name]
        env.close()
    assert not np.array_equal(seen["replay"], seen["lanes"])


def soundness(scene: Scene, driven: Drive) -> None:
    """Nobody jumps, touches, leaves the road or turns on the spot; who does not drive is where the log has it."""
    tracks, drivers = scene.tracks, driven.drivers
    first = tracks.valid[:, 0]
    assert np.array_equal(driven.position[0, first], tracks.position[first, 0]), "the first instant is the log's"
    assert not touching(driven) - touching(replace(drive_log(scene), state=driven.state))
    rows = min(len(driven.position), len(tracks.time))
    logged = np.where(tracks.valid[:, :rows, None], tracks.position[:, :rows], 0.0).swapaxes(0, 1)
    assert np.array_equal(driven.position[:rows, ~drivers], logged[:, ~drivers])
    both = driven.valid[1:] & driven.valid[:-1] & drivers
    moved = np.linalg.norm(np.diff(driven.position[..., :2], axis=0), axis=-1)
    speed, change = driven.state["speed"][1:], np.diff(driven.state["speed"], axis=0) / TICK
    assert (moved <= (speed + 0.8) * TICK + 0.05)[both].all() and (change <= 3.0)[both].all()
    turn = np.abs((np.diff(driven.yaw, axis=0) + np.pi) % (2 * np.pi) - np.pi)
    own = max(0.2, bend_of(tracks, drivers))
    assert (turn <= own * moved + 0.02)[both].all(), "rad per metre, no more than the log's"
    assert scene.map is None or off_road(scene, driven) == 0


def bend_of(tracks: Tracks, drivers: np.ndarray) -> float:
    """The sharpest bend (1/m) of the drivers' logs where they move."""
    both = tracks.valid[drivers, 1:] & tracks.valid[drivers, :-1]
    turn = np.abs((np.diff(tracks.yaw[drivers], axis=1) + np.pi) % (2 * np.pi) - np.pi)
    moved = np.linalg.norm(np.diff(tracks.position[drivers, :, :2], axis=1), axis=-1)
    return float((turn / np.maximum(moved, 0.1))[both].max(initial=0.0))


def off_road(scene: Scene, driven: Drive) -> int:
    """Ticks at which a corner of somebody who stays on the road in its log lies over 0.2 m beside it."""
    count, tracks = 0, scene.tracks
    for j in np.flatnonzero(driven.drivers).tolist():
        length, width = tracks.size[j, :2] - 0.4
        if not outside(scene, tracks.position[j], tracks.yaw[j], tracks.valid[j], length, width):
            count += outside(scene, driven.position[:, j], driven.yaw[:, j], driven.valid[:, j], length, width)
    return count


def outside(scene: Scene, position: np.ndarray, yaw: np.ndarray, there: np.ndarray, length: float, width: float) -> int:
    """Ticks at which a body of such a size that is there has a corner off the drivable area."""
    x, y = position[there, :2].T
    corners = rectangle_corners(x, y, yaw[there], np.full(len(x), length), np.full(len(x), width))
    assert scene.map is not None
    return int((~scene.map.on_drivable(corners).all(-1)).sum())


def beside(scene: Scene, kind: str, ticks: int) -> list[np.ndarray]:
    """An ego as logged, at a stand from the start, or nowhere."""
    simulator = Simulator(scenes=[scene])
    rows = [min(tick, len(scene.ego.time) - 1) if kind == "log" else 0 for tick in range(ticks)]
    egos = [simulator.logged_ego(0, row) for row in rows]
    stopped = [np.concatenate([ego[:3], np.zeros(4)]) for ego in egos]
    return {"log": egos, "stands": stopped, "gone": [FAR] * ticks}[kind]


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["log", "stands", "gone"])
def test_towns_are_driven_soundly(kind):
    """Eight whole scenes, beyond the end of their logs: lanes are changed, and everything holds at every tick."""
    dataset, changes = open_dataset(None, scenes=("val",)), 0
    for name in dataset.scene_names(("val",)):
        scene = dataset.load(name)
        driven = drive(scene, beside(scene, kind, 250), 250)
        soundness(scene, driven)
        changes += int((np.diff(driven.state["lane"], axis=0) != 0).sum())
    assert changes >= 10


@pytest.mark.parametrize("kind", ["log", "stands"])
def test_real_roads_are_driven_soundly(nuscenes_real, kind):
    dataset = open_dataset(nuscenes_real, scenes=("train", "val"))
    for name in dataset.scene_names(("train", "val")):
        scene = dataset.load(name, require_map=False)
        soundness(scene, drive(scene, beside(scene, kind, 195), 195))


def test_parameters_are_those_that_were_fitted():
    stored = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "traffic_fit.json").read_text())
    assert stored["parameters"] == asdict(LaneParameters())
    for rows in stored["judged"].values():
        assert rows["fitted"]["error"] < rows["before"]["error"] < rows["straight on"]["error"]
