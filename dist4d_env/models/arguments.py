"""What constructor arguments of models may be: a configuration that makes no sense is refused before anything is built of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edits import is_number

MOST_CHANNELS = 16384
MOST_BLOCKS = 64
MOST_LEVELS = 8


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raises ConfigError for what is not an integer in a closed interval."""
    if not (_is_whole(value) and low <= value <= high):
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r}")


def check_channels(**given: Any) -> None:
    """Raises ConfigError for a count of channels that cannot be."""
    for name, value in given.items():
        check_whole(name, value, 1, MOST_CHANNELS)


def check_levels(widths: Any, blocks: Any, patch: int = 2) -> None:
    """Raises ConfigError for widths of a UNet's levels, and blocks of each, that cannot be.

    Pictures may have any size that is a multiple of 16. The first level has a ``patch``-th of it, each further one half of the
    one before: four levels at most, three where patch is 4.
    """
    most = (16 // patch).bit_length()
    if not isinstance(widths, list | tuple) or not 1 <= len(widths) <= most:
        raise ConfigError(f"widths must be a list of 1 to {most} numbers of channels, not {widths!r}")
    for width in widths:
        check_whole("widths", width, 1, MOST_CHANNELS)
    check_whole("blocks", blocks, 0, MOST_BLOCKS)


def check_image_size(image_size: Any) -> None:
    """Raises ConfigError for a height and width that cannot be."""
    if not isinstance(image_size, list | tuple) or len(image_size) != 2:
        raise ConfigError(f"image_size must be a height and a width, not {image_size!r}")
    for side in image_size:
        check_whole("image_size", side, 16, 4096)
        if side % 8:
            raise ConfigError(f"image_size must be of multiples of 8 pixels, not {image_size!r}")


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises ConfigError for what is none of the values allowed, or equal to one but of another type."""
    if not any(value == one and type(value) is type(one) for one in allowed):
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def check_options(kind: type, name: str, options: Any) -> None:
    """Raises ConfigError for arguments of a class of another package that are unlike their defaults.

    name: of the mapping in errors. Integers count something, hence are 1 and more; other numbers are above 0.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"{name} must be a mapping of arguments of {kind.__name__}, not {options!r}")
    known = inspect.signature(kind).parameters
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"{name} has {key!r}, which {kind.__name__} does not know")
        most = MOST_BLOCKS if "layers" in key else MOST_CHANNELS
        if not _alike(value, known[key].default, most):
            raise ConfigError(
                f"{name}: {key} cannot be {value!r}; {kind.__name__} has {known[key].default!r} unless told otherwise"
            )


def _alike(value: Any, default: Any, most: int) -> bool:
    if isinstance(default, tuple):
        default = default[0]
    elif value is None and default is None:
        return True
    if isinstance(value, list | tuple) and not isinstance(default, bool | float):
        return 1 <= len(value) <= MOST_LEVELS and all(_alike(one, default, most) for one in value)
    if isinstance(default, bool | str):
        return type(value) is type(default)
    if isinstance(default, int):
        return _is_whole(value) and 1 <= value <= most
    return is_number(value, 1e-12, most)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
