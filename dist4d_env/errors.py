"""Exceptions a user meets: each names the thing that is wrong and what to do about it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST = 300
"""Characters of the longest message about a file's contents, which may be quoted and of any length."""


def shortened(text: str, most: int) -> str:
    """A text of at most ``most`` characters: of a longer one its beginning and its end."""
    if len(text) <= most:
        return text
    head = 2 * most // 3
    return f"{text[:head]} ... {text[len(text) - (most - head - 5) :]}"


class DiST4DError(Exception):
    """Base class of every error that bad input can cause. most: characters of a message, enough for several long paths."""

    most = 1200

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message, self.most))


class DataError(DiST4DError):
    """A data set, scene, table, image, map or depth file is missing or broken."""


class ConfigError(DiST4DError, ValueError):
    """A keyword, scenario or command-line option has a value that cannot work."""


class KeywordError(ConfigError, TypeError):
    """A keyword does not exist: in Python's words, which wrappers look for."""


class WeightsError(DiST4DError):
    """Model weights are missing, unreadable or of another shape."""

    most = LONGEST


class ActionError(DiST4DError, ValueError):
    """An action has the wrong shape, is not finite or is no number."""


def shown(value: object) -> str:
    """``repr`` for messages: of one line, at most 80 characters long, and there for everything (Python refuses to write integers
    of more than 4,300 digits)."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_ranges(options: object, **ranges: tuple[float, float]) -> None:
    """Raises ConfigError for the first of a command's options that is below the first or above the second of two numbers; None
    stands for an option that was not given."""
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            remedy = f"give {least} or more" if most == math.inf else f"give {least} to {most}"
            raise ConfigError(f"--{name.replace('_', '-')} {value}: {remedy}")


def run_script(main: Callable[[Any], object], options: Any, description: str | None = None) -> None:
    """A script from the command line, with options that tyro reads; bad input is one line on stderr and exit status 2."""
    import tyro

    module = sys.modules["__main__"].__spec__
    try:
        main(tyro.cli(options, prog=f"python -m {module.name}" if module else None, description=description))
    except DiST4DError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)
