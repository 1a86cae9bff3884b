"""Tasks over a Ray cluster, or over this machine's cores where there is none (``pip install dist4d_env[rllib]`` brings Ray)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.executors import THREAD_LIMITS, Result, Task


@dataclass(frozen=True)
class RayTasks:
    """Up to so many Ray workers with one thread each. Joins the cluster of $RAY_ADDRESS, else starts Ray on this machine.

    Every machine of a cluster needs the data set and the campaign's folder under the same paths.
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
            paths = os.pathsep.join(path for path in dict.fromkeys(["", *sys.path]) if path)
            environment = {"env_vars": {**dict.fromkeys(THREAD_LIMITS, "1"), "PYTHONPATH": paths}}
            here: dict[str, Any] = {"num_cpus": self.workers, "include_dashboard": False}
            ray.init(runtime_env=environment, log_to_driver=False, **({} if os.environ.get("RAY_ADDRESS") else here))
        waiting: list[Any] = []
        try:
            remote = ray.remote(num_cpus=1)(work)
            ahead = iter(tasks)
            while True:
                while len(waiting) < self.workers and (task := next(ahead, None)) is not None:
                    waiting.append(remote.remote(task))
                if not waiting:
                    return
                done, waiting = ray.wait(waiting)
                yield _result(ray, done[0])
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
            if started:
                ray.shutdown()


def _result(ray: Any, reference: Any) -> Any:
    """A task's result; what it raised is raised here as what it was."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
