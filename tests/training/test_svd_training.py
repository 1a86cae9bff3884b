"""DiST-S on Stable Video Diffusion: clips of successive keyframes, EDM's loss, and a frozen VAE; DiST-T on a video codec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models.published import SMALL_FRAME_VAE, SMALL_UNET, small_video_codec

from benchmarks.rollouts import codec_of, through_codec
from dist4d_env.errors import ConfigError
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import PRESETS, Preset
from dist4d_env.models.presets import preset as preset_named
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.svd import SVDConditions
from dist4d_env.models.video_codec import VideoCodec
from dist4d_env.training import dist_s_svd, relighting
from dist4d_env.training.cli import TrainDiSTS, TrainDiSTT, dist_s_recipe
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_s_svd import DiSTSVideoRecipe, without_conditions
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.dist_t_batches import whole
from dist4d_env.training.loop import LoopOptions, Recipe, train
from dist4d_env.training.options import DataOptions, OptimiserOptions
from dist4d_env.training.samples import BETWEEN, NEXT, SPACE, SampleSettings, SampleStore, write_scene, write_settings
from dist4d_env.training.view_samples import runs
from tests.models.made import small_preset

from .conftest import HEIGHT, VIEWS, WIDTH, made_scene

pytestmark = pytest.mark.medium


def svd_preset() -> Preset:
    """The small preset with a two-level Stable Video Diffusion."""
    svd = {"depth_code": "linear", "backbone": "svd", "mask_channels": 4, "unet": SMALL_UNET, "vae": SMALL_FRAME_VAE}
    return replace(small_preset(), dist_s=svd)


def options(out: Path, steps: int, **extra: object) -> LoopOptions:
    return LoopOptions(out, steps, warmup=2, log_every=1, validate_every=100, checkpoint_every=1e9, precision="float32", **extra)


def test_clips_are_successive_keyframes_of_one_scene_and_camera(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relighting, "RELIT", 0.0)  # frames are recognised by their colours
    for kind, frames, starts in ((SPACE, 2, 1), (BETWEEN, 2, 1), (NEXT, 3, 1), (SPACE, 3, 0), (SPACE, 1, 2)):
        assert len(runs(store, kind, frames)) == starts * len(store.scenes), (kind, frames)
    recipe = DiSTSVideoRecipe(svd_preset(), store, None, 4, 0)
    known = {
        frame.tobytes(): (s, k, view)
        for s, scene in enumerate(store.scenes)
        for k, frames in enumerate(scene.arrays["frame_rgb"])
        for view, frame in enumerate(frames)
    }
    for step in range(6):
        batch = recipe.batch(step)
        assert batch.truth.shape == (2 * VIEWS, 2, 4, HEIGHT, WIDTH), "four images of all cameras, in pairs"
        assert batch.noise.shape == (2 * VIEWS, 2, 8, HEIGHT // 8, WIDTH // 8)
        images = ((batch.truth[:, :, :3] + 1) * 127.5).round().to(torch.uint8).movedim(2, -1).numpy()
        valid = batch.views.masks[:, :, :1] > 0.5
        shown = torch.where(valid, batch.views.base - batch.truth, 0.0)
        assert shown.abs().max() < 1e-6, "the splat is of the frame that supervises it"
        for first, second in images:
            (scene, k, _), (other, following, _) = known[first.tobytes()], known[second.tobytes()]
            assert (scene, k + 1) == (other, following)


def test_short_scenes_give_single_frames_with_a_message(store: SampleStore, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = DiSTSVideoRecipe(svd_preset(), store, None, 2, 0, frames=4)
    assert recipe.batch(0).truth.shape == (2 * VIEWS, 1, 4, HEIGHT, WIDTH)
    assert "no clips of 4 successive keyframes" in capsys.readouterr().err


def test_training_lowers_the_loss_and_resumes_bit_for_bit(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist_s_svd, "VALIDATION_CLIPS", 1)
    monkeypatch.setattr(dist_s_svd, "VALIDATION_STEPS", 2)

    def made() -> DiSTSVideoRecipe:
        return DiSTSVideoRecipe(svd_preset(), store, None, 2, 0)

    whole_run = made()
    vae = {name: tensor.clone() for name, tensor in whole_run.unet.svd.vae.state_dict().items()}
    with torch.no_grad():
        before = sum(whole_run.loss(whole_run.batch(1000 + k), 0)[0].item() for k in range(4))
    validation = train(whole_run, options(tmp_path / "whole", 10, decay=1e-9, learning_rate=3e-3))
    with torch.no_grad():
        after = sum(whole_run.loss(whole_run.batch(1000 + k), 0)[0].item() for k in range(4))
    assert after < 0.8 * before
    train(made(), options(tmp_path / "parts", 8, decay=1e-9, learning_rate=3e-3))
    resumed = made()
    train(resumed, options(tmp_path / "parts", 10, decay=1e-9, learning_rate=3e-3, resume=True))
    for name, tensor in whole_run.unet.state_dict().items():
        assert torch.equal(tensor, resumed.unet.state_dict()[name]), name
    assert all(torch.equal(tensor, vae[name]) for name, tensor in whole_run.unet.svd.vae.state_dict().items())
    assert whole_run.frozen == {"vae": whole_run.unet.svd.vae} and not whole_run.unet.svd.vae.training
    assert np.isfinite([validation[name] for name in ("splat", "sampled", "abs_rel", "delta1")]).all()
    written = DiSTSPipeline.from_pretrained(tmp_path / "whole" / "weights")
    images = [store.scenes[0].images(row) for row in (6, 7)]
    shown = written(images, generator=torch.Generator().manual_seed(0), steps=2, frames=2, guidance=2.0)
    assert shown.rgb.shape == (2, VIEWS, HEIGHT, WIDTH, 3)


def test_gradients_reach_every_trained_weight(store: SampleStore) -> None:
    recipe = DiSTSVideoRecipe(svd_preset(), store, None, 4, 0)
    trained = {name: p for name, p in recipe.unet.named_parameters() if p.requires_grad}
    for parameter in trained.values():  # the masks' weights start at zero
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    for step in range(2):
        recipe.loss(recipe.batch(step), step)[0].backward()
    silent = [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    held = {name for name, p in recipe.unet.svd.unet.named_parameters() if not p.requires_grad}
    assert held and all(".attn2." in name or ".norm2." in name for name in held)
    assert all(p.grad is None for p in recipe.unet.svd.vae.parameters())


def test_the_loss_weighs_both_latents_as_edm_does(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = DiSTSVideoRecipe(svd_preset(), store, None, 4, 0)
    batch = recipe.batch(0)
    clean = recipe.unet.encode(batch.truth)
    wrong = torch.zeros_like(clean)
    wrong[:, :, :4], wrong[:, :, 4:] = 1.0, 3.0
    seen = {}

    def answer(noisy: torch.Tensor, sigma: torch.Tensor, conditions: SVDConditions) -> tuple[torch.Tensor, torch.Tensor]:
        seen["noisy"] = noisy
        return clean + wrong * sigma.view(-1, 1, 1, 1, 1), conditions.missing

    monkeypatch.setattr(recipe.unet, "predict_clean", answer)
    loss, parts = recipe.loss(batch, 0)
    expected = (batch.sigma.square() + 1).mean()
    torch.testing.assert_close(loss, 5 * expected)
    torch.testing.assert_close((parts["rgb"], parts["depth"]), (expected, 9 * expected))
    scale = batch.sigma.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close((seen["noisy"] - clean) / scale, batch.noise, rtol=1e-3, atol=1e-3)


def test_conditions_of_a_fifth_of_the_clips_are_withheld(store: SampleStore) -> None:
    recipe = DiSTSVideoRecipe(svd_preset(), store, None, 16, 0)
    drawn = torch.cat([recipe.batch(step).withheld for step in range(12)]).float()
    assert 0.12 < drawn.mean() < 0.28
    conditions = recipe.unet.prepare(recipe.batch(0).views)
    assert isinstance(conditions, SVDConditions)
    mask = torch.arange(len(conditions.latents)) % 2 == 0
    mixed, free = without_conditions(conditions, mask), conditions.withheld()
    for name in ("latents", "masks", "context", "missing"):
        assert torch.equal(getattr(mixed, name)[mask], getattr(free, name)[mask]), name
        assert torch.equal(getattr(mixed, name)[~mask], getattr(conditions, name)[~mask]), name
    assert mixed.latents[mask].abs().max() == 0 and mixed.latents[~mask].abs().max() > 0


def test_the_backbone_chooses_the_recipe(store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "svd", svd_preset())
    monkeypatch.setitem(PRESETS, "plain", small_preset())
    how = {"out": tmp_path / "run", "data": DataOptions(val_split="none")}
    assert isinstance(dist_s_recipe(TrainDiSTS(**how, preset="svd", init="WEIGHTS"), [store]), DiSTSVideoRecipe)
    assert isinstance(dist_s_recipe(TrainDiSTS(**how, preset="plain"), [store]), DiSTSRecipe)
    with pytest.raises(ConfigError, match="pass --init"):
        dist_s_recipe(TrainDiSTS(**how, preset="svd"), [store])
    with pytest.raises(ConfigError, match="train it with DiSTSRecipe"):
        DiSTSVideoRecipe(small_preset(), store, None, 2, 0)


def test_a_video_codec_is_loaded_not_trained(store: SampleStore) -> None:
    with pytest.raises(ConfigError, match=r"not trained here: load it with VideoCodec\.from_diffusers"):
        CodecRecipe(preset_named("paper"), store, None, 2, 0)


@pytest.fixture
def long_store(tmp_path: Path) -> SampleStore:
    """A scene with a chunk of five keyframes."""
    write_settings(tmp_path / "long", SampleSettings(HEIGHT, WIDTH, chunk=6))
    arrays = made_scene(0, keyframes=8)
    table = [(NEXT, 0, k) for k in range(1, 7)] + [(NEXT, 1, 2), (BETWEEN, 1, 2)]
    kind, reference, target = np.array(table, np.int16).T
    write_scene(tmp_path / "long", "scene", arrays | {"kind": kind, "reference": reference, "target": target})
    return SampleStore(tmp_path / "long")


def test_dist_t_trains_on_latents_of_a_video_codec(
    long_store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = small_video_codec()
    save_model(codec, tmp_path / "codec" / "codec")
    preset = small_preset()
    preset = replace(preset, chunk=6, codec_class="VideoCodec", dist_t=preset.dist_t | {"time_factor": 4})
    monkeypatch.setitem(PRESETS, "video", preset)
    monkeypatch.setattr(TrainDiSTT, "training_stores", lambda self, strides: [long_store])
    recipe: Recipe = TrainDiSTT(
        out=tmp_path / "run",
        preset="video",
        codec=str(tmp_path / "codec"),
        data=DataOptions(val_split="none"),
        optimiser=OptimiserOptions(batch=5),
    ).recipe()
    assert isinstance(recipe, DiSTTRecipe) and isinstance(recipe.codec, VideoCodec)
    shapes = {}
    for step in range(40):
        batch = recipe.batch(step)
        shapes[batch.truth.shape[2]] = (step, batch.noise.shape)
    assert {frames: tuple(shape[2:]) for frames, (_, shape) in shapes.items()} == {1: (1, 8, 4, 6), 5: (2, 8, 4, 6)}
    assert torch.isfinite(recipe.loss(recipe.batch(shapes[5][0]), 0)[0])
    assert [whole(frames, 4) for frames in (1, 4, 5, 8, 9, 17)] == [1, 1, 5, 5, 9, 17] and whole(6, 1) == 6
    validation = train(recipe, options(tmp_path / "run", 1))
    assert {"composed@1", "composed@5"} <= set(validation)
    assert DiSTTPipeline.from_pretrained(tmp_path / "run" / "weights").codec.time_factor == 4


def test_chunks_too_short_for_the_codec_are_not_offered(store: SampleStore) -> None:
    preset = small_preset()
    preset = replace(preset, dist_t=preset.dist_t | {"time_factor": 4})
    recipe = DiSTTRecipe(preset, small_video_codec(), store, None, 2, 0)
    assert {name for pools in recipe.pools.values() for name in pools} == {"single", "between"}
    assert {recipe.batch(step).truth.shape[2] for step in range(20)} == {1}


def test_benchmarks_show_frames_through_a_video_codec(store: SampleStore, tmp_path: Path) -> None:
    save_model(small_video_codec(), tmp_path / "codec")
    codec = codec_of(str(tmp_path))
    assert isinstance(codec, VideoCodec)
    frame = store.scenes[0].frame(0)
    shown = through_codec(codec, frame)
    assert shown.rgb.shape == frame.rgb.shape and shown.depth.shape == frame.depth.shape
