"""How inner loops are compiled: by numba, one thread, no sum reordered or contracted (no ``fastmath``), cached on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

compiled: Any = njit(cache=True, nogil=True, error_model="numpy")
inlined: Any = njit(cache=True, nogil=True, error_model="numpy", inline="always")
"""For helpers in the file of their callers: numba's cache knows a kernel by its own file alone."""

int32: Any = np.int32
float32: Any = np.float32
"""Conversions in kernels, where both mix with Python's numbers more freely than numpy's own annotations allow."""
