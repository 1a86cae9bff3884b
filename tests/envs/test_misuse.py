"""What is plugged in wrongly or restored at the wrong time is refused, or works; nothing is lost on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from dist4d_env.envs import episodes as episodes_module
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.worlds.none import NoneWorld
from dist4d_env.worlds.replay import SplatWorld

SCENE = "town-val-0000"


@pytest.fixture
def keywords(town_dataroot):
    return {"dataroot": str(town_dataroot), "world": "none", "horizon": 2.0}


def cone(ahead: float) -> Insert:
    return Insert(category="traffic_cone", ahead=ahead, lateral=20.0)


class Remembering(IdmTraffic):
    """With an array that is not over tracks, as long as there are tracks."""

    per_episode = ("hidden",)

    def start(self, scene, row, tracks):
        agents, state = super().start(scene, row, tracks)
        return agents, {**state, "hidden": np.ones((len(scene), tracks))}

    def step(self, scene, row, ego, agents, state):
        after, own = super().step(scene, row, ego, agents, state)
        return after, {**own, "hidden": state["hidden"]}


def test_state_of_a_traffic_object_is_found_again(keywords):
    """Whatever other traffic was added before it in the one environment and not in the other."""
    settings = {**keywords, "traffic": IdmTraffic(), "observation": ("agents",), "scenes": SCENE}
    one, other = DiST4DDrivingEnv(**settings), DiST4DDrivingEnv(**settings)
    one.reset(seed=0, options={"scenario": Scenario(SCENE, 0.0, traffic="replay")})
    one.reset(seed=0)
    one.step([0.0, 0.0])
    kept = one.snapshot()
    other.restore(kept)
    assert np.array_equal(one.step([0.5, 0.0])[0]["agents"], other.step([0.5, 0.0])[0]["agents"])


def test_arrays_that_are_not_over_tracks_keep_their_width(keywords):
    venv = DiST4DVectorEnv(2, **keywords, traffic=Remembering())
    venv.reset(seed=0, options={"scene": SCENE, "start": 0.0})
    hidden = next(array for name, array in venv._episodes.now.traffic.items() if name.endswith("hidden"))
    kept = venv.envs[1].snapshot()
    venv.envs[1].restore(kept)
    after = next(array for name, array in venv._episodes.now.traffic.items() if name.endswith("hidden"))
    assert np.array_equal(hidden, after)


def test_more_edited_scenes_than_are_kept(keywords, monkeypatch):
    monkeypatch.setattr(episodes_module, "EDITED_SCENES", 1)
    monkeypatch.setattr(episodes_module, "SPARE_SCENES", 0)
    venv = DiST4DVectorEnv(4, **keywords, observation=("ego", "agents"))
    for turn in range(3):
        for row, env in enumerate(venv.envs):
            env.starts = lambda row=row, turn=turn: {"scenario": Scenario(SCENE, 0.0, edits=(cone(15.0 + row + 5 * turn),))}
        venv.reset(seed=0)
        venv.step(np.zeros((4, 2), np.float32))
        assert len(venv._episodes.simulator.scenes) <= 8


def test_a_row_restored_too_early_changes_nothing(keywords):
    alone = DiST4DDrivingEnv(**keywords)
    alone.reset(seed=0)
    venv = DiST4DVectorEnv(3, **keywords)
    with pytest.raises(ResetNeeded):
        venv.envs[2].restore(alone.snapshot())
    venv.reset(seed=0)
    venv.step(np.zeros((3, 2), np.float32))


def test_the_generator_is_restored_before_the_first_reset(keywords):
    one, other = DiST4DDrivingEnv(**keywords), DiST4DDrivingEnv(**keywords)
    one.reset(seed=1)
    kept = one.snapshot()
    other.restore(kept)
    first, second = one.reset()[1], other.reset()[1]
    assert (first["scene"], first["time"]) == (second["scene"], second["time"])


def test_a_snapshot_from_before_the_first_reset(keywords):
    venv = DiST4DVectorEnv(1, **keywords)
    kept = venv.envs[0].snapshot()
    venv.reset(seed=0)
    venv.envs[0].restore(kept)
    with pytest.raises(ResetNeeded):
        venv.step(np.zeros((1, 2), np.float32))
    venv.reset(seed=0)


class HalfAnswers(NoneWorld):
    broken = False

    def step(self, states, scenes):
        answers = super().step(states, scenes)
        return [answer[:2] for answer in answers] if self.broken else answers


def test_a_world_that_answers_wrongly_moves_nothing(keywords):
    world = HalfAnswers()
    env = DiST4DDrivingEnv(**{**keywords, "world": world})
    env.reset(seed=0)
    before, world.broken = env.episode, True
    with pytest.raises(ConfigError, match="RGBDFrame or None"):
        env.step([0.5, 0.0])
    assert env.episode.state.time == before.state.time
    world.broken = False
    env.step([0.5, 0.0])


@dataclass
class Constant:
    key: str = "mine"

    def space(self, scene, size):
        return {self.key: spaces.Box(0, 1, (1,), np.float32)}

    def observe(self, now, out):
        out[self.key][:] = 0.5


class NeedsPictures(Constant):
    def __init__(self):
        super().__init__()
        self.needs_pictures = True


def test_sensors(keywords):
    env = DiST4DDrivingEnv(**keywords, observation=["ego", Constant()])
    assert env.reset(seed=0)[0]["mine"] == 0.5
    with pytest.raises(ConfigError, match="'ego'"):
        DiST4DDrivingEnv(**keywords, observation=["ego", Constant("ego")])
    with pytest.raises(ConfigError, match="pictures"):
        DiST4DDrivingEnv(**keywords, observation=[NeedsPictures()])


def test_a_restored_row_is_observed_whole(keywords):
    venv = DiST4DVectorEnv(2, **keywords, observation=("ego", "bev"))
    first, _ = venv.reset(seed=0)
    kept = venv.envs[0].snapshot()
    for _ in range(2):
        venv.step(np.full((2, 2), 0.5, np.float32))
    venv.envs[0].restore(kept)
    again, _ = venv.reset(options={"reset_mask": np.array([False, True])})
    assert np.array_equal(first["bev"][0], again["bev"][0]) and np.array_equal(first["ego"][0], again["ego"][0])


@pytest.mark.parametrize("action", [np.zeros(2) + 1j, np.zeros(2, "M8[s]"), np.array(["0.1", "0"]), [None, 0.0]])
def test_actions_that_are_no_numbers(keywords, action):
    env = DiST4DDrivingEnv(**keywords)
    env.reset(seed=0)
    with pytest.raises(ActionError):
        env.step(action)


@pytest.mark.parametrize("action", [np.zeros((), "m8[s]"), np.array(3.0), np.array("3"), np.True_, 3 + 0j])
def test_discrete_actions_that_are_no_whole_numbers(keywords, action):
    env = DiST4DDrivingEnv(**keywords, action="discrete")
    env.reset(seed=0)
    with pytest.raises(ActionError, match="one whole number from 0 to 41"):
        env.step(action)


class Blind(NoneWorld):
    """Claims pictures and shows none."""

    shows_pictures = True


def test_a_world_that_shows_nothing_where_it_should(keywords):
    with pytest.raises(ConfigError, match="gave None"):
        DiST4DDrivingEnv(**{**keywords, "world": Blind()}, observation=("ego",)).reset(seed=0)


def test_a_snapshot_of_other_keywords_is_refused_by_name(keywords):
    one = DiST4DDrivingEnv(**keywords)
    one.reset(seed=0)
    others = {"traffic": "idm", "decision_dt": 0.2, "horizon": 4.0, "reward": "sparse", "memory": "history", "size": (32, 48)}
    others |= {"world": NoneWorld(), "weights": "splat"}
    for name, value in others.items():
        other = DiST4DDrivingEnv(**{**keywords, name: value})
        with pytest.raises(ConfigError, match=f"taken with {name}="):
            other.restore(one.snapshot())
        venv = DiST4DVectorEnv(2, **{**keywords, name: value})
        venv.reset(seed=0)
        with pytest.raises(ConfigError, match=f"taken with {name}="):
            venv.envs[1].restore(one.snapshot())


class Breaking:
    """The splat until its third frame, of which something isn't finite."""

    needs_images = True

    def __init__(self, what):
        self.what, self.world = what, SplatWorld("log")

    def reset(self, starts):
        return [(state, 0) for state in self.world.reset(starts)]

    def step(self, states, scenes):
        answers = []
        for (_, count), (after, frame, info) in zip(states, self.world.step([s for s, _ in states], scenes), strict=True):
            broken = count == 2 and self.what is not None
            if broken and self.what == "trust":
                info = replace(info, trust=float("nan"))
            elif broken:
                depth = frame.depth.copy()
                depth[1, 3:5] = self.what
                frame = replace(frame, depth=depth)
            answers.append(((after, count + 1), frame, info))
        return answers


@pytest.mark.parametrize("what", ["trust", float("nan"), float("inf")])
def test_a_frame_that_is_not_finite_ends_the_episode(town_dataroot, what):
    settings = {"dataroot": str(town_dataroot), "horizon": 4.0, "size": (32, 48), "scenes": SCENE, "termination": ()}
    env = DiST4DDrivingEnv(**settings, world=Breaking(what))
    env.reset(seed=0, options={"start": 0.0})
    assert env.step([0.0, 0.0])[2:4] == (False, False)
    observation, _, terminated, truncated, info = env.step([0.0, 0.0])
    assert (terminated, truncated, info["ended_by"]) == (False, True, "broken_frame")
    assert info["world"]["trust"] == 0.0 and set(info["world"]["source"]) == {"broken"}
    assert info["metrics"]["final"]["pdms_v1"]["valid"] and env.observation_space.contains(observation)
    whole = DiST4DDrivingEnv(**settings, world=Breaking(None))
    whole.reset(seed=0, options={"start": 0.0})
    whole.step([0.0, 0.0])
    same, _, _, truncated, info = whole.step([0.0, 0.0])
    assert not truncated and info["ended_by"] is None
    assert np.array_equal(same["CAM_FRONT"], observation["CAM_FRONT"]), "what is known is shown"
    venv = DiST4DVectorEnv(2, **settings, world=Breaking(what))
    venv.reset(seed=0, options={"start": 0.0})
    venv.step(np.zeros((2, 2)))
    _, _, _, truncations, infos = venv.step(np.zeros((2, 2)))
    assert truncations.all() and list(infos["ended_by"]) == ["broken_frame"] * 2
