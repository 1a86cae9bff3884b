"""From command-line options to a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dist4d_env.errors import ConfigError
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


def make_recipe(options: Options, preset: Preset, train: SampleStore, val: SampleStore | None) -> Recipe:
    """The recipe of ``options.model``, started from ``options.init`` where given."""
    recipe: Recipe
    if options.model == "codec":
        recipe = CodecRecipe(preset, train, val, options.batch, options.seed)
    elif options.model == "dist-s":
        recipe = DiSTSRecipe(preset, train, val, options.batch, options.seed)
    else:
        if options.codec is None:
            raise ConfigError("dist-t needs a codec: train one and pass --codec RUN/weights, or --codec tiny for the shipped one")
        codec = load_model(RGBDCodec, resolve_weights(options.codec) / "codec")
        recipe = cast(Recipe, DiSTTRecipe(preset, codec, train, val, options.batch, options.seed))
    if options.init is not None:
        folder = resolve_weights(options.init)
        for name, model in recipe.models.items():
            model.load_state_dict(load_model(type(model), folder / name).state_dict())
    return recipe
