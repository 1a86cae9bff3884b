"""RLlib on the driving environment: the script runs, repeats, goes on and leaves policies that drive without RLlib."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("ray.rllib")
import ray
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from agents import rllib_tune, train_rllib
from agents.common import make_environments
from dist4d_env.data.nuscenes import RING
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.policy_planner import PolicyPlanner
from dist4d_env.learning.rllib_policy import DrivingModule, ViewActions, ViewObservations
from dist4d_env.learning.views import View
from dist4d_env.worlds.service.actors import serve_world
from tests.raying import small_ray

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def cluster():
    with small_ray(cpus=4):
        yield


@pytest.fixture(scope="module")
def small(town_dataroot):
    """A run of a few hundred decisions."""
    return train_rllib.Options(
        dataroot=town_dataroot, val_dataroot=town_dataroot, scenes="val", horizon=3.0, steps=128, envs=4, batch=64, minibatch=32,
        epochs=2, hidden=(16,), eval_every=64, eval_episodes=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(cluster, small, tmp_path_factory):
    """The folder of one run."""
    return train_rllib.main(replace(small, out=tmp_path_factory.mktemp("rllib")))


def curve(folder):
    return json.loads((folder / "curve.json").read_text())


def weights(folder):
    return Policy.load(folder).network.state_dict()


def test_a_run_leaves_a_curve_and_policies_that_drive(run, small, town_dataroot):
    points = curve(run)
    assert [point["steps"] >= least for point, least in zip(points, (0, 64, 128), strict=True)] == [True] * 3
    assert all(0 <= point["pdms"] <= 1 for point in points)
    best = max(points, key=lambda point: point["pdms"])
    planner = PolicyPlanner(run / "best")
    assert planner.policy.config.about["steps"] == best["steps"] and planner.policy.config.about["library"] == "rllib"
    env = gym.make(
        "DiST4D-nuScenes-v0", dataroot=town_dataroot, world="none", action="trajectory", horizon=3.0,
        observation=("ego", "route", "agents"),
    )  # fmt: skip
    log = run_episode(env, planner, 0, RunOptions(plan_limit=600.0))
    assert log.error is None and len(log.steps) > 1


def test_the_same_seed_gives_the_same_run_and_another_another(run, small, tmp_path):
    again = train_rllib.main(replace(small, out=tmp_path / "again"))
    assert curve(again) == curve(run)
    for a, b in zip(weights(again / "last").values(), weights(run / "last").values(), strict=True):
        assert torch.equal(a, b)
    other = train_rllib.main(replace(small, out=tmp_path / "other", seed=1, steps=64))
    assert curve(other)[1] != curve(run)[1]


def test_a_run_goes_on_where_it_was_and_not_with_other_options(small, cluster, tmp_path):
    first = train_rllib.main(replace(small, out=tmp_path, steps=64))
    begun = curve(first)
    before = weights(tmp_path / "last")
    train_rllib.main(replace(small, out=tmp_path))
    assert curve(tmp_path)[: len(begun)] == begun and curve(tmp_path)[-1]["steps"] >= 128
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), weights(tmp_path / "last").values(), strict=True))
    assert not list(tmp_path.glob("checkpoint.*"))
    with pytest.raises(ConfigError, match="other envs"):
        train_rllib.main(replace(small, out=tmp_path, envs=8))


def test_killed_after_a_checkpoint_a_run_goes_on_with_its_curve(small, cluster, tmp_path, monkeypatch):
    """As one that was not killed; so do runs of earlier versions, whose checkpoints hold no curve."""
    with monkeypatch.context() as patched:
        patched.setattr(train_rllib.common, "append_usage", lambda out, done, processes: 1 / 0 if done else None)
        keep = train_rllib.write_curve
        patched.setattr(train_rllib, "write_curve", lambda points, folder: folder == tmp_path or keep(points, folder))
        with pytest.raises(ZeroDivisionError):
            train_rllib.main(replace(small, out=tmp_path, steps=64))
    assert not (tmp_path / "curve.json").exists()
    train_rllib.main(replace(small, out=tmp_path, steps=64))
    whole = train_rllib.main(replace(small, out=tmp_path / "whole", steps=64))
    assert curve(tmp_path) == curve(whole) == curve(tmp_path / "checkpoint") and curve(whole)[-1]["steps"] >= 64
    (tmp_path / "checkpoint" / "curve.json").unlink()  # as runs of earlier versions are
    assert train_rllib.load_curve(tmp_path, tmp_path / "checkpoint") == curve(whole)
    (tmp_path / "curve.json").unlink()
    with pytest.raises(ConfigError, match=r"has no curve\.json, .* to begin anew"):
        train_rllib.load_curve(tmp_path, tmp_path / "checkpoint")


def test_a_command_that_cannot_run_is_not_remembered(small, cluster, tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        train_rllib.main(replace(small, out=tmp_path, val_dataroot=tmp_path / "nowhere"))
    assert not (tmp_path / "options.json").exists()


def test_checkpoints_restore_the_weights(run, small):
    algorithm = train_rllib.make_config(small).build_algo()
    algorithm.restore_from_path(str(run.resolve() / "checkpoint"))
    for name, value in algorithm.get_module().policy.state_dict().items():
        assert torch.equal(value, weights(run / "last")[name])
    algorithm.stop()


def test_the_spread_of_actions_falls_for_the_learner_and_every_runner(small, cluster):
    options = replace(small, runners=1, spread=-0.5, spread_end=-2.5, steps=100)
    algorithm = train_rllib.make_config(options).build_algo()
    for done, wanted in ((0, -0.5), (50, -1.5), (1000, -2.5)):
        train_rllib.set_spreads(algorithm, options, done)
        spreads = algorithm.env_runner_group.foreach_env_runner(lambda runner: runner.module.spread.tolist())
        assert np.allclose([*spreads, algorithm.learner_group._learner.module["default_policy"].spread.tolist()], wanted)
        algorithm.train()
    algorithm.stop()


def test_two_runners_drive(small, cluster, tmp_path):
    pair = [train_rllib.main(replace(small, out=tmp_path / name, runners=2, steps=128)) for name in ("two", "again")]
    assert curve(pair[0])[-1]["steps"] >= 128 and curve(pair[0]) == curve(pair[1])
    for a, b in zip(weights(pair[0] / "last").values(), weights(pair[1] / "last").values(), strict=True):
        assert torch.equal(a, b)


def test_cameras_by_a_world_service(small, cluster, tmp_path):
    service = serve_world("cameras", "replay", num_cpus=1)
    options = replace(
        small, out=tmp_path, cameras=True, world="replay", service="cameras", runners=1, envs=2, batch=8, minibatch=8, epochs=1,
        steps=8, eval_episodes=1, horizon=1.0,
    )  # fmt: skip
    try:
        train_rllib.main(options)
        (stats,) = service.stats()
        assert sum(size * count for size, count in stats["batches"].items()) >= 8 and stats["unknown"] == 0
    finally:
        service.stop()
    assert Policy.load(tmp_path / "best").config.view.cameras


def test_connectors_observe_and_act_as_the_view_does(small):
    view = View()
    env = make_environments(3, small, view)
    given, _ = env.reset(seed=0)
    episodes = [SingleAgentEpisode() for _ in range(3)]
    for row, episode in enumerate(episodes):
        episode.add_env_reset({key: value[row] for key, value in given.items()})
    shared: dict = {}
    observe = ViewObservations(env.single_observation_space, env.single_action_space, view=view)
    observe(rl_module=None, batch={}, episodes=episodes, shared_data=shared)
    for key, value in view.observe(given).items():
        assert np.array_equal(np.stack([episode.get_observations(-1)[key] for episode in episodes]), value)
    chosen = np.array([[0.5, 0.0], [-3.0, 0.2], [0.1, -0.1]], np.float32)
    batch = {Columns.ACTIONS: {(episode.id_,): [action] for episode, action in zip(episodes, chosen, strict=True)}}
    act = ViewActions(env.single_observation_space, env.single_action_space, view=view)
    act(rl_module=None, batch=batch, episodes=episodes, shared_data=shared)
    plans = np.stack([batch[Columns.ACTIONS_FOR_ENV][(episode.id_,)][0] for episode in episodes])
    assert np.array_equal(plans, view.act(np.clip(chosen, -1, 1), given))
    assert env.action_space.contains(plans)


def test_a_batch_may_take_longer_than_rllibs_minute(small):
    """After that minute there would be a batch of nothing, and an end with a KeyError."""
    assert train_rllib.make_config(small).sample_timeout_s >= 600


def test_runners_begin_beside_the_log_and_each_elsewhere(small):
    begun = []
    for worker, share in ((1, 1.0), (1, 1.0), (2, 1.0), (1, 0.0)):
        env = make_environments(3, small, View())
        runner = SimpleNamespace(worker_index=worker)
        train_rllib.disturb_starts(env_runner=runner, env=env.unwrapped, options=replace(small, disturb=share), done=0)
        env.reset(seed=0)
        begun.append([member.episode.scenario for member in env.unwrapped.envs])
    assert begun[0] == begun[1] and begun[0] != begun[2]
    assert all(scenario.ego_offset != 0 for scenario in begun[0]) and all(scenario.ego_offset == 0 for scenario in begun[3])


def test_the_six_cameras_share_one_encoder():
    view = View(cameras=RING)
    module = DrivingModule(
        observation_space=view.observation_space, action_space=view.action_space,
        model_config={"view": {"cameras": RING}, "hidden": (8,), "spread": -1.0},
    )  # fmt: skip
    seen = {key: torch.from_numpy(np.stack([space.sample()] * 2)) for key, space in view.observation_space.items()}
    out = module.forward_train({Columns.OBS: seen})
    assert out[Columns.ACTION_DIST_INPUTS].shape == (2, 4) and module.compute_values({Columns.OBS: seen}).shape == (2,)
    first = next(part for part in module.modules() if isinstance(part, torch.nn.Conv2d))
    assert first.in_channels == 3


def test_a_sweep_tries_and_ranks(small, cluster, tmp_path):
    trials = rllib_tune.main(rllib_tune.Sweep(tmp_path, samples=2, steps=64, train=small))
    assert len(trials) == 2 and trials[0]["reward"] >= trials[1]["reward"]
    assert trials[0]["learning_rate"] != trials[1]["learning_rate"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cameras": True}, "--cameras needs a world"),
        ({"batch": 100, "envs": 32}, "multiple of the environments"),
        ({"runners": -1}, "runners at least 0"),
        ({"world": "moon"}, "world 'moon' is unknown"),
        ({"disturb": 2.0}, "share from 0 to 1"),
    ],
)
def test_options_that_cannot_work_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        train_rllib.Options(**changes)


def test_nothing_is_reported_home(cluster):
    assert ray.is_initialized() and train_rllib.os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_ctrl_c_leaves_a_checkpoint_that_goes_on(small, cluster, tmp_path, monkeypatch, capsys):
    evaluate = train_rllib.evaluate

    def interrupted(*arguments):
        evaluate(*arguments)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(train_rllib, "evaluate", interrupted)
        train_rllib.main(replace(small, out=tmp_path, steps=64))
    assert "stopped after 0 decisions" in capsys.readouterr().err and len(curve(tmp_path)) == 1
    train_rllib.main(replace(small, out=tmp_path, steps=64))
    assert curve(tmp_path)[-1]["steps"] >= 64
