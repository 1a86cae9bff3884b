"""The pages about reinforcement learning say what the benchmarks stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["make_rl_tables.py", "make_rllib_tables.py", "make_end_to_end_tables.py"])
def test_tables_say_what_the_benchmark_stored(script):
    command = [sys.executable, ROOT / "docs" / script, "--check"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
