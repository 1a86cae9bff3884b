"""Networks in bfloat16 on processors that compute it: pictures that are the same to the eye, in less time."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def computes_bfloat16() -> bool:
    """Whether this machine's processor gains by multiplying bfloat16: with AMX, or AVX-512 BF16 where it isn't Intel's.

    Intel's AVX-512 BF16 without AMX, which virtual machines may hide, takes half as long again as float32; processors with
    neither only imitate it, slowly.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 has none
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and "Intel" not in str(able.get("cpu_name"))))


def reduced(images: torch.Tensor) -> AbstractContextManager[None]:
    """Convolutions of float32 images in bfloat16, summed in float32, where nothing learns and the processor is made for it.

    For the networks at pictures' size, which take most of a frame's time. Their bits don't depend on the number of threads;
    those of DiST-T's attention would, which is left out.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_grad_enabled() or not computes_bfloat16():
        return nullcontext()
    return torch.autocast("cpu", dtype=torch.bfloat16)
