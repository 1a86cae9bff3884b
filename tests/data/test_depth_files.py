"""Curated depth on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.depth_files import (
    decode_depth,
    default_depth_root,
    depth_key,
    depth_roots,
    encode_depth,
    read_depth,
    write_depth,
)
from dist4d_env.errors import DataError


def test_precision_near_and_far(tmp_path: Path) -> None:
    depth = np.geomspace(0.3, 99.0, 60 * 80).reshape(60, 80).astype(np.float32)
    write_depth(tmp_path / "CAM_FRONT" / "a.png", depth)
    back = read_depth(tmp_path / "CAM_FRONT" / "a.png")
    assert back.dtype == np.float32 and back.shape == depth.shape
    error = np.abs(back - depth)
    assert error[depth < 2].max() < 0.01 and (error / depth)[depth > 10].max() < 0.005
    assert (error <= 1.002 * (0.005 + 0.002 * depth) + 1e-5).all()  # the bound that the module states


def test_sky_and_values_out_of_range() -> None:
    assert decode_depth(encode_depth(np.array([100.0, 250.0, np.inf, 0.0, -3.0]))).tolist() == [100.0, 100.0, 100.0, 0.0, 0.0]
    assert decode_depth(np.array([65535], np.uint16)).tolist() == [100.0]
    with pytest.raises(ValueError, match="NaN"):
        encode_depth(np.array([1.0, np.nan]))


def test_codes_are_their_own_round_trip() -> None:
    codes = np.arange(929, dtype=np.uint16)
    assert (encode_depth(decode_depth(codes)) == codes).all()


def test_no_half_written_file(tmp_path: Path) -> None:
    write_depth(tmp_path / "a.png", np.full((4, 5), 7.0, np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        write_depth(tmp_path / "b.png", np.zeros((2, 2, 1), np.float32))
    assert not (tmp_path / "b.png").exists()


def test_broken_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(DataError, match=r"a\.png.*prepare"):
        read_depth(path)
    write_depth(path, np.random.default_rng(0).uniform(1, 90, (40, 60)).astype(np.float32))
    write_depth(tmp_path / "none.png", np.pad(np.full((40, 45), 7.0, np.float32), [(0, 0), (0, 15)]))
    with pytest.raises(DataError, match=r"none\.png: 25% of the pixels have depth 0.*prepare"):
        read_depth(tmp_path / "none.png")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a\.png.*whole 16-bit depth"):
        read_depth(path)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.delenv("DIST4D_DEPTH", raising=False)
    assert depth_roots(data)[0] == data / "depth" == default_depth_root(data)
    monkeypatch.setenv("DIST4D_DEPTH", str(tmp_path / "elsewhere"))
    assert depth_roots(data)[0] == tmp_path / "elsewhere" / depth_key(data) == default_depth_root(data)
    assert depth_key(data) == depth_key(data / ".." / "data") != depth_key(tmp_path)
    assert default_depth_root(data, past=True) == tmp_path / "elsewhere" / depth_key(data)
    monkeypatch.setattr(os, "access", lambda place, mode: place == data)  # nowhere else may be written
    with pytest.raises(DataError, match="no folder for depth is writable"):
        default_depth_root(data, past=True)
    assert default_depth_root(data) == data / "depth"
