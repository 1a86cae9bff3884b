"""Broken weights are refused in one sentence; whole ones work."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.fuzzing.weights import CASES, Case, attempt


@given(case=CASES)
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_refused_or_right(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    folder: Path = tmp_path_factory.mktemp("case")
    assert attempt(case, folder) in ("accepted", "refused")
