"""What of the reader of 123D logs works without py123d: which folders, which frames, whose light; and who lacks the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely

from dist4d_env.data.logs import interpolate_tracks
from dist4d_env.data.open import open_dataset
from dist4d_env.data.py123d.labels import CATEGORY_OF, category_index
from dist4d_env.data.py123d.log import keyframes
from dist4d_env.data.py123d.maps import lights_along
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.scenes.maps import Lane, SceneMap, make_map


def write_sync(folder: Path, seconds: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"sync.timestamp_us": pa.array((1e15 + 1e6 * seconds).astype(np.int64))})
    with pa.OSFile(str(folder / "sync.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A short log, a long one in a folder of its own, one whose conversion was broken off, and one of another data set."""
    write_sync(tmp_path / "logs" / "nuplan-mini_train" / "short", np.arange(0, 20, 0.1))
    write_sync(tmp_path / "logs" / "nuplan-mini_val" / "las-vegas" / "long", np.arange(0, 65, 0.1))
    write_sync(tmp_path / "logs" / "pandaset_val" / "001", np.arange(0, 8, 0.1))
    (tmp_path / "logs" / "nuplan-mini_val" / "half").mkdir()
    (tmp_path / "logs" / "nuplan-mini_val" / "half" / "ego_state_se3.arrow").write_bytes(b"")
    return tmp_path


def test_scenes_are_logs_and_parts_of_long_ones(logs):
    dataset = open_dataset(logs, "nuplan-mini")
    parts = tuple(f"long-{k:03}" for k in range(3))
    assert dataset.splits() == {"train": ("short",), "val": ("half", *parts)}
    assert dataset.names() == ("short", "half", *parts) and dataset.scene_names(("val", "short"))[-1] == "short"
    assert open_dataset(logs, "pandaset").names() == ("001",)
    write_sync(logs / "logs" / "griffin_50scenes_25m_train" / "a", np.arange(3.0))
    assert open_dataset(logs, "griffin_50scenes_25m").splits() == {"train": ("a",)}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, r"123D logs of several data sets \(there: nuplan-mini, pandaset\); choose one with version="),
        ("waymo", r"no 123D logs of 'waymo' \(there: nuplan-mini, pandaset\)"),
    ],
)
def test_one_of_several_data_sets_is_chosen(logs, version, words):
    with pytest.raises(DataError, match=words):
        open_dataset(logs, version)


def test_what_no_package_can_open(logs, monkeypatch):
    dataset = open_dataset(logs, "nuplan-mini")
    with pytest.raises(DataError, match=r"half: .*sync.arrow is not there: the conversion of this log was broken off; convert"):
        dataset.load("half")
    with pytest.raises(DataError, match=r"long-000: .*ego_state_se3.arrow is not there|which is not installed"):
        dataset.load("long-000")
    monkeypatch.setitem(sys.modules, "py123d.api", None)
    with pytest.raises(
        DataError, match=r"short: 123D logs are read with py123d, which is not installed: pip install 'dist4d_env"
    ):
        open_dataset(logs, "nuplan-mini").load("short")
    write_sync(logs / "logs" / "pandaset_val" / "002", np.zeros(1))
    with pytest.raises(DataError, match=r"002: .*sync.arrow holds 1 frame, and a drive needs two"):
        open_dataset(logs, "pandaset").load("002")
    write_sync(logs / "logs" / "pandaset_test" / "001", np.arange(3.0))
    with pytest.raises(DataError, match="are logs of one name; rename one"):
        open_dataset(logs, "pandaset")


def test_keyframes_are_half_a_second_apart_where_pictures_are():
    time = np.arange(31) * 0.1
    everywhere = np.ones(31, bool)
    assert keyframes(time, everywhere).tolist() == list(range(0, 31, 5))
    assert keyframes(time, ~everywhere).tolist() == list(range(0, 31, 5)), "where there are none"
    assert keyframes(time, np.arange(31) % 5 == 2).tolist() == [2, 7, 12, 17, 22, 27]
    rare = np.isin(np.arange(31), (0, 13))
    assert keyframes(time, rare).tolist() == [0, 5, 13, 18, 23, 28], "none is missed for one without"
    jittered = np.array([0.0, 0.46, 0.97, 1.48, 1.95])
    assert keyframes(jittered, np.ones(5, bool)).tolist() == [0, 1, 2, 3, 4]


def crossing() -> SceneMap:
    """Lane 1 along x to the middle, from where 2 goes on, 3 to the left, 4 to the right; 9 crosses it."""

    def lane(token: str, start: tuple[float, float], yaw: float, before: tuple[str, ...]) -> Lane:
        s = np.arange(11.0)
        line = np.column_stack([start[0] + s * np.cos(yaw), start[1] + s * np.sin(yaw), np.full(11, yaw)])
        area = shapely.buffer(shapely.linestrings(line[:, :2]), 1.8, cap_style="flat")
        return Lane(token, bool(before), line, area, before, ())

    turns = [("2", 0.0), ("3", 0.1), ("4", -0.1)]
    lanes = [lane("1", (-10, 0), 0.0, ()), *(lane(t, (0, 0), yaw, ("1",)) for t, yaw in turns), lane("9", (5, -5), np.pi / 2, ())]
    return make_map("here", {}, lanes)


def test_a_stop_line_is_of_the_lanes_that_begin_there():
    shown = [{2: "RED", 3: "RED", 9: "GREEN", 77: "RED"}, {2: "YELLOW", 9: "OFF"}]
    lights = lights_along(shown, np.array([0.0, 0.25]), np.arange(6) * 0.1, crossing(), ())
    assert lights.token == ("2", "9") and lights.lanes == (("2", "3"), ("9",))
    assert lights.state.tolist() == [[RED] * 3 + [AMBER] * 3, [GREEN] * 3 + [UNKNOWN] * 3]
    np.testing.assert_allclose(lights.stop_line, [[[0, 1.8], [0, -1.8]], [[3.2, -5], [6.8, -5]]], atol=1e-6)
    assert lights.met(np.array([[-5.0, 0.0], [5.0, 0.0]]))[1].tolist() == [0]
    assert not len(lights_along([{77: "RED"}], np.zeros(1), np.zeros(2), crossing(), ()))


@pytest.mark.parametrize(("route", "wanted"), [((), UNKNOWN), (("1", "2"), GREEN), (("1", "3"), RED), (("9",), UNKNOWN)])
def test_arrows_hold_for_who_follows_them(route, wanted):
    """Red for those who turn left and green for those who go on, over one line: the route decides which it is."""
    lights = lights_along([{2: "GREEN", 3: "RED"}], np.zeros(1), np.zeros(1), crossing(), route)
    assert lights.lanes == (("2", "3"),) and lights.state.tolist() == [[wanted]]


def test_labels_are_categories_and_unknown_ones_are_errors():
    assert CATEGORIES[category_index("NuPlanBoxDetectionLabel", "VEHICLE")] == "car"
    assert {category for labels in CATEGORY_OF.values() for category in labels.values()} <= set(CATEGORIES)
    with pytest.raises(DataError, match="label is UFO of NuPlanBoxDetectionLabel, which has no category here"):
        category_index("NuPlanBoxDetectionLabel", "UFO")
    with pytest.raises(DataError, match="label is CAR of Mine"):
        category_index("Mine", "CAR")


def test_boxes_ten_times_a_second_are_differenced_over_half_a_second():
    """5 cm of jitter at 10 Hz would be 0.35 m/s between neighbours; across a gap nothing is differenced."""
    time = np.arange(41) * 0.1
    jitter = np.random.default_rng(0).normal(0, 0.05, (1, 41, 3))
    position = jitter + np.stack([6.0 * time, 0 * time, 0 * time], -1)
    annotated = np.ones((1, 41), bool)
    annotated[0, 20] = False
    tracks = interpolate_tracks(
        ("one",), ("car",), np.zeros(1, np.int8), np.ones((1, 3)), time, position, np.zeros((1, 41)), annotated, 4.0
    )
    steady = np.r_[5:15, 26:36]
    assert np.abs(tracks.velocity[0, steady] - (6.0, 0.0)).max() < 0.25
    np.testing.assert_allclose(tracks.velocity[0, 10], (position[0, 15] - position[0, 5])[:2], atol=1e-9)
    np.testing.assert_allclose(tracks.velocity[0, 19], (position[0, 19] - position[0, 14])[:2] / 0.5, atol=1e-9)
    assert not tracks.valid[0, 20] and (tracks.velocity[0, 20] == 0).all()
