"""``validate --worlds``: keyframes are really hidden, and the advice says what the numbers say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import SceneCheck, check_scene
from dist4d_env.errors import DataError
from dist4d_env.evaluation.held_out import (
    COPY,
    DIST_S,
    DIST_T,
    SPLAT,
    advice,
    compare_on,
    hidden_keyframes,
    table,
)
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.hidden import HiddenFrame
from dist4d_env.worlds.memory import Memory

SIZE = (64, 112)


def checked(name: str, depth: int, images: int = 9, lidar: int = 9) -> SceneCheck:
    return SceneCheck(name, keyframes=9, images=images, depth=depth, lidar=lidar)


def test_keyframes_are_spread_evenly_over_where_the_car_moves(town_dataroot):
    dataset = open_dataset(town_dataroot)
    first, second = dataset.names()
    checks = [checked(first, 13), SceneCheck("torn", depth=9, broken=("torn",)), checked(second, 13), checked("short", 2)]
    chosen: dict[str, list[int]] = {}
    for scene, memory, place in hidden_keyframes(dataset, checks, 100, SIZE):
        before, here = (np.asarray(memory.frames[k].position) for k in (place - 1, place))
        assert np.linalg.norm(here - before) > 0.25 and len(memory.frames) == 13
        chosen.setdefault(scene.name, []).append(place)
    assert list(chosen) == [first, second]
    assert all(places == sorted(set(places)) and {0, 12}.isdisjoint(places) for places in chosen.values())
    few = [(scene.name, place) for scene, _, place in hidden_keyframes(dataset, checks, 4, SIZE)]
    assert [name for name, _ in few] == [first, first, second, second]
    assert all(place in chosen[name] for name, place in few)


def test_where_the_car_stands_nothing_is_asked(town_dataroot, monkeypatch):
    dataset = open_dataset(town_dataroot)
    monkeypatch.setattr("dist4d_env.worlds.hidden.LEAST_SPEED", 100.0)
    with pytest.raises(DataError, match="the car stands still; choose other --scenes"):
        hidden_keyframes(dataset, [checked(dataset.names()[0], 13)], 4, SIZE)


@pytest.mark.parametrize(
    "check, says",
    [
        (checked("a", 0, images=0), "no keyframe of these scenes has images"),
        (checked("a", 0), "have no depth, make it with `python -m dist4d_env prepare`"),
        (checked("a", 0, lidar=0), "have no depth, nor LiDAR to make it from"),
        (checked("a", 2), "no scene has 3 keyframes whose images have depth, make it with `python -m dist4d_env prepare`"),
        (checked("a", 2, images=2), "no scene has 3 keyframes with images, at most 2; choose longer scenes, or fetch"),
        (checked("a", 0, images=1), "no scene has 3 keyframes with images, at most 1; choose longer scenes, or fetch"),
    ],
)
def test_what_is_missing_is_named(check, says, tiny_root):
    with pytest.raises(DataError, match=f"^{tiny_root}: .*{says}"):
        hidden_keyframes(open_dataset(tiny_root), [check], 4, SIZE)


def judged(dist_t: float, dist_s: float, spread: float = 0.1, delta1: float = 0.0, count: int = 8):
    """Scores of networks that differ from the splat by so many dB, and so much in delta1."""

    def row(gain: float, delta: float = 0.0):
        return {"all": {"psnr": 20 + gain, "ssim": 0.5, "abs_rel": 0.1, "delta1": 0.9 + delta}}

    wobble = spread * np.linspace(-1, 1, count)
    return {
        ("scene", k): {
            COPY: row(-3),
            SPLAT: row(0),
            DIST_T: row(dist_t + wobble[k], delta1 + wobble[k] / 100),
            DIST_S: row(dist_s + wobble[k], wobble[k] / 100),
        }
        for k in range(count)
    }


@pytest.mark.parametrize(
    "scores, says",
    [
        (judged(1.0, 0.5), 'use weights="tiny": it is better than the splat (DiST-T +1.00 dB [+0.'),
        (judged(1.0, 0.0), 'use weights="tiny": it is better'),
        (judged(1.0, 0.5, delta1=-0.02), "]); its depth is worse: delta1 DiST-T -0.020"),
        (judged(0.0, 0.0), 'use weights="splat": tiny is not clearly better (DiST-T +0.00 dB ['),
        (judged(1.0, 1.0, spread=9), 'use weights="splat": tiny is not clearly better'),
        (judged(1.0, 1.0, count=1), "1 hidden keyframe cannot decide, it takes 6 (DiST-T +0.90 dB,"),
        (judged(-1.0, 1.0, count=5), "5 hidden keyframes cannot decide, it takes 6 (DiST-T -1.00 dB ["),
        (judged(1.0, -0.4), 'use weights="splat": tiny is 0.40 dB worse with DiST-S (DiST-T +1.00 dB ['),
        (judged(-2.0, -0.4), 'use weights="splat": tiny is 2.00 dB worse with DiST-T'),
    ],
)
def test_advice_follows_the_numbers(scores, says):
    sentence = advice("log", scores, "tiny")
    assert sentence.startswith('memory="log": ') and says in sentence
    assert ("depth" in sentence) == ("depth" in says)


def test_table_has_a_line_per_metric_and_has_a_dash_where_nothing_was_judged():
    lines = table(judged(1.0, 0.5)).splitlines()
    assert lines[0].split() == [*COPY.split(), SPLAT, DIST_T, "-", "splat", DIST_S, "-", "splat"]
    assert lines[1].split()[:5] == ["PSNR", "17.000", "20.000", "21.000", "+1.000"]
    assert [line.split()[0] for line in lines[1:]] == ["PSNR", "SSIM", "PSNR", "SSIM", "AbsRel", "delta1"]
    assert lines[3].split() == ["PSNR", "holes", *"------"], "no holes, no score of them"


def test_a_hidden_keyframe_is_in_no_memory(town_dataroot, monkeypatch):
    """Log: all other keyframes; history: earlier ones. The reference is the last one before. Truth is LiDAR's depth."""
    dataset = open_dataset(town_dataroot)
    seen = []

    def of(cls, scene, rig, time, truth, memory, reference, policy, count):
        seen.append((time, truth, [frame.time for frame in memory.frames], reference.time))
        return made(scene, rig, time, truth, memory, reference, policy, count)

    made = HiddenFrame.of
    monkeypatch.setattr(HiddenFrame, "of", classmethod(of))
    monkeypatch.setattr(HiddenFrame, "by_dist_t", lambda self, *how: self.reference)
    monkeypatch.setattr(HiddenFrame, "by_dist_s", lambda self, *how: self.truth)

    class World:
        dist_t = dist_s = None
        policy = PolicyConfig(check=0)

    steps, scene = [], dataset.load(dataset.names()[0])
    memory = Memory.from_log(scene, scene.rig.at_size(*SIZE), 0.0, "log")
    found = compare_on([(scene, memory, 2), (scene, memory, 5)], World(), SIZE, lambda: steps.append(1))
    times = scene.sensors.keyframe_time.tolist()
    assert len(steps) == 4
    for (time, truth, remembered, reference), place in zip(seen, (2, 2, 5, 5), strict=True):
        assert time == pytest.approx(times[place]) and 0.002 < (truth.depth < 100).mean() < 0.9, "depth at LiDAR points alone"
        history = len(remembered) == place
        assert remembered == pytest.approx(times[:place] if history else times[:place] + times[place + 1 :])
        assert reference == pytest.approx(times[place - 1])
    for policy, scores in found.items():
        assert list(scores) == [(scene.name, 2), (scene.name, 5)]
        for row in scores.values():
            assert row[DIST_T]["all"]["psnr"] <= row[COPY]["all"]["psnr"] < row[SPLAT]["all"]["psnr"] < np.inf
            assert row[DIST_T]["all"]["psnr"] == row[COPY]["all"]["psnr"] or policy == "log", "a log has nearer ones after it"
            assert row[DIST_S]["all"]["psnr"] == np.inf and row[DIST_S]["all"]["delta1"] == 1
            assert row[SPLAT]["all"]["delta1"] > 0.8


@pytest.mark.medium
def test_worlds_are_compared_on_the_town(town_dataroot, capsys):
    assert main(["validate", "--dataroot", str(town_dataroot), "--worlds", "--keyframes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 keyframes of 2 scenes hidden and drawn at 64x112" in printed
    for memory, drawn_from in (("log", "all other keyframes"), ("history", "the keyframes before")):
        assert f'memory="{memory}": drawn from {drawn_from}' in printed
        assert f'\nmemory="{memory}": 2 hidden keyframes cannot decide' in printed


def test_images_without_depth_and_lidar_are_one_line(broken_root, capsys):
    for folder in (broken_root / "samples" / "LIDAR_TOP", broken_root / "sweeps"):
        shutil.rmtree(folder)
    assert check_scene(open_dataset(broken_root), "scene-0103").lidar == 0
    assert main(["validate", "--dataroot", str(broken_root), "--worlds"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith("the images of these scenes have no depth, nor LiDAR to make it from") and "\n" not in error


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--weights", "splat"], 'weights="splat" is what others are compared with'),
        (["--weights", "nowhere"], "nowhere"),
        (["--keyframes", "0"], "--keyframes 0: at least one"),
        (["--size", "60x112"], "multiples of 16"),
        (["--size", "big"], "HEIGHTxWIDTH"),
    ],
)
def test_bad_options_are_one_line(arguments, says, town_dataroot, capsys):
    assert main(["validate", "--dataroot", str(town_dataroot), "--worlds", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dist4d_env validate: ") and says in error and len(error) < 300
