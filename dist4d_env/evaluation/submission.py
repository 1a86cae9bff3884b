"""A campaign's results as the leaderboard page takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dist4d_env.evaluation.leaderboard import Standing

COMPARED = ("suite", "form", "decision_dt", "horizon", "jitter", "traffic", "dist4d_env")
"""Settings that must agree before planners are ranked against each other; the last is the version whose metrics and suites they
are."""


@dataclass(frozen=True)
class Submission:
    """name: of the folder; settings: what its episodes share; episodes: planner, scenario, seed and failures (kind, seconds after
    the start, text) of each; report: its report on the page's site, None where it has none."""

    name: str
    settings: Mapping[str, Any]
    standings: tuple[Standing, ...]
    ranked_by: str
    episodes: tuple[Mapping[str, Any], ...]
    report: str | None

    @property
    def track(self) -> tuple[tuple[str, Any], ...]:
        """What its planners are ranked within."""
        return tuple((key, self.settings.get(key)) for key in COMPARED)

    def driven(self, planner: str) -> frozenset[tuple[str, int]]:
        """Scenarios and seeds that a planner drove."""
        return frozenset((one["scenario"], one["seed"]) for one in self.episodes if one["planner"] == planner)


def tracks(submissions: Sequence[Submission]) -> list[list[Submission]]:
    """Submissions by what is ranked together, ``missing`` of their standings counted over all that a track's planners drove."""
    found: dict[tuple[tuple[str, Any], ...], list[Submission]] = {}
    for submission in submissions:
        found.setdefault(submission.track, []).append(submission)
    return [_counted(some) for some in found.values()]


def _counted(submissions: Sequence[Submission]) -> list[Submission]:
    driven = [[one.driven(row.planner) for row in one.standings] for one in submissions]
    every: frozenset[tuple[str, int]] = frozenset().union(*(mine for some in driven for mine in some))
    counted = []
    for one, some in zip(submissions, driven, strict=True):
        rows = (replace(row, missing=len(every - mine)) for row, mine in zip(one.standings, some, strict=True))
        counted.append(replace(one, standings=tuple(rows)))
    return counted
