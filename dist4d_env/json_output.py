"""``--json``: the result of a verb as one JSON object on stdout; everything that people read goes to stderr meanwhile."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TextIO

_STDOUT = 1


class _Asked:
    """out: where the result goes, None where nobody asked for it; told: whether it has been written."""

    out: TextIO | None = None
    told = False


def result(values: Mapping[str, Any]) -> None:
    """Writes the result of a verb, once, where ``--json`` was given; does nothing otherwise.

    Paths become text, and numbers that are not finite become null, for JSON knows none.
    """
    if _Asked.out is None or _Asked.told:
        return
    _Asked.told = True
    print(json.dumps(plain(values), allow_nan=False), file=_Asked.out, flush=True)


@contextmanager
def as_json(asked: bool) -> Iterator[None]:
    """Sends to stderr what is written to stdout within, also by other processes and by compiled code, so that ``result`` is alone
    there. Does nothing unless it is asked for."""
    if not asked:
        yield
        return
    with _apart() as out, redirect_stdout(sys.stderr):
        _Asked.out, _Asked.told = out, False
        try:
            yield
        finally:
            _Asked.out = None


@contextmanager
def _apart() -> Iterator[TextIO]:
    """Standard output, of which the number that processes inherit leads to standard error meanwhile."""
    out = sys.stdout
    try:
        number, other = out.fileno(), sys.stderr.fileno()
    except (OSError, ValueError):  # not files, as where tests or notebooks have replaced them
        number = other = -1
    if number != _STDOUT:
        yield out
        return
    out.flush()
    kept = os.dup(number)
    os.dup2(other, number)
    try:
        with open(kept, "w", encoding="utf-8", closefd=False) as own:
            yield own
    finally:
        os.dup2(kept, number)
        os.close(kept)


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, str | bytes):  # a number of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
