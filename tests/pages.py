"""Runs what a page of docs/ shows: its Python from top to bottom, and its commands of ``python -m dist4d_env``."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dist4d_env.__main__ import main

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^>]+) -->\n)?"
    r"```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
"""A block of code. One with a title is the file of that name, one after a remark "not run: WHY" is only shown."""
COMMAND = "python -m dist4d_env "
NOT_OURS = ("pip install ", "make ", "export ", "cd ")


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Runs a page as a reader would who begins in an empty folder; returns how many blocks of it were run.

    Its Python shares one module, ``python`` blocks with a title are written to ``folder``, commands run in this process and must
    end well. A command that isn't one of the package must be one that a reader's machine is set up by.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    text, module, ran = page.read_text(encoding="utf-8"), ModuleType(page.stem.replace("-", "_")), 0
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in BLOCK.finditer(text):
        code, kind = block["code"], block["kind"]
        if block["why"] or kind not in ("python", "sh", "yaml") or (kind == "yaml" and not block["title"]):
            continue
        if block["title"]:
            (folder / block["title"]).write_text(code, encoding="utf-8")
        elif kind == "python":
            lines = "\n" * text.count("\n", 0, block.start("code")) + code  # errors name the page's own lines
            exec(compile(lines, str(page), "exec", dont_inherit=True), vars(module))
        else:
            run_commands(code)
        ran += 1
    return ran


def run_commands(code: str) -> None:
    """Each line of a block of commands."""
    for line in code.replace("\\\n", " ").splitlines():
        line = line.partition("  #")[0].strip()
        if line.startswith(COMMAND):
            assert main(shlex.split(line.removeprefix(COMMAND))) == 0, line
        else:
            assert line.startswith(NOT_OURS), f"what is {line!r}? Mark it with a remark: not run"
