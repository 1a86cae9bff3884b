"""From command-line options to a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.models.video_codec import load_codec
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_s_svd import DiSTSVideoRecipe
from dist4d_env.training.dist_t import DiSTTOptions, DiSTTRecipe
from dist4d_env.training.distillation import Teacher
from dist4d_env.training.loop import Recipe
from dist4d_env.training.sample_stores import Stores

if TYPE_CHECKING:
    from dist4d_env.training.cli import Options


def make_recipe(options: Options, preset: Preset, stores: Stores) -> Recipe:
    """The recipe of ``options.model``, started from ``options.init`` where given."""
    recipe: Recipe
    told = (stores.train, stores.val, options.batch, options.seed)
    if options.model == "codec":
        recipe = CodecRecipe(preset, *told)
    elif options.model == "dist-t":
        codec = load_codec(resolve_weights(str(options.codec)) / "codec")
        teacher = Teacher(options.distil, codec, options.teacher_steps, options.guidance) if options.distil else None
        chosen = DiSTTOptions(
            rollouts=stores.rollouts,
            rollout_share=options.rollout_share,
            adversarial=options.adversarial,
            obedience=options.obedience,
            decoder=options.decoder,
            emphasis=options.emphasis,
            teacher=teacher,
        )
        recipe = DiSTTRecipe(preset, codec, *told, chosen)
    elif preset.dist_s.get("backbone") == "svd":
        if options.init is None and not options.resume:
            raise ConfigError(
                f"DiST-S of preset {options.preset} goes on from Stable Video Diffusion, whose VAE is not trained here: pass "
                "--init FOLDER written by DiSTSPipeline(DiSTSUNet.from_svd(SVD_FOLDER, mask_channels)).save_pretrained(FOLDER), "
                f"mask_channels {preset.dist_s.get('mask_channels', len(MASK_CHANNELS))}"
            )
        recipe = DiSTSVideoRecipe(preset, *told, extra=stores.cycle)
    else:
        recipe = DiSTSRecipe(preset, *told, extra=stores.cycle)
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
