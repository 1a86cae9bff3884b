"""Roll-outs made anew in the course of a run: of the weights as they are then, and the same after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.training import rollout_refresh as renewal
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.cli import Options
from dist4d_env.training.loop import LoopOptions
from dist4d_env.training.rollout_refresh import train_renewing
from dist4d_env.training.sample_stores import prepare_stores, stretch
from dist4d_env.training.samples import SampleStore

from .conftest import small_preset


@pytest.fixture(scope="module")
def options(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Five steps of a small DiST-T whose roll-outs are renewed after every two."""
    torch.manual_seed(0)
    preset, folder = small_preset(), tmp_path_factory.mktemp("renewal")
    parts = RGBDCodec(**preset.codec), DiSTTTransformer(**preset.dist_t), Composer(**preset.composer)
    DiSTTPipeline(*parts).save_pretrained(folder / "weights")
    weights = str(folder / "weights")
    return Options(
        "dist-t", folder, dataroot=town_dataroot, split="val", val_split="none", scenes=1, samples=folder / "samples", workers=1,
        codec=weights, init=weights, rollouts=weights, rollout_share=1.0, renew=2, steps=5, batch=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(options: Options) -> Path:
    """A run from its first step to its last."""
    go(options, options.out / "whole")
    return options.out / "whole"


def go(options: Options, out: Path, resume: bool = False) -> None:
    chosen = replace(options, out=out, resume=resume)
    loop = LoopOptions(out, chosen.steps, warmup=1, ema=0.5, log_every=1, validate_every=10**6, checkpoint_every=0, resume=resume)
    train_renewing(chosen, small_preset(), prepare_stores(chosen, small_preset()), loop)


def test_roll_outs_are_renewed_with_the_weights_of_their_step(options: Options, whole: Path) -> None:
    assert [path.name for path in (whole / "rollouts").iterdir()] == ["000004"], "earlier ones are cleared away"
    renewed = SampleStore(stretch(whole, 4) / "samples").scenes[0].arrays
    first = SampleStore(options.samples / "rollouts").scenes[0].arrays  # type: ignore[operator]
    np.testing.assert_array_equal(renewed["target"], first["target"])
    assert not np.array_equal(renewed["made_rgb"], first["made_rgb"]), "other weights make other frames"
    assert load_checkpoint(whole)["step"] == 5


@pytest.mark.parametrize("where", ["before the roll-outs", "after a step with them"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    options: Options, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    class Killed(Exception):
        pass

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        if where == "before the roll-outs":
            patch.setattr(renewal, "renew_rollouts", lambda *_: (_ for _ in ()).throw(Killed))
        else:
            train = renewal.train

            def stops_at_three(recipe: object, loop: LoopOptions) -> None:
                train(recipe, replace(loop, until=min(loop.until or 5, 3)))  # type: ignore[arg-type]
                if loop.until == 4:
                    raise Killed

            patch.setattr(renewal, "train", stops_at_three)
        with pytest.raises(Killed):
            go(options, broken)
    assert load_checkpoint(broken)["step"] == (2 if where == "before the roll-outs" else 3)
    go(options, broken, resume=True)
    for part in ("models", "average"):
        for name, tensors in load_checkpoint(whole)[part].items():
            for key, tensor in tensors.items():
                assert torch.equal(load_checkpoint(broken)[part][name][key], tensor), (name, key)
    losses = [[json.loads(x).get("loss") for x in (run / "log.jsonl").read_text().splitlines()] for run in (broken, whole)]
    assert losses[0] == losses[1]
