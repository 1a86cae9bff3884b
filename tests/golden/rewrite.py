"""Stores the golden values anew: ``python -m tests.golden.rewrite``; look at what git says has changed before you keep it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ["GOLDEN_REWRITE"] = "1"
    sys.exit(pytest.main(["-q", str(Path(__file__).with_name("test_golden_episodes.py"))]))
