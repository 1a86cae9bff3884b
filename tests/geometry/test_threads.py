"""Work that threads share: order, errors, nesting, forked processes."""

from __future__ import annotations

import os
import threading

import pytest

from dist4d_env.geometry import threads
from dist4d_env.geometry.threads import in_threads, sharing


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(sharing, "count", 2)


def test_results_stand_in_order_and_threads_share_the_work(two):
    met = threading.Barrier(2)

    def work(k: int) -> tuple[int, int]:
        if k < 2:
            met.wait(20)  # passes only where two threads are at work
        return k, threading.get_ident()

    found = in_threads(work, 5)
    assert [k for k, _ in found] == list(range(5)) and len({thread for _, thread in found}) == 2
    assert in_threads(work, 0) == []


def test_work_within_work_has_one_thread(two):
    def work(_: int) -> set[int]:
        return set(in_threads(lambda _: threading.get_ident(), 4)) - {threading.get_ident()}

    assert in_threads(work, 4) == [set()] * 4


@pytest.mark.parametrize("bad", [0, 3])
def test_an_error_is_raised_and_the_next_work_is_done(two, bad):
    def work(k: int) -> int:
        if k == bad:
            raise ValueError("broken")
        return k

    with pytest.raises(ValueError, match="broken"):
        in_threads(work, 4)
    assert in_threads(lambda k: k, 4) == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_has_threads_of_its_own(two):
    in_threads(lambda k: k, 4)
    child = os.fork()
    if child == 0:
        os._exit(0 if in_threads(lambda k: k, 4) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_as_many_as_torch_or_the_environment_say(monkeypatch):
    monkeypatch.delitem(threads.sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.thread_count() == 3
