"""Locks of which it is said that another process holds them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dist4d_env import processes


def test_whoever_waits_says_for_what(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    said, done = threading.Event(), []
    monkeypatch.setattr(processes, "say", lambda line: (print(line), said.set()))

    def second() -> None:
        with processes.alone(tmp_path / "lock", "making the town"):
            done.append("second")

    with processes.alone(tmp_path / "lock", "making the town"):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert said.wait(60)
        done.append("first")
    waiting.join(60)
    assert done == ["first", "second"]
    assert capsys.readouterr().out == "another process is making the town: waiting for it\n"
