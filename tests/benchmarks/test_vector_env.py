"""The benchmark of the vector environment runs and says what it compares."""

from __future__ import annotations

import json

from benchmarks.vector_env import Options, main


def test_every_row_is_measured(town_dataroot, tmp_path):
    out = tmp_path / "vector_env.json"
    main(Options(counts=(2,), seconds=0.05, rounds=1, yardsticks=False, dataroot=town_dataroot, out=out))
    results = json.loads(out.read_text())["results"]
    for traffic in ("replay", "idm"):
        for name in (f"2 x {traffic}", *(f"simulator alone, 2 x {traffic}, {action}" for action in ("controls", "trajectory"))):
            single, vector = results[f"{name}, single"], results[f"{name}, vector"]
            assert single["per_second"] > 0 and "times_single" not in single
            assert vector["times_single"] == vector["per_second"] / single["per_second"]
        read = {who: results[f"2 x {traffic}, {who}, final read"] for who in ("single", "vector")}
        assert read["vector"]["times_single"] == read["vector"]["per_second"] / read["single"]["per_second"]
    assert results["plans"]["count"] == 64 and results["plans"]["milliseconds"] > 0
