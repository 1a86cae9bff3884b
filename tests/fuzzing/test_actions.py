"""Calls of any kind are refused in one sentence or right: actions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.fuzzing.actions import CASES, Case, attempt


@given(case=CASES)
@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_refused_or_right(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    folder: Path = tmp_path_factory.mktemp("case")
    assert attempt(case, folder) in ("accepted", "refused")
