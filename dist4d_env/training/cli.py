"""``python -m dist4d_env train codec|dist-t|distil|dist-s|signals|depth``: samples from a data set, then one recipe."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg, subcommand

from dist4d_env import json_output
from dist4d_env.curation.prompt import ROWS
from dist4d_env.errors import ConfigError, check_ranges
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.models.video_codec import load_codec
from dist4d_env.scenes.files import write_text
from dist4d_env.training.checkpoint import CHECKPOINT, initialise
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.depth import DepthRecipe, depth_samples
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_s_svd import DiSTSVideoRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.dist_t_batches import DiSTTOptions
from dist4d_env.training.distillation import Teacher
from dist4d_env.training.loop import LARGEST_SEED, Recipe, make_accelerator, train
from dist4d_env.training.options import RunOptions, Weights
from dist4d_env.training.prepare import Maker
from dist4d_env.training.rollouts import prepare_rollouts
from dist4d_env.training.samples import SampleSettings, SampleStore
from dist4d_env.training.signals import SignalsRecipe
from dist4d_env.training.stereo import StereoRecipe, stereo_samples

OPTIONS = "options.json"
KEPT = (
    "model", "network", "preset", "dataroot", "version", "split", "scenes", "val_dataroot", "val_split", "sizes", "also", "codec",
    "rollouts", "rollout_share", "adversarial", "layout_consistency", "emphasis", "teacher", "teacher_steps", "guidance", "batch",
    "seed",
)  # fmt: skip
"""Options that a resumed run keeps, for it to be the same run."""
PLACES = ("dataroot", "val_dataroot", "also")
"""Those of them that are folders, the same however they are spelled."""
Strides = Annotated[tuple[int, ...], arg(metavar="[N [N ...]]")]


@dataclass(frozen=True)
class TrainCodec(RunOptions):
    """Train the RGB-D codec."""

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        stores, val = self.training_stores(), self.validation_store()
        return CodecRecipe(self.sized, stores, val, self.optimiser.batch, self.optimiser.seed)


@dataclass(frozen=True)
class RolloutOptions:
    """Training on the model's own rollouts, and so on its mistakes."""

    rollouts: Weights = None
    """Train also on rollouts of these weights."""
    rollout_share: float = 0.4
    """Share of the steps that train on rollouts."""


@dataclass(frozen=True)
class CriticOptions(RolloutOptions):
    """Training on the model's own rollouts, under critics where pixels cannot be known."""

    adversarial: float = 0.0
    """Weight of a discriminator; 0 trains none."""
    layout_consistency: Annotated[float, arg(metavar="X")] = 0.0
    """Weight of a layout reader; 0 trains none."""


@dataclass(frozen=True)
class _DiSTT(RunOptions):
    codec: Weights = None
    """Weights with a codec, a folder or a shipped preset; required."""
    emphasis: float = 2.0
    """How much more markings and agents weigh in the loss."""
    gradient_checkpointing: bool = False
    """Less memory, about a third more time."""
    rollout: RolloutOptions = field(default_factory=RolloutOptions)

    def rollout_store(self) -> SampleStore | None:
        """Samples of --rollouts, made where missing."""
        if self.rollout.rollouts is None:
            return None
        dataset, names = self.scenes()
        settings, workers = self.settings(exact=True), self.data.sample_workers
        prepare_rollouts(dataset, names, self.samples / "rollouts", settings, self.rollout.rollouts, workers)
        return SampleStore(self.samples / "rollouts", names)

    def make(self, strides: tuple[int, ...] = (1,), teacher: tuple[str, int, float] | None = None) -> Recipe:
        """The recipe, with its samples made where missing; teacher: arguments of ``Teacher`` beside the codec."""
        if self.codec is None:
            raise ConfigError("DiST-T needs a codec: train one and pass --codec RUN/weights, or --codec tiny for the shipped one")
        if self.emphasis < 0:
            raise ConfigError(f"--emphasis is 0 or more, not {self.emphasis}")
        if not 0 <= self.rollout.rollout_share <= 1:
            raise ConfigError(f"--rollout-share is a share of the steps, 0 to 1, not {self.rollout.rollout_share}")
        stores, rollouts, val = self.training_stores(strides), self.rollout_store(), self.validation_store()
        codec = load_codec(resolve_weights(self.codec) / "codec")
        taught = Teacher(teacher[0], codec, *teacher[1:]) if teacher else None
        chosen = DiSTTOptions(**vars(self.rollout) | {"rollouts": rollouts}, emphasis=self.emphasis, teacher=taught)
        recipe = DiSTTRecipe(self.sized, codec, stores, val, self.optimiser.batch, self.optimiser.seed, chosen)
        recipe.check_lengths()
        return recipe


@dataclass(frozen=True)
class TrainDiSTT(_DiSTT):
    """Train DiST-T and its composer; with --rollouts also on its own mistakes, under critics."""

    strides: Strides = (1,)
    """Keyframes between a sample's frames, one drawn of these."""
    rollout: CriticOptions = field(default_factory=CriticOptions)

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        for name in ("adversarial", "layout_consistency"):
            if getattr(self.rollout, name) and self.rollout.rollouts is None:
                raise ConfigError(
                    f"--{name.replace('_', '-')} is the weight of a critic of rollouts: pass --rollouts WEIGHTS too"
                )
        return self.make(self.strides)


@dataclass(frozen=True)
class TrainDistilled(_DiSTT):
    """Distil DiST-T: learn a teacher's answers to noise, in place of the truth."""

    teacher: Weights = None
    """Weights of the teacher, a folder or a shipped preset; required."""
    teacher_steps: int = 30
    """Network evaluations of the teacher."""
    guidance: float = 1.0
    """The teacher's classifier-free guidance; 1 is none."""

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        if self.teacher is None:
            raise ConfigError("distil needs a teacher: pass --teacher RUN/weights, or --teacher tiny")
        return self.make(teacher=(self.teacher, self.teacher_steps, self.guidance))


@dataclass(frozen=True)
class TrainDiSTS(RunOptions):
    """Train DiST-S on pairs of views from the recorded path."""

    strides: Strides = (1,)
    """Keyframes between a sample's frames, one drawn of these."""
    gradient_checkpointing: bool = False
    """Less memory, about a third more time (preset paper)."""

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        return dist_s_recipe(self, self.training_stores(self.strides))


def dist_s_recipe(options: RunOptions, stores: list[SampleStore]) -> Recipe:
    """The recipe of the preset's backbone; ``ConfigError`` for Stable Video Diffusion without weights to start from."""
    sized, val, chosen = options.sized, options.validation_store(), options.optimiser
    if sized.dist_s.get("backbone") != "svd":
        return DiSTSRecipe(sized, stores, val, chosen.batch, chosen.seed)
    if options.init is None and not options.resume:
        raise ConfigError(
            f"DiST-S of preset {options.preset} goes on from Stable Video Diffusion, whose VAE is not trained here: pass "
            "--init FOLDER written by DiSTSPipeline(DiSTSUNet.from_svd(SVD_FOLDER, mask_channels)).save_pretrained(FOLDER), "
            f"mask_channels {sized.dist_s.get('mask_channels', len(MASK_CHANNELS))}"
        )
    return DiSTSVideoRecipe(sized, stores, val, chosen.batch, chosen.seed)


@dataclass(frozen=True)
class TrainSignals(RunOptions):
    """Train the painter of traffic lights, from scenes that have some; its samples are of its own kind."""

    def settings(self, exact: bool = False, strides: tuple[int, ...] = (1,)) -> SampleSettings:
        """As of other recipes, without the splats that show no later instant."""
        return replace(super().settings(exact, strides), between=0.0, space=0.0)

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        stores, val = self.training_stores(), self.validation_store()
        return SignalsRecipe(self.sized, stores, val, self.optimiser.batch, self.optimiser.seed)


@dataclass(frozen=True)
class TrainDepth(RunOptions):
    """Train depth completion, or stereo, from scenes with exact depth (`python -m dist4d_env town --looks wild`)."""

    network: Annotated[Literal["flow", "stereo"], arg(metavar="NAME")] = "flow"
    """flow: completion of LiDAR; stereo: depth from several images."""

    @property
    def maker(self) -> Maker | None:
        """Its samples are of its own kind."""
        return depth_samples if self.network == "flow" else stereo_samples

    @property
    def size(self) -> tuple[int, int]:
        """The rows that the network works on, at the shape of nuScenes' images."""
        return ROWS, round(ROWS * 16 / 9)

    def recipe(self) -> Recipe:
        """The recipe, with its samples made where missing."""
        made = DepthRecipe if self.network == "flow" else StereoRecipe
        return made(self.training_stores(), self.validation_store(), self.optimiser.batch, self.optimiser.seed)


MODELS = {
    "codec": TrainCodec,
    "dist-t": TrainDiSTT,
    "distil": TrainDistilled,
    "dist-s": TrainDiSTS,
    "signals": TrainSignals,
    "depth": TrainDepth,
}
AnyTraining = TrainCodec | TrainDiSTT | TrainDistilled | TrainDiSTS | TrainSignals | TrainDepth
Options = Annotated[
    Annotated[TrainCodec, subcommand("codec")]
    | Annotated[TrainDiSTT, subcommand("dist-t")]
    | Annotated[TrainDistilled, subcommand("distil")]
    | Annotated[TrainDiSTS, subcommand("dist-s")]
    | Annotated[TrainSignals, subcommand("signals")]
    | Annotated[TrainDepth, subcommand("depth")],
    OmitArgPrefixes,
    FlagCreatePairsOff,
]


def run(options: AnyTraining) -> int:
    """Prepare samples, train, write weights; 0 when done."""
    check_ranges(options.optimiser, seed=(0, LARGEST_SEED))
    check_ranges(options.data, workers=(0, math.inf))
    check_resumed(options)
    accelerator = make_accelerator()
    with accelerator.main_process_first():
        recipe = options.recipe()
    if options.optimiser.steps == 0:
        if accelerator.is_main_process:
            json_output.result({"samples": options.samples})
        return 0
    if options.init is not None:
        initialise(recipe.models, resolve_weights(options.init))
    if accelerator.is_main_process:
        write_options(options)
    train(recipe, options.loop())
    if accelerator.is_main_process:
        json_output.result({"weights": options.out / "weights", "steps": options.optimiser.steps})
    return 0


def check_resumed(options: AnyTraining) -> None:
    """Raise ``ConfigError`` where OUT holds a run and this is not the same one, resumed."""
    out = options.out
    if (out / CHECKPOINT).exists() and not options.resume:
        raise ConfigError(f"{out} already holds a run: go on with --resume or choose another --out")
    if not options.resume or not (out / OPTIONS).is_file():
        return
    before, now = with_whole_paths(json.loads((out / OPTIONS).read_text())), plain(options)
    for name in KEPT:
        if before.get(name) != now.get(name):
            moved = f" (if the folder has only been moved, say so in {out / OPTIONS})" if name in PLACES else ""
            raise ConfigError(
                f"{out} was begun with {name} {before.get(name)}, not {now.get(name)}: resume it so{moved}, or start another run "
                f"from its weights with --init {out / 'weights'}"
            )


def plain(options: AnyTraining) -> dict[str, Any]:
    """The options as JSON holds them, without groups."""
    values: dict[str, Any] = {"model": next(name for name, kind in MODELS.items() if isinstance(options, kind))}
    for name, value in asdict(options).items():
        values |= value if isinstance(value, dict) else {name: value}
    values["dataroot"] = values["dataroot"] or os.environ.get("NUSCENES") or None
    return with_whole_paths(json.loads(json.dumps(values, default=str)))


def with_whole_paths(values: dict[str, Any]) -> dict[str, Any]:
    """Options with their ``PLACES`` as absolute paths, links followed."""
    return values | {name: str(Path(values[name]).resolve()) for name in PLACES if values.get(name) is not None}


def write_options(options: AnyTraining) -> None:
    """Keep the options beside the weights."""
    write_text(options.out / OPTIONS, json.dumps(plain(options), indent=2) + "\n")
