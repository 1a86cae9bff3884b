"""Environments pickle and copy; running episodes go on in the copies as in the original, and a closed one stays closed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.idm import IdmTraffic
from dist4d_env.worlds.none import NoneWorld

from .worlds import EVERY_WORLD, actions_of, assert_same, play

WAYS = {
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: cloudpickle.loads(cloudpickle.dumps(env)),
    "deepcopy": copy.deepcopy,
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS)
AHEAD = np.array([0.3, 0.05], np.float32)


@EVERY_WORLD
def test_a_single_environment(make_env, settings):
    env = make_env(**settings)
    env.reset(seed=3)
    env.step(AHEAD)
    twins = [way(env) for way in WAYS.values()]
    actions = actions_of(env, 3)
    expected, after = play(env, actions), env.reset()
    for twin in twins:
        assert_same(play(twin, actions), expected)
        assert_same(twin.reset(), after)


@EVERY_WAY
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_vector_environment(town_dataroot, way, mode):
    """Through the ends of episodes; rows with edited scenes, rows that are over and rows restored just before are among them."""
    keywords = {"dataroot": str(town_dataroot), "world": "none", "horizon": 1.5, "traffic": "idm"}
    venv = DiST4DVectorEnv(3, **keywords, autoreset_mode=mode)
    venv.reset(seed=5)
    edited = {"scenario": Scenario("town-val-0001", 0.0, edits=(Insert(category="traffic_cone", ahead=20.0, lateral=20.0),))}
    venv.reset(options={"reset_mask": np.array([True, False, False]), **edited})
    kept = venv.envs[2].snapshot()
    for _ in range(2):
        venv.step(np.tile(AHEAD, (3, 1)))
    venv.envs[2].restore(kept)
    twin = WAYS[way](venv)
    for _ in range(5):
        ours, theirs = (each.step(np.tile(AHEAD, (3, 1))) for each in (venv, twin))
        assert_same(theirs[:4], ours[:4])
        assert_same(theirs[4]["metrics"], ours[4]["metrics"])
    assert twin.get_attr("config")[0] == venv.config and twin.autoreset_mode is venv.autoreset_mode


def test_another_process_goes_on(town_dataroot, tmp_path):
    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world="replay", horizon=2.0)
    env.reset(seed=1)
    env.step(AHEAD)
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    program = (
        "import pathlib, pickle, sys; import numpy as np; folder = pathlib.Path(sys.argv[1])\n"
        "env = pickle.loads((folder / 'env.pickle').read_bytes())\n"
        "outcome = env.step(np.array([0.3, 0.05], np.float32))\n"
        "(folder / 'outcome.pickle').write_bytes(pickle.dumps(outcome))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert_same(pickle.loads((tmp_path / "outcome.pickle").read_bytes()), env.step(AHEAD))


@EVERY_WAY
def test_before_the_first_reset(town_dataroot, way):
    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world="none")
    twin = WAYS[way](env)
    with pytest.raises(ResetNeeded):
        twin.step(AHEAD)
    assert_same(twin.reset(seed=2)[0], env.reset(seed=2)[0])


@EVERY_WAY
def test_snapshots_go_from_one_to_the_other(town_dataroot, way):
    """Also where the world and the traffic are objects, which a copy shares and a pickle has of its own."""
    objects = {"world": NoneWorld(), "traffic": IdmTraffic()}
    names = {"world": "none", "traffic": "idm"}
    for settings in (names, objects) if way == "deepcopy" else (names,):
        env = DiST4DDrivingEnv(dataroot=str(town_dataroot), **settings)
        env.reset(seed=0)
        twin = WAYS[way](env)
        kept = env.snapshot()
        expected = env.step(AHEAD)
        twin.restore(kept)
        assert_same(twin.step(AHEAD), expected)


def test_copies_are_apart(town_dataroot):
    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world="none", observation=("ego",))
    first, _ = env.reset(seed=0)
    twin = copy.deepcopy(env)
    twin.step(AHEAD)
    twin.reset(seed=8)
    assert env.episode.state.tick == 0
    assert_same(env.step(AHEAD)[0], (env.reset(seed=0), env.step(AHEAD)[0])[1])
    assert first["ego"].flags.writeable


@EVERY_WAY
def test_a_world_is_made_anew_only_where_it_is_needed(town_dataroot, way, monkeypatch):
    from dist4d_env.envs import episodes

    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world="replay")
    env.reset(seed=0)
    made = []
    make_world = episodes.make_world
    monkeypatch.setattr(episodes, "make_world", lambda *given, **more: made.append(1) or make_world(*given, **more))
    twin = WAYS[way](env)
    assert twin.trace().time.shape == (1,) and not made
    twin.step(AHEAD)
    assert len(made) == (way != "deepcopy")


def test_a_closed_environment_says_so(town_dataroot):
    keywords = {"dataroot": str(town_dataroot), "world": "none", "render_mode": "rgb_array"}
    env, venv = DiST4DDrivingEnv(**keywords), DiST4DVectorEnv(2, **keywords)
    env.reset(seed=0)
    venv.reset(seed=0)
    kept, row = env.snapshot(), venv.envs[0].snapshot()
    for each in (env, venv):
        each.close()
        each.close()
    twin = pickle.loads(pickle.dumps(env))
    used = [env.reset, lambda: env.reset(seed=-1), lambda: env.step(AHEAD), env.render, env.snapshot, lambda: env.restore(kept)]
    used += [venv.reset, lambda: venv.reset(options={"reset_mask": np.ones(2, bool)}), lambda: venv.step(np.zeros((2, 2)))]
    used += [venv.render, lambda: venv.call("snapshot"), lambda: venv.get_attr("scene"), lambda: venv.set_attr("starts", None)]
    used += [lambda: venv.envs[0].restore(row), venv.envs[1].snapshot, lambda: env.episode, env.trace, twin.reset]
    for use in used:
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            use()


def test_wrapped_as_gymnasium_makes_it(make_env):
    env = gym.wrappers.RecordEpisodeStatistics(make_env())
    env.reset(seed=0)
    twin = pickle.loads(pickle.dumps(env))
    assert_same(twin.step(AHEAD)[:4], env.step(AHEAD)[:4])
    assert twin.spec == env.spec
