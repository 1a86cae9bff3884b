"""Open-loop samples of scenes: frames, ends of scenes, and real logs."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.metrics.foreign.open_loop import CLASSES, open_loop
from dist4d_env.metrics.foreign.open_loop_hits import exact_hits
from dist4d_env.metrics.foreign.open_loop_scene import LIDAR_AHEAD, joined, open_loop_samples
from tests.simulation.road import Agent, make_scene

REAL = ("scene-0061", "scene-0103", "scene-0655", "scene-0796", "scene-1094")


def cruise(samples, speed=8.0, poses=8, dt=0.5):
    plans = np.zeros((samples, poses, 3))
    plans[..., 0] = speed * dt * np.arange(1, poses + 1)
    return plans


def test_the_log_itself_is_no_distance_away():
    scene = make_scene(Agent(60.0, 3.5, -4.0))
    samples = open_loop_samples(scene, np.array([0.0, 2.0, 7.0, 8.0]), cruise(4))
    assert samples.mask.sum(1).tolist() == [6, 6, 6, 4]
    assert samples.predicted[samples.mask] == pytest.approx(samples.truth[samples.mask], abs=1e-6)
    assert samples.agents.position[1, 0, 0] == pytest.approx([60 - 4 * 2.5 - 16 - LIDAR_AHEAD, 3.5])
    assert not samples.agents.valid[3, 4:].any() and samples.agents.valid[3, :4].all()


def test_the_lidar_swings_out_in_a_turn():
    plans = cruise(1)
    plans[..., 2] = np.pi / 2
    predicted = open_loop_samples(make_scene(), np.array([0.0]), plans).predicted
    assert predicted[0, 5] == pytest.approx([24.0 - LIDAR_AHEAD, LIDAR_AHEAD, np.pi / 2])


def test_plans_of_another_rate_and_too_short_ones():
    scene = make_scene()
    fine = open_loop_samples(scene, np.array([1.0]), cruise(1, poses=30, dt=0.1), dt=0.1)
    assert fine.predicted == pytest.approx(open_loop_samples(scene, np.array([1.0]), cruise(1)).predicted)
    with pytest.raises(ConfigError, match="3 s"):
        open_loop_samples(scene, np.array([1.0]), cruise(1, poses=5))
    with pytest.raises(ConfigError, match="10 s"):
        open_loop_samples(scene, np.array([11.0]), cruise(1))


def test_scenes_with_different_numbers_of_agents_join():
    parts = [make_scene(), make_scene(Agent(30.0, 0.0), Agent(50.0, 3.5))]
    both = joined([open_loop_samples(scene, np.array([0.0, 2.0]), cruise(2)) for scene in parts])
    score = open_loop(both.predicted, both.truth + np.array([0.0, 40.0, 0.0]), both.agents, form="corrected", mask=both.mask)
    assert both.agents.valid.sum(2).tolist() == [[0] * 6] * 2 + [[2] * 6] * 2
    assert score.samples == 4 and score.collision_steps.tolist() == [0, 0, 0.25, 0.25, 0, 0]  # at 2 s it is 14 m ahead


@pytest.fixture(scope="module")
def real(nuscenes_real):
    dataset = open_dataset(str(nuscenes_real))
    return [dataset.load(name) for name in REAL]


def test_real_logs_hit_nothing_and_standing_still_is_far_from_them(real):
    parts = []
    for scene in real:
        time = np.arange(0.0, scene.duration, 1.0)
        parts.append(open_loop_samples(scene, time, np.zeros((len(time), 6, 3))))
    samples = joined(parts)
    counts = samples.agents.valid & np.isin(samples.agents.category, range(len(CLASSES["stp3"]) - 1))[:, None]
    agents = zip(samples.agents.position, samples.agents.yaw, samples.agents.size, counts, strict=True)
    assert not np.any([exact_hits(path, *boxes) for path, boxes in zip(samples.truth, agents, strict=True)])
    for protocol in CLASSES:
        still = open_loop(samples.predicted, samples.truth, samples.agents, protocol, mask=samples.mask)
        log = open_loop(samples.truth, samples.truth, samples.agents, protocol, mask=samples.mask)
        assert (np.diff(still.l2) > 0).all() and still.l2[2] > 1.0
        assert (log.l2 == 0).all() and (log.collision == 0).all() and log.samples == still.samples > 50
