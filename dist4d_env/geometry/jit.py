"""How inner loops are compiled: by numba, one thread, no sum reordered or contracted (no ``fastmath``), cached on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numba
import numpy as np
from numba import njit
from numba.core import event

from dist4d_env.progress import spending

int32: Any = np.int32
float32: Any = np.float32
index: Any = np.uint64
"""Conversions in kernels, where they mix with Python's numbers more freely than numpy's own annotations allow. ``index`` is for
places in arrays that are never negative, which would count from the end: loops that need not ask are faster."""


class _Compiling(event.Listener):
    """Counts the time of compiling, one kernel within another included; numba compiles in one thread at a time."""

    def __init__(self) -> None:
        self._running: list[AbstractContextManager[None]] = []

    def on_start(self, event: Any) -> None:
        """A kernel begins to be compiled."""
        self._running.append(spending("compiling (once per installation)"))
        self._running[-1].__enter__()

    def on_end(self, event: Any) -> None:
        """It has been."""
        self._running.pop().__exit__(None, None, None)


event.register("numba:compile", _Compiling())


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """The function, compiled when it is first called; the next process finds it beside its file or in the user's cache folder.

    Where neither can be written to, every process compiles anew and a warning says so.
    """
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError as error:
        warnings.warn(f"{error}: every start compiles it anew; set NUMBA_CACHE_DIR to a folder to write to", stacklevel=2)
        return njit(**options)(function)
    if kernel is not function:  # as with NUMBA_DISABLE_JIT
        _overlook_what_cannot_be_read(kernel)
    return kernel


def _overlook_what_cannot_be_read(kernel: Any) -> None:
    """Takes an index of the cache that cannot be unpickled for an empty one, when a kernel is looked up in it.

    numba unpickles the whole index before it asks whether the index belongs to this version of the source file, and fails where
    it names types, such as named tuples, that the source file no longer has.
    """
    try:
        index = kernel._cache._cache_file
        read = index._load_index
    except AttributeError as error:
        warnings.warn(
            f"numba {numba.__version__} keeps its cache in another way ({error}): where a start fails in its caching.py after an "
            "update of the package, remove the folders __pycache__ of dist4d_env",
            stacklevel=3,
        )
        return

    def load_index() -> Any:
        try:
            return read()
        except OSError:
            raise
        except Exception:  # of another version of the source file, or no whole file: unpickling may raise anything
            return {}

    index._load_index = load_index


def inlined(function: Callable[..., Any]) -> Any:
    """For helpers in the file of their callers: numba's cache knows a kernel by its own file alone."""
    return compiled(function, inline="always")
