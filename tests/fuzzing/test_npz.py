"""npz messages from anybody: plain arrays, or one clear error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from benchmarks.fuzzing.npz import CASES, attempt


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(CASES)
def test_npz(case: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert attempt(case, Path(folder)) in ("accepted", "refused")
