"""The study of decision fidelity: what is shown beside, what is stored, resumption in any order, and its tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import pytest

from benchmarks import fidelity, fidelity_table
from benchmarks.fidelity_drives import Drive, KeptDrives, load_drives, save_drives, study
from benchmarks.fidelity_episodes import parted_after, plans_apart, read_drives
from benchmarks.resampled_oracle import ASIDE, ResampledOracle
from benchmarks.stored_oracle import StoredOracle
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import OtherPictures, SecondOpinions, asked_of
from dist4d_env.geometry.transforms import invert
from dist4d_env.planners.contract import Plan, PlannerNeeds
from dist4d_env.scenes.suites import read_suite
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleWorld
from docs import make_fidelity_gallery

SHADES = f"{__name__}:Shades"


class Shades:
    """Drives as fast as its front picture is bright, so that what it sees decides."""

    requires = PlannerNeeds(cameras=True)

    def reset(self, context, seed):
        self.looks = 0

    def plan(self, observation):
        self.looks += 1
        speed = float(observation.observation["CAM_FRONT"].mean()) / 20 + 0.01 * self.looks
        return Plan(np.column_stack([speed * 0.5 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))


def options(suite: Path, out: Path, **changes) -> fidelity.Options:
    given = {"planner": (SHADES,), "scale": ("constant_velocity",), "worlds": ("splat",), "suite": str(suite), "seeds": 1}
    return fidelity.Options(out, **{**given, **changes})


def environment(town: Path, world: str) -> gym.Env:
    return gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town), scenes="val", world=world, action="trajectory", horizon=2.0,
        observation=("cameras", "depth", "ego", "route", "agents"),
    )  # fmt: skip


@pytest.mark.medium
def test_the_second_planner_sees_what_the_oracle_shows(town_dataroot) -> None:
    env = environment(town_dataroot, "oracle")
    beside = SecondOpinions({"oracle": (Shades(), OtherPictures(OracleWorld()))})
    seen: list[float] = []

    def watch(driving, info):
        shown, truth = driving.observation(), OtherPictures(OracleWorld())
        truth.begin(driving)
        other = truth.pictures(shown)
        seen.append(max(float(np.abs(shown[key].astype(float) - value).mean()) for key, value in other.items()))
        assert other.keys() < shown.keys() and all(shown[key].dtype == value.dtype for key, value in other.items())

    log = run_episode(env, Shades(), 0, RunOptions("town-val-0000", 0.0, opinions=beside), watch)
    assert len(log.plans.step) == 4 and max(seen) < 0.01  # the pose is the same to the last bits
    assert log.apart.shape == (4,) and log.apart.max() < 1e-2
    env.close()


@pytest.mark.medium
def test_splat_shows_what_replay_shows(town_dataroot) -> None:
    """So that a study need not drive in both."""
    frames = {}
    for world in ("splat", "replay"):
        env = environment(town_dataroot, world)
        env.reset(seed=0, options={"scene": "town-val-0000", "start": 1.0})
        plan = np.column_stack([4.0 * np.arange(1, 9), 0.3 * np.arange(1, 9), np.zeros(8)]).astype(np.float32)
        observation, *_ = env.step(plan)
        frames[world] = observation
        env.close()
    assert all(np.array_equal(value, frames["replay"][key]) for key, value in frames["splat"].items())


@pytest.mark.medium
def test_the_stored_truth_is_what_the_log_holds(town_dataroot) -> None:
    """Where and when a keyframe was taken it shows that keyframe's own files, and the oracle something a little else."""
    scene = open_dataset(town_dataroot).load("town-val-0000")
    rig, log, view = scene.rig.at_size(64, 112), scene.sensors.rgbd(2, 64, 112), 0
    time, pose = float(log.time[view]), log.global_from_camera[view] @ invert(rig.ego_from_camera[view])
    now = SceneAt(time, pose, scene.tracks.boxes(time), np.zeros(0), np.zeros((0, 4, 4)), (), scene.light_states(time))
    off = {}
    for world in (StoredOracle(), OracleWorld()):
        ((_, frame, _),) = world.step(world.reset([WorldStart(scene, rig, time, 0)]), [now])
        off[type(world)] = np.abs(frame.rgb[view].astype(int) - log.rgb[view]).mean(), np.abs(frame.depth[view] - log.depth[view])
    assert off[StoredOracle][0] < 0.05 < off[OracleWorld][0]
    assert (off[StoredOracle][1] < 0.01).mean() > 0.99 > (off[OracleWorld][1] < 0.01).mean()


@pytest.mark.medium
def test_the_resampled_truth_is_half_a_pixel_aside(town_dataroot) -> None:
    """Four of its pixels meet at the centre of one of the true picture."""
    scene = open_dataset(town_dataroot).load("town-val-0000")
    rig, time = scene.rig.at_size(64, 112), 1.0
    boxes, lights = scene.tracks.boxes(time), scene.light_states(time)
    now = SceneAt(time, scene.ego_pose(time), boxes, np.zeros(0), np.zeros((0, 4, 4)), (), lights)
    shown = {}
    for world in (ResampledOracle(), OracleWorld()):
        ((_, frame, _),) = world.step(world.reset([WorldStart(scene, rig, time, 0)]), [now])
        shown[type(world)] = frame.rgb.astype(float)
    true, aside = shown[OracleWorld][:, :-1, :-1], shown[ResampledOracle]
    meeting = (aside[:, :-1, :-1] + aside[:, 1:, :-1] + aside[:, :-1, 1:] + aside[:, 1:, 1:]) / 4
    assert ASIDE == 0.5
    assert np.abs(meeting - true).mean() < 0.8 * np.abs(aside[:, :-1, :-1] - true).mean()


@pytest.mark.medium
def test_stored_an_episode_at_a_time_in_any_order(suite, tmp_path, monkeypatch) -> None:
    whole = tmp_path / "whole"
    assert fidelity.main(options(suite, whole)) == 6  # two scenarios: one looks in two worlds, one doesn't
    pieces = tmp_path / "pieces"
    assert fidelity.main(options(suite, pieces, minutes=0.0)) == 1
    forwards = fidelity.in_turn
    monkeypatch.setattr(fidelity, "in_turn", lambda scenarios: forwards(scenarios)[::-1])
    assert fidelity.main(options(suite, pieces)) == 5
    assert fidelity.main(options(suite, pieces)) == 0
    for world in ("oracle", "splat"):
        paths = sorted((whole / world / "episodes").glob("*.npz")) + sorted((whole / world / "true_plans").glob("*.npz"))
        assert len(paths) == 4
        for path in paths:
            with np.load(path) as one, np.load(pieces / path.relative_to(whole)) as other:
                assert one.files == other.files and all(np.array_equal(one[key], other[key]) for key in one.files), path
    alone = tmp_path / "alone"
    assert fidelity.main(options(suite, alone, beside=1, scenarios=2)) == 6
    (path,) = (alone / "splat" / "true_plans").glob("*.npz")
    assert path.name in {shown.name for shown in (whole / "splat" / "true_plans").glob("*.npz")}
    for path in (whole / "splat" / "episodes").glob("*.npz"):
        with np.load(path) as one, np.load(alone / path.relative_to(whole)) as other:
            assert all(np.array_equal(one[key], other[key]) for key in one.files), path
    tables = [fidelity_table.main(fidelity_table.Options(place, place / "table.json")) for place in (whole, pieces)]
    first, second = (json.loads((place / "table.json").read_text()) for place in (whole, pieces))
    assert first["worlds"] == second["worlds"] and first["truth"] == second["truth"] and len(tables) == 2
    assert first["episodes"] == {"oracle": 4, "splat": 2} and first["scenes"] == 2
    row = first["worlds"]["splat"]["planners"][SHADES]
    assert row["episodes"] == 2 and {"PDMS", "EPDMS", "CLS"} < row.keys() and row["same_outcome"]["count"] == 2
    assert first["worlds"]["splat"]["frames"]["all"]["decisions"] == 8
    assert set(first["worlds"]["splat"]["families"]) == {"nominal", "late"}
    shadow = sorted((pieces / "splat" / "true_plans").glob("*.npz"))[0]
    (pieces / "splat" / "episodes" / shadow.name).unlink()
    assert fidelity.main(options(suite, pieces, beside=0)) == 1
    assert not shadow.exists(), "plans beside an earlier drive are of other states"
    assert sum(None in drive.apart for drive in read_drives(pieces / "splat")) == 1
    kept = read_drives(whole / "splat")
    assert kept == read_drives(whole / "splat") and all(None not in drive.apart for drive in kept)
    file = tmp_path / "drives.jsonl.xz"
    fidelity_table.main(fidelity_table.Options(whole, drives=file))
    again = fidelity_table.main(fidelity_table.Options(drives=file))
    assert again["suite"] == tables[0]["suite"]
    assert all(
        json.dumps(again[name], sort_keys=True) == json.dumps(tables[0][name], sort_keys=True) for name in ("worlds", "truth")
    )
    elsewhere = tmp_path / "elsewhere"
    assert fidelity.main(options(suite, elsewhere, drives=file)) == 0, "what is kept is not driven again"
    assert fidelity_table.main(fidelity_table.Options(elsewhere, drives=file))["episodes"] == again["episodes"]
    make_fidelity_gallery.main(make_fidelity_gallery.Options(whole, "splat", 1, tmp_path / "gallery.png"))
    assert cv2.imread(str(tmp_path / "gallery.png")).shape == (186, 4 * 294, 3), "colours and depth, here and in truth"


def test_bad_input_is_one_line(suite, tmp_path) -> None:
    with pytest.raises(ConfigError, match="--worlds moon: choose from"):
        options(suite, tmp_path, worlds=("moon",))
    with pytest.raises(DataError, match=r"run python -m benchmarks\.fidelity first"):
        fidelity_table.main(fidelity_table.Options(tmp_path))
    with pytest.raises(DataError, match="no stored episodes"):
        make_fidelity_gallery.main(make_fidelity_gallery.Options(tmp_path, picture=tmp_path / "gallery.png"))


def test_a_file_of_drives_is_whole_and_of_one_study(tmp_path) -> None:
    drive = Drive(
        "p", "s", 1, "scene", "nominal", "completed", "", {"PDMS": None}, [(0.0, 1.004)], ["log"], [0.5], [0.0], [True], [None]
    )
    file = tmp_path / "drives.jsonl.xz"
    assert load_drives(file).drives == {}
    kept = KeptDrives({"suite": "a", "size": None}, {("splat", "p", "s", 1): drive})
    save_drives(file, kept)
    (found,) = load_drives(file).drives.items()
    assert found == (("splat", "p", "s", 1), replace(drive, path=[[0.0, 1.0]]))
    with pytest.raises(DataError, match="two studies"):
        kept.with_those_of(replace(kept, study={"suite": "b", "size": None}))
    save_drives(tmp_path / "other.jsonl.xz", replace(kept, study=study("town-test", None, "tiny")))
    with pytest.raises(DataError, match="two studies"):  # what other weights have driven is not done
        fidelity.main(fidelity.Options(tmp_path / "out", weights="folder/mine", drives=tmp_path / "other.jsonl.xz"))
    assert not (tmp_path / "out").exists()
    for broken in ({"scores": {"PDMS": 7.5}}, {"scores": {"PDMS": "good"}}, {"path": []}, {"apart": [None, None]}):
        save_drives(file, replace(kept, drives={("splat", "p", "s", 1): replace(drive, **broken)}))
        with pytest.raises(DataError, match="holds no drives"):
            load_drives(file)
    for name in ("one", "two"):
        (tmp_path / name / "weights").mkdir(parents=True)
        (tmp_path / name / "weights" / "config.json").write_text(name)
    assert study("s", None, str(tmp_path / "one" / "weights")) != study("s", None, str(tmp_path / "two" / "weights"))
    save_drives(file, kept)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="holds no drives"):
        load_drives(file)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"worlds": ("splat", "splat")}, "once, not splat twice"),
        ({"planner": (), "scale": ()}, "at least one planner"),
        ({"workers": -1}, "--workers and --minutes"),
        ({"minutes": float("nan")}, "--workers and --minutes"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, said) -> None:
    with pytest.raises(ConfigError, match=said):
        fidelity.Options(tmp_path, **options)


def test_a_beginning_holds_all_families() -> None:
    scenarios = read_suite("town_val").scenarios
    turns = fidelity.in_turn(scenarios)
    assert sorted(s.name for s in turns) == sorted(s.name for s in scenarios)
    assert all(len({s.family for s in turns[first : first + 10]}) == 10 for first in range(0, len(turns), 10))


def drive(planner="a", scenario="s", scene="x", outcome="horizon", pdms=1.0, path=None, **changes) -> Drive:
    path = path or [(0.1 * k, 0.0) for k in range(21)]
    scores = {"PDMS": pdms, "EPDMS": pdms, "CLS": None}
    return replace(
        Drive(planner, scenario, 0, scene, "f", outcome, "c", scores, path, ["dist_t"], [0.9], [0.0], [False], [None]), **changes
    )


def test_when_two_drives_part() -> None:
    aside = drive(path=[(0.1 * k, 0.06 * k) for k in range(21)])
    assert parted_after(drive(), aside) == pytest.approx(0.9) and parted_after(drive(), drive()) is None
    assert parted_after(drive(), drive(path=[(0.1 * k, 0.0) for k in range(11)])) == pytest.approx(1.1)


def test_distances_between_plans_are_taken_after_two_seconds() -> None:
    plans = np.zeros((2, 8, 3))
    others = plans.copy()
    others[0, 3, :2], others[1] = (3.0, 4.0), np.nan
    assert plans_apart(plans, others) == [5.0, None] and plans_apart(plans, others[:1]) == [5.0, None]


def test_tables_of_handmade_drives() -> None:
    """Three planners in twelve scenes; in the other world the first two change places, and plans differ where trust is low."""
    scenes = [f"scene-{number}" for number in range(12)]
    score = {"a": 0.9, "b": 0.6, "c": 0.3}
    truth = [drive(name, scene, scene, pdms=value) for name, value in score.items() for scene in scenes]
    swapped = {"a": 0.6, "b": 0.9, "c": 0.3}
    looked = {"trust": [0.9, 0.2], "apart": [0.1, 0.9], "source": ["dist_t"] * 2, "from_log": [0.0, 3.0], "near": [False, True]}
    other = [drive(name, scene, scene, pdms=value, **looked) for name, value in swapped.items() for scene in scenes]
    other[0] = replace(other[0], outcome="collision")
    found = fidelity_table.tables({"oracle": truth, "dist4d": other})
    ranks = found["worlds"]["dist4d"]["order"]["PDMS"]
    assert ranks["spearman"] == pytest.approx(0.5) and ranks["kendall"] == pytest.approx(1 / 3)
    assert ranks["difference_of_means"]["mean"] == pytest.approx(0.2)
    row = found["worlds"]["dist4d"]["planners"]["a"]
    assert row["PDMS"]["difference"]["mean"] == pytest.approx(-0.3) and row["apart"]["PDMS"]["mean"] == pytest.approx(0.3)
    assert found["worlds"]["dist4d"]["off"][8] == {"PDMS": pytest.approx(0.0), "EPDMS": pytest.approx(0.0), "CLS": None}
    assert row["same_outcome"]["mean"] == pytest.approx(11 / 12) and row["CLS"]["truth"]["count"] == 0
    trust = found["worlds"]["dist4d"]["trust"]
    assert trust["auroc"]["mean"] == 1.0 and trust["floor"]["trust_floor"] == pytest.approx(0.55)
    assert trust["floor"]["differing_below"] == 1.0 and trust["floor"]["alike_below"] == 0.0
    frames = found["worlds"]["dist4d"]["frames"]
    assert frames["something moves near"]["differs"]["mean"] == 1.0 and frames["from the log: 0 to 0.25 m"]["decisions"] == 36
    assert found["truth"]["a"]["PDMS"]["mean"] == pytest.approx(0.9)


def test_how_far_a_mean_of_few_episodes_may_be_off() -> None:
    """Differences of 0 and .4 in turn: a deviation of .2, all but the correction for its own mean."""
    pairs = [(drive(pdms=0.5), drive(pdms=0.5 + 0.4 * (number % 2))) for number in range(1000)]
    off = [fidelity_table.off_by([pairs, pairs], count)["PDMS"] for count in (1, 4)]
    assert off == pytest.approx([1.96 * 0.2, 1.96 * 0.1], rel=1e-3)


def test_planners_that_do_not_only_look_drive_without_a_second() -> None:
    assert asked_of(make_planner("measuring").requires)
    assert not asked_of(make_planner("idm").requires) and not asked_of(make_planner("imagine").requires)
