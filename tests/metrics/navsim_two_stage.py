"""NAVSIM v2's two-stage aggregation from its published formula, in plain Python, for comparison.

    group = (S1(frame) sum_j w_j S2(frame, j) + S1(frame before) sum_j w'_j S2(frame before, j)) / 2
    w_j = exp(-|end - start_j|^2 / (2 * 0.1)) / sum of these, or 1 / J where the sum is 0

The score is the mean over groups.
"""

from __future__ import annotations

import math


def weights(end, starts):
    kernel = [math.exp(-((end[0] - x) ** 2 + (end[1] - y) ** 2) / 0.2) for x, y in starts]
    total = math.fsum(kernel)
    return [1 / len(kernel)] * len(kernel) if total < 1e-8 else [k / total for k in kernel]


def frame_score(first, end, second, starts):
    return first * math.fsum(w * s for w, s in zip(weights(end, starts), second, strict=True))


def score(groups):
    """groups: pairs of (first, end, second, starts), plain numbers."""
    return math.fsum((frame_score(*now) + frame_score(*before)) / 2 for now, before in groups) / len(groups)
