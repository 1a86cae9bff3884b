"""Which of its two implementations the splat uses: numpy, or loops compiled by numba (the extra ``fast``).

Both give the same bits: every sum of floats is written out in one order, or made of whole numbers where the order is free.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache

from dist4d_env.errors import ConfigError

BACKENDS = ("auto", "numpy", "numba")


def backend() -> str:
    """ "numpy" or "numba", as ``$DIST4D_SPLAT`` says; "auto", the default, takes numba where it is installed.

    Raises ConfigError for another value, and where numba is asked for and not installed.
    """
    choice = os.environ.get("DIST4D_SPLAT", "auto")
    if choice not in BACKENDS:
        raise ConfigError(f"DIST4D_SPLAT must be one of {', '.join(BACKENDS)}, not {choice!r}")
    if choice == "numba" and not has_numba():
        raise ConfigError("DIST4D_SPLAT=numba needs numba: pip install 'dist4d_env[fast]', or set DIST4D_SPLAT=numpy")
    return ("numba" if has_numba() else "numpy") if choice == "auto" else choice


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether numba can be imported; it is not imported before a kernel is needed."""
    return importlib.util.find_spec("numba") is not None


def compiled() -> bool:
    """Whether to take the compiled kernels."""
    return backend() == "numba"
