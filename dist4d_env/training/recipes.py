"""From command-line options to a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tqdm import tqdm

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.loop import Recipe
from dist4d_env.training.samples import SampleStore

if TYPE_CHECKING:
    from dist4d_env.training.cli import Options


def make_recipe(options: Options, preset: Preset, train: Sequence[SampleStore], val: SampleStore | None) -> Recipe:
    """The recipe of ``options.model``, started from ``options.init`` where given; train: one store per image size."""
    recipe: Recipe
    if options.model == "codec":
        recipe = CodecRecipe(preset, train, val, options.batch, options.seed)
    elif options.model == "dist-s":
        recipe = DiSTSRecipe(preset, train, val, options.batch, options.seed)
    else:
        if options.codec is None:
            raise ConfigError("dist-t needs a codec: train one and pass --codec RUN/weights, or --codec tiny for the shipped one")
        if len(train) > 1:
            raise ConfigError("dist-t takes one image size")
        codec = load_model(RGBDCodec, resolve_weights(options.codec) / "codec")
        recipe = cast(Recipe, DiSTTRecipe(preset, codec, train[0], val, options.batch, options.seed))
    if options.init is not None:
        initialise(recipe, resolve_weights(options.init))
    return recipe


def initialise(recipe: Recipe, folder: Path) -> None:
    """Fill the recipe's models with the weights in ``folder``; those that it does not hold start fresh, which is said.

    Raises ``WeightsError`` where the folder holds none of them, or weights of another shape.
    """
    held = [name for name in recipe.models if (folder / name).is_dir()]
    if not held:
        raise WeightsError(f"{folder} holds none of {', '.join(recipe.models)} to start from; choose another --init")
    for name in held:
        model = recipe.models[name]
        tensors = load_model(type(model), folder / name).state_dict()
        own = model.state_dict()
        for key in own.keys() | tensors.keys():
            if key not in own or key not in tensors or own[key].shape != tensors[key].shape:
                raise WeightsError(f"{folder / name} does not fit the preset ({key} differs): start from weights of this preset")
        model.load_state_dict(tensors)
    for name in recipe.models.keys() - set(held):
        tqdm.write(f"{folder} holds no {name}: it starts fresh")
