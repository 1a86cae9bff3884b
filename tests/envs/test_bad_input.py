"""What enters wrong is refused where it enters, with the keyword and the remedy in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from dist4d_env.envs.config import EnvConfig, read_keywords
from dist4d_env.errors import ActionError, ConfigError, DataError

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
        ({"wold": "none"}, "'wold'.*did you mean 'world'"),
    ],
)
def test_keywords(keywords, said):
    with pytest.raises(ConfigError, match=said):
        read_keywords(keywords)


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
    ],
)
def test_reset_options(make_env, options, error, said):
    env = make_env()
    with pytest.raises(error, match=said):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("controls", np.zeros(3, np.float32)),
        ("controls", np.array([np.nan, 0.0], np.float32)),
        ("controls", np.array([2.0, 0.0], np.float32)),
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
