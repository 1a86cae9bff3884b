"""A student learns what its teacher makes of the very noise that it is given, in one evaluation, guidance included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import without_controls
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.dist_t import DiSTTOptions, DiSTTRecipe
from dist4d_env.training.distillation import Teacher
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.samples import SampleStore
from tests.models.made import small_preset

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline whose answer depends on noise and controls."""
    torch.manual_seed(0)
    preset, folder = small_preset(), tmp_path_factory.mktemp("teacher")
    parts = RGBDCodec(**preset.codec), DiSTTTransformer(**preset.dist_t), Composer(**preset.composer)
    for part in parts[1:]:
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    DiSTTPipeline(*parts).save_pretrained(folder)
    return str(folder)


def student(store: SampleStore, weights: str, **options: object) -> DiSTTRecipe:
    codec = DiSTTPipeline.from_pretrained(weights).codec
    teacher = Teacher(weights, codec, evaluations=3, guidance=2.0)
    return DiSTTRecipe(small_preset(), codec, store, store, 2, 0, DiSTTOptions(teacher=teacher, **options))  # type: ignore[arg-type]


def test_the_teacher_answers_as_its_pipeline_samples(store: SampleStore, weights: str) -> None:
    pipeline, scene = DiSTTPipeline.from_pretrained(weights), store.scenes[0]
    sampled = pipeline(
        [scene.reference_frame(0)], [[scene.conditions(0)]], generator=torch.Generator().manual_seed(7), steps=3, guidance=2.0
    )
    recipe = student(store, weights)
    inputs, truth = recipe.collate(store, [(0, [0])])
    noise = torch.randn(recipe.codec.encode_rgbd(truth).shape, generator=torch.Generator().manual_seed(7))
    _, images = recipe.targets(inputs, truth, noise)
    colours = ((images[0, :, 0, :3] + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    assert (sampled.rgb[0, 0] == colours).all()
    assert not torch.equal(recipe.targets(inputs, truth, -noise)[1], images), "other noise, another answer"
    kept = without_controls(inputs, torch.ones(1, dtype=torch.bool))
    assert not torch.equal(recipe.targets(kept, truth, noise)[1], images), "what is withheld from the student is from the teacher"


def test_a_student_comes_nearer_and_its_teacher_stays(store: SampleStore, weights: str, tmp_path: Path) -> None:
    recipe = student(store, weights)
    before, mine = recipe.validate(), {k: v.clone() for k, v in recipe.options.teacher.state_dict().items()}  # type: ignore[union-attr]
    after = train(recipe, LoopOptions(tmp_path / "run", steps=30, learning_rate=3e-3, warmup=1, ema=0.5, validate_every=30))
    assert before["teacher@1"] == after["teacher@1"]
    assert after["as_teacher@1"] > before["as_teacher@1"] + 1
    for name, tensor in recipe.options.teacher.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, mine[name]), name
    assert {path.name for path in (tmp_path / "run" / "weights").iterdir()} == {"codec", "dist_t", "composer"}


def test_an_interrupted_distillation_goes_on_bit_for_bit(store: SampleStore, weights: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for out, steps, resume in ((whole, 4, False), (broken, 2, False), (broken, 4, True)):
        how = LoopOptions(out, steps, warmup=1, decay=1e-9, validate_every=10**6, resume=resume)
        train(student(store, weights), how)
    for name, tensors in load_checkpoint(whole)["models"].items():
        for key, tensor in tensors.items():
            assert torch.equal(load_checkpoint(broken)["models"][name][key], tensor), (name, key)


def test_what_cannot_be_distilled_is_refused(store: SampleStore, weights: str) -> None:
    codec = DiSTTPipeline.from_pretrained(weights).codec
    with pytest.raises(ConfigError, match="at least one evaluation, not 0"):
        Teacher(weights, codec, evaluations=0)
    with pytest.raises(ConfigError, match="critics compare with true frames"):
        student(store, weights, layout_consistency=1.0)
    torch.manual_seed(1)
    with pytest.raises(ConfigError, match=f"another codec than the student: pass --codec {weights}"):
        Teacher(weights, RGBDCodec(**small_preset().codec), evaluations=3)
