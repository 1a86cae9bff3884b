"""The splat in numpy, array by array: the reference that the compiled kernels equal bit for bit."""

from __future__ import annotations

import numpy as np


def to_rows(linear: np.ndarray, offset: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """``linear @ points + offset`` of (3, 3), (3,) and (3, n) as three rows, summed from left to right: a matrix product's sums
    depend on the library that makes them."""
    x, y, z = points
    return tuple(a * x + b * y + c * z + d for (a, b, c), d in zip(linear, offset, strict=True))
