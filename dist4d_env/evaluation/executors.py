"""Where tasks are worked on: in this process, over several, or over Ray; anything with the same signature can stand in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

from dist4d_env.errors import ConfigError, DiST4DError

Task = TypeVar("Task")
Result = TypeVar("Result")
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Executor(Protocol):
    """Maps tasks to results, in whatever order they are done. The work is a function of its task alone, both can be pickled."""

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]: ...


class Stopped(Exception):
    """The run is being stopped: the task was given up, nothing of it is kept."""


class WorkerDied(DiST4DError):
    """A worker process ended without a word, as when the system kills it for want of memory."""


def serial(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """One after the other in this process."""
    for task in tasks:
        yield work(task)


@dataclass(frozen=True)
class Processes:
    """So many spawned processes with one thread each. When the caller stops iterating, tasks under way are given up."""

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers={self.workers} must be at least 1 process")

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        with _one_thread_each():
            pool = ProcessPoolExecutor(min(self.workers, max(len(tasks), 1)), context, _begin, (stop,))
            try:
                for future in as_completed([pool.submit(work, task) for task in tasks]):
                    yield future.result()
            except BrokenProcessPool as error:
                raise WorkerDied(
                    "a worker process was killed, perhaps for want of memory: run the same command again, it goes on where it "
                    "was (with fewer workers if it happens again)"
                ) from error
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)


def executor(workers: int, kind: str = "processes") -> Executor:
    """``workers`` processes, or workers of Ray; 0 works in this process, for debuggers and small runs."""
    if kind not in ("processes", "ray"):
        raise ConfigError(f"executor={kind!r} is unknown: choose 'processes' or 'ray'")
    if workers == 0:
        return serial
    if kind == "ray":
        from dist4d_env.evaluation.executors_ray import RayTasks

        return RayTasks(workers)
    return Processes(workers)


def check_stop() -> None:
    """Called by tasks that take long: raises Stopped once the run is being stopped."""
    if _stop is not None and _stop.is_set():
        raise Stopped


_stop: Any = None


def _begin(stop: Any) -> None:
    """In a new worker: the keyboard is the parent's business, and no worker outlives its parent."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Libraries read these when they load, which in a spawned process is after they are set here."""
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
