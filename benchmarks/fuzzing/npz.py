"""Messages between a planner and its server: npz files, whole, truncated, and malicious."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dist4d_env.planners.remote.planner_server import MAX_REQUEST, pack, unpack

DTYPES = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(), hnp.complex_number_dtypes(),
    hnp.byte_string_dtypes(min_len=1), hnp.unicode_string_dtypes(min_len=1),
)  # fmt: skip
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
WHOLE = st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8), ARRAYS, max_size=3)

TYPES = [
    "|S0",
    "<U0",
    "|V0",
    "|V8",
    "|O",
    "<M8[s]",
    "<m8",
    "<f8",
    "<f4",
    "|b1",
    ">U3",
    "<c16",
    "f",
    "",
    "²",
    "<f99",
    "|S-1",
    "<i3",
]
DESCRIPTIONS = st.sampled_from(TYPES) | st.lists(st.tuples(st.text(max_size=3), st.sampled_from(TYPES)), max_size=3)
SIDES = st.sampled_from([0, 1, 2, -1, 2**31, 2**62, 2**63, 2**64, 10**30, True, 1.5, "3", None])
SHAPES: st.SearchStrategy[Any] = st.lists(SIDES, max_size=5).map(tuple) | SIDES | st.just((1,) * 100)
STRANGE = ["(" * 5000, "{'descr': " + "-" * 3000 + "1}", "9" * 9000, "{}", "\x00", "# -*- coding: x"]
FIELDS = {"descr": DESCRIPTIONS, "fortran_order": st.sampled_from([False, True, 0, "x"]), "shape": SHAPES}
HEADERS = st.fixed_dictionaries(FIELDS).map(repr) | st.text(max_size=30) | st.sampled_from(STRANGE)
VERSIONS = st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 0), (255, 255)])


def member(version: tuple[int, int], header: str, body: bytes) -> bytes:
    """A .npy file with any header."""
    text = header.encode("utf-8", "surrogatepass")
    size = struct.pack("<H" if version == (1, 0) else "<I", min(len(text), 65535))
    return b"\x93NUMPY" + bytes(version) + size + text + body


def archive(members: list[tuple[str, bytes]], compression: int) -> bytes:
    """A zip file of any members, of the same name too."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w", compression) as zipped:
        for name, content in members:
            zipped.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def mutated(data: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    """Some bytes replaced, and the end cut off."""
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed[: max(len(changed) - cut, 0)])


MEMBERS = st.builds(member, VERSIONS, HEADERS, st.binary(max_size=32)) | st.binary(max_size=40)
NAMES = st.sampled_from(["a.npy", "b.npy", "../c.npy", "d", ".npy", "é.npy"])
MADE = st.builds(
    archive, st.lists(st.tuples(NAMES, MEMBERS), max_size=3), st.sampled_from([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED])
)
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4)
TORN = st.builds(mutated, WHOLE.map(pack), CHANGES, st.sampled_from([0, 0, 0, 1, 20, 200]))
CASES: st.SearchStrategy[Any] = WHOLE | TORN | MADE | st.binary(max_size=64)


def attempt(case: dict[str, np.ndarray] | bytes, folder: Path) -> str:
    """A message is unpacked; whole arrays must come back as they were sent."""
    data = case if isinstance(case, bytes) else pack(case)
    try:
        arrays = unpack(data)
    except ValueError as error:
        assert not isinstance(case, dict), f"silent: arrays that were packed are refused: {error}"
        text = str(error)
        assert text.startswith("not an npz file of plain arrays: ") and len(text) <= 300 and "\n" not in text, f"unclear: {text}"
        return "refused"
    size = sum(array.nbytes for array in arrays.values())
    assert size <= min(len(data), MAX_REQUEST), f"silent: {size} bytes from {len(data)}"
    assert not any(array.dtype.hasobject for array in arrays.values()), "silent: objects"
    if isinstance(case, dict):
        same = {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
        sent = {name: (array.dtype, array.shape, array.tobytes()) for name, array in case.items()}
        assert same == sent, "silent: other arrays than were sent"
    return "accepted"
