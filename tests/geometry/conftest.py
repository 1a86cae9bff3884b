"""Tests of the splat run with numpy and, where it is installed, with numba."""

from __future__ import annotations

import importlib.util

import pytest

NUMBA = pytest.param(
    "numba",
    marks=pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba (the extra 'fast') is not installed"),
)


@pytest.fixture(scope="module", autouse=True, params=["numpy", NUMBA])
def backend(request):
    """Every test of this folder sees each implementation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIST4D_SPLAT", request.param)
        yield request.param
