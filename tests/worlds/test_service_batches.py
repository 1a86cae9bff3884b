"""Dynamic batching without Ray: who waits together, who is sent away, and whose error it is."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.service.batching import Batcher, Batching, Busy, Expired


class Gate:
    """Work that waits until it is let through, so that the tests decide what arrives meanwhile."""

    def __init__(self) -> None:
        self.open, self.began, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, requests):
        self.batches.append(list(requests))
        self.began.set()
        self.open.wait()
        return [ValueError(request) if request < 0 else request * 10 for request in requests]


def test_what_arrives_during_a_batch_is_the_next_one_up_to_the_largest():
    gate = Gate()

    async def run():
        batcher = Batcher(gate, Batching(max_batch_size=3, batch_wait_timeout_s=0.0, max_queued_requests=10))
        first = asyncio.create_task(batcher.ask([1], 1e6))
        await asyncio.to_thread(gate.began.wait)
        others = [asyncio.create_task(batcher.ask(requests, 1e6)) for requests in ([2, 3], [4], [5])]
        await asyncio.sleep(0)
        gate.open.set()
        return [await task for task in (first, *others)], batcher.counts

    answers, counts = asyncio.run(run())
    assert answers == [[10], [20, 30], [40], [50]]
    assert gate.batches == [[1], [2, 3, 4], [5]] and dict(counts.batches) == {1: 2, 3: 1}


def test_a_full_queue_sends_callers_away_and_takes_nothing():
    gate = Gate()

    async def run():
        batcher = Batcher(gate, Batching(max_batch_size=1, batch_wait_timeout_s=0.0, max_queued_requests=2))
        first = asyncio.create_task(batcher.ask([1], 1e6))
        await asyncio.to_thread(gate.began.wait)
        second = asyncio.create_task(batcher.ask([2, 3], 1e6))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.ask([4], 1e6)
        gate.open.set()
        return await first, await second, await batcher.ask([5, 6, 7, 8], 1e6)  # more than there is room for, but nobody waits

    assert asyncio.run(run()) == ([10], [20, 30], [50, 60, 70, 80])
    assert [4] not in gate.batches


def test_errors_belong_to_their_request_and_nobody_works_for_those_who_left():
    gate = Gate()

    async def run():
        batcher = Batcher(gate, Batching(max_batch_size=8, batch_wait_timeout_s=0.0, max_queued_requests=8))
        first = asyncio.create_task(batcher.ask([1], 1e6))
        await asyncio.to_thread(gate.began.wait)
        late = asyncio.create_task(batcher.ask([2], 0.0))
        both = asyncio.create_task(batcher.ask([-3, 4], 1e6))
        await asyncio.sleep(0.01)
        gate.open.set()
        return await first, await late, await both

    first, late, (error, right) = asyncio.run(run())
    assert first == [10] and isinstance(late[0], Expired)
    assert isinstance(error, ValueError) and right == 40
    assert gate.batches[1] == [-3, 4]


def test_a_caller_who_has_gone_and_is_late_stops_nobody():
    gate = Gate()

    async def run():
        batcher = Batcher(gate, Batching(max_batch_size=8, batch_wait_timeout_s=0.0, max_queued_requests=8))
        first = asyncio.create_task(batcher.ask([1], 1e6))
        await asyncio.to_thread(gate.began.wait)
        gone = asyncio.create_task(batcher.ask([2], 0.0))
        await asyncio.sleep(0.01)
        gone.cancel()
        gate.open.set()
        return await first, await asyncio.wait_for(batcher.ask([3], 1e6), 60), batcher.counts.expired

    assert asyncio.run(run()) == ([10], [30], 0)


def test_a_loop_that_has_ended_begins_again():
    async def run():
        batcher = Batcher(lambda requests: requests, Batching(batch_wait_timeout_s=0.0))
        await batcher.ask([1], 1e6)
        batcher._loop.cancel()
        await asyncio.wait([batcher._loop])
        return await asyncio.wait_for(batcher.ask([2], 1e6), 60)

    assert asyncio.run(run()) == [2]


def test_the_first_of_a_batch_waits_for_others():
    async def run():
        batcher = Batcher(
            lambda requests: [len(requests)] * len(requests),
            Batching(max_batch_size=2, batch_wait_timeout_s=30.0, max_queued_requests=8),
        )
        return await asyncio.gather(batcher.ask([1], 1e6), batcher.ask([2], 1e6))

    assert asyncio.run(run()) == [[2], [2]]


def test_batching_that_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="must be at least 1"):
        Batching(max_batch_size=0)


def test_a_service_without_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"service='world' needs Ray: pip install 'dist4d_env\[rllib\]'"):
        make_world("dist4d", service="world")
