"""One small Ray at a time, whichever processes the tests run in: starting it takes seconds and a gigabyte."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from dist4d_env.errors import ConfigError
from tests.conftest import ROOT


def ray_lock() -> FileLock:
    """Held by whoever has started a Ray."""
    return FileLock(str(Path(tempfile.gettempdir()) / f"dist4d_ray_tests_{os.getuid()}.lock"))


@contextmanager
def small_ray(cpus: int = 2) -> Iterator[None]:
    """Ray in this process: ``cpus`` slots (not cores), no dashboard, nothing reported home."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # by default workers give way to everything else that runs, and starve beside it
    import ray

    with ray_lock():
        environment = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
        ray.init(
            address="local", num_cpus=cpus, num_gpus=0, include_dashboard=False, log_to_driver=False, runtime_env=environment,
            object_store_memory=200_000_000,
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()


def fail(task: int) -> int:
    """Work that cannot do task 2; here, where Ray's workers find it."""
    if task == 2:
        raise ConfigError("task 2 cannot be done")
    return task


def linger(seconds: float) -> float:
    """Work that takes its time."""
    time.sleep(seconds)
    return seconds


def die(deaths: Path, times: int, work: Callable[[Any], Any], task: Any) -> Any:
    """Work whose process is killed ``times`` times before it gets to work; each death leaves a file."""
    for number in range(times):
        try:
            (deaths / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task)


class Unsendable(Exception):
    """An exception that no other process can read."""

    def __init__(self, one: str, other: Callable[[], str]) -> None:
        super().__init__(one)
        self.other = other


def raise_unsendable(task: int) -> int:
    """Work that raises what cannot be pickled."""
    raise Unsendable("no", lambda: str(task))
