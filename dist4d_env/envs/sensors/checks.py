"""Checks of what a sensor from outside the package declares and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dist4d_env.errors import ConfigError, shown

KINDS = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
"""Spaces whose values are arrays."""


class NoSuchKey(KeyError):
    """A sensor asked for a key that the observation does not have."""


class Arrays(dict[str, np.ndarray]):
    """The arrays of an observation's keys."""

    def __missing__(self, key: Any) -> np.ndarray:
        raise NoSuchKey(key)


def check_space(name: Any, own: Any) -> None:
    """ConfigError if what a sensor says of its keys is not a dict of bounded spaces of arrays."""
    if not isinstance(own, Mapping) or not own or not all(isinstance(key, str) for key in own):
        raise ConfigError(f"the space of sensor {shown(name)} is {shown(own)}: it must be a dict of spaces by key")
    for key, space in own.items():
        if not isinstance(space, KINDS) or (isinstance(space, spaces.Box) and not space.is_bounded()):
            kinds = ", ".join(kind.__name__ for kind in KINDS)
            raise ConfigError(f"sensor {shown(name)} has {key!r} in {shown(space)}: it must be a {kinds}, with finite bounds")


def check_observed(
    name: Any, own: Mapping[str, spaces.Space], observations: Mapping[str, np.ndarray], rows: Sequence[int]
) -> None:
    """ConfigError if a sensor left some of its keys (N, ...) outside their spaces at the rows that are new."""
    for key, space in own.items():
        array = observations.get(key)
        for row in rows:
            if array is None or np.shape(array)[:1] <= (row,) or not space.contains(array[row]):
                raise ConfigError(
                    f"sensor {shown(name)} left {key!r} outside its space {shown(space)}: it writes values within the bounds "
                    "into the array that it is given"
                )
