"""What takes long says so, wherever it runs."""

from __future__ import annotations

import re
import time

from dist4d_env import progress
from dist4d_env.progress import Progress


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with Progress("driving", "episode", 3, 1) as bar, Progress("comparing planners"):
        bar.update()
        said = ""
        while "comparing" not in said or "2 of 3" not in said:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert re.search(r"^driving: 2 of 3 episodes, \d+ s$", said, re.M) and re.search(r"^comparing planners, \d+ s$", said, re.M)


def test_what_is_soon_done_says_nothing(capsys):
    with Progress("driving", "episode", 3) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    assert progress.EVERY == 30.0
