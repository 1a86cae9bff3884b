"""Values as files that processes share: arrays in safetensors' format, mapped into memory, and the rest as JSON in its header."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.scenes.files import replacing

T = TypeVar("T")
Arrays = dict[str, np.ndarray]
_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1", "BOOL": "?"}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], rest: Any) -> None:
    """Stores arrays by name, and what JSON can say; the file appears whole or not at all.

    Axes keep their order in memory, slowest first: sums over the same numbers in another order would not be the same bit for bit.
    """
    from safetensors.numpy import save_file

    axes = {name: sorted(range(array.ndim), key=lambda axis: -array.strides[axis]) for name, array in arrays.items()}
    in_memory_order = {name: np.ascontiguousarray(array.transpose(axes[name])) for name, array in arrays.items()}
    with replacing(path) as temporary:
        save_file(in_memory_order, temporary, {"axes": json.dumps(axes), "rest": json.dumps(rest)})


def read_arrays(path: Path) -> tuple[Arrays, Any]:
    """What ``write_arrays`` stored. Lists of the rest come back as tuples.

    The arrays' pages are those of the file, shared by all processes that read it, until somebody writes to them: these are then
    of that process alone. Raises DataError for a file that is damaged, FileNotFoundError where there is none.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        about = header.pop("__metadata__")
        rest, axes = _tuples(json.loads(about["rest"])), json.loads(about["axes"])
        arrays: Arrays = {}
        for name, kept in header.items():
            array: np.ndarray = np.ndarray(kept["shape"], _TYPES[kept["dtype"]], content, 8 + size + kept["data_offsets"][0])
            arrays[name] = array.transpose(np.argsort(axes[name]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: this file of the cache is damaged; delete the folder it lies in, it is made again") from error
    return arrays, rest


def parts_of(value: Any) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a dataclass, those of dataclasses in it under dotted names, and the rest of it."""
    arrays, rest = {}, {}
    for field in fields(value):
        inner = getattr(value, field.name)
        if isinstance(inner, np.ndarray):
            arrays[field.name] = inner
        elif is_dataclass(inner):
            below, rest[field.name] = parts_of(inner)
            arrays |= {f"{field.name}.{name}": array for name, array in below.items()}
        else:
            rest[field.name] = inner
    return arrays, rest


def put_together(kind: type[T], arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any], prefix: str = "") -> T:
    """The dataclass of that kind whose parts these are."""
    hints, given = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass it is
        name = prefix + field.name
        if name in arrays:
            given[field.name] = arrays[name]
        elif is_dataclass(hints[field.name]):
            given[field.name] = put_together(hints[field.name], arrays, rest[field.name], f"{name}.")
        else:
            given[field.name] = rest[field.name]
    return kind(**given)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {name: _tuples(inner) for name, inner in value.items()} if isinstance(value, dict) else value
