"""What the pages promise is there, and the README's ten lines run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dist4d_env.__main__ import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_exist(page):
    assert set(re.findall(r"python -m dist4d_env ([a-z]+)", page.read_text())) <= set(VERBS)


def test_the_ten_lines_run(town_dataroot, monkeypatch, capsys):
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    exec(compile(block[1], "README.md", "exec"), {})
    assert re.match(r"(horizon|collision|off_road|wrong_way|trust) \['", capsys.readouterr().out)


def test_tables_say_what_the_benchmarks_stored():
    found = subprocess.run([sys.executable, ROOT / "docs" / "make_tables.py", "--check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
