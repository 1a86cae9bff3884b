"""What takes long says so, wherever it runs, and how long it will take; a beginning says where its time went."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env import progress
from dist4d_env.progress import FirstTime, Progress, each, shown_time, spending


def said_until(capsys: pytest.CaptureFixture[str], *wanted: str) -> str:
    """What stderr has once all that is wanted is there."""
    said = ""
    while not all(words in said for words in wanted):
        time.sleep(0.01)
        said += capsys.readouterr().err
    return said


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.01)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with Progress("driving", "episode", 3, 1) as bar, Progress("comparing planners"):
        bar.update()
        said = said_until(capsys, "comparing", "2 of 3")
    assert re.search(r"^driving: 2 of 3 episodes, \d+ s, \d+ s left$", said, re.M)
    assert re.search(r"^comparing planners, \d+ s$", said, re.M)


def test_time_left_follows_from_what_is_done(monkeypatch):
    bar = Progress("driving", "episode", 100, 20)
    assert bar._line(30.0) == "driving: 20 of 100 episodes, 30 s", "nothing is known yet"
    bar.update(20)
    assert bar._line(90.0) == "driving: 40 of 100 episodes, 90 s, 4 min left", "270 s"
    bar.note("loss 0.1")
    assert bar._line(90.0).endswith(" left, loss 0.1")
    assert [shown_time(seconds) for seconds in (0.4, 119.4, 130, 3600, 11100)] == [
        "0 s",
        "119 s",
        "2 min",
        "60 min",
        "3 h 05 min",
    ]


def test_what_is_soon_done_says_nothing(capsys):
    with Progress("driving", "episode", 3) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    assert progress.EVERY == 30.0


def test_nothing_is_said_of_what_is_over(monkeypatch, capsys):
    """Also where a line is being written as the end comes."""
    monkeypatch.setattr(progress, "SOON", 0.0)
    writing, ended = threading.Event(), threading.Event()

    class Slow(Progress):
        def _line(self, elapsed):
            writing.set()
            time.sleep(0.2)
            assert not ended.is_set()
            return super()._line(elapsed)

    with Slow("driving", "episode", 3):
        assert writing.wait(60)
    ended.set()
    assert "driving" in capsys.readouterr().err


def test_the_first_line_comes_soon(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.01)
    with Progress("driving", "episode", 3):
        said = said_until(capsys, "0 of 3")
        time.sleep(0.1)
    assert (said + capsys.readouterr().err).count("driving") == 1


def test_each_counts_and_says_what_is_at_hand(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.01)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    for name in each(["a", "b"], "measuring", "size", str.upper):
        if name == "b":
            said = said_until(capsys, "1 of 2 sizes")
    assert re.search(r"^measuring: 1 of 2 sizes, \d+ s, \d+ s left, B$", said, re.M)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes long, and nothing has happened yet."""
    monkeypatch.setattr(progress, "SLOW", 0.0)
    monkeypatch.setattr(FirstTime, "known", set())


def test_a_beginning_says_where_its_time_went(slow, capsys):
    def begin() -> None:
        with FirstTime("beginning"), spending("outside"):
            time.sleep(0.06)
            with Progress("within", "part", 1):
                time.sleep(0.12)

    begin()
    said = capsys.readouterr().err
    found = re.fullmatch(r"beginning took (\S+) s: within (\S+) s, outside (\S+) s(, the rest \S+ s)?\n", said)
    assert found is not None and float(found[1]) >= 0.2 - 0.05 and float(found[2]) >= 0.1
    assert float(found[3]) <= float(found[1]) - float(found[2]) + 0.11, "what is within something is not counted twice"
    begin()
    assert capsys.readouterr().err == "", "the second time nobody needs to know"


def test_a_beginning_without_parts_says_its_time_alone(slow, capsys):
    with FirstTime("all of it"):
        time.sleep(0.06)
    assert re.fullmatch(r"all of it took \S+ s\n", capsys.readouterr().err)


def test_a_beginning_that_fails_or_is_quick_says_nothing(monkeypatch, slow, capsys):
    with pytest.raises(ValueError), FirstTime("failing"):
        raise ValueError
    monkeypatch.setattr(progress, "SLOW", 2.0)
    with FirstTime("quick"):
        pass
    with spending("nobody keeps account"):
        pass
    assert capsys.readouterr().err == "" and progress._ledger.parts is None


@pytest.mark.parametrize("many", [False, True])
def test_the_first_environment(slow, many: bool, town_dataroot: Path, capsys):
    keywords = {"dataroot": str(town_dataroot), "world": "none", "horizon": 1.0}
    if many:
        env = gym.make_vec("DiST4D-nuScenes-v0", num_envs=2, vectorization_mode="vector_entry_point", **keywords)
    else:
        env = gym.make("DiST4D-nuScenes-v0", **keywords)
    made = capsys.readouterr().err
    assert made.startswith("making the environment took ") and made.count("\n") == 1
    env.reset(seed=0)
    assert "beginning an episode took" in capsys.readouterr().err
    env.step(env.action_space.sample())
    assert "the first decision took" in capsys.readouterr().err
    env.reset(seed=1)
    env.step(env.action_space.sample())
    env.close()
    assert capsys.readouterr().err == ""
