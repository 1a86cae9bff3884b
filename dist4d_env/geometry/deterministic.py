"""Elementary functions whose bits depend on their arguments alone, not on where those lie in memory.

numpy computes them by vector instructions where it can, and by the C library, which rounds some last bits otherwise, where input
and output might overlap. For views with steps (a column of a table, an entry of many matrices) it judges that from the view's
nominal end, which reaches beyond its buffer: whether the output happens to lie there is up to the heap, and so the last bit of an
angle could differ between two runs of the same seed. Here every argument is contiguous first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _contiguous(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*(np.asarray(argument, order="C") for argument in arguments))

    call.__doc__ = f"``numpy.{function.__name__}`` of contiguous copies of its arguments."
    return call


sin, cos, tanh = _contiguous(np.sin), _contiguous(np.cos), _contiguous(np.tanh)
arcsin, arccos, arctan, arctan2 = _contiguous(np.arcsin), _contiguous(np.arccos), _contiguous(np.arctan), _contiguous(np.arctan2)
exp, log = _contiguous(np.exp), _contiguous(np.log)
