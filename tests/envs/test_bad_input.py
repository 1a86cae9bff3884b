"""What enters wrong is refused where it enters, with the keyword and the remedy in one sentence."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from dist4d_env.envs.config import EnvConfig, read_keywords
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.episodes import Episodes
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.errors import ActionError, ConfigError, DataError
from dist4d_env.evaluation.cli import Options, drive

from .worlds import assert_same


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"world": "dreams"}, "world 'dreams' is unknown.*'oracle'"),
        ({"observation": ("ego", "radar")}, "sensor 'radar' is unknown.*'agents'"),
        ({"observation": ()}, "observation is empty"),
        ({"observation": 3}, "sensor 3"),
        ({"world": "none", "observation": ("cameras", "ego")}, "makes no pictures.*'cameras'.*take it out"),
        ({"action": "wish"}, "action='wish'.*'trajectory'"),
        ({"memory": "all"}, "memory='all'.*'history'"),
        ({"traffic": "jam"}, "traffic 'jam' is unknown.*'idm'"),
        ({"decision_dt": 0.25}, "decision_dt=0.25.*multiple"),
        ({"decision_dt": 0.0}, "decision_dt=0.0"),
        ({"decision_dt": float("nan")}, "decision_dt=nan"),
        ({"decision_dt": "0.5"}, "decision_dt='0.5'"),
        ({"horizon": 0.5}, "horizon=0.5.*two decisions"),
        ({"horizon": "4"}, "horizon='4' must be a number, not of type str"),
        ({"trust_floor": None}, "trust_floor=None must be a number"),
        ({"horizon": float("inf")}, "horizon=inf"),
        ({"reward": {"fame": 1.0}}, "'fame'.*progress"),
        ({"reward": {"progress": float("nan")}}, "progress.*finite"),
        ({"reward": 3}, "reward=3.*dict"),
        ({"termination": ("boredom",)}, "termination=.*'wrong_way'"),
        ({"trust_floor": 1.5}, "trust_floor=1.5"),
        ({"size": (64,)}, "size="),
        ({"size": (4, 4)}, "size=.*16"),
        ({"scenes": []}, "scenes="),
        ({"scenario": 7}, "scenario=7.*YAML"),
        ({"scenario": "nowhere.yaml"}, "nowhere.yaml"),
        ({"render_mode": "hologram"}, "render_mode='hologram'"),
        ({"action": np.zeros(2)}, "action=array"),
        ({"horizon": 1e308}, "horizon=1e.308.*1000"),
        ({"horizon": 10**5000}, "horizon=<int>"),
        ({"decision_dt": 1e300}, "decision_dt=1e.300"),
        ({"size": (64.7, 112.2)}, "size=.64.7, 112.2.*whole"),
        ({"size": b"@p"}, "size="),
        ({"size": {64: 0, 112: 0}}, "size="),
        ({"reward": {"progress": 1e308}}, "progress.*1e.308.*at most"),
        ({"reward": {"progress": 10**400}}, "progress.*at most"),
        ({"scenario": "\0"}, "scenario=.*null"),
        ({"version": 3}, "version=3 must be text"),
        ({"version": "\0"}, "version=.*null"),
        ({"dataroot": 3}, "dataroot=3"),
        ({"weights": None}, "weights=None must be text"),
        ({"service": 5}, "service=5"),
        ({"scenes": 3}, "scenes=3"),
        ({"scenes": {"a", "b"}}, "scenes="),
        ({"scenes": {"val": True}}, "scenes="),
        ({"termination": {"collision": False}}, "termination="),
        ({"trust_floor": 10**400}, "trust_floor="),
        ({"world": 10**5000}, "world <int>"),
        ({"world": 1j}, "world 1j"),
        ({"device": "cuda:99"}, "device='cuda:99' is not there.*'cpu'"),
        ({"device": "meta"}, "device='meta'"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"device": 3}, "device=3"),
    ],
)
def test_keywords(keywords, said):
    with pytest.raises(ConfigError, match=said):
        read_keywords(keywords)


def test_a_keyword_that_does_not_exist_is_a_type_error_as_python_says_it(town_dataroot):
    for make in (DiST4DDrivingEnv, DiST4DVectorEnv):
        with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'wold': did you mean 'world'\?"):
            make(dataroot=str(town_dataroot), wold="none")
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'frameskip'"):
        gym.make("DiST4D-nuScenes-v0", frameskip=4)
    with pytest.raises(ConfigError):
        read_keywords({"wold": "none"})


def test_every_keyword_is_documented():
    from dist4d_env.envs.driving import DiST4DDrivingEnv

    arguments = DiST4DDrivingEnv.__doc__.split("## Arguments")[1]
    for name in EnvConfig.__dataclass_fields__:
        assert f"| ``{name}`` |" in arguments


def test_unknown_scene(make_env):
    with pytest.raises(DataError, match="scene-9999"):
        make_env(scenes="scene-9999")


def test_missing_dataroot(make_env, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        make_env(dataroot=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scene": "scene-9999"}, DataError, "scene-9999"),
        ({"start": -1.0}, ConfigError, "start"),
        ({"start": 1e6}, ConfigError, "between 0 and"),
        ({"start": float("nan")}, ConfigError, "start"),
        ({"start": "soon"}, ConfigError, "soon"),
        ({"stop": 3.0}, ConfigError, "'stop'"),
        ({"start": 1j}, ConfigError, "start"),
        ({"start": 10**5000}, ConfigError, "start"),
        ({"start": True}, ConfigError, "start"),
        ({"scene": 3}, ConfigError, "'scene'.*=3"),
        ({"scene": ["town-val-0000"]}, ConfigError, "'scene'"),
        ({"scenario": None}, ConfigError, "scenario=None"),
        ({"scenario": "\0"}, ConfigError, "null"),
        ({3: 4}, ConfigError, "option 3 is unknown"),
        ("scene", ConfigError, "options='scene' must be a dict"),
        (0, ConfigError, "options=0"),
        ([], ConfigError, "options="),
    ],
)
def test_reset_options(make_env, options, error, said):
    env = make_env()
    with pytest.raises(error, match=said):
        env.reset(options=options)


@pytest.mark.parametrize("seed", [-1, 1.0, "3", True, [1], float("nan"), np.array([1, 2])])
def test_seeds(town_dataroot, seed):
    keywords = {"dataroot": str(town_dataroot), "world": "none"}
    with pytest.raises(ConfigError, match="seed="):
        DiST4DDrivingEnv(**keywords).reset(seed=seed)
    with pytest.raises(ConfigError, match="seed"):
        DiST4DVectorEnv(3, **keywords).reset(seed=seed)


@pytest.mark.parametrize(
    "keywords",
    [
        {"num_envs": 1.0},
        {"num_envs": True},
        {"num_envs": 10**18},
        {"copy": "no"},
        {"autoreset_mode": "sometimes"},
        {"autoreset_mode": None},
    ],
)
def test_keywords_of_vector_environments(town_dataroot, keywords):
    with pytest.raises(ConfigError, match=next(iter(keywords))):
        DiST4DVectorEnv(**keywords, dataroot=str(town_dataroot), world="none")


@pytest.mark.parametrize("mask", [[True], [1, 0], "yes", [[True], [True, False]], np.zeros(2, bool), np.ones(3, bool)])
def test_reset_masks(town_dataroot, mask):
    venv = DiST4DVectorEnv(2, dataroot=str(town_dataroot), world="none")
    venv.reset(seed=0)
    with pytest.raises(ConfigError, match="reset_mask"):
        venv.reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("controls", np.zeros(3, np.float32)),
        ("controls", np.array([np.nan, 0.0], np.float32)),
        ("controls", np.zeros(2) + 1j),
        ("controls", np.zeros(2, [("pedal", float)])),
        ("controls", "left"),
        ("trajectory", np.zeros((8, 2), np.float32)),
        ("trajectory", np.full((8, 3), np.inf, np.float32)),
        ("discrete", 42),
        ("discrete", 1.5),
    ],
)
def test_actions(make_env, action, value):
    env = make_env(action=action)
    env.reset(seed=0)
    kept = env.unwrapped.episode
    with pytest.raises(ActionError):
        env.unwrapped.step(value)
    assert_same(env.unwrapped.episode.values, kept.values)  # a refused action changes nothing
    assert env.unwrapped.episode.state.ego == kept.state.ego and env.unwrapped.episode.state.tick == kept.state.tick


def test_step_needs_an_episode(make_env):
    env = make_env()
    with pytest.raises(ResetNeeded):
        env.unwrapped.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    for _ in range(4):
        *_, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
    assert terminated or truncated
    with pytest.raises(ResetNeeded, match="over"):
        env.unwrapped.step(np.zeros(2, np.float32))


def test_human_mode_without_a_display(make_env, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ConfigError, match=r"display.*rgb_array"):
        make_env(render_mode="human")


def test_oracle_knows_only_towns(make_env, nuscenes_real):
    env = make_env("oracle", dataroot=str(nuscenes_real), scenes="scene-0061", observation=("cameras",))
    with pytest.raises((ConfigError, DataError), match="town"):
        env.reset(seed=0)


def test_replay_without_images_says_so(make_env, nuscenes_real):
    env = make_env("replay", dataroot=str(nuscenes_real), scenes="scene-0103", observation=("cameras",))
    with pytest.raises(DataError, match=r"scene-0103.*images"):
        env.reset(seed=0)


def test_a_scene_too_short_for_an_episode_says_so_at_once(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the world is made, which takes long."""
    monkeypatch.setattr(Episodes, "open_world", lambda self: pytest.fail("the world was made"))
    said = r"scene-0103 lasts 1\.5 s, too short for an episode of two decisions of 1 s: choose another scene, or a smaller"
    with pytest.raises(DataError, match=said):
        DiST4DDrivingEnv(dataroot=str(tiny_root), scenes="scene-0103", decision_dt=1.0)
    with pytest.raises(DataError, match=said):
        drive(Options(dataroot=tiny_root, scenes=("scene-0103",), decision_dt=1.0, out=tmp_path))
