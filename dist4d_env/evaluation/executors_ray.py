"""Tasks over a Ray cluster, or over this machine's cores where there is none (``pip install dist4d_env[rllib]`` brings Ray)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.executors import THREAD_LIMITS, Result, Task, WorkerDied

ATTEMPTS = 3
"""How often a task is begun before it is given up, when the workers that it was given to die."""


@dataclass(frozen=True)
class RayTasks:
    """Up to so many Ray workers with one thread each. Joins the cluster of $RAY_ADDRESS, else starts Ray on this machine.

    Every machine of a cluster needs the data set and the campaign's folder under the same paths. A task whose worker or machine
    dies is done again, up to ATTEMPTS times in all and with a line on stderr each time; then WorkerDied is raised, as it is for
    whatever else goes wrong in Ray itself. What the work raises is raised as it is.
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
            raise ConfigError("executor='ray' needs Ray: pip install dist4d_env[rllib], or take executor='processes'") from error
        started = not ray.is_initialized()
        if started:
            _start(ray, self.workers)
        waiting: dict[Any, tuple[Task, int]] = {}
        try:
            # Ray's own retries are silent, and endless for want of memory
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
                        raise WorkerDied(
                            f"a Ray worker died at the same task {ATTEMPTS} times ({type(error).__name__}), perhaps for want of "
                            "memory: run the same command again, it goes on where it was (with fewer workers if it happens again)"
                        ) from error
                    _tell(f"a Ray worker died ({type(error).__name__}): its task is begun again")
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


def _start(ray: Any, workers: int) -> None:
    """Ray in this process: a cluster's, or one of this machine that ends with the run."""
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
    """What runs on a worker; a function of its own, for Ray takes no other callables."""
    return work(task)


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """Errors that say that a task was lost through no fault of its own."""
    errors = ray.exceptions
    return errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.ObjectLostError


def _broken(error: Exception) -> str:
    return (
        f"Ray could not do a task ({type(error).__name__}: {_first_line(error)}): see to the cluster and run the same command "
        "again, it goes on where it was"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason was given")


def _tell(line: str) -> None:
    """A line beside the progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
