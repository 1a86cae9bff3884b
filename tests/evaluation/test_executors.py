"""Executors: the same results wherever the work is done, and errors that arrive as what they were."""

from __future__ import annotations

import os
import time

import pytest

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.executors import THREAD_LIMITS, Processes, Stopped, WorkerDied, check_stop, executor, serial
from tests.raying import ray_lock


def square(number: int) -> tuple[int, int]:
    return number, number**2


def limits(_: int) -> tuple[int, list[str | None]]:
    return os.getpid(), [os.environ.get(name) for name in THREAD_LIMITS]


def refuse(number: int) -> int:
    raise DataError(f"number {number} is missing")


def die(_: int) -> int:
    os._exit(9)


def wait_long(number: int) -> int:
    """The first is done at once, the others wait to be stopped."""
    while number:
        check_stop()
        time.sleep(0.02)
    return number


def test_processes_and_this_process_agree():
    expected = [(n, n * n) for n in range(7)]
    assert list(serial(square, range(7))) == expected
    assert sorted(Processes(2)(square, range(7))) == expected
    assert list(Processes(2)(square, [])) == []


def test_workers_are_other_processes_of_one_thread():
    before = dict(os.environ)
    (found,) = Processes(1)(limits, [0])
    assert found[0] != os.getpid() and found[1] == ["1"] * len(THREAD_LIMITS)
    assert dict(os.environ) == before


def test_errors_arrive_as_what_they_were():
    with pytest.raises(DataError, match="number 3 is missing"):
        list(Processes(1)(refuse, [3]))
    with pytest.raises(WorkerDied, match="run the same command again"):
        list(Processes(1)(die, [3]))


def test_leaving_early_stops_what_is_under_way():
    found = Processes(2)(wait_long, [0, 1, 2, 3])
    assert next(found) == 0
    found.close()  # returns, though the other tasks would never end by themselves


def test_tasks_are_told_to_stop(monkeypatch):
    import threading

    from dist4d_env.evaluation import executors

    check_stop()
    event = threading.Event()
    monkeypatch.setattr(executors, "_stop", event)
    check_stop()
    event.set()
    with pytest.raises(Stopped):
        check_stop()


def test_numbers_of_workers_are_checked():
    assert executor(0) is serial and executor(0, ray=True) is serial and executor(3) == Processes(3)
    with pytest.raises(ConfigError, match="workers=-1"):
        executor(-1)


def square_or_refuse(number: int) -> tuple[int, int]:
    return square(number) if number < 4 else (refuse(number), 0)


@pytest.mark.medium
def test_ray_does_the_same():
    """Results as they come, and then an error that arrives as what it was; Ray is started once, which takes long enough."""
    pytest.importorskip("ray")
    from dist4d_env.evaluation.executors import RayTasks

    assert executor(2, ray=True) == RayTasks(2)
    with pytest.raises(ConfigError, match="workers=0"):
        RayTasks(0)
    with ray_lock():
        found = RayTasks(1)(square_or_refuse, range(5))
        assert [next(found) for _ in range(4)] == [(n, n * n) for n in range(4)]
        with pytest.raises(DataError, match="number 4 is missing"):
            next(found)
