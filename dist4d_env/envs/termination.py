"""When an episode ends, and why."""

from __future__ import annotations

from collections.abc import Mapping

CAUSES = {"collision": "at_fault_collision", "off_road": "off_road", "wrong_way": "wrong_way"}
"""What may terminate an episode, and the running value that tells of it."""


def termination_cause(values: Mapping[str, float], chosen: tuple[str, ...]) -> str | None:
    """The first of the chosen causes that holds, None if the episode goes on. What is not known (nan) ends nothing."""
    return next((cause for cause in chosen if values[CAUSES[cause]] == 1.0), None)


def truncation_cause(time: float, end_time: float, trust: float, trust_floor: float) -> str | None:
    """ "horizon" once the time is up, "trust" when the world's frame is believed less than the floor, None otherwise."""
    if time > end_time - 1e-6:
        return "horizon"
    return "trust" if trust < trust_floor else None
