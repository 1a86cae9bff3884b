"""The ego vehicle's measurements: the one place that defines its footprint."""

from __future__ import annotations

from dataclasses import dataclass


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
