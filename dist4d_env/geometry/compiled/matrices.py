"""Small matrices as tuples of numbers: arrays in inner loops cost time."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True, inline="always")
def matrix(linear, offset, k):
    """Row k of linear (K, 3, 3) and offset (K, 3) as the twelve numbers of a 3x4 matrix."""
    return (
        linear[k, 0, 0], linear[k, 0, 1], linear[k, 0, 2], offset[k, 0],
        linear[k, 1, 0], linear[k, 1, 1], linear[k, 1, 2], offset[k, 1],
        linear[k, 2, 0], linear[k, 2, 1], linear[k, 2, 2], offset[k, 2],
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def turn(m, p):
    """The matrix without its offset times (x, y, z), summed as ``frustum.to_rows`` does."""
    return (
        m[0] * p[0] + m[1] * p[1] + m[2] * p[2],
        m[4] * p[0] + m[5] * p[1] + m[6] * p[2],
        m[8] * p[0] + m[9] * p[1] + m[10] * p[2],
    )


@njit(cache=True, nogil=True, inline="always")
def apply(m, p):
    """The matrix times (x, y, z, 1)."""
    x, y, z = turn(m, p)
    return x + m[3], y + m[7], z + m[11]
