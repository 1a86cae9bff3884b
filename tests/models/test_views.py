"""Any number of cameras, in any order: shipped and small models follow the rig's geometry, not the cameras' places in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import DiSTTInputs, collate_targets
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline

from .made import HEIGHT, WIDTH, YAWS, made_sample, small_preset
from .test_pipelines import off_zero, seeded

RIGS = {
    1: (0.0,),
    5: (55.0, 0.0, -55.0, -110.0, 110.0),
    6: YAWS,
    7: (0.0, 51.0, 103.0, 154.0, -154.0, -103.0, -51.0),
}


@pytest.fixture(scope="module")
def pipelines() -> tuple[DiSTTPipeline, DiSTSPipeline]:
    return DiSTTPipeline.from_pretrained("tiny"), DiSTSPipeline.from_pretrained("tiny")


@pytest.mark.parametrize("views", list(RIGS))
def test_shipped_weights_take_any_rig(views: int, pipelines: tuple[DiSTTPipeline, DiSTSPipeline]) -> None:
    reference, targets = made_sample(0, yaws=RIGS[views])
    dist_t, dist_s = pipelines
    frames = dist_t([reference], [targets], generator=seeded())
    completed = dist_s([target.images for target in targets], generator=seeded())
    for made in (frames.rgb[0], completed.rgb):
        assert made.shape == (2, views, HEIGHT, WIDTH, 3)
    assert np.isfinite(frames.depth).all() and np.isfinite(completed.depth).all()
    assert 0 < frames.share.max() <= 1


def reordered(inputs: DiSTTInputs, order: list[int]) -> DiSTTInputs:
    """The same batch with its cameras in another order."""
    place = torch.tensor(order)
    images = {name: getattr(inputs, name)[:, place] for name in ("reference", "layout", "intrinsics", "ego_from_camera")}
    views = type(inputs.views)(*(tensor[:, place] for tensor in inputs.views))
    return inputs._replace(**images, views=views, neighbours=torch.argsort(place)[inputs.neighbours[:, place]])


def test_the_order_of_cameras_does_not_matter() -> None:
    torch.manual_seed(0)
    network = off_zero(DiSTTTransformer(**small_preset().dist_t)).eval()
    yaws, order = RIGS[5], [3, 0, 4, 2, 1]
    samples = [made_sample(0, yaws=yaws)]
    inputs = collate_targets([r for r, _ in samples], [t for _, t in samples])
    shuffled, targets = made_sample(0, yaws=tuple(yaws[k] for k in order))
    again = collate_targets([shuffled], [targets]).neighbours
    assert torch.equal(reordered(inputs, order).neighbours, again), "neighbours follow the cameras"
    noisy, splat = torch.randn(2, 1, 5, 2, 8, HEIGHT // 8, WIDTH // 8, generator=seeded()).unbind(0)
    reference = torch.randn(1, 5, 8, HEIGHT // 8, WIDTH // 8, generator=seeded(1))
    with torch.no_grad():
        one = network(noisy, torch.ones(1), inputs, reference, splat)
        other = network(noisy[:, order], torch.ones(1), reordered(inputs, order), reference[:, order], splat[:, order])
    torch.testing.assert_close(other, one[:, order], atol=1e-4, rtol=1e-4)
