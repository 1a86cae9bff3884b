"""The training script runs for real: a few hundred decisions of every kind, stopped and continued, twice the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agents.train_sb3 import Options, load_checkpoint, main
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.learning.policy_files import Policy

pytestmark = pytest.mark.medium


ROOT = Path(__file__).resolve().parents[2]
SMALL = {"envs": 4, "rollout": 16, "minibatch": 32, "epochs": 2, "eval_every": 128, "eval_episodes": 2, "horizon": 2.0,
         "device": "cpu", "video": False, "scenes": "val"}  # fmt: skip


def small(out: Path, town: Path, **keywords) -> Options:
    return Options(out=out, dataroot=town, val_dataroot=town, **{**SMALL, "steps": 256, **keywords})


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"action": "discrete", "reward": "pdms"},
        {"algorithm": "sac", "action": "controls", "warmup": 64, "buffer": 500},
        {"cameras": True, "world": "replay", "size": "80x128", "steps": 96, "eval_every": 64, "envs": 2, "eval_episodes": 1},
    ],
    ids=["ppo", "ppo discrete pdms", "sac", "ppo cameras"],
)
def test_a_short_run_leaves_what_it_promises(tmp_path, town_dataroot, keywords):
    out = main(small(tmp_path / "run", town_dataroot, **keywords))
    curve = json.loads((out / "curve.json").read_text())
    assert curve[0]["steps"] == 0 and curve[-1]["steps"] >= keywords.get("steps", 256) and len(curve) >= 2
    assert all(0 <= point["pdms"] <= 1 for point in curve)
    assert list((out / "tensorboard").rglob("events*"))
    best, last = Policy.load(out / "best"), Policy.load(out / "last")
    assert last.config.about["steps"] == curve[-1]["steps"] and best.config.view == last.config.view
    assert load_checkpoint(out)["steps"] == curve[-1]["steps"]


def test_it_learns_something_and_goes_on_where_it_was(tmp_path, town_dataroot):
    main(small(tmp_path, town_dataroot, steps=128))
    first = load_file(tmp_path / "last" / "policy.safetensors")
    before = load_checkpoint(tmp_path)
    main(small(tmp_path, town_dataroot, steps=256))
    after = load_checkpoint(tmp_path)
    assert before["steps"] < after["steps"]
    curve = json.loads(after["curve"])
    assert [point["steps"] for point in curve] == sorted({point["steps"] for point in curve})  # one curve, not two
    assert curve[: len(json.loads(before["curve"]))] == json.loads(before["curve"])
    second = load_file(tmp_path / "last" / "policy.safetensors")
    assert not torch.equal(first["head.weight"], second["head.weight"])
    steps = [state["step"] for state in after["parameters"]["policy.optimizer"]["state"].values()]
    assert min(steps) > max(state["step"] for state in before["parameters"]["policy.optimizer"]["state"].values())
    with pytest.raises(ConfigError, match="other seed"):
        main(small(tmp_path, town_dataroot, seed=1))


def test_a_command_that_cannot_run_is_not_remembered(tmp_path, town_dataroot):
    with pytest.raises(DataError, match="is no folder"):
        main(replace(small(tmp_path, town_dataroot), val_dataroot=tmp_path / "nowhere"))
    assert not (tmp_path / "options.json").exists()


@pytest.mark.parametrize(("end", "expected"), [(-2.5, -1.5), (None, None)])
def test_the_spread_of_actions_falls_to_its_end(tmp_path, town_dataroot, end, expected):
    """The last of two rollouts of 64 decisions has half of the way behind it; None leaves it to the gradients."""
    main(small(tmp_path, town_dataroot, steps=128, spread=-0.5, spread_end=end))
    spread = load_checkpoint(tmp_path)["parameters"]["policy"]["log_std"]
    if expected is None:
        assert 0 < (spread + 0.5).abs().max() < 0.1
    else:
        assert torch.allclose(spread, torch.full((2,), expected))


def test_the_best_policy_is_filmed(tmp_path, town_dataroot):
    import av

    main(small(tmp_path, town_dataroot, steps=64, video=True))
    with av.open(str(tmp_path / "best.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5  # the start and four decisions


def test_options_that_cannot_work():
    with pytest.raises(ConfigError, match="world"):
        Options(cameras=True)
    with pytest.raises(ConfigError, match="continuous"):
        Options(algorithm="sac", action="discrete")
    with pytest.raises(ConfigError, match="at least 1"):
        Options(envs=0)


def command(out: Path, town: Path, steps: int) -> list[str]:
    """The script as it is started from a shell."""
    words = [sys.executable, "-m", "agents.train_sb3", "--out", str(out), "--dataroot", str(town), "--val-dataroot", str(town)]
    for name, value in {**SMALL, "steps": steps}.items():
        flag = "--" + name.replace("_", "-")
        words += ["--no-video"] if name == "video" else [flag, str(value)]
    return words


def test_two_runs_of_one_seed_are_the_same_run(tmp_path, town_dataroot):
    """In processes of their own: the curve, and every weight at its end."""
    for name, salt in (("one", "1"), ("two", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        subprocess.run(command(tmp_path / name, town_dataroot, 384), cwd=ROOT, check=True, env=environment)
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one["curve"] == two["curve"] and one["steps"] == two["steps"] >= 384
    for name, value in one["parameters"]["policy"].items():
        assert torch.equal(value, two["parameters"]["policy"][name]), name


def test_ctrl_c_leaves_a_checkpoint_that_goes_on(tmp_path, town_dataroot):
    words = command(tmp_path, town_dataroot, 100_000)
    running = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "curve.json").exists() and running.poll() is None:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 0 and "goes on from here" in said, said
    stopped = load_checkpoint(tmp_path)["steps"]
    assert 0 < stopped < 100_000
    subprocess.run(command(tmp_path, town_dataroot, stopped + 64), cwd=ROOT, check=True)
    assert load_checkpoint(tmp_path)["steps"] >= stopped + 64
