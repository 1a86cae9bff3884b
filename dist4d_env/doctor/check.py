"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "broken"]
"""broken: nothing, or nothing by default, works without it; note: something may be missed, and the words say what."""


@dataclass(frozen=True)
class Check:
    """What was found. words: for people, a line or several; values: the same for machines."""

    name: str
    state: State
    words: str
    values: Mapping[str, Any] = field(default_factory=dict)


def looked(name: str, look: Callable[[], Check]) -> Check:
    """What ``look`` finds; whatever it raises is what is broken."""
    try:
        return look()
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
        return Check(name, "broken", words, {"error": words})
