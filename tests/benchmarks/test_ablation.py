"""Each variant lacks what its name says and nothing else, budgets are equal, and untrained runs are judged as the splat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.variants as variants
from benchmarks.ablation import EFFECTS, MEMORIES, Judge, Options, effects
from benchmarks.variants import VARIANTS, Variant, make_recipe, train_variant
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.samples import SampleSettings, write_scene, write_settings
from tests.training.conftest import HEIGHT, WIDTH, made_scene, small_preset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples and a codec."""
    place = tmp_path_factory.mktemp("ablation")
    write_settings(place / "train", SampleSettings(HEIGHT, WIDTH, chunk=2))
    for index in range(2):
        write_scene(place / "train", f"scene-{index}", made_scene(index))
    torch.manual_seed(0)
    save_model(RGBDCodec(**small_preset().codec), place / "weights" / "codec")
    return place


@pytest.fixture
def options(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr(variants, "preset", lambda name: small_preset())
    return Options(samples=folder, runs=tmp_path / "runs", steps=2, batch=1, preset="small", codec=str(folder / "weights"))


def shaken(variant: Variant, options: Options):
    """A variant's recipe with weights that are not zero where they start as zero."""
    recipe = make_recipe(variant, options)
    with torch.no_grad():
        for model in recipe.models.values():
            draw = torch.Generator().manual_seed(1)
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
            model.eval()
    return recipe


def test_every_effect_compares_rows_that_exist_and_every_variant_takes_part():
    rows = {row for effect in EFFECTS.values() for row in (effect.given, effect.without)}
    assert rows == set(VARIANTS) | set(MEMORIES)
    with pytest.raises(ConfigError, match="no variant 'dist_u'"):
        Options(samples=Path("a"), runs=Path("b"), only=("dist_u",))


@pytest.mark.parametrize(
    "name", ["dist_t without splat", "dist_t without layout", "dist_t without composition", "dist_s without mask"]
)
def test_a_switch_leaves_the_first_weights_and_the_batches_as_they_are(name: str, options: Options):
    variant = VARIANTS[name]
    reference = make_recipe(VARIANTS["dist_s" if variant.model == "dist-s" else "dist_t"], options)
    recipe = make_recipe(variant, options)
    for part, model in recipe.models.items():
        given = reference.models[part].state_dict()
        assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    first, second = recipe.batch(1), reference.batch(1)
    assert torch.equal(first.noise, second.noise) and torch.equal(first.truth, second.truth)


def shown(recipe, batch) -> torch.Tensor:
    with torch.no_grad():
        clean = recipe.codec.encode_rgbd(batch.truth)
        return recipe.generate(batch.inputs, batch.level, batch.noise, clean, batch.reference_noise)[2]


def test_without_layout_nothing_projected_reaches_the_picture(options: Options):
    def change(recipe) -> float:
        batch = recipe.batch(0)
        other = replace(batch, inputs=replace(batch.inputs, layout=1 - batch.inputs.layout))
        return float((shown(recipe, batch) - shown(recipe, other)).abs().max())

    assert change(shaken(VARIANTS["dist_t without layout"], options)) == 0
    assert change(shaken(VARIANTS["dist_t"], options)) > 1e-4


def test_without_splat_the_prediction_does_not_depend_on_it(options: Options):
    def change(recipe) -> float:
        batch = recipe.batch(0)
        made = []
        with torch.no_grad():
            clean = recipe.codec.encode_rgbd(batch.truth)
            reference = recipe.codec.encode_rgbd(batch.inputs.reference)
            for splat in (clean, clean.roll(1, -1)):
                made.append(recipe.transformer.predict_clean(batch.noise, batch.level, batch.inputs, reference, splat))
        return float((made[0] - made[1]).abs().max())

    assert change(shaken(VARIANTS["dist_t without splat"], options)) == 0
    assert change(shaken(VARIANTS["dist_t"], options)) > 1e-4


def test_without_mask_the_network_does_not_see_it_but_holes_stay_holes(options: Options):
    def made(recipe, change) -> torch.Tensor:
        batch = recipe.batch(0)
        views = replace(batch.views, masks=change(batch.views.masks.clone()))
        with torch.no_grad():
            return recipe.unet.predict_clean(batch.noise, batch.level, views)[0]

    def other_masks(masks: torch.Tensor) -> torch.Tensor:
        masks[:, 1:] = 1 - masks[:, 1:]
        return masks

    def all_valid(masks: torch.Tensor) -> torch.Tensor:
        masks[:, 0] = 1
        return masks

    unmasked, masked = shaken(VARIANTS["dist_s without mask"], options), shaken(VARIANTS["dist_s"], options)
    assert torch.equal(made(unmasked, lambda m: m), made(unmasked, other_masks))
    assert not torch.equal(made(masked, lambda m: m), made(masked, other_masks))
    assert not torch.equal(made(unmasked, lambda m: m), made(unmasked, all_valid))  # the sparse image changed
    batch = unmasked.batch(0)
    with torch.no_grad():
        single = unmasked.unet.predict_clean(batch.noise, batch.level, batch.views)[0]
        clip = type(batch.views)(*(t[:, None] for t in (batch.views.base, batch.views.other, batch.views.masks)))
        assert torch.equal(unmasked.unet.predict_clean(batch.noise[:, None], batch.level, clip)[0][:, 0], single)


def test_finished_runs_are_kept_and_other_budgets_are_refused(options: Options, monkeypatch: pytest.MonkeyPatch):
    train_variant("codec", VARIANTS["codec"], options)
    weights = options.folder("codec") / "weights" / "codec" / "model.safetensors"
    before = weights.read_bytes()
    monkeypatch.setattr(variants, "train", lambda *_: pytest.fail("trained again"))
    train_variant("codec", VARIANTS["codec"], options)
    assert weights.read_bytes() == before
    with pytest.raises(ConfigError, match="another budget"):
        train_variant("codec", VARIANTS["codec"], replace(options, steps=3))


def test_roll_outs_need_the_reference_run(options: Options, town_dataroot: Path):
    with pytest.raises(ConfigError, match="made by the run dist_t"):
        make_recipe(VARIANTS["dist_t with roll-outs"], replace(options, train_dataroot=town_dataroot))


def test_effects_are_paired_by_scene_and_leave_out_what_was_not_run():
    def row(psnr: float, moving: float | None = None) -> dict[str, dict[str, float]]:
        cell = {"all": {"psnr": psnr, "ssim": 0.8, "abs_rel": 0.1, "delta1": 0.9}}
        return cell if moving is None else cell | {"moving": {"psnr": moving}}

    units = [
        {"one_step_history": {"dist_t": row(24.0, 20.0), "dist_t without splat": row(22.0, 19.0)}},
        {"one_step_history": {"dist_t": row(26.0), "dist_t without splat": row(25.0)}},
    ]
    result = effects(units)
    assert set(result) == {"splat condition"}
    assert result["splat condition"]["psnr"] == {"mean": 1.5, "std": pytest.approx(np.sqrt(0.5)), "n": 2}
    assert result["splat condition"]["psnr_moving"]["n"] == 1 and result["splat condition"]["psnr_moving"]["mean"] == 1.0


def test_untrained_runs_are_the_splat_except_where_nothing_composes_them(options: Options, town_dataroot: Path):
    names = ("dist_t", "dist_t without composition", "dist_s", "dist_s without mask", "dist_s with linear depth", "codec")
    options = replace(options, starts=1, duration=0.5, weights=str(options.runs / "given"))
    for name in names:
        make_recipe(VARIANTS[name], options).export(options.folder(name) / "weights")
    for name in ("dist_t", "dist_s"):
        make_recipe(VARIANTS[name], options).export(options.runs / "given")
    dataset = open_dataset(town_dataroot)
    judged = Judge({name: VARIANTS[name] for name in names}, options).scene(dataset.load(dataset.scene_names("val")[0]))
    assert set(judged) == {"one_step_history", "closed_loop_history", "novel_view_2m", "through_codec"}
    steps, views = judged["one_step_history"], judged["novel_view_2m"]
    assert steps["dist_t"]["all"]["psnr"] == pytest.approx(steps["splat"]["all"]["psnr"], abs=0.05)
    assert steps["dist_t without composition"]["all"]["psnr"] < steps["splat"]["all"]["psnr"] - 3
    for name in ("dist_s", "dist_s without mask", "dist_s with linear depth"):
        assert views[name]["all"]["psnr"] == pytest.approx(views["splat"]["all"]["psnr"], abs=0.05)
    assert set(judged["closed_loop_history"]) == {"splat", "dist_t", *MEMORIES}
    assert judged["through_codec"]["codec"]["all"]["psnr"] < 20
