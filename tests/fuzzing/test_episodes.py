"""Fuzzing of stored episodes: each folder is scored, and the scores make sense, or is refused by a clear error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.fuzzing.episodes import CASES, attempt

pytestmark = pytest.mark.medium


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_episodes(case: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert attempt(case, Path(folder)) in ("accepted", "refused")
