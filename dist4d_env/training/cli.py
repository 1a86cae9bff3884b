"""``python -m dist4d_env train codec|dist-t|dist-s|cycle``: samples from a data set, then one recipe."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from dist4d_env.errors import ConfigError

OPTIONS = "options.json"
KEPT = (
    "model", "preset", "sizes", "also", "codec", "rollouts", "rollout_share", "renew", "adversarial", "obedience", "decoder",
    "emphasis", "distil", "teacher_steps", "guidance", "batch", "seed",
)  # fmt: skip
"""Options that a resumed run keeps, for it to be the same run."""


@dataclass(frozen=True)
class Options:
    """Train one of the models on a nuScenes-format data set with metric depth."""

    model: Positional[Literal["codec", "dist-t", "dist-s", "cycle"]]
    """What to train. dist-t needs a trained codec (--codec); cycle is the second stage of dist-s (--init: its first)."""
    out: Path
    """The run's folder: checkpoint, log.jsonl, tensorboard/, options.json and weights/, which --weights of other verbs takes."""
    dataroot: Path | None = None
    """Data set (default: $NUSCENES, else the built-in town)."""
    version: str | None = None
    """Version folder of the data set; found by itself where there is one."""
    split: str = "train"
    """Split or scene to train on."""
    val_dataroot: Path | None = None
    """Data set to validate on (default: the same)."""
    val_split: str = "val"
    """Split or scene to validate on; "none" validates on training samples."""
    also: Path | None = None
    """Another data set whose training samples, of keyframes one after the other, are mixed in, half and half."""
    scenes: int | None = None
    """Use only so many scenes."""
    strides: tuple[int, ...] = (1,)
    """Keyframes from one frame of a sample to the next, one of these drawn for each: several where keyframes are dense."""
    samples: Path | None = None
    """Folder of prepared samples, shared between runs (default: OUT/samples)."""
    workers: int = 2
    """Processes that make samples."""
    prepare_only: bool = False
    """Make the samples and stop."""
    preset: str = "tiny"
    """Sizes of images and models."""
    sizes: tuple[str, ...] = ()
    """Image sizes to mix, such as 64x112 128x224 (default: the preset's); each step draws one."""
    codec: str | None = None
    """For dist-t: folder with codec/ inside (OUT/weights of a codec run), or a shipped preset's name."""
    init: str | None = None
    """Start from the weights in this folder, or from a shipped preset; a model that the folder lacks starts fresh."""
    rollouts: str | None = None
    """For dist-t: train also on what these weights (a folder or a shipped preset) make when rolled out."""
    rollout_share: float = 0.4
    """For dist-t with --rollouts: share of the steps that train on them."""
    renew: int = 0
    """For dist-t with --rollouts: after every so many steps, roll out the weights as they are then, on a quarter of the scenes,
    and go on with that; 0 stays with the first roll-outs."""
    adversarial: float = 0.0
    """For dist-t with --rollouts: weight of a discriminator's gradient where pixels cannot be known; 0 trains none."""
    obedience: float = 0.0
    """The same of a reader that tells whether road and traffic are seen where they are."""
    decoder: bool = False
    """For dist-t: train the decoder of --codec too; its encoder stays as it is."""
    emphasis: float = 2.0
    """For dist-t: how much more the pixels of markings and agents weigh in the loss; 0: as much as others."""
    distil: str | None = None
    """For dist-t: learn what these weights (a folder or a shipped preset) make of the noise, instead of the truth."""
    teacher_steps: int = 30
    """With --distil: network evaluations of the teacher."""
    guidance: float = 1.0
    """With --distil: the teacher's classifier-free guidance towards the controls; 1 is none."""
    steps: int = 6000
    """Optimiser steps; a run resumed with more goes on."""
    batch: int = 4
    """Frames of six cameras per step and process, at the preset's size; other sizes take as many as make the same pixels."""
    learning_rate: float = 1e-3
    """Plateau of the learning rate."""
    decay: float = 0.3
    """Share of the steps over which the learning rate falls to zero."""
    seed: int = 0
    """Seed of samples, weights and noise."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; weights and losses stay in float32. auto: bfloat16 on GPUs that have it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    loaders: int | None = None
    """Processes that make batches ahead of the step; 0 makes each when it is needed (default: 4 for a GPU, 0 for a CPU)."""
    validate_every: int = 1000
    """Steps between validations."""
    checkpoint_every: float = 180.0
    """Seconds between checkpoints; a killed run loses no more."""
    resume: bool = False
    """Go on from the checkpoint in OUT."""


def run(options: Options) -> int:
    """Prepare samples, train, write weights; 0 when done."""
    from dist4d_env.models.presets import preset as preset_named
    from dist4d_env.training.loop import LoopOptions, make_accelerator, train
    from dist4d_env.training.recipes import make_recipe
    from dist4d_env.training.rollout_refresh import train_renewing
    from dist4d_env.training.sample_stores import prepare_stores

    check(options)
    preset = preset_named(options.preset)
    if options.out.is_dir() and (options.out / "checkpoint.pt").exists() and not options.resume:
        raise ConfigError(f"{options.out} already holds a run: go on with --resume or choose another --out")
    accelerator = make_accelerator()
    with accelerator.main_process_first():
        stores = prepare_stores(options, preset)
    if options.prepare_only:
        return 0
    if accelerator.is_main_process:
        _write_options(options)
    loop = LoopOptions(
        out=options.out,
        steps=options.steps,
        learning_rate=options.learning_rate,
        decay=options.decay,
        seed=options.seed,
        validate_every=options.validate_every,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        loaders=options.loaders,
    )
    if options.renew:
        train_renewing(options, preset, stores, loop)
    else:
        train(make_recipe(options, preset, stores), loop)
    return 0


def check(options: Options) -> None:
    """Raise ``ConfigError`` where options do not go together."""
    if options.model == "dist-t" and options.codec is None:
        raise ConfigError("dist-t needs a codec: train one and pass --codec RUN/weights, or --codec tiny for the shipped one")
    if options.model == "cycle" and options.init is None:
        raise ConfigError("cycle goes on from a trained DiST-S: pass --init RUN/weights of a dist-s run, or --init tiny")
    for name in ("codec", "rollouts", "renew", "adversarial", "obedience", "decoder", "emphasis", "distil"):
        if options.model != "dist-t" and getattr(options, name) != getattr(Options, name):
            raise ConfigError(f"--{name} is for dist-t alone: leave it out for {options.model}")
    for name in ("adversarial", "obedience"):
        if getattr(options, name) and options.rollouts is None:
            raise ConfigError(f"--{name} judges roll-outs: pass --rollouts WEIGHTS too")
    if options.emphasis < 0:
        raise ConfigError(f"--emphasis is 0 or more, not {options.emphasis}")
    for name in ("teacher_steps", "guidance"):
        if options.distil is None and getattr(options, name) != getattr(Options, name):
            raise ConfigError(f"--{name.replace('_', '-')} is the teacher's: pass --distil WEIGHTS too")
    if options.renew < 0 or (options.renew and options.rollouts is None):
        raise ConfigError(
            "--renew counts steps between roll-outs, 1 or more; pass --rollouts WEIGHTS, the first to roll out, too"
        )
    if not 0 <= options.rollout_share <= 1:
        raise ConfigError(f"--rollout-share is a share of the steps, 0 to 1, not {options.rollout_share}")
    if options.resume and (options.out / OPTIONS).is_file():
        before, now = json.loads((options.out / OPTIONS).read_text()), _plain(options)
        for name in KEPT:
            if name in before and before[name] != now[name]:
                raise ConfigError(
                    f"{options.out} was begun with {name} {before[name]}, not {now[name]}: resume it so, or start another run "
                    f"from its weights with --init {options.out / 'weights'}"
                )


def _plain(options: Options) -> dict[str, Any]:
    """The options as JSON holds them."""
    return json.loads(json.dumps(asdict(options), default=str))


def _write_options(options: Options) -> None:
    """Keep the options beside the weights."""
    options.out.mkdir(parents=True, exist_ok=True)
    temporary = options.out / f".{OPTIONS}.{os.getpid()}"
    temporary.write_text(json.dumps(_plain(options), indent=2) + "\n")
    os.replace(temporary, options.out / OPTIONS)
