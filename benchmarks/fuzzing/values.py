"""Shared by the fuzzers of calls: absurd values, a small town, and what counts as clearly refused."""

from __future__ import annotations

import atexit
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from dist4d_env.errors import DiST4DError
from dist4d_env.town.writer import write_dataset

LONGEST = 300


class Broken:
    """Cannot even be looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __array__(self, *given: Any, **more: Any) -> np.ndarray:
        raise ValueError("no array")


_FIXED: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 10**400,
    lambda: -(10**5000),
    lambda: 1j,
    lambda: Decimal("0.5"),
    lambda: Fraction(1, 2),
    lambda: b"\x40\x70",
    lambda: "\0",
    lambda: "",
    lambda: "x" * 1000,
    lambda: "0.5",
    lambda: Path("/nowhere"),
    lambda: Broken(),
    lambda: Broken,
    lambda: abs,
    lambda: range(2),
    lambda: iter((64, 112)),
    lambda: {"progress": 1e308},
    lambda: {"a", "b"},
    lambda: {64: 112},
    lambda: [[1, 2], [3]],
    lambda: ["val"] * 1000,
    lambda: np.zeros(2),
    lambda: np.ma.masked_all(2),
    lambda: np.array(["1", "2"]),
    lambda: np.array([1, "2", None], object),
    lambda: np.zeros(2, complex),
    lambda: np.zeros(2, "M8[s]"),
    lambda: np.zeros(2, [("pedal", float)]),
    lambda: np.array(["1e4000", "0"], np.longdouble),
    lambda: np.array([np.nan, 0.0]),
    lambda: np.float32(0.5),
    lambda: np.int8(-1),
    lambda: np.bool_(True),
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 1e308,
    lambda: -1e308,
    lambda: 5e-324,
)
ABSURD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(_FIXED).map(lambda make: make()),
    st.floats(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=4),
    st.lists(st.floats() | st.integers(-3, 3) | st.text(max_size=2), max_size=4),
    st.dictionaries(st.text(max_size=8), st.floats() | st.none(), max_size=2),
)
"""Values of every kind that a keyword or an action is not, and some that it is."""


@cache
def town() -> str:
    """The folder of a town of one scene of 6 s without pictures, which goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzzed-town-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(write_dataset(folder / "town", "val", count=1, duration=6.0, pictures=False, progress=False, workers=1))


def refused(error: DiST4DError, names: tuple[str, ...]) -> str:
    """ "refused", where an error is short and names one of the things that it can be about."""
    message = str(error)
    assert len(message) <= LONGEST, f"long: {message}"
    assert any(name in message for name in names), f"names none of {names}: {message}"
    return "refused"


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number; truth values are not."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; truth values are not."""
    array = isinstance(value, np.ndarray) and value.shape == () and np.issubdtype(value.dtype, np.integer)
    return array or (isinstance(value, Integral) and not isinstance(value, bool))


def check_outcome(space: spaces.Space, observation: Any, reward: float, info: dict[str, Any]) -> None:
    """Raises AssertionError for what no environment may return."""
    assert space.contains(observation), "silent: the observation lies outside its space"
    assert math.isfinite(reward), f"silent: reward {reward}"
    json.dumps(info, allow_nan=False)
