"""The loading benchmark measures what it says: batches counted after the warm-up, waiting counted as waiting."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.loading import WARM_UP, Options, main, supply, together
from dist4d_env.training.samples import SampleStore


def test_the_loading_benchmark_writes_its_result(store: SampleStore, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(store.folder)
    out = tmp_path / "loading.json"
    main(Options(tmp_path, models=("dist-s",), loaders=(0, 1), batch=1, steps=1, batches=2, out=out))
    row = json.loads(out.read_text())["results"]["dist-s"]
    assert set(row["loaders"]) == {"0", "1"} and min(row["step_ms"], row["step_cpu_ms"], row["batch_cpu_ms"]) > 0
    for told in row["loaders"].values():
        assert told["batches_per_second"] > 0 and 0 < told["waiting"] < 1


def test_waiting_is_the_share_before_the_batch_arrives(monkeypatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    told = together(lambda batch: next(clock), iter([torch.zeros(1)] * (WARM_UP + 4)), torch.device("cpu"))
    # One tick until the batch arrives, two for the step, of which the last is the reading that ends it.
    assert told["waiting"] == 1 / 3 and told["step_ms"] == 3e3


def test_supply_does_not_count_the_warm_up(monkeypatch) -> None:
    monkeypatch.setattr("time.perf_counter", iter([0.0, 2.0]).__next__)
    assert supply(iter(range(9)), 3) == 3.0
