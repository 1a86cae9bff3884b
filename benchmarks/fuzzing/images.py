"""Fuzzer of sensor files: images, depth images and LiDAR of any size, kind of pixels and damage."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.errors import DataError

ROWS, COLUMNS = 90, 160
SIZE = (32, 56)
IMAGE, LIDAR = "samples/CAM/picture.jpg", "samples/LIDAR/points.bin"
LIMIT = 300


@dataclass(frozen=True)
class Case:
    """what: "image", "depth" or "lidar"; size: rows, columns; mode, format: of the pixels and their file; damage: of its bytes,
    ``noise`` at a ``place`` in [0, 1) of it; seed: of its content."""

    what: str
    size: tuple[int, int]
    mode: str
    format: str
    damage: str
    place: float
    noise: bytes
    seed: int


_GOOD = st.just((ROWS, COLUMNS))
_SIZES = (
    _GOOD
    | _GOOD
    | st.sampled_from([(45, 80), (180, 320), (90, 90), (1, 1), (160, 90)])
    | st.tuples(st.integers(1, 200), st.integers(1, 200))
)
CASES = st.builds(
    Case,
    st.sampled_from(["image", "image", "depth", "lidar"]),
    _SIZES,
    st.sampled_from(["RGB", "RGB", "RGB", "L", "RGBA", "CMYK", "I;16", "I", "F", "P", "1", "LA", "YCbCr"]),
    st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"]),
    st.sampled_from(["none", "none", "cut", "flip", "noise", "head", "empty", "missing", "folder", "circle", "not finite"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=64),
    st.integers(0, 2**16),
)


def attempt(case: Case, folder: Path) -> str:
    """Writes the file and reads it as the environment does. "accepted" if what comes out has the right shape and is finite and
    within bounds, and the file could be what it stands for; "refused" if a short DataError names it."""
    content = _content(case)
    path = folder / {"image": IMAGE, "depth": f"depth/CAM/{Path(IMAGE).stem}.png", "lidar": LIDAR}[case.what]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content, case)
    log = _log(folder)
    try:
        if case.what == "image":
            pixels = log.rgb(0, *SIZE)
            assert pixels.shape == (1, *SIZE, 3) and pixels.dtype == np.uint8, "silent: pixels of another shape"
            if case.damage == "none":
                assert case.size == (ROWS, COLUMNS), "silent: an image of another size"
        elif case.what == "depth":
            metres = log.depth(0, *SIZE)
            assert metres.shape == (1, *SIZE) and np.isfinite(metres).all(), "silent: depth that is not finite"
            assert 0 <= metres.min() and metres.max() <= 100, "silent: depth out of bounds"
            if case.damage != "none":
                (folder / "depth/CAM/whole.png").write_bytes(content)
                whole = read_depth(folder / "depth/CAM/whole.png")
                assert (read_depth(path) == whole).all(), "silent: a damaged depth image"
            ratio = case.size[0] * COLUMNS / (case.size[1] * ROWS)
            assert abs(ratio - 1) < 0.05 or min(case.size) < 30, f"silent: depth of {case.size}"
        else:
            assert np.isfinite(log.lidar(0).points).all(), "silent: points that are not finite"
    except DataError as error:
        words = str(error)
        assert len(words) <= LIMIT and "\n" not in words and ("samples" in words or "depth" in words), f"unclear: {words}"
        return "refused"
    return "accepted"


def _log(folder: Path) -> FileSensorLog:
    pose, zero = np.eye(4)[None], np.zeros(1)
    return FileSensorLog(
        scene="fuzzed", dataroot=str(folder), keyframe_time=zero, camera_names=("CAM",), image_files=((IMAGE,),),
        image_size=((ROWS, COLUMNS),), intrinsics=np.eye(3)[None, None], global_from_camera=pose[None], camera_time=zero[None],
        lidar_files=(LIDAR,), global_from_lidar=pose, lidar_time=zero, lidar_keyframe=np.zeros(1, int),
    )  # fmt: skip


def _content(case: Case) -> bytes:
    """The file before it is damaged."""
    rng = np.random.default_rng(case.seed)
    if case.what == "lidar":
        points = rng.normal(size=(case.size[0], 5)).astype(np.float32)
        if case.damage == "not finite":
            points[int(case.place * len(points)), case.seed % 5] = (np.nan, np.inf, -np.inf)[case.seed % 3]
        return points.tobytes()
    buffer = io.BytesIO()
    mode = case.mode if case.what == "image" or case.mode != "RGB" else "I;16"
    pixels = (
        Image.fromarray(rng.integers(0, 928, case.size).astype(np.uint16)) if mode == "I;16" else Image.new(mode, case.size[::-1])
    )
    try:
        pixels.save(buffer, format="PNG" if case.what == "depth" else case.format)
    except (OSError, ValueError, KeyError):  # not every format has every kind of pixels
        Image.new("RGB", case.size[::-1]).save(buffer, format="PNG")
    return buffer.getvalue()


def _write(path: Path, content: bytes, case: Case) -> None:
    at, noise = int(case.place * len(content)), case.noise
    if case.damage == "folder":
        path.mkdir()
    elif case.damage == "circle":
        path.symlink_to(path.name)
    elif case.damage != "missing":
        flipped = bytes([content[at] ^ noise[0]]) if content else b""
        damaged = {
            "cut": content[:at],
            "flip": content[:at] + flipped + content[at + 1 :],
            "noise": content[:at] + noise + content[at + len(noise) :],
            "head": noise + content[len(noise) :],
            "empty": b"",
        }
        path.write_bytes(damaged.get(case.damage, content))
