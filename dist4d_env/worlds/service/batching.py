"""Dynamic batching: requests of many callers that arrive at about the same time are computed together.

Not Ray Serve's ``@serve.batch``: Serve needs a web server and twenty packages (``ray[serve]``) beyond ``ray[rllib]``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dist4d_env.errors import ConfigError


@dataclass(frozen=True)
class Batching:
    """Limits of batches and queue, in Ray Serve's terms.

    max_batch_size: requests in a batch at most; batch_wait_timeout_s: seconds that the first of a batch waits for others while no
    batch is being computed (requests that arrive meanwhile wait anyway); max_queued_requests: further ones are rejected.
    """

    max_batch_size: int = 16
    batch_wait_timeout_s: float = 0.002
    max_queued_requests: int = 64

    def __post_init__(self) -> None:
        if min(self.max_batch_size, self.max_queued_requests) < 1 or self.batch_wait_timeout_s < 0:
            raise ConfigError(f"sizes of batch and queue must be at least 1 and the wait at least 0 s, not {self}")


class Busy(Exception):
    """The queue is full: try again later."""


class Expired(Exception):
    """The request waited in the queue for longer than its caller does."""


@dataclass
class Counts:
    """Statistics. batches: by size; rejected, expired: requests; waited, worked: seconds, over requests and over batches."""

    batches: Counter[int] = field(default_factory=Counter)
    rejected: int = 0
    expired: int = 0
    waited: float = 0.0
    worked: float = 0.0


@dataclass(frozen=True)
class _Waiting:
    request: Any
    arrived: float
    timeout: float
    answer: asyncio.Future[Any]


class Batcher:
    """Hands batches to ``work``, a function from requests to as many answers, one batch at a time in a thread of its own.

    A result that is an exception is returned to the caller of that request. Lives in one event loop.
    """

    def __init__(self, work: Callable[[Sequence[Any]], Sequence[Any]], batching: Batching) -> None:
        self._work, self.batching, self.counts = work, batching, Counts()
        self._queue: deque[_Waiting] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "batch")
        self._loop: asyncio.Task[None] | None = None

    async def ask(self, requests: Sequence[Any], timeout: float) -> list[Any]:
        """The answers to some requests, exceptions among them. Raises Busy, none of them queued, if the queue is full.

        timeout: seconds after which the caller has given up.
        """
        if self._queue and len(self._queue) + len(requests) > self.batching.max_queued_requests:
            self.counts.rejected += len(requests)
            raise Busy
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        loop, now = asyncio.get_running_loop(), time.monotonic()
        waiting = [_Waiting(request, now, timeout, loop.create_future()) for request in requests]
        self._queue.extend(waiting)
        self._arrival.set()
        return await asyncio.gather(*(each.answer for each in waiting), return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            began = time.monotonic()
            self.counts.batches[len(batch)] += 1
            self.counts.waited += sum(began - each.arrived for each in batch)
            try:
                answers = await loop.run_in_executor(self._thread, self._work, [each.request for each in batch])
            except Exception as error:  # of ``work`` itself: it concerns every caller
                answers = [error] * len(batch)
            self.counts.worked += time.monotonic() - began
            for each, answer in zip(batch, answers, strict=True):
                if each.answer.done():  # its caller has gone
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)

    async def _next(self) -> list[_Waiting]:
        """The next batch: at least one request, in order of arrival."""
        while True:
            await self._until(1, None)
            if len(self._queue) < self.batching.max_batch_size and self.batching.batch_wait_timeout_s:
                await self._until(self.batching.max_batch_size, self._queue[0].arrived + self.batching.batch_wait_timeout_s)
            batch: list[_Waiting] = []
            now = time.monotonic()
            while self._queue and len(batch) < self.batching.max_batch_size:
                each = self._queue.popleft()
                if each.answer.done():  # its caller has gone
                    continue
                if now - each.arrived > each.timeout:
                    self.counts.expired += 1
                    each.answer.set_exception(Expired())
                else:
                    batch.append(each)
            if batch:
                return batch

    async def _until(self, count: int, deadline: float | None) -> None:
        """Waits for so many requests, or until the deadline."""
        while len(self._queue) < count:
            self._arrival.clear()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                return
