"""Several processes: each takes batches of its own, all step with the mean of their gradients, one writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.dist_s import DiSTSBatch, DiSTSRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.samples import SampleStore
from tests.models.made import small_preset

pytestmark = pytest.mark.medium


def go(samples: str, out: str, kind: type[DiSTSRecipe] = DiSTSRecipe) -> DiSTSRecipe:
    """Two steps of DiST-S, one sample per process."""
    recipe = kind(small_preset(), SampleStore(Path(samples)), None, 1, 0)
    train(recipe, LoopOptions(Path(out), 2, learning_rate=1e-6, warmup=1, log_every=1))
    return recipe


class Both(DiSTSRecipe):
    """One process that takes the batches of two."""

    def batch(self, step: int, rank: int = 0) -> tuple[DiSTSBatch, DiSTSBatch]:  # type: ignore[override]
        return super().batch(step, 0), super().batch(step, 1)

    def loss(self, batch: tuple[DiSTSBatch, DiSTSBatch], step: int) -> tuple[torch.Tensor, dict]:  # type: ignore[override]
        first, second = (super(Both, self).loss(one, step)[0] for one in batch)
        return (first + second) / 2, {}


def test_two_processes_step_like_one_with_both_batches(store: SampleStore, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    shared = os.environ | {"PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if torch.accelerator.is_available():  # which processes would share; elsewhere they find each other as torchrun starts them
        shared["ACCELERATE_USE_CPU"] = "true"
    code = f"from training.test_processes import go; go({str(store.folder)!r}, {str(tmp_path / 'two')!r})"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    go(str(store.folder), str(tmp_path / "one"), Both)

    two, one = (load_checkpoint(tmp_path / run)["optimizer"]["state"] for run in ("two", "one"))
    for index, state in one.items():
        torch.testing.assert_close(two[index]["exp_avg"], state["exp_avg"], rtol=1e-3, atol=1e-7)
    steps = [json.loads(line)["step"] for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 2], "one process alone writes the log"
