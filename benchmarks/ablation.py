"""What each part of the models is worth: the same small training run with and without it, judged on scenes never trained on.

Every run starts from random weights of one seed and takes the same number of steps of one batch size from the same samples; only
one thing differs from the reference run of its model. Runs and judgements that are finished are kept below ``--runs``. Memory
policies need no training of their own: they are compared with one set of weights in closed loop. The number of evaluations is
ablated by ``sampling.py``, cycle consistency by ``cycle.py``.

    python -m benchmarks.ablation --samples RUN/samples --out benchmarks/results/ablation.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.pixels import score
from benchmarks.protocols import SIZE, Scores, average
from benchmarks.rollouts import real_frames, through_codec
from benchmarks.side_by_side import Completion, aside, closed_loop, completion, one_steps, tables
from benchmarks.tables import print_table
from benchmarks.variants import VARIANTS, Budget, UnmaskedDiSTS, Variant, blind, train_variant
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.pretrained import load_model
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import World
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world

MEMORIES: dict[str, Literal["holes", "all", "never"]] = {
    "memory of holes": "holes",
    "memory of all": "all",
    "memory never grows": "never",
}
"""What of a generated frame enters the memory: ``PolicyConfig.grow``."""

ONE_STEP, LOOP, ASIDE, CODEC = "one_step_history", "closed_loop_history", "novel_view_2m", "through_codec"


@dataclass(frozen=True)
class Effect:
    """What a part does: the difference between two rows of a protocol."""

    protocol: str
    given: str
    without: str


EFFECTS = {
    "splat condition": Effect(ONE_STEP, "dist_t", "dist_t without splat"),
    "layout conditions": Effect(ONE_STEP, "dist_t", "dist_t without layout"),
    "composition": Effect(ONE_STEP, "dist_t", "dist_t without composition"),
    "splat condition and composition": Effect(ONE_STEP, "dist_t", "dist_t without splat and composition"),
    "cross-view attention": Effect(ONE_STEP, "dist_t", "dist_t without cross-view"),
    "roll-out training, one step": Effect(ONE_STEP, "dist_t with roll-outs", "dist_t"),
    "roll-out training, closed loop": Effect(LOOP, "dist_t with roll-outs", "dist_t"),
    "memory of holes, against whole frames": Effect(LOOP, "memory of holes", "memory of all"),
    "memory of holes, against none": Effect(LOOP, "memory of holes", "memory never grows"),
    "valid mask": Effect(ASIDE, "dist_s", "dist_s without mask"),
    "logarithmic depth, DiST-S": Effect(ASIDE, "dist_s", "dist_s with linear depth"),
    "logarithmic depth, codec": Effect(CODEC, "codec", "codec with linear depth"),
}
ELSEWHERE = {"evaluations 1, 2, 4, 30": "sampling.json", "cycle consistency": "cycle.json"}
"""Parts that other benchmarks switch on and off, and the files of their results."""


@dataclass(frozen=True)
class Options(Budget):
    """Train every variant under one small budget and judge it."""

    weights: str = "tiny"
    """Preset or folder with which memory policies are compared, and whose DiST-S stands beside each DiST-T."""
    only: tuple[str, ...] = ()
    """Names of variants to train and judge (default: all)."""
    scenes: int = 8
    """How many val scenes to judge on."""
    starts: int = 4
    """Instants of each scene from which one step is predicted, and from which the cameras move aside."""
    duration: float = 4.0
    """Seconds in closed loop."""
    dataroot: Path | None = None
    """A town data set to judge on; the default one is made when there is none."""
    quick: bool = False
    """Two steps, one scene, one instant, one second, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped judgement goes on where it was."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in VARIANTS]
        if unknown:
            raise ConfigError(f"no variant {unknown[0]!r}: use {', '.join(VARIANTS)}")


def main(options: Options) -> dict[str, Any]:
    if options.quick:
        options = replace(options, steps=2, scenes=1, starts=1, duration=1.0)
    chosen = {name: VARIANTS[name] for name in options.only or VARIANTS}
    if options.train_dataroot is None:
        chosen = {name: variant for name, variant in chosen.items() if not variant.rollouts}
    for name, variant in tqdm(chosen.items(), desc="variants", unit="run", disable=None):
        train_variant(name, variant, options)
    judge = Judge(chosen, options)
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")[: options.scenes]
    key = {"runs": options.runs, "variants": list(chosen), "starts": options.starts, "duration": options.duration}
    journal = Journal(options.out, key | {"weights": options.weights, "seed": options.seed, "town": dataset.dataroot})
    for name in tqdm(names, desc="scenes", unit="scene", disable=None):
        if name not in journal.done:
            journal.add(name, judge.scene(dataset.load(name)))
    units = [journal.done[name] for name in names]
    results, worth = tables(units), effects(units)
    result = header("ablation", options) | {
        "scenes": names,
        "images": "6 x {} x {}".format(*SIZE),
        "budget": {"steps": options.steps, "batch": options.batch, "seed": options.seed},
        "results": results,
        "effects": worth,
        "left_out": [name for name in VARIANTS if name not in chosen],
        "elsewhere": ELSEWHERE,
    }
    if options.out:
        write_json(options.out, result)
    journal.finish()
    print_table(results)
    for name, row in worth.items():
        told = ", ".join(f"{key} {row[key]['mean']:+.3f} ±{row[key]['std']:.3f}" for key in row)
        print(f"{name:<40}{told}")
    return result


class Judge:
    """The trained variants side by side on one scene after another."""

    def __init__(self, chosen: Mapping[str, Variant], options: Options) -> None:
        self.options = options
        self.steps: dict[str, World] = {"splat": make_world("dist4d", weights="splat", memory="history")}
        self.loops = dict(self.steps)
        self.completions: dict[str, Completion] = {}
        self.codecs: dict[str, RGBDCodec] = {}
        shipped = GenerativeWorld.from_pretrained(options.weights, memory="history")
        for name, variant in chosen.items():
            weights = options.folder(name) / "weights"
            if variant.model == "codec":
                self.codecs[name] = load_model(RGBDCodec, weights / "codec")
            elif variant.model == "dist-s":
                kind = DiSTSUNet if variant.mask else UnmaskedDiSTS
                self.completions[name] = completion(DiSTSPipeline(load_model(kind, weights / "dist_s")), 1)
            else:
                dist_t = DiSTTPipeline.from_pretrained(weights) if variant.layout else blind(weights)
                self.steps[name] = GenerativeWorld(dist_t, shipped.dist_s, "history", shipped.policy)
        looped = [effect for effect in EFFECTS.values() if effect.protocol == LOOP]
        wanted = {row for effect in looped for row in (effect.given, effect.without)}
        self.loops |= {name: world for name, world in self.steps.items() if name in wanted}
        if not options.only:
            for name, grow in MEMORIES.items():
                policy = replace(shipped.policy, grow=grow)
                self.loops[name] = GenerativeWorld(shipped.dist_t, shipped.dist_s, "history", policy)

    def scene(self, scene: Scene) -> dict[str, Scores]:
        """protocol -> variant -> region -> score, mean over the protocol's frames."""
        options = self.options
        protocols: dict[str, Callable[[], list[Scores]]] = {
            ONE_STEP: lambda: [s for s, _ in one_steps(self.steps, scene, options.seed, options.starts)],
            LOOP: lambda: [s for s, _ in closed_loop(self.loops, scene, options.seed, options.duration)],
            ASIDE: lambda: [s for s, _ in aside(self.completions, scene, options.seed, options.starts)],
            CODEC: lambda: self.coded(scene),
        }
        asked = {ONE_STEP: len(self.steps) > 1, LOOP: len(self.loops) > 1, ASIDE: self.completions, CODEC: self.codecs}
        judged = {name: protocol() for name, protocol in protocols.items() if asked[name]}
        return {name: average(scored) for name, scored in judged.items() if scored}

    def coded(self, scene: Scene) -> list[Scores]:
        """Scores of real frames encoded and decoded."""
        real = [frame for _, frame in real_frames(scene, *SIZE)]
        picked = [real[k] for k in np.linspace(0, len(real) - 1, self.options.starts).round().astype(int)]
        whole = [{"all": np.ones(frame.depth.shape, bool)} for frame in picked]
        return [
            {name: score(through_codec(codec, frame), frame, masks) for name, codec in self.codecs.items()}
            for frame, masks in zip(picked, whole, strict=True)
        ]


def effects(units: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, Any]]:
    """part -> metric -> with the part minus without it on the same scene, mean and spread over scenes; negative AbsRel is better.

    psnr, ssim, abs_rel and delta1 over all pixels, and PSNR over never-seen and moving ones where scenes have them.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, effect in EFFECTS.items():
        pairs = [
            (unit[effect.protocol][effect.given], unit[effect.protocol][effect.without])
            for unit in units
            if {effect.given, effect.without} <= set(unit.get(effect.protocol, {}))
        ]
        if not pairs:
            continue
        row = {
            metric: mean_and_spread([a["all"][metric] - b["all"][metric] for a, b in pairs])
            for metric in ("psnr", "ssim", "abs_rel", "delta1")
        }
        for region in ("never_seen", "moving"):
            both = [(a[region], b[region]) for a, b in pairs if region in a and region in b]
            if both:
                row[f"psnr_{region}"] = mean_and_spread([a["psnr"] - b["psnr"] for a, b in both])
        result[name] = row
    return result


if __name__ == "__main__":
    run(main, Options)
