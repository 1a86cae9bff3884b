"""The truth, sampled elsewhere: the oracle's pictures with principal points half a pixel aside.

What a planner does otherwise on these, it does because of where pixel centres happen to lie. Pictures that are made of other
pictures of the same street have their pixel centres elsewhere, however good they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleState, OracleWorld

ASIDE = 0.5
"""Pixels, to the right and down."""


class ResampledOracle(OracleWorld):
    """The planner is not told. On validation scenes plans were as far from the true ones where it was."""

    def reset(self, starts: Sequence[WorldStart]) -> list[OracleState]:
        """Raises DataError as the oracle does."""
        return super().reset([replace(start, rig=self._aside(start)) for start in starts])

    @staticmethod
    def _aside(start: WorldStart) -> CameraRig:
        intrinsics = start.rig.intrinsics.copy()
        intrinsics[:, :2, 2] += ASIDE
        return replace(start.rig, intrinsics=intrinsics)
