"""Work that several threads share, for loops that give the interpreter's lock away."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

Result = TypeVar("Result")


class _Sharing(threading.local):
    """Of a thread. busy: it works for ``in_threads``; count: threads that it may use where torch no longer says so."""

    busy = False
    count: int | None = None


sharing = _Sharing()


def thread_count() -> int:
    """How many threads may be used: as many as torch where it is loaded, else ``$OMP_NUM_THREADS``, else one per core."""
    if sharing.count is not None:
        return sharing.count
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    text = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(text) if text.isdigit() and int(text) else cores


def in_threads(work: Callable[[int], Result], count: int) -> list[Result]:
    """``work(0)``, ..., ``work(count - 1)`` in ``thread_count`` threads; what it returns must not depend on order.

    Within such work there are no more threads. The first error is raised.
    """
    helpers = 0 if sharing.busy else min(thread_count(), count) - 1
    if helpers < 1:
        return [work(k) for k in range(count)]
    results: dict[int, Result] = {}
    left = iter(range(count))

    def some() -> None:
        sharing.busy = True
        try:
            for k in left:
                results[k] = work(k)
        finally:
            sharing.busy = False

    waiting = [_pool().submit(some) for _ in range(helpers)]
    try:
        some()
    finally:
        failed = [one.exception() for one in waiting if not one.cancel()]  # those that haven't begun need not
    for error in failed:
        if error is not None:
            raise error
    return [results[k] for k in range(count)]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Threads that stay: what libraries keep for a thread, memory above all, is not made anew for each call."""
    return ThreadPoolExecutor(os.cpu_count(), "dist4d")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads
