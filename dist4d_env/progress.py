"""Progress of what takes long: a bar on a terminal, elsewhere a line after two seconds and every half minute, all with the time
left; and where the time of the first environment of a process goes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import ClassVar, Self, TypeVar

SOON, EVERY = 2.0, 30.0
"""Seconds until the first line, and between lines, where stderr is no terminal."""
SLOW = 2.0
"""Seconds beyond which a beginning says where its time went."""
Item = TypeVar("Item")


class Progress:
    """``with Progress("driving", "episode", 240) as progress: ... progress.update()``. total: None where it is not known, or
    where there is nothing to count; initial: how many are done already."""

    def __init__(self, what: str, unit: str = "", total: int | None = None, initial: int = 0) -> None:
        from tqdm import tqdm

        self._what, self._unit, self._total, self._first, self.count = what, unit, total, initial, initial
        counts = total is not None
        self._bar = tqdm(total=total, initial=initial, desc=what, unit=unit, smoothing=0.05, disable=None if counts else True)
        self._done, self._within = threading.Event(), ExitStack()
        self._began, self._note = time.monotonic(), ""
        self._speaker = threading.Thread(target=self._speak, daemon=True)

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.count += count
        self._bar.update(count)

    def note(self, text: str) -> None:
        """What to say beside the numbers, such as the loss."""
        self._note = text
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._within.enter_context(spending(self._what))
        if self._bar.disable:
            self._speaker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        if self._speaker.is_alive():
            self._speaker.join()  # nothing is said of what is over
        self._bar.close()
        self._within.close()

    def _speak(self) -> None:
        wait = SOON
        while not self._done.wait(wait):
            print(self._line(time.monotonic() - self._began), file=sys.stderr, flush=True)
            wait = EVERY

    def _line(self, elapsed: float) -> str:
        done, parts = self.count - self._first, [f"{elapsed:.0f} s"]
        counted = "" if self._total is None else f": {self.count} of {self._total} {noun(self._total, self._unit)}".rstrip()
        if self._total is not None and done > 0:
            parts.append(f"{shown_time(elapsed * max(self._total - self.count, 0) / done)} left")
        return f"{self._what}{counted}, {', '.join([*parts, *filter(None, [self._note])])}"


def each(items: Collection[Item], what: str, unit: str = "", note: Callable[[Item], str] | None = None) -> Iterator[Item]:
    """The items one by one, counted as each is done with. note: what to say while one is at hand."""
    with Progress(what, unit, len(items)) as progress:
        for item in items:
            if note is not None:
                progress.note(note(item))
            yield item
            progress.update()


def say(line: str) -> None:
    """A line on stderr, above a bar that is there."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def shown_time(seconds: float) -> str:
    """A time for people: "90 s", "12 min", "3 h 05 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def noun(count: int, word: str) -> str:
    """A word as it stands after a count."""
    return word if count == 1 or not word else f"{word}s"


class _Ledger(threading.local):
    """Of a thread. parts: seconds by name, None where nobody keeps account; inner: seconds of parts within the one that runs."""

    parts: dict[str, float] | None = None
    inner = 0.0


_ledger = _Ledger()


@contextmanager
def spending(part: str) -> Iterator[None]:
    """Counts the seconds within, but for those of parts within it, where account is kept (``FirstTime``)."""
    if _ledger.parts is None:
        yield
        return
    outer, _ledger.inner, began = _ledger.inner, 0.0, time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - began
        if _ledger.parts is not None:
            _ledger.parts[part] = _ledger.parts.get(part, 0.0) + took - _ledger.inner
        _ledger.inner = outer + took


class FirstTime:
    """``with FirstTime("making the environment"): ...`` says on stderr, the first time in this process, where the time went if it
    was more than ``SLOW`` seconds. Helper processes, and what fails, say nothing."""

    known: ClassVar[set[str]] = set()

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> Self:
        self._keeps = self._what not in self.known and _ledger.parts is None and multiprocessing.parent_process() is None
        self.known.add(self._what)
        if self._keeps:
            _ledger.parts, _ledger.inner, self._began = {}, 0.0, time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._keeps:
            return
        parts, total = _ledger.parts or {}, time.monotonic() - self._began
        _ledger.parts = None
        if kind is None and total > SLOW:
            if parts:
                parts["the rest"] = total - sum(parts.values())
            shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items() if seconds >= 0.05)
            say(f"{self._what} took {total:.1f} s" + (shown and f": {shown}"))
