"""Policies are stored without pickle, come back as they were, act as Stable-Baselines3 says, and drive on the benchmark."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO, SAC

import dist4d_env  # noqa: F401 (registers the environment)
from agents.train_sb3 import Options, learned, make_model
from dist4d_env.errors import WeightsError
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.policy_planner import PolicyPlanner
from dist4d_env.learning.sb3_vec_env import SB3VecEnv, ViewVecEnv
from dist4d_env.learning.views import View

CASES = [("ppo", "route"), ("ppo", "controls"), ("ppo", "discrete"), ("sac", "controls")]


@pytest.fixture(scope="module")
def envs(town_dataroot):
    """Observations do not depend on the action: one batch serves every view of vectors."""
    made = gym.make_vec(
        "DiST4D-nuScenes-v0",
        4,
        vectorization_mode="vector_entry_point",
        dataroot=str(town_dataroot),
        world="none",
        horizon=2.0,
        observation=View().groups,
        action="trajectory",
    )
    yield made
    made.close()


def untrained(algorithm, action, envs, tmp_path, scale=3.0):
    """A model whose random weights are large enough to act differently from one observation to the next."""
    options = Options(out=tmp_path, algorithm=algorithm, action=action, device="cpu", envs=4, minibatch=32)
    view = View(action=action)
    model = make_model(options, ViewVecEnv(SB3VecEnv(envs), view), seed=1)
    with torch.no_grad():
        for value in model.policy.parameters():
            value.mul_(scale)
        if algorithm == "ppo" and scale != 1.0:  # its head begins at a hundredth of the others' size
            model.policy.action_net.weight.normal_(std=0.05)
    return model, learned(model, options, view)


@pytest.mark.parametrize(("algorithm", "action"), CASES, ids=["-".join(case) for case in CASES])
def test_a_stored_policy_acts_as_the_trained_one(envs, tmp_path, algorithm, action):
    model, policy = untrained(algorithm, action, envs, tmp_path)
    assert isinstance(model, PPO if algorithm == "ppo" else SAC)
    policy.save(tmp_path / "policy")
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == ["config.json", "policy.safetensors"]
    loaded = Policy.load(tmp_path / "policy")
    assert json.dumps(loaded.config.about) == json.dumps(policy.config.about)
    given, _ = envs.reset(seed=0)
    view = policy.config.view
    chosen, _ = model.predict(view.observe(given), deterministic=True)
    expected = view.act(chosen, given)
    assert np.array_equal(loaded.act(given), policy.act(given))
    assert np.allclose(loaded.act(given), expected, atol=1e-4)
    assert len(np.unique(np.round(expected, 4), axis=0)) > 1  # the test sees different answers
    alone = np.concatenate([loaded.act({key: rows[i : i + 1] for key, rows in given.items()}) for i in range(4)])
    assert np.allclose(alone, expected, atol=1e-4)


def broken(folder, kind):
    """Spoils a stored policy in one way."""
    config, weights = folder / "config.json", folder / "policy.safetensors"
    stored = json.loads(config.read_text())
    if kind == "no config":
        config.unlink()
    elif kind == "no weights":
        weights.unlink()
    elif kind == "not JSON":
        config.write_text("{")
    elif kind == "a list":
        config.write_text("[]")
    elif kind == "another format":
        config.write_text(json.dumps({**stored, "format": "other"}))
    elif kind == "unknown action":
        config.write_text(json.dumps({**stored, "view": {**stored["view"], "action": "fly"}}))
    elif kind == "other widths":
        config.write_text(json.dumps({**stored, "hidden": [7]}))
    elif kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:100])
    elif kind == "a layer missing":
        tensors = load_file(weights)
        tensors.pop("head.bias")
        save_file(tensors, weights)


@pytest.mark.parametrize(
    "kind",
    ["no config", "no weights", "not JSON", "a list", "another format", "unknown action", "other widths", "cut off",
     "a layer missing"],
)  # fmt: skip
def test_broken_policies_are_said(envs, tmp_path, kind):
    _, policy = untrained("ppo", "route", envs, tmp_path)
    policy.save(tmp_path / "policy")
    broken(tmp_path / "policy", kind)
    with pytest.raises(WeightsError, match="policy"):
        Policy.load(tmp_path / "policy")


@pytest.mark.parametrize("action", ["route", "controls", "discrete"])
def test_a_policy_drives_on_the_benchmark(envs, town_dataroot, tmp_path, action):
    """Whatever it does: the same from the same seed, and no planner error."""
    _, policy = untrained("ppo", action, envs, tmp_path, scale=1.0)
    planner = PolicyPlanner(policy.save(tmp_path / "policy"))
    kind = "trajectory" if action == "route" else action
    env = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="none", horizon=2.0, action=kind, observation=View().groups
    )
    logs = [run_episode(env, planner, 3, RunOptions(plan_limit=600.0)) for _ in range(2)]
    assert logs[0].outcome != "planner_error", logs[0].error
    assert logs[0].outcome == logs[1].outcome and np.array_equal(logs[0].trace.ego, logs[1].trace.ego)
    env.close()


def test_what_the_planner_cannot_do_is_said(envs, town_dataroot, tmp_path, monkeypatch):
    _, policy = untrained("ppo", "route", envs, tmp_path)
    folder = policy.save(tmp_path / "policy")
    settings = {"dataroot": str(town_dataroot), "world": "none", "horizon": 2.0, "action": "trajectory"}
    env = gym.make("DiST4D-nuScenes-v0", **settings, observation=("ego", "route"))
    log = run_episode(env, PolicyPlanner(folder), 0, RunOptions(plan_limit=600.0))
    assert log.outcome == "planner_error" and "agents" in log.error
    env.close()
    env = gym.make("DiST4D-nuScenes-v0", **settings, decision_dt=0.2, observation=View().groups)
    log = run_episode(env, PolicyPlanner(folder), 0, RunOptions(plan_limit=600.0))
    assert log.outcome == "planner_error" and "decision_dt=0.5" in log.error
    env.close()


def test_a_policy_that_is_not_finite_or_cannot_be_is_refused(envs, tmp_path):
    _, policy = untrained("ppo", "route", envs, tmp_path)
    folder = policy.save(tmp_path / "policy")
    (folder / "notes.txt").write_text("kept")
    policy.save(folder)
    assert (folder / "notes.txt").read_text() == "kept"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "notes.txt", "policy.safetensors"]
    stored, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "policy.safetensors")
    for change in (
        {"hidden": [10**9]},
        {"hidden": [-1]},
        {"hidden": None},
        {"activation": "x"},
        {"decision_dt": -1},
        {"squash": "no"},
    ):
        (folder / "config.json").write_text(json.dumps(stored | change))
        with pytest.raises(WeightsError, match="no policy can be read"):
            Policy.load(folder)
    (folder / "config.json").write_text(json.dumps(stored))
    name = min(tensors)
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, folder / "policy.safetensors")
    with pytest.raises(WeightsError, match="isn't finite"):
        Policy.load(folder)
    save_file(tensors | {name: tensors[name].half()}, folder / "policy.safetensors")
    with pytest.raises(WeightsError, match=r"is torch\.float16, not torch\.float32"):
        Policy.load(folder)
