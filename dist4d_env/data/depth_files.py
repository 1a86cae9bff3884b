"""Curated depth on disk: one compressed 16-bit PNG per camera image, and where such files live.

The code of a depth d is ``round(A * log1p(d / B))`` with A = 250 and B = 2.5 m: steps of 1 cm at the camera, 5 cm at 10 m, 41 cm
at 100 m; the error, half a step, stays below 0.5 cm + 0.2 %. Code 928 is 100 m and means sky or nothing.
A file lies at ``<depth root>/<CHANNEL>/<image stem>.png`` and covers the same field of view as the stored image, at any size.
``<depth root>/prepared.json`` says how ``prepare`` made them all; depth from elsewhere has no such file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.scenes.files import replacing, write_text

A, B = 250.0, 2.5
FAR_CODE = round(A * np.log1p(FAR / B))
_METRES = np.minimum(B * np.expm1(np.arange(2**16, dtype=np.float64) / A), FAR).astype(np.float32)
_METRES[FAR_CODE:] = FAR
SETTINGS = "prepared.json"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
REMEDY = "delete it and make it again with `python -m dist4d_env prepare`, which keeps the files that are there"


def encode_depth(depth: np.ndarray) -> np.ndarray:
    """Metres (any shape) to uint16 codes; values are clipped to [0, 100] m. Raises ValueError for NaN."""
    if np.isnan(depth).any():
        raise ValueError("depth holds NaN; write 100 m where there is nothing")
    return np.round(A * np.log1p(np.clip(depth, 0.0, FAR) / B)).astype(np.uint16)


def decode_depth(code: np.ndarray) -> np.ndarray:
    """uint16 codes to float32 metres, at most 100."""
    return _METRES[code]


def write_depth(path: str | Path, depth: np.ndarray) -> None:
    """Stores a (H, W) depth image in metres; the file appears whole or not at all. Folders are made."""
    if depth.ndim != 2:
        raise ValueError(f"a depth image is (H, W), not {depth.shape}")
    write_png(Path(path), encode_depth(depth))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Stores (H, W) uint8 or uint16; the file appears whole or not at all. Folders are made."""
    png = png_bytes(pixels)
    with replacing(path) as temporary:
        temporary.write_bytes(png)


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W) uint8 or uint16 as a PNG."""
    import cv2

    done, png = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise DataError(f"an image of {pixels.shape} could not be encoded as PNG")
    return png.tobytes()


def whole_png(path: Path) -> bool:
    """Whether a file is there and ends as a PNG does: one that was cut off while it was copied doesn't."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def write_settings(root: Path, settings: dict[str, Any]) -> None:
    """Notes how all depth below a root is made; the file appears whole or not at all."""
    write_text(root / SETTINGS, f"{json.dumps(settings, indent=1)}\n")


def read_settings(root: Path) -> dict[str, Any] | None:
    """How ``prepare`` made the depth below a root, by the fields of ``CurationConfig``; None for depth from elsewhere.

    Raises DataError where the file is broken.
    """
    try:
        settings = json.loads((root / SETTINGS).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{root / SETTINGS}: cannot be read ({error}); delete it with the depth beside it") from error
    if not isinstance(settings, dict):
        raise DataError(f"{root / SETTINGS}: not a mapping of settings; delete it with the depth beside it")
    return settings


def past_only(root: Path) -> bool:
    """Whether ``prepare`` made the depth below a root without any LiDAR sweep later than its keyframe."""
    settings = read_settings(root)
    return settings is not None and settings.get("after") == 0


def read_depth(path: str | Path, image: tuple[int, int] | None = None) -> np.ndarray:
    """The (H, W) float32 metres stored at ``path``. image: (rows, columns) of the image that it belongs to.

    Raises DataError if the file is missing, is no depth PNG, has pixels without depth, or not the shape of its image.
    """
    try:
        code = read_png(Path(path))
    except OSError as error:
        raise DataError(f"{path}: no depth file; make it with `python -m dist4d_env prepare`") from error
    if code is None or code.dtype != np.uint16 or code.ndim != 2:
        raise DataError(f"{path}: not a whole 16-bit depth PNG; {REMEDY}")
    if not code.all():
        raise DataError(f"{path}: {(code == 0).mean():.0%} of the pixels have depth 0 (where nothing is, it is 100 m); {REMEDY}")
    if image is not None:
        check_shape(path, "depth image", code.shape, image, REMEDY)
    return decode_depth(code)


def read_png(path: Path) -> np.ndarray | None:
    """The pixels of a PNG as they are stored, None if it is not a whole one. Raises OSError."""
    import cv2

    data = np.fromfile(path, np.uint8)
    whole = data[-len(_PNG_END) :].tobytes() == _PNG_END  # OpenCV would hand back a half-empty image for a file that was cut off
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if whole else None
    except cv2.error:  # more pixels than OpenCV decodes
        return None


def check_shape(path: str | Path, what: str, shape: tuple[int, ...], image: tuple[int, int], remedy: str) -> None:
    """Raises DataError unless (rows, columns) is the shape, at any size, of an image of (rows, columns)."""
    rows, columns = shape
    # Rows and columns are each rounded to whole pixels, hence the half of one; a hundredth is left for sizes like 224 x 400.
    if abs(rows * image[1] - columns * image[0]) > 0.5 * sum(image) + 0.01 * rows * image[1]:
        raise DataError(
            f"{path}: the {what} is {rows} x {columns}, not of the shape of its image, {image[0]} x {image[1]}; {remedy}"
        )


def depth_key(dataroot: str | Path) -> str:
    """A folder name that stands for a data set wherever its depth is kept apart from it."""
    resolved = Path(os.path.realpath(dataroot))  # Path.resolve would raise for a circle of links
    return f"{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"


def depth_roots(dataroot: str | Path) -> tuple[Path, ...]:
    """Where depth of a data set is looked for, first match wins: $DIST4D_DEPTH, the data set itself, the user's cache.

    Where $DIST4D_DEPTH holds depth of past sweeps only, nowhere else: what is missing there would come with the future in it.
    """
    roots = _usual_roots(dataroot, "depth", "")
    if os.environ.get("DIST4D_DEPTH"):
        chosen = Path(os.environ["DIST4D_DEPTH"]) / depth_key(dataroot)
        return (chosen,) if past_only(chosen) else (chosen, *roots)
    return roots


def _usual_roots(dataroot: str | Path, folder: str, key_beside_data: str) -> tuple[Path, ...]:
    import platformdirs

    cache = Path(platformdirs.user_cache_dir("dist4d_env")) / folder / depth_key(dataroot)
    return Path(dataroot) / folder / key_beside_data, cache


def default_depth_root(dataroot: str | Path, past: bool = False) -> Path:
    """Where ``prepare`` writes by default: the first of ``depth_roots`` that can be written to.

    past: depth of past sweeps only lies in a folder of its own instead, whose parent $DIST4D_DEPTH has to name before it is used.
    """
    chosen = os.environ.get("DIST4D_DEPTH")
    if past:  # never where other depth may come to lie, or is used by others
        roots = (
            (Path(chosen) / depth_key(dataroot),) if chosen else _usual_roots(dataroot, "depth_past_only", depth_key(dataroot))
        )
    else:
        roots = depth_roots(dataroot)
    for root in roots:
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        if os.access(existing, os.W_OK):
            return root
    raise DataError(f"{dataroot}: no folder for depth is writable; set $DIST4D_DEPTH to one that is")
