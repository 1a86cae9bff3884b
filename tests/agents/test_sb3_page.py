"""The page about reinforcement learning says what the benchmark stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tables_say_what_the_benchmark_stored():
    command = [sys.executable, ROOT / "docs" / "make_rl_tables.py", "--check"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
