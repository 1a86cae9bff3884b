"""How inner loops are compiled: by numba, one thread, no sum reordered or contracted (no ``fastmath``), cached on disk."""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
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
        _overlook_what_does_not_belong(kernel, Path(inspect.getfile(function)))
    return kernel


def _overlook_what_does_not_belong(kernel: Any, file: Path) -> None:
    """Takes an index of the cache for an empty one, when a kernel is looked up in it, where it cannot be unpickled or the files
    that the kernel was compiled from were others.

    numba asks for the kernel's own file alone, though code and constants of others are in the machine code. And it unpickles the
    whole index before it asks, and fails where it names types, such as named tuples, that the source file no longer has.
    """
    try:
        index = kernel._cache._cache_file
        read = index._load_index
        index._source_stamp = index._source_stamp, _stamp(file)
    except AttributeError as error:
        warnings.warn(
            f"numba {numba.__version__} keeps its cache in another way ({error}): after each update of the package, remove the "
            "folders __pycache__ of dist4d_env",
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


_IMPORTS = re.compile(r"^from ([\w.]+) import (\([^)]*\)|.*)$", re.MULTILINE)
_PACKAGE = Path(__file__).parents[1]


@cache
def _stamp(file: Path) -> str:
    """Of the text of a file and of all that it imports from, directly or not, in its package and in this one."""
    files = [file]
    for one in files:
        files += [other for other in _imported(one)[1] if other not in files]
    return hashlib.sha256(b"\0".join(sorted(_imported(one)[0] for one in files))).hexdigest()


@cache
def _imported(file: Path) -> tuple[bytes, frozenset[Path]]:
    """The text of a file, and the files of its package and of this one that it imports from."""
    text = file.read_bytes() if file.is_file() else b""
    root = next(folder for folder in file.parents if not (folder / "__init__.py").is_file())
    roots, found = {_PACKAGE.name: _PACKAGE.parent, file.relative_to(root).parts[0]: root}, set()
    for module, names in _IMPORTS.findall(text.decode(errors="replace")):
        parts = module.split(".")
        if parts[0] in roots:
            place = roots[parts[0]].joinpath(*parts)
            inside = ["__init__", *re.findall(r"\w+", names)] if place.is_dir() else []
            found |= {place.with_suffix(".py"), *(place / f"{name}.py" for name in inside)}
    return text, frozenset(filter(Path.is_file, found))


def inlined(function: Callable[..., Any]) -> Any:
    """For helpers that become part of their callers, in whatever file those are."""
    return compiled(function, inline="always")
