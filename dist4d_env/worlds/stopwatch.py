"""Milliseconds per stage of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """``with watch("splat"): ...`` adds to ``watch.milliseconds["splat"]``."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + (time.perf_counter() - began) * 1000

    def total(self) -> float:
        """Milliseconds since the watch was made."""
        return (time.perf_counter() - self._began) * 1000
