"""Compiling where compiled code cannot be kept."""

from __future__ import annotations

import pytest

from dist4d_env.geometry.jit import compiled


def test_without_a_place_for_the_cache_it_compiles_all_the_same() -> None:
    """As a package in a read-only folder does for a user without a writable home."""
    names: dict = {}
    exec(compile("def double(x):\n    return 2 * x\n", "/nowhere/to/be/found.py", "exec"), names)
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        double = compiled(names["double"])
    assert double(3) == 6
