"""The page on extending the package: its code runs from top to bottom."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


def test_the_code_of_the_page_runs(town_dataroot: Path, monkeypatch) -> None:
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    text = PAGE.read_text()
    page = ModuleType("extending")
    monkeypatch.setitem(sys.modules, "extending", page)
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert len(blocks) >= 9
    for block in blocks:
        lines = "\n" * text.count("\n", 0, block.start(1)) + block[1]  # errors name the page's own lines
        exec(compile(lines, str(PAGE), "exec", dont_inherit=True), vars(page))
