"""The first instant: contacts and corners off the road that are forgiven then, alike in running values, rewards and scores.

A track that touches the ego at the first instant at which it exists (the episode's first, or its first annotation in mid-drive)
was put there: its contacts, and what is projected to meet it, are not counted for as long as the episode lasts. A corner of the
footprint that is off the road at the first instant was put there, too: it counts once it has been on the road. Faithful forms do
as their original does instead.
"""

from __future__ import annotations

import numpy as np


def put_there(step: np.ndarray, exists: np.ndarray, seen: np.ndarray | bool = False) -> np.ndarray:
    """(K,) whether contacts at steps (K,) are at the first instant at which their tracks exist. exists: (K, T) when each one's
    track does; seen: (K,) whether it did before these steps."""
    return (step == exists.argmax(1)) & np.logical_not(seen)


def counted_corners(off: np.ndarray, pending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., T, 4) which of the corners that are off the road count; (..., 4) which do not yet count after the last step.

    off: (..., T, 4) whether a corner is off the road; pending: (..., 4) whether it has been off at every step so far: all true
    before the first instant.
    """
    waiting = np.logical_and.accumulate(off, axis=-2) & pending[..., None, :]
    return off & ~waiting, waiting[..., -1, :]
