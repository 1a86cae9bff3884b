"""What the benchmark of adapting lets it see, and what it judges."""

from __future__ import annotations

from benchmarks import adaptation, real
from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import check_scene


def test_the_clip_is_cut_to_a_data_set_of_its_own(kitti_real, tmp_path):
    adaptation.cut(kitti_real, tmp_path / "known", 30)
    dataset, whole = open_dataset(tmp_path / "known"), open_dataset(kitti_real)
    check = check_scene(dataset, adaptation.SCENE)
    assert (check.keyframes, check.images, check.lidar, check.broken) == (30, 30, 30, ())
    assert not dataset.faults(), "nothing in the tables leads to what was cut off"
    scenes = [one.load(adaptation.SCENE) for one in (dataset, whole)]
    assert scenes[0].sensors.keyframe_time.tolist() == scenes[1].sensors.keyframe_time[:30].tolist()
    assert scenes[0].sensors.image_path(29, 0).samefile(scenes[1].sensors.image_path(29, 0))


def test_only_later_frames_are_judged(monkeypatch):
    monkeypatch.setattr(real.Clip, "__init__", lambda self: None)
    clip = adaptation.Later()
    clip.stride, clip.frames = 2, [None] * 77
    clip.case = lambda protocol, mark, reference, target, remembered: real.Case(protocol, mark, None, reference, target)
    targets = {case.target for case in clip.cases()}
    assert min(targets) == 30 and max(targets) < real.MOVING
    assert {case.protocol for case in clip.cases()} == {"next_frame", "between"}
