"""The ego vehicle's measurements: the one place that defines its footprint."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from dist4d_env.errors import ConfigError, shown

LONGEST = 100.0
"""Metres that a vehicle may measure."""


@dataclass(frozen=True)
class VehicleParameters:
    """The ego vehicle; defaults are the nuScenes Renault Zoe. The one place that defines the footprint.

    rear_axle_to_center: metres from the rear axle (the ego origin) forward to the box centre.
    """

    length: float = 4.084
    width: float = 1.730
    height: float = 1.562
    wheelbase: float = 2.588
    rear_axle_to_center: float = 1.4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            small = isinstance(value, Real) and not isinstance(value, bool) and -LONGEST <= float(value) <= LONGEST
            if not small or (value <= 0 and name != "rear_axle_to_center"):
                raise ConfigError(f"a vehicle's {name} is {shown(value)}: it must be metres, above 0 and up to {LONGEST:g}")
