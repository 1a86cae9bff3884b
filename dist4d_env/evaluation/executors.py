"""Executors, which map tasks to results: in this process, over processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.processes import follow_parent
from dist4d_env.progress import say

Task = TypeVar("Task")
Result = TypeVar("Result")
ATTEMPTS = 3
"""How often a task is tried when its Ray workers die."""
_AGAIN = "run the same command again, it goes on where it was (with fewer workers if it happens again)"
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Executor(Protocol):
    """Yields the results of tasks in the order in which they finish. ``work`` depends on its task alone; both can be pickled."""

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]: ...


class Stopped(BaseException):
    """The run is being stopped: the task is given up and leaves nothing. No Exception, so that it is nobody's failure: code that
    turns a planner's errors into results must not turn this into one."""


class WorkerDied(DiST4DError):
    """A worker process was killed, as the system does when memory runs out."""


def serial(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """One after the other in this process."""
    for task in tasks:
        yield work(task)


@dataclass(frozen=True)
class Processes:
    """Spawned processes with one thread each. When the caller stops iterating, running tasks are given up."""

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
                raise WorkerDied(f"a worker process was killed, perhaps for want of memory: {_AGAIN}") from error
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class RayTasks:
    """Ray workers with one thread each (extra "rllib"). Joins the cluster of $RAY_ADDRESS, else starts Ray on this machine.

    Every machine of a cluster needs the data set and the campaign's folder under the same paths. A task whose worker or machine
    dies is tried up to ATTEMPTS times, with a line on stderr each time; then WorkerDied is raised, as it is for other errors of
    Ray itself. Exceptions of the work are raised as they are.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers={self.workers} must be at least 1 Ray worker")

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError("--ray needs Ray: pip install 'dist4d_env[rllib]', or leave --ray out") from error
        started = not ray.is_initialized()
        if started:
            _start(ray, self.workers)
        waiting: dict[Any, tuple[Task, int]] = {}
        try:
            # Ray's own retries are silent, and endless when memory runs out
            remote: Any = ray.remote(num_cpus=1, max_retries=0)(_work)
            ahead = iter(tasks)
            while True:
                while len(waiting) < self.workers and (task := next(ahead, None)) is not None:
                    waiting[remote.remote(work, task)] = task, 1
                if not waiting:
                    return
                done, _ = ray.wait(list(waiting))
                task, attempt = waiting.pop(done[0])
                try:
                    result = ray.get(done[0])
                except _losses(ray) as error:
                    if attempt == ATTEMPTS:
                        died = f"a Ray worker died at the same task {ATTEMPTS} times ({type(error).__name__})"
                        raise WorkerDied(f"{died}, perhaps for want of memory: {_AGAIN}") from error
                    say(f"a Ray worker died ({type(error).__name__}): its task is begun again")
                    waiting[remote.remote(work, task)] = task, attempt + 1
                    continue
                yield result
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, ray.exceptions.RayError):
                raise error.cause from error
            raise WorkerDied(_broken(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise WorkerDied(_broken(error)) from error
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
            if started:
                ray.shutdown()


def executor(workers: int, ray: bool = False) -> Executor:
    """``workers`` processes, or workers of Ray; 0 works in this process, for debuggers and small runs."""
    if workers == 0:
        return serial
    return RayTasks(workers) if ray else Processes(workers)


def check_stop() -> None:
    """Raises Stopped once the run is being stopped; long tasks call it now and then."""
    if _stop is not None and _stop.is_set():
        raise Stopped


_stop: Any = None


def _begin(stop: Any) -> None:
    """Initialises a worker."""
    global _stop
    _stop = stop
    follow_parent()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Sets THREAD_LIMITS, which libraries of a spawned process read when they load."""
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


def _start(ray: Any, workers: int) -> None:
    """Connects to the cluster of $RAY_ADDRESS, or starts Ray on this machine."""
    paths = os.pathsep.join(path for path in dict.fromkeys(["", *sys.path]) if path)
    environment = {"env_vars": {**dict.fromkeys(THREAD_LIMITS, "1"), "PYTHONPATH": paths}}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # "local", for without an address Ray would join any other Ray of this machine, and take no number of workers
        ray.init(address="local", num_cpus=workers, include_dashboard=False, runtime_env=environment, log_to_driver=False)
        return
    try:
        ray.init(runtime_env=environment, log_to_driver=False)
    except (ValueError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"the Ray cluster of $RAY_ADDRESS={address} cannot be joined ({type(error).__name__}: {_first_line(error)}): "
            "start it, or unset RAY_ADDRESS to work on this machine"
        ) from error


def _work(work: Callable[[Task], Result], task: Task) -> Result:
    """Runs on a worker. Ray takes plain functions only."""
    return work(task)


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """Errors of workers and machines, after which a task can be tried again."""
    errors = ray.exceptions
    return errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.ObjectLostError


def _broken(error: Exception) -> str:
    return (
        f"Ray could not do a task ({type(error).__name__}: {_first_line(error)}): see to the cluster and run the same command "
        "again, it goes on where it was"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason was given")
