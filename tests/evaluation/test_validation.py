"""``validate --worlds``: hidden keyframes of the user's own data, and the advice that follows from the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.evaluation.statistics import Estimate
from dist4d_env.evaluation.validation import Models, advice, gain, hidden_keyframes, score
from dist4d_env.geometry.rgbd import RGBDFrame


@pytest.mark.medium
def test_the_table_names_every_method_and_advises_for_each_memory(
    town_dataroot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = open_dataset(town_dataroot).scene_names("val")[0]
    assert main(["validate", "--dataroot", str(town_dataroot), "--scenes", scene, "--worlds", "--keyframes", "2"]) == 0
    shown = capsys.readouterr().out
    for policy in ("log", "history"):
        assert f'memory="{policy}", 2 hidden keyframes' in shown and f'with memory="{policy}":' in shown
    for method in ("copy", "splat", "DiST-T", "DiST-S"):
        assert shown.count(f"\n  {method} ") == 2


def test_hidden_keyframes_are_spread_and_lie_between_known_ones(town_dataroot: Path) -> None:
    dataset = open_dataset(town_dataroot)
    names = dataset.scene_names("val")
    places = hidden_keyframes(dataset, names, 5)
    assert len(places) == len(set(places)) == 5
    for name, keyframe, before in places:
        assert before == keyframe - 1 and keyframe < len(dataset.load(name).sensors.keyframe_time) - 1
    assert len(hidden_keyframes(dataset, names, 10_000)) == sum(
        len(dataset.load(name).sensors.keyframe_time) - 2 for name in names
    )


@pytest.mark.medium
def test_history_knows_less_than_log(town_dataroot: Path) -> None:
    from dist4d_env.evaluation.validation import Hidden

    dataset = open_dataset(town_dataroot)
    scene = dataset.load(dataset.scene_names("val")[0])
    hidden, models = Hidden(scene, 2, 1, scene.sensors.rgbd(2, 64, 112)), Models("tiny")
    log, history = models.show(hidden, "log"), models.show(hidden, "history")
    assert log["splat"]["psnr"] > history["splat"]["psnr"]
    assert log["splat"]["psnr"] < 45  # the hidden keyframe is not in the memory


def test_without_depth_one_line_says_what_to_do(town_dataroot: Path, tmp_path: Path) -> None:
    class Blind:
        dataroot = str(tmp_path)

        def load(self, name: str) -> object:
            sensors = type(
                "Sensors", (), {"keyframe_time": np.arange(4.0), "has_images": lambda *_: True, "has_depth": lambda *_: False}
            )
            return type("Scene", (), {"sensors": sensors()})()

    with pytest.raises(DataError, match="prepare --dataroot"):
        hidden_keyframes(Blind(), ["a"], 4)  # type: ignore[arg-type]


def test_too_few_keyframes_are_refused(town_dataroot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = open_dataset(town_dataroot).scene_names("val")[0]
    assert main(["validate", "--dataroot", str(town_dataroot), "--scenes", scene, "--worlds", "--keyframes", "1"]) == 2
    assert "--keyframes must be at least 2" in capsys.readouterr().err


def test_the_models_are_advised_unless_one_is_clearly_worse() -> None:
    better, same, worse = (Estimate(m, m - 0.5, m + 0.5, 9) for m in (1.0, -0.2, -1.0))
    assert 'use weights="tiny"' in advice("log", "tiny", {"DiST-T": better, "DiST-S": same})
    sentence = advice("history", "tiny", {"DiST-T": better, "DiST-S": worse})
    assert 'use weights="splat" with memory="history"' in sentence and "DiST-S of tiny is farther" in sentence


def test_gain_is_the_mean_of_paired_differences() -> None:
    rows = [((f"s{k // 4}", k), {"splat": {"psnr": 20.0 + k}, "DiST-T": {"psnr": 20.5 + k}}) for k in range(8)]
    estimate = gain(rows, "DiST-T")
    assert estimate.mean == pytest.approx(0.5) and estimate.low == pytest.approx(0.5) and estimate.high == pytest.approx(0.5)


def test_scores_leave_out_what_is_not_counted() -> None:
    rgb = np.full((1, 16, 16, 3), 100, np.uint8)
    truth = RGBDFrame(rgb.copy(), np.full((1, 16, 16), 5.0, np.float32), np.eye(3)[None], np.eye(4)[None], np.zeros(1))
    shown, counted = rgb.copy(), np.ones((1, 16, 16), bool)
    shown[0, :4], counted[0, :4] = 0, False
    found = score(shown, truth.depth * 1.1, truth, counted, ~counted)
    assert found["psnr"] == np.inf and np.isnan(found["holes"])
    assert found["abs_rel"] == pytest.approx(0.1, rel=1e-3) and found["delta1"] == 1.0
