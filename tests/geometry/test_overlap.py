"""Places that several frames show: the most useful one's depth counts, and colours lie between those before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.geometry.depth import SplatConfig
from dist4d_env.geometry.overlap import overlap
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from tests.geometry.analytic import make_rig, render
from tests.geometry.test_splat import at


@pytest.fixture(scope="module")
def rig():
    return make_rig(32, 56)


def frame(rig, x, time, **changes):
    pose, boxes, _ = at(x, 0, 0, time)
    shown = render(rig, pose, boxes, time)
    return SplatSource.from_frame(replace(shown, **{name: change(shown) for name, change in changes.items()}), boxes)


def rendered(rig, sources, x, time, config=SplatConfig()) -> Splat:  # noqa: B008
    pose, boxes, _ = at(x, 0, 0, time)
    poses = render(rig, pose, boxes, time).global_from_camera
    return splat(sources, rig.intrinsics, poses, (rig.height, rig.width), boxes, time, config)


def test_what_an_earlier_source_shows_is_left_out_and_the_rest_is_kept(rig):
    newest, older = frame(rig, 0, 0.0), frame(rig, -2, -0.5)
    first, second = overlap([newest, older])
    assert not first.any()
    known = older.keep & (older.frame.depth < FAR)
    assert 0.3 < second[known].mean() < 0.95
    lone = overlap([older])[0]
    assert not lone.any()


def test_the_sky_of_all_sources_counts(rig):
    newest, older = frame(rig, 0, 0.0), frame(rig, -2, -0.5)
    sky = older.keep & (older.frame.depth == FAR)
    assert sky.mean() > 0.1 and not overlap([newest, older])[1][sky].any()


def test_agents_are_left_as_they_are(rig):
    newest, older = frame(rig, 0, 0.0), frame(rig, -3, -0.5)
    agents = (older.owner >= 0) & older.keep
    assert agents.sum() > 10
    assert not overlap([newest, older])[1][agents].any()


def test_depth_too_near_in_an_older_frame_does_not_cover_what_the_newest_has_right(rig):
    def too_near(shown):
        noise = np.random.default_rng(0).random(shown.depth.shape) < 0.3
        return np.where(noise, shown.depth * 0.8, shown.depth)

    newest, older = frame(rig, 0, 0.0), frame(rig, -0.5, -0.5, depth=too_near)
    truth = render(rig, at(0.3, 0, 0, 0.1)[0], at(0.3, 0, 0, 0.1)[1], 0.1)
    wrong = {}
    for asked in (True, False):
        got = rendered(rig, [newest, older], 0.3, 0.1, SplatConfig(overlap=asked))
        solid = got.valid & (truth.depth < FAR)
        wrong[asked] = np.mean(np.abs(got.depth / truth.depth - 1)[solid] > 0.1)
    assert wrong[True] < 0.5 * wrong[False]


def test_a_near_point_where_another_frame_has_sky_is_kept(rig):
    def sky(shown):
        return np.full_like(shown.depth, FAR)

    newest, older = frame(rig, 0, 0.0, depth=sky), frame(rig, 0, -0.5)
    near = older.keep & (older.frame.depth < FAR / 4) & (older.owner < 0)
    assert near.any() and not overlap([newest, older])[1][near].any()


def test_between_two_frames_colours_go_from_one_to_the_other_with_time(rig):
    def grey(level):
        return lambda shown: np.full_like(shown.rgb, level)

    before, after = frame(rig, 0, 0.0, rgb=grey(100)), frame(rig, 2, 1.0, rgb=grey(200))
    earlier = frame(rig, -1, -0.5, rgb=grey(0))
    between = rendered(rig, [before, after, earlier], 1, 0.4)
    shown = between.rgb[between.valid][:, 0]
    mixed = shown == 140  # two fifths of the way
    assert 0.3 < mixed.mean() and set(np.unique(shown[~mixed])) <= {0, 100, 120, 200}  # 120: from -0.5 to 1
    ahead = rendered(rig, [before, earlier], 1, 0.4)
    assert set(np.unique(ahead.rgb[ahead.valid])) <= {0, 100}


def test_pairs_are_remembered_and_forgotten_with_their_frames(rig):
    from dist4d_env.geometry.overlap import _known

    newest, older = frame(rig, 0, 0.0), frame(rig, -2, -0.5)
    once, again = (overlap([newest, older])[1] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    pairs = _known[newest]
    assert len(pairs) == 1
    del older
    assert not len(pairs)
