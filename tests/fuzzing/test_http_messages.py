"""HTTP from anybody: the server answers or refuses in one line, and the client has a plan or one clear error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from benchmarks.fuzzing.http_messages import CASES, attempt


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(CASES)
def test_http_messages(case: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert attempt(case, Path(folder)) in ("accepted", "refused")
