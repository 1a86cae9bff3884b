"""Fuzzing of sensor files: each case is taken and sane, or refused by a clear error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from benchmarks.fuzzing.images import CASES, attempt


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CASES)
def test_images(case: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert attempt(case, Path(folder)) in ("accepted", "refused")
