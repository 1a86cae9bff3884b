"""Networks in bfloat16 where the processor is made for it."""

import pytest
import torch

from dist4d_env.models import precision
from dist4d_env.models.composition import CompositionUNet
from dist4d_env.models.precision import computes_bfloat16, reduced


def network() -> CompositionUNet:
    torch.manual_seed(0)
    made = CompositionUNet(4, 4, (8, 16), 1, scalars=1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.skipif(not computes_bfloat16(), reason="this processor does not compute bfloat16")
@torch.no_grad()
def test_reduced_pictures_are_near_those_of_full_precision():
    images, noise, made = torch.rand(3, 4, 16, 32), torch.rand(3, 1), network()
    exact = made(images, noise)
    with reduced(images):
        fast = made(images, noise)
    assert fast.dtype == torch.bfloat16
    assert 0 < (fast - exact).abs().max() < 0.05 * exact.abs().max()


def test_what_learns_or_is_of_another_kind_is_never_reduced(monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)
    images, noise, made = torch.rand(1, 4, 16, 32), torch.rand(1, 1), network()
    with reduced(images):
        assert made(images, noise).dtype == torch.float32
    with torch.no_grad(), reduced(images.double()):
        assert (images @ images.mT).dtype == torch.float32
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: False)
    with torch.no_grad(), reduced(images):
        assert made(images, noise).dtype == torch.float32


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon"}, False),
    ],
)
def test_bfloat16_is_used_where_it_is_faster(monkeypatch, able, expected):
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert computes_bfloat16.__wrapped__() is expected
