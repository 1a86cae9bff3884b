"""A run that is killed without warning goes on bit for bit; what a kill leaves half written does no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.run_log import truncate_log
from dist4d_env.training.samples import SampleStore
from tests.models.made import small_preset

pytestmark = pytest.mark.medium


LONG = 10**6


def go(samples: str, out: str, steps: int, resume: bool = False) -> None:
    """Train DiST-S with a checkpoint after every step, batches made ahead in a worker process."""
    recipe = DiSTSRecipe(small_preset(), SampleStore(Path(samples)), None, 1, 0)
    options = LoopOptions(
        Path(out), steps, warmup=2, decay=1e-9, log_every=1, validate_every=LONG, checkpoint_every=0, resume=resume, loaders=1
    )
    train(recipe, options)


def kill_after_steps(store: SampleStore, out: Path, steps: int) -> None:
    """Start a long run in a process of its own and kill it, without warning, once it has done so many steps."""
    code = f"from training.test_resume import LONG, go; go({str(store.folder)!r}, {str(out)!r}, LONG)"
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    errors, log = out.with_suffix(".stderr"), out / "log.jsonl"
    with errors.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stderr=stderr)
    while not (log.is_file() and log.read_text().count("\n") > steps and (out / "checkpoint.pt").is_file()):
        assert process.poll() is None, errors.read_text()
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_killed_run_goes_on_bit_for_bit(store: SampleStore, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_after_steps(store, killed, 3)
    done = load_checkpoint(killed)["step"]
    # What a kill in the middle of writing leaves behind.
    (killed / ".checkpoint.pt.1").write_bytes(b"half")
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')
    go(str(store.folder), str(killed), done + 2, resume=True)
    go(str(store.folder), str(whole), done + 2)

    found, wanted = load_checkpoint(killed), load_checkpoint(whole)
    assert found["step"] == wanted["step"] == done + 2
    for key, tensor in wanted["models"]["dist_s"].items():
        assert torch.equal(found["models"]["dist_s"][key], tensor), key
    pairs = zip(found["average"]["shadow_params"], wanted["average"]["shadow_params"], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    weights = Path("weights/dist_s/model.safetensors")
    assert (killed / weights).read_bytes() == (whole / weights).read_bytes()
    losses = [[json.loads(x).get("loss") for x in (run / "log.jsonl").read_text().splitlines()] for run in (killed, whole)]
    assert losses[0] == losses[1]
    assert sorted(path.name for path in killed.iterdir()) == ["checkpoint.pt", "log.jsonl", "tensorboard", "weights"]


def test_a_log_is_cut_at_the_step_and_at_a_torn_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    truncate_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
