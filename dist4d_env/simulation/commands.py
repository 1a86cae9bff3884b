"""Commands of the vehicle: what B egos do until their next decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.simulation.tracker import References, with_rows


@dataclass(frozen=True)
class Commands:
    """What B egos carry out, in physical units; it stands until the next decision.

    acceleration (B,) m/s^2; steering_rate (B,) rad/s; steering (B,) front wheel angle in rad, nan where the rate counts; follows
    (B,) bool, where the tracker follows the row of ``references`` instead (B rows, None where no ego follows one).
    """

    acceleration: np.ndarray
    steering_rate: np.ndarray
    steering: np.ndarray
    follows: np.ndarray
    references: References | None = None

    @classmethod
    def controls(
        cls, acceleration: np.ndarray, steering_rate: np.ndarray | None = None, steering: np.ndarray | None = None
    ) -> Commands:
        """Accelerations (B,) with steering rates or, where they are given, front wheel angles."""
        count = len(acceleration)
        rate = np.zeros(count) if steering_rate is None else steering_rate
        return cls(acceleration, rate, np.full(count, np.nan) if steering is None else steering, np.zeros(count, bool))

    @classmethod
    def following(cls, references: References) -> Commands:
        """Every ego follows the reference of its row."""
        count = len(references)
        return cls(np.zeros(count), np.zeros(count), np.full(count, np.nan), np.ones(count, bool), references)

    def __len__(self) -> int:
        return len(self.acceleration)

    def take(self, rows: np.ndarray) -> Commands:
        """Those of some rows."""
        references = None if self.references is None else self.references.take(rows)
        return Commands(self.acceleration[rows], self.steering_rate[rows], self.steering[rows], self.follows[rows], references)

    def put(self, rows: np.ndarray, others: Commands) -> Commands:
        """These with those at ``rows`` replaced by ``others``, in their order."""
        references, theirs = self.references, others.references
        if theirs is not None:
            base = theirs.take(np.zeros(len(self), int)) if references is None else references
            references = base.put(rows, theirs)
        return Commands(
            with_rows(self.acceleration, rows, others.acceleration),
            with_rows(self.steering_rate, rows, others.steering_rate),
            with_rows(self.steering, rows, others.steering),
            with_rows(self.follows, rows, others.follows),
            references,
        )
