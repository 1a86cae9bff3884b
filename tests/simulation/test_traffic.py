"""Replayed and reactive traffic."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.traffic import ReplayTraffic, row_of

from .road import Agent, tracks_of

CAR = VehicleParameters()
FAR = EgoState(-500.0, -500.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def standing(x: float, y: float = 0.0) -> EgoState:
    return EgoState(x, y, 0.0, 0.0, 0.0, 0.0, 0.0)


def play(traffic, ego: EgoState, steps: int, start: int = 0):
    """Boxes, positions and speeds of every row."""
    history = [traffic.start(start)]
    for row in range(start, start + steps):
        history.append(traffic.step(row, ego, *history[-1]))
    return history


def test_replay_shows_tracks_at_their_times():
    tracks = tracks_of(Agent(0, 3.5, vx=5.0), Agent(20, 0, vx=-2.0, yaw=np.pi, category="bus"), duration=4.0)
    for row, (boxes, *_) in enumerate(play(ReplayTraffic(tracks), FAR, 40)):
        assert boxes.token.tolist() == [0, 1]
        assert boxes.position[:, 0] == pytest.approx([0.5 * row, 20 - 0.2 * row])
        assert np.array_equal(boxes.category, tracks.category) and np.array_equal(boxes.velocity[0], [5.0, 0.0])


def test_replay_keeps_to_validity_windows():
    tracks = tracks_of(Agent(0, 0, first=1.0, last=2.0), Agent(9, 0, last=0.5), Agent(5, 0), duration=3.0)
    seen = [boxes.token.tolist() for boxes, *_ in play(ReplayTraffic(tracks), FAR, 35)]
    assert seen[:6] == [[1, 2]] * 6 and seen[6:10] == [[2]] * 4
    assert seen[10:21] == [[0, 2]] * 11 and seen[21:31] == [[2]] * 10
    assert seen[31:] == [[]] * 5, "past the log's end there is nobody"


def test_replay_anticipates_the_log():
    traffic = ReplayTraffic(tracks_of(Agent(0, 0, vx=5.0), duration=3.0))
    boxes, position, speed = traffic.start(3)
    ahead = traffic.anticipate(3, position, speed, [8, 13, 40])
    assert [b.position[0, 0] for b in ahead[:2]] == pytest.approx([4.0, 6.5]) and len(ahead[2]) == 0
    assert boxes.position[0, 0] == pytest.approx(1.5)


def test_rows_are_the_nearest_ticks():
    assert [row_of(time) for time in (0.0, 0.149, 0.151, 12.7)] == [0, 1, 2, 127]


def idm(*agents: Agent, duration: float = 12.0) -> IdmTraffic:
    return IdmTraffic(tracks_of(*agents, duration=duration), CAR)


def test_unhindered_agents_drive_as_logged():
    agents = (Agent(0, 3.5, vx=8.0), Agent(30, 3.5, vx=6.0), Agent(10, -5, vy=1.2, category="pedestrian", length=0.6, width=0.6))
    tracks = tracks_of(*agents, duration=6.0)
    reactive, replayed = play(IdmTraffic(tracks, CAR), FAR, 60), play(ReplayTraffic(tracks), FAR, 60)
    for (mine, *_), (logged, *_) in zip(reactive, replayed, strict=True):
        assert np.array_equal(mine.token, logged.token)
        np.testing.assert_allclose(mine.position, logged.position, atol=1e-6)
        np.testing.assert_allclose(mine.velocity, logged.velocity, atol=1e-6)


def test_brakes_behind_the_stopped_ego_on_its_logged_path():
    """The log would drive through the ego; the agent stops behind it, gently, and stays on its line."""
    history = play(idm(Agent(0, 0, vx=8.0)), standing(50.0), 119)
    x = np.array([boxes.position[0, 0] for boxes, *_ in history])
    speed = np.array([v[0] for *_, v in history])
    rear_bumper = 50.0 + CAR.rear_axle_to_center - CAR.length / 2
    gap = rear_bumper - (x + 4.5 / 2)
    assert gap.min() > 0.3 and gap[-1] < 4.0
    assert speed[-1] < 0.1 and (np.diff(speed) / 0.1).min() > -4.0
    assert all(abs(boxes.position[0, 1]) < 1e-9 for boxes, *_ in history)


def test_drives_on_when_the_ego_goes_and_catches_up():
    traffic = idm(Agent(0, 0, vx=6.0), duration=30.0)
    state = traffic.start(0)
    for row in range(80):
        state = traffic.step(row, standing(40.0), *state)
    held = float(state[0].position[0, 0])
    delay = 6.0 * 8.0 - held
    for row in range(80, 250):
        state = traffic.step(row, FAR, *state)
    behind = 6.0 * 25.0 - float(state[0].position[0, 0])
    assert delay > 10 and behind < 0.7 * delay
    assert state[2][0] <= 1.2 * 6.0 + 1e-6


def test_delayed_agents_finish_their_path_and_are_gone():
    traffic = idm(Agent(0, 0, vx=6.0, last=6.0), duration=6.0)
    state = traffic.start(0)
    for row in range(60):
        state = traffic.step(row, standing(25.0), *state)
    assert len(state[0]) == 1, "held up when its log ends, it is still there"
    for row in range(60, 160):
        state = traffic.step(row, FAR, *state)
    assert len(state[0]) == 0


@pytest.mark.parametrize("parked", [0, 3])
def test_never_runs_into_its_leader(parked):
    """A column behind the stopped ego, beside parked cars, all with logs that would pile up."""
    column = [Agent(-15.0 * i, 0, vx=9.0 - i * 0.3) for i in range(5)]
    kerb = [Agent(10.0 + 8 * i, 2.3, width=1.8) for i in range(parked)]
    for boxes, *_ in play(idm(*column, *kerb), standing(60.0), 119):
        count = len(boxes)
        first, second = np.triu_indices(count, 1)
        hits = overlap(
            boxes.position[first, :2],
            boxes.yaw[first],
            boxes.size[first, :2],
            boxes.position[second, :2],
            boxes.yaw[second],
            boxes.size[second, :2],
        )
        assert not hits.any(), (boxes.token[first[hits]], boxes.token[second[hits]])


def test_yields_to_what_steps_into_its_path():
    """A pedestrian on the road before a car: the car stops short of it; without the car's log it would not be there."""
    walker = Agent(45, -0.5, category="pedestrian", length=0.6, width=0.6)
    late = Agent(0, 0, vx=7.0)
    history = play(idm(late, walker), standing(200.0, 50.0), 100)
    # The log of both shows them through each other, which a log cannot: as logged they do not disturb each other.
    assert history[-1][0].position[0, 0] == pytest.approx(70.0)
    blocked = play(idm(late, walker), standing(38.0), 100)
    assert blocked[-1][0].position[0, 0] + 4.5 / 2 < 38.0


def test_furniture_is_replayed():
    cone = Agent(30, 2, category="traffic_cone", length=0.4, width=0.4)
    parked = Agent(10, 6, vx=0.1)
    history = play(idm(cone, parked, duration=4.0), standing(10.0, 6.0), 40)
    assert all(boxes.token.tolist() == [0, 1] for boxes, *_ in history)
    assert history[-1][0].position[1, 0] == pytest.approx(10.4)


def test_reactive_traffic_is_pure():
    traffic = idm(Agent(0, 0, vx=8.0), Agent(-12, 0, vx=8.0))
    boxes, position, speed = traffic.start(0)
    kept = position.copy(), speed.copy(), boxes.position.copy()
    once, again = traffic.step(0, standing(30), boxes, position, speed), traffic.step(0, standing(30), boxes, position, speed)
    for before, now in zip(kept, (position, speed, boxes.position), strict=True):
        assert np.array_equal(before, now)
    assert np.array_equal(once[0].position, again[0].position) and np.array_equal(once[1], again[1])


def test_reactive_traffic_anticipates():
    """On schedule with the log, held up at the present speed along the path, never beyond its end."""
    traffic = idm(Agent(0, 0, vx=8.0))
    state = traffic.start(0)
    assert traffic.anticipate(0, *state[1:], [5, 10])[1].position[0, 0] == pytest.approx(8.0)
    for row in range(70):
        state = traffic.step(row, standing(40.0), *state)
    x, v = float(state[0].position[0, 0]), float(state[2][0])
    assert traffic.anticipate(70, *state[1:], [75])[0].position[0, 0] == pytest.approx(x + 0.5 * v)


def test_an_empty_street():
    boxes, position, speed = idm().start(0)
    boxes, position, speed = idm().step(0, FAR, boxes, position, speed)
    assert len(boxes) == 0 and len(position) == 0
