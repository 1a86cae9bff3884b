"""Networks on a CPU, some cameras in a thread of their own.

On several threads an operation on small images gains little, and it ends when the slowest of them does: a busy neighbour on one
core stops all of them at each of hundreds of operations. A thread with cameras of its own waits a few times in a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from dist4d_env.geometry.threads import in_threads, sharing, thread_count

TOGETHER, THREADS = 3, 2
"""Cameras at a time, and threads that see some: half of a common rig each."""

Result = TypeVar("Result", torch.Tensor, tuple[torch.Tensor, torch.Tensor])
Method = TypeVar("Method", bound=Callable[..., Any])


@contextmanager
def one_thread() -> Iterator[None]:
    """For networks whose sums depend on the number of torch's threads where what they make must not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def inferring(method: Method) -> Method:
    """For methods of a pipeline: no gradients, and on a CPU ``by_camera`` has the threads, of which torch's own operations have
    what THREADS leave each other."""

    @wraps(method)
    @torch.no_grad()
    def run(self: Any, *args: Any, **keywords: Any) -> Any:
        threads = thread_count()
        if self.device.type != "cpu" or threads == 1 or sharing.count is not None:
            return method(self, *args, **keywords)
        sharing.count = threads
        torch.set_num_threads(max(1, threads // THREADS))  # of this thread and of those to come
        try:
            return method(self, *args, **keywords)
        finally:
            sharing.count = None
            torch.set_num_threads(threads)

    return cast(Method, run)


def by_camera(network: Callable[..., Result], axis: int, *tensors: torch.Tensor) -> Result:
    """``network(*tensors)``, a tensor or a pair that have cameras along ``axis``, as the tensors have.

    Where nothing learns, on a CPU, it sees TOGETHER cameras at a time, else all. The threads don't matter to its bits.
    """
    if tensors[0].device.type != "cpu" or tensors[0].shape[axis] <= TOGETHER or torch.is_grad_enabled():
        return network(*tensors)
    parts = list(zip(*(tensor.split(TOGETHER, axis) for tensor in tensors), strict=True))

    threads = torch.get_num_threads()

    def work(k: int) -> Result:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of this thread, as is what follows
        with torch.no_grad():
            return network(*parts[k])

    results = in_threads(work, len(parts))
    if isinstance(results[0], torch.Tensor):
        return torch.cat(results, axis)
    first, second = (torch.cat(part, axis) for part in zip(*results, strict=True))
    return first, second
