"""Extrapolation of gains over compute."""

from __future__ import annotations

import pytest

from benchmarks.scaling import extrapolate


def test_a_line_in_doublings_is_found_and_continued() -> None:
    line = extrapolate({steps: 0.3 + 0.1 * doublings for doublings, steps in enumerate((100, 200, 400))})
    assert line["per_doubling"] == pytest.approx(0.1)
    assert line["at_ten_times"] == pytest.approx(0.5 + 0.1 * 3.321928, abs=1e-6)


def test_one_run_is_no_line() -> None:
    assert extrapolate({100: 1.0}) == {}
