"""Own rollouts as samples: real references at first, generated ones later; critics of generated frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.training.critics import READ_CHANNELS, Discriminator, LayoutReader, critic_noise, gradient_loss, layout_loss
from dist4d_env.training.dist_t import HOLE_COLOUR, DiSTTRecipe
from dist4d_env.training.dist_t_batches import DiSTTOptions
from dist4d_env.training.rollouts import prepare_rollouts
from dist4d_env.training.samples import SampleSettings, SampleStore
from tests.models.made import small_preset

SETTINGS = SampleSettings(64, 112, chunk=2)


@pytest.fixture(scope="module")
def rolled(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Rollouts of an untrained model, which shows its splat."""
    torch.manual_seed(0)
    preset = small_preset()
    folder = tmp_path_factory.mktemp("rolled")
    parts = RGBDCodec(**preset.codec), DiSTTTransformer(**preset.dist_t), Composer(**preset.composer)
    DiSTTPipeline(*parts).save_pretrained(folder / "weights")
    dataset = open_dataset(town_dataroot, scenes="val")
    prepare_rollouts(dataset, dataset.scene_names("val")[:1], folder / "samples", SETTINGS, str(folder / "weights"), workers=1)
    return SampleStore(folder / "samples")


def test_references_are_real_at_the_start_and_made_afterwards(rolled: SampleStore) -> None:
    scene = rolled.scenes[0]
    runs = list(scene.chunks(1))
    assert len(runs) >= 4
    for (row,) in runs:
        reference, true = scene.reference_frame(row), scene.frame(int(scene.reference[row]))
        starts = int(scene.arrays["last_real"][row]) == int(scene.reference[row])
        assert np.array_equal(reference.rgb, true.rgb) == starts
        np.testing.assert_array_equal(reference.global_from_camera, true.global_from_camera)
        assert scene.since_real(row) == pytest.approx((scene.target[row] - scene.arrays["last_real"][row]) * 0.5, abs=1e-6)


def test_the_memory_runs_dry_but_made_pixels_fill_it(rolled: SampleStore) -> None:
    scene = rolled.scenes[0]
    last = int(scene.arrays["last_real"][0])
    rows = [row for row in range(len(scene.kind)) if int(scene.arrays["last_real"][row]) == last]
    ages = [scene.images(row).masks[..., 3].mean() for row in rows]
    assert ages[-1] > ages[0], "what is remembered is older in the end"
    assert scene.images(rows[-1]).masks[..., 0].mean() > 0.3 * 255


def test_same_seed_same_rollout(rolled: SampleStore, town_dataroot: Path, tmp_path: Path) -> None:
    dataset = open_dataset(town_dataroot, scenes="val")
    weights = str(rolled.folder.parent / "weights")
    prepare_rollouts(dataset, dataset.scene_names("val")[:1], tmp_path / "again", SETTINGS, weights, workers=1)
    again = SampleStore(tmp_path / "again").scenes[0].arrays
    for name, array in rolled.scenes[0].arrays.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_rollouts_of_other_weights_are_refused(rolled: SampleStore, town_dataroot: Path) -> None:
    with pytest.raises(DataError, match="did not make"):
        prepare_rollouts(open_dataset(town_dataroot), [], rolled.folder, SETTINGS, "tiny", workers=1)


def recipe(rolled: SampleStore, **options: float) -> DiSTTRecipe:
    torch.manual_seed(0)
    preset = small_preset()
    chosen = DiSTTOptions(rollouts=rolled, rollout_share=1.0, **options)  # type: ignore[arg-type]
    return DiSTTRecipe(preset, RGBDCodec(**preset.codec), rolled, None, 2, 0, chosen)


@pytest.mark.parametrize(("weight", "critic"), [("adversarial", "discriminator"), ("layout_consistency", "reader")])
def test_critics_learn_and_change_gradients_of_far_frames_alone(rolled: SampleStore, weight: str, critic: str) -> None:
    with_it, without = recipe(rolled, **{weight: 1.0}), recipe(rolled)
    steps = {bool(with_it.batch(step).far.any()): step for step in range(12)}
    assert set(steps) == {True, False}
    for far, step in steps.items():
        gradients = []
        for one in (with_it, without):
            torch.manual_seed(1)
            for parameter in one.composer.parameters():
                torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))
            one.composer.zero_grad()
            one.loss(one.batch(step), step)[0].backward()
            gradients.append(torch.cat([p.grad.flatten() for p in one.composer.parameters()]))
        assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7) != far
    assert critic in with_it.models and critic not in without.models
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in with_it.models[critic].parameters())


def test_the_discriminator_sees_frames_of_rollouts_beside_the_true_ones_of_their_instants(
    rolled: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist4d_env.training.critics.MAX_NOISE", 0.0)
    scene, shown = rolled.scenes[0], rolled.generated_references()
    assert sorted(int(scene.arrays["made"][row]) for _, row in shown) == sorted({int(k) for k in scene.arrays["made"] if k >= 0})
    one = recipe(rolled, adversarial=1.0)
    true, made, layout = one.examples(np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert true.shape == made.shape == (2 * 6, 4, 64, 112) and layout.shape == (2 * 6, 8, 64, 112)
    drawn = [shown[i][1] for i in np.random.default_rng(0).integers(len(shown), size=2)]
    for row, frames in zip(drawn, true.split(6), strict=True):
        rgb = scene.frame(int(scene.reference[row])).rgb
        np.testing.assert_array_equal(((frames[:, :3] + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy(), rgb)
    assert (true - made).abs().mean() > 0.01
    assert recipe(rolled).batch(0).examples == ()


def test_a_discriminator_without_rollouts_to_learn_from_is_refused(store: SampleStore) -> None:
    with pytest.raises(ConfigError, match="take longer scenes"):
        recipe(store, adversarial=1.0)


def test_markings_and_agents_weigh_more_even_in_judged_frames(store: SampleStore) -> None:
    valid = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(2, 1, 2, 2)  # left shown, right a hole
    named = torch.tensor([False, True]).view(1, 1, 2, 1).expand(2, 1, 2, 2)  # the lower row is a marking
    judged = torch.tensor([False, True])
    weight = recipe(store, emphasis=2.0).pixel_weight(valid, named, judged)
    for channel, hole in ((0, HOLE_COLOUR), (3, 2.0)):  # colours in holes are left to critics, depth is not
        assert weight[0, channel].tolist() == [[1, 2], [3, 6]]
        assert weight[1, channel].tolist() == [[1, pytest.approx(hole)], [3, 6]]
    assert recipe(store, emphasis=0.0).pixel_weight(valid, named)[0, 0].tolist() == [[1, 2], [1, 2]]
    one, plain = recipe(store), recipe(store, emphasis=0.0)
    assert one.loss(one.batch(0), 0)[0] > plain.loss(plain.batch(0), 0)[0]


def test_the_adversarial_gradient_is_as_strong_as_asked() -> None:
    torch.manual_seed(0)
    critic = Discriminator((8, 8, 8))
    made = torch.randn(2, 4, 32, 48, requires_grad=True)
    layout, pixel = torch.rand(2, 8, 32, 48), torch.randn(2, 4, 32, 48)
    gradient_loss(made, critic.gradient(made, layout), pixel, torch.full((2, 1, 32, 48), 0.5)).backward()
    assert made.grad is not None and made.grad.norm().item() == pytest.approx(0.5 * pixel.norm().item(), rel=1e-4)
    assert all(p.grad is None for p in critic.parameters()), "the discriminator learns from its own loss only"
    before = critic(made.detach(), layout).mean().item()
    gradient = critic.gradient(made, layout)
    with torch.no_grad():
        assert critic(made - 0.1 * gradient / gradient.abs().max(), layout).mean().item() > before, (
            "against the gradient is more real"
        )


def test_gradients_of_single_pixels_are_bounded() -> None:
    made, pixel, everywhere = torch.zeros(1, 4, 16, 16, requires_grad=True), torch.ones(1, 4, 16, 16), torch.ones(1, 1, 16, 16)
    gradient = 0.1 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    gradient[0, 0, 8, 8] = 50.0
    gradient_loss(made, gradient, pixel, everywhere).backward()
    assert made.grad is not None and made.grad.norm().item() == pytest.approx(pixel.norm().item(), rel=1e-4)
    assert made.grad[0, 0, 8, 8] > 0.9 * made.grad.abs().max() and made.grad.abs().max() < 0.2 * made.grad.norm()


def test_a_discriminator_that_cannot_tell_has_no_confidence() -> None:
    torch.manual_seed(0)
    critic, layout = Discriminator((8, 8, 8)), torch.rand(4, 8, 32, 48)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    real, made = torch.rand(4, 4, 32, 48), torch.rand(4, 4, 32, 48) - 1
    assert critic.loss(real, real, layout)[1] < 0.3
    for _ in range(150):
        optimizer.zero_grad()
        critic.loss(real, made, layout)[0].backward()
        optimizer.step()
    assert critic.loss(real, made, layout)[1] > 0.9 and critic.loss(made, real, layout)[1] == 0


def test_the_layout_reader_learns_where_things_are_and_its_gradient_puts_them_there() -> None:
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    reader = LayoutReader((8, 16))
    optimizer = torch.optim.Adam(reader.parameters(), 1e-2)

    def street() -> tuple[torch.Tensor, torch.Tensor]:
        """Grey pictures with a bright patch where the layout says that there is a vehicle."""
        layout = torch.zeros(8, 8, 32, 48)
        for one in layout:
            row, column = (int(torch.randint(0, high, (), generator=draw)) for high in (24, 40))
            one[4, row : row + 8, column : column + 8] = 1
        return torch.cat([layout[:, 4:5].expand(-1, 3, -1, -1) - 0.5, torch.zeros(8, 1, 32, 48)], 1), layout

    for _ in range(150):
        pictures, layout = street()
        optimizer.zero_grad()
        reader.loss(pictures, layout, critic_noise((8, 4, 32, 48), draw)).backward()
        optimizer.step()
    pictures, layout = street()
    silent = torch.zeros(8, 4, 32, 48)
    found = reader(pictures, silent)[:, READ_CHANNELS.index("vehicle")] > 0
    there = layout[:, 4] > 0
    assert (found & there).sum() / (found | there).sum() > 0.8

    blank = torch.zeros_like(pictures) - 0.5
    gradient, missed = reader.gradient(blank, pictures, silent)
    with torch.no_grad():
        meant = torch.sigmoid(reader(pictures, silent))
        before, after = (
            layout_loss(reader(made, silent), meant) for made in (blank, blank - 0.2 * gradient / gradient.abs().max())
        )
    assert after < before and missed > 0 and reader.gradient(pictures, pictures, silent)[1] == 0
    assert gradient[:, 3].abs().max() == 0, "depth is not read"
