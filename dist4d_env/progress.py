"""Progress of what takes long: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

EVERY = 30.0
"""Seconds between lines where stderr is no terminal."""


class Progress:
    """``with Progress("driving", "episode", 240) as progress: ... progress.update()``. total: None where it is not known, or
    where there is nothing to count; initial: how many are done already."""

    def __init__(self, what: str, unit: str = "", total: int | None = None, initial: int = 0) -> None:
        from tqdm import tqdm

        self._what, self._unit, self._total, self._count = what, unit, total, initial
        counts = total is not None
        self._bar = tqdm(total=total, initial=initial, desc=what, unit=unit, smoothing=0.05, disable=None if counts else True)
        self._done = threading.Event()
        self._began = time.monotonic()

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._count += count
        self._bar.update(count)

    def __enter__(self) -> Self:
        if self._bar.disable:
            threading.Thread(target=self._speak, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._bar.close()

    def _speak(self) -> None:
        while not self._done.wait(EVERY):
            plural = "" if self._total == 1 else "s"
            counted = "" if self._total is None else f": {self._count} of {self._total} {self._unit}{plural}"
            print(f"{self._what}{counted}, {time.monotonic() - self._began:.0f} s", file=sys.stderr, flush=True)
