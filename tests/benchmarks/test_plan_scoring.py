"""The benchmark of plan scoring: it runs, and what it times is a scene with many agents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.plan_scoring import Options, main, proposals, table, with_agents
from dist4d_env.data.open import open_dataset
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_says_what_was_stored():
    stored = json.loads((ROOT / "benchmarks" / "results" / "plan_scoring.json").read_text())
    assert table(stored["milliseconds"]) in (ROOT / "docs" / "metrics.md").read_text(), "copy the table that the benchmark prints"


def test_runs(town_dataroot, tmp_path):
    out = tmp_path / "plan_scoring.json"
    main(Options(plans=8, agents=20, repeats=1, scenes=1, dataroot=town_dataroot, out=out))
    result = json.loads(out.read_text())
    stages = result["milliseconds"]
    assert {"simulate", "time to collision", "simulate and score v1, faithful", "simulate and score v2, corrected"} <= set(stages)
    assert all(value > 0 for value in stages.values())
    assert list(result["scenes"].values()) == [stages]


def test_the_scene_has_as_many_agents_as_asked(town_dataroot):
    scene = open_dataset(town_dataroot).load("town-val-0000")
    simulator = Simulator(SimulatorConfig(), [scene])
    state = simulator.single(simulator.reset([0], [3.0]), 0)
    around = PlanScene.forecast(state, scene)
    for count in (3, 50):
        more = with_agents(around, state.ego, count)
        assert more.position.shape == (51, count, 2) and more.valid.all()
        assert len(np.unique(more.position[0].round(3), axis=0)) == count
    plans = proposals(scene, state.ego, 64)
    assert plans.shape == (64, 8, 3) and np.ptp(plans[:, -1, 0]) > 20 and np.ptp(plans[:, -1, 1]) > 5
