"""Work that several threads share, for loops that give the interpreter's lock away."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
WORTH = 16_000
"""Pixels of an image from which on a thread of its own gains more than it costs."""


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


def in_threads(work: Callable[[int], Result], count: int, pixels: int = WORTH) -> list[Result]:
    """``work(0)``, ..., ``work(count - 1)`` in ``thread_count`` threads; what it returns must not depend on order.

    pixels: of the images that each works on, where less than WORTH are faster without threads. Within such work there are no more
    threads. The first error is raised.
    """
    helpers = 0 if sharing.busy or pixels < WORTH else min(thread_count(), count) - 1
    if helpers < 1:
        return [work(k) for k in range(count)]
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    left = iter(range(count))

    def some() -> None:
        sharing.busy = True
        try:
            for k in left:
                if errors:
                    return
                results[k] = work(k)
        except BaseException as error:
            errors.append(error)
        finally:
            sharing.busy = False

    threads = [threading.Thread(target=some, daemon=True) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    some()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[k] for k in range(count)]
