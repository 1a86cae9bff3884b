"""Training on the model's own roll-outs, made anew as it changes: mistakes that it has just learned to make are met at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from dist4d_env.models.presets import Preset
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.loop import LoopOptions, make_accelerator, train
from dist4d_env.training.recipes import make_recipe
from dist4d_env.training.sample_stores import Stores, renew_rollouts, stretch

if TYPE_CHECKING:
    from dist4d_env.training.cli import Options


def train_renewing(options: Options, preset: Preset, stores: Stores, loop: LoopOptions) -> None:
    """``train`` with roll-outs of the weights of step 0, ``renew``, 2 ``renew``, ... (as DAgger does; Ross et al., 2011).

    Every stretch ends with a checkpoint and the next one resumes it, so a killed run goes on bit for bit: no step is taken
    before its roll-outs are whole, and the weights that make them are kept beside them.
    """
    accelerator = make_accelerator()
    done = load_checkpoint(loop.out)["step"] if loop.resume else 0
    for first in range(0, loop.steps, options.renew):
        until = min(first + options.renew, loop.steps)
        if done > until or done == until < loop.steps:
            continue
        if first:
            with accelerator.main_process_first():
                stores = replace(stores, rollouts=renew_rollouts(options, preset, first))
            if accelerator.is_main_process:
                shutil.rmtree(stretch(loop.out, first - options.renew), ignore_errors=True)
        train(make_recipe(options, preset, stores), replace(loop, until=until, resume=loop.resume or first > 0))
