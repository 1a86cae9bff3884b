"""How inner loops are compiled: by numba, one thread, no sum reordered or contracted (no ``fastmath``), cached on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

int32: Any = np.int32
float32: Any = np.float32
index: Any = np.uint64
"""Conversions in kernels, where they mix with Python's numbers more freely than numpy's own annotations allow. ``index`` is for
places in arrays that are never negative, which would count from the end: loops that need not ask are faster."""


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """The function, compiled when it is first called; the next process finds it beside its file or in the user's cache folder.

    Where neither can be written to, every process compiles anew and a warning says so.
    """
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        warnings.warn(f"{error}: every start compiles it anew; set NUMBA_CACHE_DIR to a folder to write to", stacklevel=2)
        return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """For helpers in the file of their callers: numba's cache knows a kernel by its own file alone."""
    return compiled(function, inline="always")
