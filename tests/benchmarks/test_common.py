"""Results are written whole, stopped runs go on, and missing regions do not count."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import decisions, depth_worth, lights, novel_view, pictures, real, rl, temporal
from benchmarks.common import FinishedUnits, mean_and_spread, write_json
from benchmarks.novel_view import summarise_views
from benchmarks.protocols import one_step_starts, summarise
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite
from dist4d_env.town.writer import write_dataset


def test_a_stopped_run_resumes_only_with_the_same_key(tmp_path: Path) -> None:
    out = tmp_path / "results" / "run.json"
    first = FinishedUnits(out, {"weights": "tiny"})
    first.add("scene/0", {"psnr": 20.0})
    assert FinishedUnits(out, {"weights": "tiny"}).done == {"scene/0": {"psnr": 20.0}}
    with pytest.raises(ConfigError, match=r"run\.partial\.jsonl holds 1 finished unit of a run with other options"):
        FinishedUnits(out, {"weights": "other"})
    with pytest.raises(ConfigError, match="name a file"):
        FinishedUnits(tmp_path / "results", {})
    with pytest.raises(ConfigError, match="name a file"):
        FinishedUnits(first.path / "more.json", {})  # type: ignore[operator]
    assert FinishedUnits(out, {"weights": "tiny"}).done == {"scene/0": {"psnr": 20.0}}
    write_json(out, {"a": 1})
    FinishedUnits(out, {"weights": "tiny"}).finish()
    assert [p.name for p in out.parent.iterdir()] == ["run.json"] and json.loads(out.read_text()) == {"a": 1}


def test_a_run_killed_as_it_wrote_goes_on(tmp_path: Path) -> None:
    out, key = tmp_path / "run.json", {"weights": "tiny"}
    first = FinishedUnits(out, key)
    for unit in ("a", "b"):
        first.add(unit, 1)
    assert first.path is not None
    whole = first.path.read_text()
    for torn in (whole[:-1], whole[:-9]):
        first.path.write_text(torn)
        resumed = FinishedUnits(out, key)
        assert resumed.done == {"a": 1}
        resumed.add("b", 2)
        assert FinishedUnits(out, key).done == {"a": 1, "b": 2}
    first.path.write_text(whole.replace('"a"', "a"))
    with pytest.raises(DataError, match=r"run\.partial\.jsonl, line 2, cannot be read"):
        FinishedUnits(out, key)


def test_units_without_a_file_are_kept_in_memory() -> None:
    finished = FinishedUnits(None, {})
    finished.add("scene/0", 1)
    finished.finish()
    assert finished.done == {"scene/0": 1}


@pytest.mark.parametrize("asked", [{"scenes": 0}, {"scenes": -1}, {"starts": 0}])
def test_nothing_cannot_be_asked_for(asked) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        lights.Options(**asked)
    with pytest.raises(ConfigError, match="at least a step"):
        temporal.Options(duration=0.2)


def test_weights_that_are_no_model_have_no_rows_of_their_own(town_dataroot) -> None:
    with pytest.raises(ConfigError, match="give a preset or a folder"):
        lights.main(lights.Options(weights="splat", dataroot=town_dataroot))


def test_no_light_in_view_is_no_result(town_dataroot, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lights, "starts", lambda *_: [])
    with pytest.raises(DataError, match="nothing is measured"):
        lights.main(lights.Options(dataroot=town_dataroot, out=tmp_path / "lights.json"))
    assert not (tmp_path / "lights.json").exists()


def test_means_leave_out_what_is_not_a_number() -> None:
    assert mean_and_spread([1.0, math.nan, 3.0, math.inf]) == {"mean": 2.0, "std": math.sqrt(2), "n": 2}
    assert mean_and_spread([math.nan])["n"] == 0


def test_regions_that_one_scene_lacks_are_averaged_over_the_others() -> None:
    def cell(value: float) -> dict[str, float]:
        return {"psnr": value, "share": 1.0}

    with_moving = {"splat": {"all": cell(20.0), "moving": cell(10.0)}}
    without = {"splat": {"all": cell(24.0)}}
    units = [
        {"closed_loop_log": {"mean": one, "share_of_steps": {"dist_s": share}}}
        for one, share in ((with_moving, 1.0), (without, 0.5))
    ]
    table = summarise(units)["closed_loop_log"]
    assert table["mean"]["all"]["splat"]["psnr"]["mean"] == 22.0 and table["mean"]["moving"]["splat"]["psnr"]["n"] == 1
    assert table["share_of_steps"] == {"dist_s": 0.75}
    views = summarise_views([[{"1m": with_moving}, {"1m": without}], [{"1m": without}]])["lateral_shift"]["1m"]
    assert views["all"]["splat"]["psnr"]["mean"] == 23.0 and views["moving"]["splat"]["psnr"] == {
        "mean": 10.0,
        "std": 0.0,
        "n": 1,
    }


def test_rows_of_every_unit_are_counted_where_they_are() -> None:
    def cell(value: float) -> dict[str, dict[str, float]]:
        return {"all": {"psnr": value, "share": 1.0}}

    baselines = {"one_step_log": {"mean": {"splat": cell(20.0)}}, "closed_loop_log": {"4s": {"splat": cell(10.0)}}}
    seeds = [{"closed_loop_log": {"4s": {"dist4d": cell(value)}, "share_of_steps": {"dist_t": 1.0}}} for value in (11.0, 13.0)]
    table = summarise([baselines, *seeds])
    assert table["one_step_log"]["mean"]["all"].keys() == {"splat"}
    assert table["closed_loop_log"]["4s"]["all"]["splat"]["psnr"] == {"mean": 10.0, "std": 0.0, "n": 1}
    assert table["closed_loop_log"]["4s"]["all"]["dist4d"]["psnr"] == {"mean": 12.0, "std": math.sqrt(2), "n": 2}
    assert table["closed_loop_log"]["share_of_steps"] == {"dist_t": 1.0}
    views = summarise_views([[{"1m": {"splat": cell(20.0)}}], [{"1m": {"dist_s": cell(22.0)}}, {}]])["lateral_shift"]["1m"]["all"]
    assert views["splat"]["psnr"]["n"] == views["dist_s"]["psnr"]["n"] == 1


def test_starts_are_keyframes_with_a_past_and_a_future() -> None:
    assert one_step_starts(20.0, 3) == [1.0, 10.0, 19.5] or one_step_starts(20.0, 3) == [1.0, 10.5, 19.5]
    assert one_step_starts(2.0, 9) == [1.0, 1.5]


@pytest.mark.parametrize(
    ("benchmark", "asked"),
    [
        (rl, {"policies": (Path("a/policy"), Path("b/policy"))}),
        (rl, {"policies": (Path("a/idm"),)}),
        (rl, {"runs": (Path("a/ppo"), Path("b/ppo"))}),
        (real, {"weights": ("a/weights", "b/weights")}),
        (real, {"weights": ("splat",)}),
        (depth_worth, {"town": ("a/town", "b/town")}),
    ],
)
def test_two_of_one_name_are_refused(benchmark, asked) -> None:
    with pytest.raises(ConfigError, match="results would call both"):
        benchmark.main(benchmark.Options(**asked))


class Opened(Exception):
    """Raised where a test has seen what was opened."""


def test_a_stopped_run_goes_on_with_its_own_data_set_alone(town_dataroot, tmp_path, monkeypatch) -> None:
    def opened(out, key):
        raise Opened(key)

    suite = tmp_path / "suite.yaml"
    write_suite(suite, Suite("one", None, None, (Scenario("town-val-0000", name="one", horizon=2.0),)))
    second = write_dataset(tmp_path / "second", "val", 1, duration=1.0, pictures=False, progress=False)
    asked = decisions.DecisionOptions(("idm",), suite=str(suite))
    for module, begin in (
        (rl, lambda: rl.main(rl.Options())),
        (decisions, lambda: decisions.drive_all(asked, "none", lambda _: ("", 0))),
    ):
        monkeypatch.setattr(module, "FinishedUnits", opened)
        keys = []
        for place in (town_dataroot, second):
            monkeypatch.setenv("NUSCENES", str(place))
            with pytest.raises(Opened) as seen:
                begin()
            keys.append(seen.value.args[0])
        assert keys[0] != keys[1] and {**keys[0], **keys[1]} == keys[1]


@pytest.mark.parametrize("benchmark", [lights, novel_view, pictures, temporal])
def test_pictures_are_stored_at_the_size_that_is_asked_for(benchmark, tmp_path, monkeypatch) -> None:
    def opened(split, size, **how):
        raise Opened(split, size)

    monkeypatch.delenv("NUSCENES", raising=False)
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", opened)
    asked = {"size": "224x400", "out": tmp_path / "result"} | ({} if benchmark is pictures else {"split": "test"})
    with pytest.raises(Opened) as seen:
        benchmark.main(benchmark.Options(**asked))
    assert seen.value.args == (asked.get("split", "val"), (224, 400))
