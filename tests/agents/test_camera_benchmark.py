"""Training from cameras and its benchmark in a few dozen decisions: every row is there, and the numbers agree with each other."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from agents.train_sb3 import Options as Training
from agents.train_sb3 import load_checkpoint, make_environments, make_model, policy_of, view_of
from agents.train_sb3 import main as train
from benchmarks.rl_cameras import Options, digests, drive, main
from benchmarks.rl_cameras_scans import Start
from dist4d_env.errors import ConfigError
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.sb3_vec_env import SB3VecEnv, ViewVecEnv
from dist4d_env.learning.views import View
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.planners.contract import PlannerInput
from dist4d_env.simulation.state import EgoState

SMALL = {"envs": 2, "rollout": 16, "minibatch": 32, "epochs": 2, "steps": 32, "eval_every": 32, "eval_episodes": 1,
         "horizon": 2.0, "scenes": ("val",), "hidden": (16,), "device": "cpu", "video": False, "cameras": True,
         "scan": True}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, town_dataroot):
    """Two seeds in the world of logged pictures, one in the truth."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for world, seed in (("replay", 0), ("replay", 1), ("oracle", 0)):
        options = Training(
            out=folder / f"{world}-{seed}", world=world, seed=seed, dataroot=town_dataroot, val_dataroot=town_dataroot,
            learning_rate=0.01, **SMALL,
        )  # fmt: skip
        made.append(train(options))
    return made


@pytest.fixture
def options(runs, town_dataroot, tmp_path):
    return Options(
        runs=tuple(runs),
        worlds=("replay", "oracle"),
        dataroot=town_dataroot,
        horizon=4.0,
        quick=True,
        out=tmp_path / "cameras.json",
        picture=tmp_path / "cameras.png",
    )


def test_a_scanning_policy_is_stored_with_its_cameras(runs):
    policy = Policy.load(runs[0] / "last")
    assert policy.config.view.sees == "scan" and len(policy.config.view.calibration) == 6
    assert policy.config.view == Policy.load(runs[2] / "last").config.view
    assert policy.config.about["steps"] == load_checkpoint(runs[0])["steps"] >= 32


def test_it_begins_as_the_route_at_constant_speed_and_learns(runs, town_dataroot):
    """Untrained it does what ``Start`` does, whatever it sees and whichever seed; trained it does not."""
    options = Training(world="replay", dataroot=town_dataroot, val_dataroot=town_dataroot, **SMALL)
    view = view_of(options, (64, 112))
    venv = make_environments(options, 2, town_dataroot, "val")
    given, _ = venv.reset(seed=1)
    untrained = [policy_of(make_model(options, ViewVecEnv(SB3VecEnv(venv), view), seed), options, view) for seed in (0, 1)]
    plans = [policy.act(given) for policy in (*untrained, Policy.load(runs[0] / "last"))]
    venv.close()
    assert np.array_equal(plans[0], plans[1]) and not np.array_equal(plans[0], plans[2])
    for member in range(2):
        own = {key: value[member] for key, value in given.items()}
        start = Start(0.5).plan(PlannerInput(0.0, EgoState(0, 0, 0, 0, 0, 0, 0), own)).trajectory
        assert np.array_equal(start, plans[0][member].astype(float))


def test_the_start_is_the_same_in_every_world(options):
    assert drive(Start(0.5), "none", 1, options) == drive(Start(0.5), "oracle", 1, options)


def test_rows_gains_and_gaps_agree(options, capsys):
    result = main(options)
    stored = json.loads(options.out.read_text())
    assert (
        set(stored["scores"]) == {"start", "replay-0", "replay-1", "oracle-0"}
        and not options.out.with_suffix(".journal.jsonl").exists()
    )
    mean = {
        (name, world): np.mean([row["pdms_v1"] for row in rows])
        for name, named in result["episodes"].items()
        for world, rows in named.items()
    }
    assert set(mean) == {("start", "none"), *((n, w) for n in ("replay-0", "replay-1", "oracle-0") for w in ("replay", "oracle"))}
    assert result["start_pdms"] == pytest.approx(mean["start", "none"])
    for home, seeds in (("replay", "01"), ("oracle", "0")):
        for world in ("replay", "oracle"):
            gained = result["gained"][home][world]
            each = {seed: mean[f"{home}-{seed}", world] - mean["start", "none"] for seed in seeds}
            assert gained["by_seed"] == pytest.approx(each) and gained["mean"] == pytest.approx(np.mean(list(each.values())))
    gap = result["gap"]["replay"]["oracle"]
    assert gap["by_seed"] == pytest.approx({"0": mean["replay-0", "oracle"] - mean["oracle-0", "oracle"]}) and gap["n"] == 1
    assert set(result["scans"]) == {"replay"} and 0 <= result["scans"]["replay"]["missed"] <= 1
    assert [point["steps"] for point in result["runs"]["replay-0"]["training"]] == [32.0]
    assert options.picture.stat().st_size > 1000 and "over the start" in capsys.readouterr().out


def test_the_result_says_which_weights_were_driven_with():
    found = digests("tiny")
    assert set(found) == {"codec", "composer", "dist_s", "dist_t"} and len(set(found.values())) == 4
    file = resolve_weights("tiny") / "dist_t" / "model.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(found["dist_t"]) and len(found["dist_t"]) == 16
    assert digests("splat") == {}


def test_a_stopped_benchmark_goes_on(options, monkeypatch):
    """What was driven before the stop is not driven again."""
    from benchmarks import rl_cameras

    calls: list[tuple[str, str]] = []

    def counted(planner, world, episodes, given):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((type(planner).__name__, world))
        return drive(planner, world, episodes, given)

    monkeypatch.setattr(rl_cameras, "drive", counted)
    with pytest.raises(KeyboardInterrupt):
        main(options)
    assert calls == [("Start", "none"), ("SB3Planner", "replay"), ("SB3Planner", "oracle")]
    monkeypatch.setattr(rl_cameras, "drive", lambda *given: calls.append(given[1]) or drive(*given))
    main(options)
    assert calls[3:] == ["replay", "oracle", "replay", "oracle"]


def test_runs_that_cannot_be_compared(tmp_path, town_dataroot):
    with pytest.raises(ConfigError, match="--runs"):
        Options()
    vectors = {**SMALL, "cameras": False, "scan": False}
    run = train(Training(out=tmp_path / "vectors", dataroot=town_dataroot, val_dataroot=town_dataroot, **vectors))
    with pytest.raises(ConfigError, match="--cameras"):
        main(Options(runs=(run,), dataroot=town_dataroot))
    with pytest.raises(ConfigError, match="--scan"):
        Training(scan=True)
    assert View().groups == ("ego", "route", "agents") and View(True).groups[0] == "cameras"
