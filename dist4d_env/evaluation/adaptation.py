"""``python -m dist4d_env adapt``: fine-tune weights on somebody's own scenes, and keep what is better on keyframes held out."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import arg

from dist4d_env import json_output
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.data.tables import read_json
from dist4d_env.data.validate import SceneCheck, check_scene
from dist4d_env.errors import ConfigError, DataError, check_ranges
from dist4d_env.evaluation.choice import Choice, candidates, choose, draw_all, gains_of, set_gains
from dist4d_env.evaluation.held_out import (
    DIST_S,
    DIST_T,
    NEIGHBOURS,
    SPLAT,
    Hidden,
    Key,
    Scores,
    compare_on,
    hidden_keyframes,
    keyframe_at,
    moving_frames,
    psnr_of,
    summary,
    table,
)
from dist4d_env.evaluation.statistics import compare
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.progress import Progress, noun
from dist4d_env.scenes.files import replacing_folder, write_text
from dist4d_env.town.writer import write_dataset
from dist4d_env.training import adapting
from dist4d_env.training.checkpoint import CHECKPOINT
from dist4d_env.training.loop import LARGEST_SEED, LoopOptions, make_accelerator, train
from dist4d_env.training.prepare import outdated, prepare
from dist4d_env.training.samples import SETTINGS, SampleSettings, SampleStore, read_settings, write_settings
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.memory import Memory, MemoryPolicy

HELD_OUT = 0.2
"""Share of the keyframes at which a scene's car moves that is held out: the last ones, as neighbours in time look alike."""
LEAST_KNOWN = 3
"""Keyframes of a scene before those held out, for samples to be made from."""
APART = (0.1, 0.2, 0.5)
"""Seconds between the frames of a sample and to the nearest remembered one, where keyframes are that dense."""
TOWN_SECONDS, TOWN_JUDGED, TOWN_KEYFRAMES = 8.0, 2, 8
"""Seconds of the town's scenes, how many are judged, and on how many keyframes."""
MOST_MINUTES = 525600
"""Of training: a year."""
PLAN = "plan.json"
"""File of the folder work that says what it is made with."""
RECORD = "adapted.json"
"""File of OUT that is written last."""
Found = dict[MemoryPolicy, dict[Key, Scores]]


@dataclass(frozen=True)
class Options:
    """Fine-tune weights on your own scenes, with some of the town mixed in.

    Images need depth (``prepare``). The last keyframes of each scene are held out; on them what is better is kept, part by part,
    and the gain is printed, before and after. Run again after an interruption, the same command goes on where it was.
    """

    out: Path
    """Folder of the adapted weights, which weights= and --weights take then; work/ in it is what a rerun goes on from."""
    dataroot: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Your data set (default: $NUSCENES, else the built-in town)."""
    version: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Version folder of the data set; found by itself where there is one."""
    scenes: tuple[str, ...] = ("all",)
    """Splits or scene names to adapt to."""
    minutes: float = 30.0
    """Minutes of training, as on a machine that does nothing else; 0 makes the samples and compares. Samples and comparisons come
    on top."""
    weights: str = "tiny"
    """Weights to start from: a shipped preset or a folder."""
    keyframes: int = 24
    """Most keyframes that are drawn to compare, of those held out."""
    town: int = 6
    """Scenes of the town that are mixed in, a third of the steps; 0 for none."""
    batch: int = 2
    """Frames of all cameras per step and process."""
    learning_rate: float = 4e-4
    """Plateau of the learning rate."""
    seed: int = 0
    """Seed of samples and noise."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks in training. auto: bfloat16 on GPUs that have it."""
    workers: int = 2
    """Processes that make samples."""

    def check(self) -> None:
        """Raises ConfigError for what cannot be asked for."""
        if self.weights == "splat":
            raise ConfigError('weights="splat" is no model: start from a preset or a folder')
        some, any_number = (1, math.inf), (0, math.inf)
        check_ranges(self, minutes=(0, MOST_MINUTES), keyframes=some, town=any_number, batch=some, workers=some)
        check_ranges(self, seed=(0, LARGEST_SEED))
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"--learning-rate {self.learning_rate}: give a number above 0 and at most 1")
        if self.out.is_dir() and any(self.out.iterdir()) and not self.work.is_dir():
            if (self.out / RECORD).is_file():
                raise ConfigError(f"{self.out} holds finished weights: choose another --out, or delete it")
            raise ConfigError(f"{self.out} holds something else: choose another --out")

    @property
    def work(self) -> Path:
        """Samples, runs and what else a rerun goes on from."""
        return self.out / "work"


@dataclass(frozen=True)
class Material:
    """What is trained on and judged by. size: height, width; held_out: by scene its first keyframe held out; hidden, town:
    keyframes to draw; stores: of samples, the own ones twice where the town is mixed in."""

    size: tuple[int, int]
    held_out: dict[str, int]
    hidden: list[Hidden]
    town: list[Hidden]
    stores: list[SampleStore]


@dataclass
class Clock:
    """Seconds that each stage took, said as it ends."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def end(self, stage: str) -> None:
        """A stage ends and the next begins."""
        now = time.monotonic()
        self.seconds[stage], self.began = round(now - self.began, 1), now
        print(f"{stage}: {self.seconds[stage]:.0f} s", flush=True)


def run(options: Options) -> int:
    """Adapts, compares, writes the weights; 0 when done. Raises ConfigError, DataError or WeightsError."""
    options.check()
    start, clock = resolve_weights(options.weights), Clock()
    accelerator = make_accelerator()
    main, device = accelerator.is_main_process, accelerator.device
    with accelerator.main_process_first():
        plan_of(options)
        material = gather(options, start, accelerator.print)
    before: Found = {"log": {}, "history": {}}
    if main:
        clock.end("samples")
        before = drawn_by(options.weights, material.hidden, material.size)
        report(f"{options.weights}, before", before)
        clock.end("comparison before")
    if options.minutes == 0:
        if main:
            json_output.result(
                {"samples": options.work / "samples", "before": {memory: summary(scores) for memory, scores in before.items()}}
            )
        return 0
    for part, share in adapting.parts_of(adapting.preset_of(start)).items():
        codec = options.work / "codec" / "weights" / "codec"
        codec = codec if codec.is_dir() else start / "codec"
        recipe = adapting.recipe_of(part, start, codec, material.stores, options.batch, options.seed)
        if main and part not in read_plan(options)["steps"]:
            steps = adapting.steps_within(recipe, 60 * options.minutes * share, device, options.precision)
            plan = read_plan(options)
            write_plan(options, plan | {"steps": plan["steps"] | {part: steps}})
        accelerator.wait_for_everyone()
        train(recipe, loop(options, part, read_plan(options)["steps"][part]))
        if main:
            clock.end(f"training {part}")
    if main:
        finish(options, start, material, before, clock)
    return 0


def loop(options: Options, part: str, steps: int) -> LoopOptions:
    """Options of a part's training, which goes on from its checkpoint where there is one."""
    out = options.work / part
    return LoopOptions(
        out, steps, options.learning_rate, warmup=max(1, steps // 20), decay=0.7, log_every=10, validate_every=0,
        checkpoint_every=60.0, resume=(out / CHECKPOINT).exists(), precision=options.precision,
    )  # fmt: skip


def begin(options: Options) -> None:
    """Writes down what OUT is made with, where that is new. Raises as ``plan_of``."""
    plan = plan_of(options)
    if not (options.work / PLAN).is_file() or plan["options"] != read_plan(options)["options"]:
        write_plan(options, plan)


def plan_of(options: Options) -> dict[str, Any]:
    """The plan that OUT goes on with. Raises ConfigError where it is being trained with other options, DataError where its plan
    cannot be read."""
    asked = {name: value for name, value in asdict(options).items() if name not in ("out", "workers")}
    now = json.loads(json.dumps(asked, default=str))
    if not (options.work / PLAN).is_file() and not trained(options):
        return {"options": now, "steps": {}}
    plan = read_plan(options)
    for name, value in now.items():
        if (was := plan["options"].get(name)) != value:
            if not trained(options):
                return {"options": now, "steps": {}}
            raise ConfigError(
                f"{options.out} was begun with {name} {was}, not {value}: run it so, choose another --out, or delete it"
            )
    return plan


def trained(options: Options) -> bool:
    """Whether OUT holds a part that has been trained, if only in part."""
    return any((options.work / part / CHECKPOINT).exists() for part in adapting.SHARES)


def read_plan(options: Options) -> dict[str, Any]:
    """The options that OUT was begun with, and the steps of each part once they are known. Raises DataError."""
    remedy = f"delete {options.work} and run adapt again"
    plan = read_json(options.work / PLAN, remedy)
    known, steps = map(plan.get, ("options", "steps")) if type(plan) is dict else (None, None)
    if type(known) is not dict or type(steps) is not dict or any(type(n) is not int or n < 1 for n in steps.values()):
        raise DataError(f"{options.work / PLAN}: it is no plan of adapt; {remedy}")
    return dict(plan)


def write_plan(options: Options, plan: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_text(options.work / PLAN, json.dumps(plan, indent=1) + "\n")


def gather(options: Options, start: Path, say: Callable[[str], None]) -> Material:
    """Holds keyframes out and makes what samples are missing. Raises DataError where there is nothing to adapt to."""
    preset = adapting.preset_of(start)
    size = (preset.height, preset.width)
    dataset = open_dataset(options.dataroot, options.version, options.scenes)
    checks = usable(dataset, dataset.scene_names(options.scenes), say)
    held_out, apart = hold_out(dataset, checks, size)
    hidden = [
        thinned(one, apart[index % len(apart)])
        for index, one in enumerate(hidden_keyframes(dataset, checks, options.keyframes, size, held_out))
    ]
    made = SampleSettings(*size, chunk=preset.chunk, seed=options.seed)
    own = replace(made, strides=apart, flawed=0.0, held_out=tuple(sorted(held_out.items())))  # recorded frames err by themselves
    begin(options)
    names = [check.name for check in checks]
    make_samples(options, dataset, names, options.work / "samples", own)
    stores, town = [SampleStore(options.work / "samples", names)], []
    if options.town:
        place = options.work / f"town-{options.town}"
        if not place.is_dir():
            counts = {"train": options.town, "val": TOWN_JUDGED}
            write_dataset(place, tuple(counts), counts, size, duration=TOWN_SECONDS, workers=options.workers)
        streets = open_dataset(place)
        samples = options.work / f"{place.name}-samples"
        train = streets.scene_names("train")
        make_samples(options, streets, train, samples, made)
        stores = [*stores, *stores, SampleStore(samples, train)]
        town = hidden_keyframes(streets, usable(streets, streets.scene_names("val"), say), TOWN_KEYFRAMES, size)
    return Material(size, held_out, hidden, town, stores)


def make_samples(options: Options, dataset: Dataset, names: Sequence[str], folder: Path, settings: SampleSettings) -> None:
    """Makes what samples are missing, and those anew that are of other files or settings. Raises ConfigError where training has
    begun on such."""
    others = (folder / SETTINGS).is_file() and read_settings(folder) != settings
    if trained(options) and (others or outdated(dataset, names, folder)):
        raise ConfigError(
            f"{dataset.dataroot} has changed since {options.out} was begun: choose another --out, or delete {options.work}"
        )
    if others:
        with replacing_folder(folder) as fresh:
            write_settings(fresh, settings)
    prepare(dataset, names, folder, settings, options.workers)


def usable(dataset: Dataset, names: Sequence[str], say: Callable[[str], None]) -> list[SceneCheck]:
    """Scenes that have enough keyframes with images and depth; others are named and left out. Raises DataError."""
    with Progress("reading", "scene", len(names)) as progress:
        checks = []
        for name in names:
            checks.append(check_scene(dataset, name))
            progress.update()
    for check in checks:
        if check.broken:
            words = check.broken[0].removeprefix(f"{check.name}: ")
            raise DataError(f"scene {check.name}: {words}; else leave the scene out of --scenes")
    few = [check for check in checks if check.depth < LEAST_KNOWN]
    if len(few) == len(checks):
        hidden_keyframes(dataset, checks, 1, (64, 112))  # says what is missing
    if few:
        left_out = ", ".join(check.name for check in few[:4]) + (f" and {len(few) - 4} more" if len(few) > 4 else "")
        say(f"left out, fewer than {LEAST_KNOWN} keyframes with images and depth: {left_out}")
    return [check for check in checks if check.depth >= LEAST_KNOWN]


def hold_out(dataset: Dataset, checks: Sequence[SceneCheck], size: tuple[int, int]) -> tuple[dict[str, int], tuple[int, ...]]:
    """By scene the first keyframe held out, where the car moves at enough of them, and how many keyframes apart the frames of a
    sample are. Later keyframes, at which the car may stand, are left out as well: they show what is held out."""
    first, interval = {}, []
    for check in checks:
        scene = dataset.load(check.name)
        memory = Memory.from_log(scene, scene.rig.at_size(*size), 0.0, "log")
        interval.append(float(np.median(np.diff([frame.time for frame in memory.frames]))))
        moving = moving_frames(memory)
        place = moving[-max(1, round(HELD_OUT * len(moving)))] if moving else 0
        if place >= LEAST_KNOWN:
            first[check.name] = keyframe_at(memory, place)
    if not first:
        raise DataError(
            f"{dataset.dataroot}: nothing can be held out: no scene has the car move at more than {LEAST_KNOWN + NEIGHBOURS} "
            "keyframes with images and depth; choose other or longer --scenes"
        )
    between = max(float(np.median(interval)), 1e-3)
    return first, tuple(sorted({max(1, round(apart / between)) for apart in APART}))


def thinned(hidden: Hidden, apart: int) -> Hidden:
    """The same without the frames that are fewer than ``apart`` from the hidden one, where some before it are left."""
    scene, memory, place = hidden
    apart = min(apart, place)
    kept = [k for k in range(len(memory.frames)) if k == place or abs(k - place) >= apart]
    return scene, replace(memory, frames=tuple(memory.frames[k] for k in kept)), kept.index(place)


def drawn_by(weights: str | Path, hidden: Sequence[Hidden], size: tuple[int, int]) -> Found:
    """Scores of weights on hidden keyframes."""
    world = GenerativeWorld.from_pretrained(weights)
    with Progress(f"drawing with {Path(weights).name}", "frame", 2 * len(hidden)) as progress:
        return compare_on(hidden, world, size, progress.update)


def report(title: str, found: Found) -> None:
    """Prints the scores by memory."""
    for memory, scores in found.items():
        count = f"{len(scores)} {noun(len(scores), 'keyframe')}"
        print(f'\n{title}: {count} held out, memory="{memory}"\n{table(scores)}')
    print(flush=True)


def finish(options: Options, start: Path, material: Material, before: Found, clock: Clock) -> None:
    """Chooses, writes the weights and what they gain, and prints it."""
    choices = write_chosen(options, start, material)
    clock.end("choice")
    after = drawn_by(options.out, material.hidden, material.size)
    report(f"{options.out.name}, after", after)
    clock.end("comparison after")
    gains: dict[str, dict[str, Any]] = {}
    for network, choice in choices.items():
        print(f"{network}: {choice.kept}")
        if choice == Choice(0.0, choice.gains):
            print(f"  {options.weights} stays as it was: nothing adapted was better on the keyframes held out")
        for memory in after:
            against = {
                name: compare(("after", psnr_of(after[memory], network)), (name, psnr_of(found[memory], method))).difference
                for name, found, method in ((options.weights, before, network), (SPLAT, after, SPLAT))
            }
            words = ", ".join(f"{e.mean:+.2f} dB [{e.low:+.2f}, {e.high:+.2f}] over {name}" for name, e in against.items())
            was = compare(("before", psnr_of(before[memory], network)), (SPLAT, psnr_of(before[memory], SPLAT))).difference
            print(f'  memory="{memory}": {words} (before {was.mean:+.2f} dB)')
            gains.setdefault(network, {})[memory] = {name: e.mean for name, e in against.items()} | {"before": was.mean}
        if material.town:
            print(f"  on the town: {choice.town:+.2f} dB")
    plan = read_plan(options)
    record = {
        **plan,
        "held_out": material.held_out,
        "kept": {name: asdict(choice) for name, choice in choices.items()},
        "gains": gains,
        "seconds": clock.seconds,
    }
    write_text(options.out / RECORD, json.dumps(record, indent=1) + "\n")
    print(f"\nweights={str(options.out)!r} drives with them; {options.work} can be deleted")
    json_output.result({"weights": options.out, **record})


def write_chosen(options: Options, start: Path, material: Material) -> dict[str, Choice]:
    """Writes codec, DiST-T, composer and DiST-S as chosen below OUT; returns the choices by network."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dist_t, dist_s = (options.work / part / "weights" for part in (adapting.DIST_T, adapting.DIST_S))
    worlds = candidates(start, dist_t, dist_s, device)
    frames = 2 * (len(material.hidden) + len(material.town))
    with Progress("choosing", "frame", frames) as progress:
        own, town = (draw_all(hidden, worlds, material.size, progress.update) for hidden in (material.hidden, material.town))
    was = gains_of(start)
    choices = {
        DIST_T: choose(DIST_T, own, town, was[0], mixes=True),
        DIST_S: choose(DIST_S, own, town, was[1], mixes=not worlds[0.0][1].unet.is_svd),
    }
    for place, choice in enumerate(choices.values()):
        chosen = worlds[choice.share][place]
        set_gains(chosen, choice.gains)
        chosen.save_pretrained(options.out, torch.float16)
    carry_along(start, options.out)
    return choices


def carry_along(start: Path, out: Path) -> None:
    """Copies the models that the weights to start from hold and ``out`` does not, such as the painter of traffic lights."""
    for model in start.iterdir():
        if (model / "config.json").is_file() and not (out / model.name).is_dir():
            with replacing_folder(out / model.name) as fresh:
                shutil.copytree(model, fresh, dirs_exist_ok=True)
