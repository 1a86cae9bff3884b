"""Learning rate: a short rise, a long plateau, a last stretch down to zero."""

from __future__ import annotations


def rate_at(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor on the learning rate at ``step`` of ``steps``; ``decay`` is the share of steps that the final descent takes.

    The plateau makes a run extendable: resumed with more steps, everything before the descent stays as it was.
    """
    rise = min(1.0, (step + 1) / max(warmup, 1))
    falling = max(1, round(steps * decay))
    return rise * min(1.0, max(0.0, (steps - step) / falling))
