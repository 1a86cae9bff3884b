"""A drive: the same bits as the environment's own, under whatever world; going back, branching, inserting, handing over."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.planners.contract import Plan, PlannerFailure, PlannerNeeds
from dist4d_env.play.drive import Drives
from dist4d_env.play.session import Session, Settings
from dist4d_env.play.wheel import by_hand
from dist4d_env.play.worlds import Look, Worlds
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.ego import EgoState
from dist4d_env.worlds.contract import WorldInfo

SPLAT, ORACLE, DIST4D = Look("splat"), Look("oracle"), Look("dist4d")


def drive(session: Session, ticks: int, pedal: float = 0.3, wheel: float = 0.0, paint: bool = True) -> list[str]:
    """Drives on; the digests of the pictures."""
    shown = []
    for _ in range(ticks):
        session.tick(pedal, wheel)
        if paint:
            shown.append(session.paint().drawn.shown.digest)
    return shown


def ahead_of(session: Session, forward: float, left: float) -> tuple[float, float]:
    """A place relative to the ego."""
    ego = session.view().state.ego
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    return ego.x + cos * forward - sin * left, ego.y + sin * forward + cos * left


class CountingWorld:
    """Shows how often it has been asked: a world whose frames depend on those before."""

    def reset(self, starts):
        return [(start.rig, 0, len(start.scene.tracks)) for start in starts]

    def step(self, states, scenes):
        answers = []
        for (rig, asked, tracks), _ in zip(states, scenes, strict=True):
            shape = (len(rig.names), rig.height, rig.width)
            poses = np.tile(np.eye(4), (len(rig.names), 1, 1))
            frame = RGBDFrame(
                np.full((*shape, 3), asked, np.uint8), np.ones(shape, np.float32), rig.intrinsics, poses, np.zeros(len(rig.names))
            )
            answers.append(((rig, asked + 1, tracks), frame, WorldInfo(("counting",) * len(rig.names), 0.0, 1.0)))
        return answers


COUNTING = Look(f"{__name__}:CountingWorld")


def asked(session: Session) -> int:
    return int(session.paint().drawn.frame.rgbd.rgb[0, 0, 0, 0])


def test_a_drive_is_the_environment_s_own(session, town_dataroot):
    """Painted at every tick, a drive has the states and pictures of the environment under the same actions."""
    first = session.paint()
    drive(session, 6, wheel=0.2)
    env = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="splat", decision_dt=0.1, observation=("cameras",)
    )
    seen, _ = env.reset(seed=0, options={"scenario": Scenario("town-val-0000", horizon=1000.0, traffic="idm")})
    names = env.unwrapped.rig.names
    assert np.array_equal(np.stack([seen[name] for name in names]), first.drawn.frame.rgbd.rgb)
    for moment in session.path[1:]:
        seen, *_ = env.step(moment.decision.action)
        assert np.array_equal(env.unwrapped.snapshot().episode.state.ego, moment.snapshot.episode.state.ego)
    assert env.unwrapped.episode.state.ego == session.view().state.ego
    assert np.array_equal(np.stack([seen[name] for name in names]), session.paint().drawn.frame.rgbd.rgb)
    env.close()


def test_a_world_swapped_in_has_seen_every_picture_since_the_start(session):
    session.paint()
    drive(session, 3)
    drive(session, 2, paint=False)
    state = session.now.digest
    session.show(COUNTING)
    assert asked(session) == 4  # the start, three pictures, now
    assert session.now.digest == state
    drive(session, 1)
    session.show(SPLAT)
    drive(session, 2)
    session.show(COUNTING)
    assert asked(session) == asked(session) == 7
    session.go_to(3)
    assert asked(session) == 3
    session.go_to(len(session.path) - 1)
    assert asked(session) == 7


@pytest.mark.medium
def test_the_generated_world_is_the_same_swapped_in_or_from_the_start(drives, session):
    session.paint()
    drive(session, 5, wheel=0.1)
    session.show(DIST4D)
    late = session.paint().drawn
    other = drives.make()
    other.begin("town-val-0000")
    other.show(DIST4D)
    other.paint()
    for moment in session.path[1:]:
        other.decide(moment.decision)
        early = other.paint().drawn
    assert early.shown == late.shown and early.shown.source[0] in ("dist_t", "dist_s")
    x, y = ahead_of(other, 14.0, 0.0)
    other.insert("car", x, y)
    assert other.paint().drawn.shown != early.shown
    other.close()


def test_swapping_shows_other_pixels_of_the_same_state(session):
    drive(session, 2)
    state, splat = session.now.digest, session.paint().drawn
    session.show(ORACLE)
    oracle = session.paint().drawn
    assert session.now.digest == state and (oracle.frame.rgbd.rgb != splat.frame.rgbd.rgb).mean() > 0.1
    assert session.truth().drawn.shown == oracle.shown
    session.show(SPLAT)
    assert session.paint().drawn.shown == splat.shown


def test_what_a_world_may_remember_can_be_changed_at_any_instant(session):
    drive(session, 12, 0.5)
    state, everything = session.now.digest, session.paint().drawn.shown
    session.show(Look("splat", "history"))
    little = session.paint().drawn.shown
    assert session.now.digest == state and little.digest != everything.digest and little.trust < everything.trust
    session.show(SPLAT)
    assert session.paint().drawn.shown == everything


def test_what_cannot_be_shown_changes_nothing(session):
    for look, word in ((Look("none"), "no pictures"), (Look("nonsense"), "unknown")):
        with pytest.raises(ConfigError, match=word):
            session.show(look)
    assert session.look == SPLAT


def test_going_back_restores_every_bit_and_branches(session):
    shown = [session.paint().drawn.shown.digest, *drive(session, 6, 0.5)]
    states = [moment.digest for moment in session.path]
    for tick in (2, 0, 5, 6):
        assert session.go_to(tick).digest == states[tick]
        assert session.paint().drawn.shown.digest == shown[tick]
    session.go_to(3)
    drive(session, 2, -1.0)
    assert len(session.path) == 6 and [moment.digest for moment in session.path[:4]] == states[:4]
    assert session.path[5].digest != states[5] and len(session.branches) == 1
    session.switch(0)
    assert [moment.digest for moment in session.path] == states and session.cursor == 6
    assert session.paint().drawn.shown.digest == shown[6]
    with pytest.raises(ConfigError, match="branch 7"):
        session.switch(7)


def test_the_same_decisions_lead_to_the_same_bits_after_going_back(session):
    drive(session, 4, 0.4, 0.3)
    decisions = [moment.decision for moment in session.path[1:]]
    end = session.now.digest, session.paint().drawn.shown
    session.go_to(0)
    for decision in decisions:
        session.decide(decision)
        session.paint()
    assert (session.now.digest, session.paint().drawn.shown) == end


def test_what_is_inserted_appears_and_the_past_stays(session):
    session.paint()
    drive(session, 5)
    before, past = session.paint().drawn, [moment.digest for moment in session.path[:-1]]
    count = len(session.view().state.boxes)
    edit = session.insert("car", *ahead_of(session, 15.0, 0.3))
    assert len(session.view().state.boxes) == count + 1 and edit.at == 0.5
    assert session.paint().drawn.shown != before.shown and [moment.digest for moment in session.path[:-1]] == past
    box = session.view().state.boxes.position[-1, :2]
    assert np.hypot(*(box - ahead_of(session, 15.0, 0.3))) < 0.01
    truth = session.truth().drawn.frame.rgbd.rgb
    drive(session, 2)
    session.insert("pedestrian", *ahead_of(session, 20.0, -3.0), heading=session.view().state.ego.yaw, speed=1.5)
    walks = session.view().state.boxes.position[-1, :2]
    drive(session, 3)
    assert len(session.scenario.edits) == 2
    assert np.hypot(*(session.view().state.boxes.position[-1, :2] - walks)) == pytest.approx(0.45, abs=0.05)
    session.go_to(3)
    assert len(session.scenario.edits) == 0 and len(session.view().state.boxes) == count
    session.go_to(5)
    assert np.array_equal(session.truth().drawn.frame.rgbd.rgb, truth)


def test_a_start_beside_the_grid_is_on_it_for_insertions_too(session):
    session.begin("town-val-0000", 1.03)
    drive(session, 3, paint=False)
    session.insert("car", *ahead_of(session, 15.0, 0.3))
    box = session.view().state.boxes.position[-1, :2]
    assert np.hypot(*(box - ahead_of(session, 15.0, 0.3))) < 0.01
    assert session.scenario.start == pytest.approx(1.1) == pytest.approx(session.path[0].info["time"])


def test_where_nothing_can_stand_nothing_is_inserted(session):
    drive(session, 2)
    state, boxes = session.now.digest, session.view().state.boxes
    ego = session.view().state.ego
    for x, y, word in (
        (ego.x, ego.y, "taken"), (*boxes.position[0, :2], "taken"), (ego.x + 9000, ego.y, "beyond the route"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=word):
            session.insert("car", float(x), float(y))
    with pytest.raises(ConfigError, match="category 'ghost'"):
        session.insert("ghost", ego.x, ego.y)
    assert session.now.digest == state and not session.scenario.edits


def test_a_planner_takes_the_wheel_and_gives_it_back(session):
    drive(session, 2, paint=False)
    session.hand_over("lane")
    drive(session, 7, paint=False)
    session.take_back()
    drive(session, 1, paint=False)
    assert [moment.decision.by for moment in session.path[1:]] == ["hand"] * 2 + ["lane"] * 7 + ["hand"]
    assert {moment.decision.kind for moment in session.path[3:10]} == {"trajectory"}


class FailingPlanner:
    """Plans once, then fails."""

    requires = PlannerNeeds(cameras=True)

    def reset(self, context, seed):
        self.planned = False

    def plan(self, observation):
        assert observation.observation["CAM_FRONT"].shape == (64, 112, 3)
        if self.planned:
            raise RuntimeError("lost")
        self.planned = True
        return Plan(np.column_stack([np.arange(1, 9) * 2.0, np.zeros(8), np.zeros(8)]))


def test_a_planner_sees_the_pictures_and_one_that_fails_lets_go(session):
    session.hand_over(f"{__name__}:FailingPlanner")
    drive(session, 5, paint=False)
    assert all(moment.shown is not None for moment in session.path[:5])
    with pytest.raises(PlannerFailure, match="lost"):
        session.tick()
    assert session.pilot is None and session.cursor == 5
    assert session.tick(0.5, 0.0).decision.by == "hand"


class RaggedPlanner:
    """Answers rows of different lengths."""

    requires = PlannerNeeds()

    def reset(self, context, seed): ...

    def plan(self, observation):
        return [[1.0, 2.0, 3.0], [1.0, 2.0]]


def test_a_planner_whose_answer_is_no_array_lets_go(session):
    session.hand_over(f"{__name__}:RaggedPlanner")
    with pytest.raises(PlannerFailure):
        session.tick()
    assert session.pilot is None


class RememberingPlanner:
    """Keeps the times of every reset and plan since."""

    requires = PlannerNeeds()
    told: ClassVar[list[list[float]]] = []

    def reset(self, context, seed):
        self.told.append([])

    def plan(self, observation):
        self.told[-1].append(round(observation.time, 1))
        return Plan(np.column_stack([np.arange(1, 9) * 2.0, np.zeros(8), np.zeros(8)]))


def test_a_planner_forgets_a_future_that_has_been_undone(session):
    told = RememberingPlanner.told = []
    drive(session, 2, paint=False)
    session.hand_over(f"{__name__}:RememberingPlanner")
    drive(session, 7, paint=False)
    session.go_to(3)
    session.go_to(9)
    drive(session, 4, paint=False)
    assert told == [[0.2, 0.7, 1.2]], "whoever only looked back has undone nothing"
    session.go_to(8)
    drive(session, 6, paint=False)
    session.go_to(1)
    drive(session, 1, paint=False)
    assert told == [[0.2, 0.7, 1.2], [0.8, 1.3], [0.1]]


def test_planners_that_need_more_are_refused(session):
    assert make_planner("imagine").requires.imagination
    with pytest.raises(ConfigError, match="imagines frames"):
        session.hand_over("imagine")
    assert session.pilot is None


def test_looking_from_beside_the_car_changes_nothing(session):
    drive(session, 3)
    before, state = session.paint().drawn.shown, session.now.digest
    aside = session.beside((1.0, 2.0, 0.5, 0.3))
    assert aside.elsewhere and aside.drawn.shown != before
    moved = aside.drawn.frame.rgbd.global_from_camera[:, :3, 3] - session.paint().drawn.frame.rgbd.global_from_camera[:, :3, 3]
    assert np.linalg.norm(moved, axis=1).min() > 0.5
    assert session.now.digest == state and session.paint().drawn.shown == before
    there = session.truth((0.0, 0.0, 0.0, 0.0)).drawn.frame.rgbd
    assert np.array_equal(there.rgb, session.truth().drawn.frame.rgbd.rgb)


def test_what_is_seen_from_beside_is_of_one_instant(session):
    """Also where another drive has begun before its picture is there."""
    drive(session, 3)
    session.show(COUNTING)
    aside = session.beside((1.0, 2.0, 0.5, 0.3), progress=lambda done, total: session.begin("town-val-0001"))
    assert aside.tick == 3 and aside.drawn.frame.rgbd.rgb[0, 0, 0, 0] == 3


def test_the_truth_of_a_picture_is_of_its_instant(session):
    drive(session, 2)
    picture, there = session.paint(), session.truth().drawn.shown
    drive(session, 3, paint=False)
    of_it = session.truth(of=picture)
    assert of_it.drawn.shown == there and of_it.tick == 2 and session.truth().drawn.shown != there


def test_an_episode_that_is_over_stands_still(session):
    while session.tick(1.0, 1.0).ended_by is None:
        pass
    over, ticks = session.now.digest, len(session.path)
    assert session.tick(1.0, 0.0).digest == over and len(session.path) == ticks
    with pytest.raises(ConfigError, match="over"):
        session.insert("car", *ahead_of(session, 20.0, 0.0))
    session.go_to(2)
    assert session.tick(0.0, 0.0).ended_by is None


def test_no_truth_without_the_town(tiny_root):
    """A data set that was not generated: the splat where it has images, else nothing, and never a truth."""
    from dist4d_env.data.open import open_dataset

    dataset = open_dataset(tiny_root)
    worlds = Worlds()
    settings = Settings(str(dataset.dataroot), dataset.version, tuple(dataset.names()), COUNTING, (64, 112), traffic="replay")
    session = Session(settings, worlds)
    session.begin("scene-0103")
    assert session.truth() is None and asked(session) == 0
    with pytest.raises(Exception, match=r"town\.json"):
        session.show(ORACLE)
    session.close()


@pytest.mark.parametrize("speed", [0.0, 5.0, 20.0])
def test_the_wheel_stays_within_what_tyres_hold(session, speed):
    ego, vehicle = EgoState(0, 0, 0, speed, 0, 0, 0), session.vehicle
    left, right = (by_hand(3.0, wheel, ego, vehicle).action for wheel in (5.0, -5.0))
    assert left[0] == 1.0 and left[1] == -right[1] > 0 and (np.abs(left) <= 1).all()
    lock = min(0.5, math.atan(vehicle.wheelbase * 4.0 / max(speed, 1.0) ** 2))
    turned = by_hand(0.0, 1.0, replace(ego, steering=lock), vehicle)
    assert turned.action[1] == pytest.approx(0.0)


def test_a_closed_session_is_gone(drives: Drives):
    def driven() -> weakref.ref[Session]:
        session = drives.make()
        session.begin("town-val-0001")
        session.paint()
        session.close()
        return weakref.ref(session)

    gone = driven()
    gc.collect()
    assert gone() is None
