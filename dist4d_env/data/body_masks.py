"""Masks of the car's own body in its cameras: bonnet, boot, flanks, roof rack; where they lie and how they are read.

A mask is a PNG of one channel and 8 bits (or one), 255 (or 1) where the body is and 0 elsewhere, with the field of view of the
camera's images at any size. One that is given lies at ``body/<CHANNEL>.png``, and holds for all scenes; one that ``prepare`` has
found at ``body/<scene>/<CHANNEL>.png``, for cars of one data set differ. Both below the data set or a depth root.
"""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isfile
from pathlib import Path

import numpy as np

from dist4d_env.data.depth_files import check_shape, depth_roots, read_png, write_png
from dist4d_env.errors import DataError

FOLDER = "body"
MOST = 0.75
"""Share of an image that no car's own body covers."""


def found_mask(root: Path, scene: str, channel: str) -> Path:
    """Where ``prepare`` puts the mask of a scene's camera below a depth root."""
    return root / FOLDER / scene / f"{channel}.png"


def given_mask(dataroot: str | Path, channel: str, root: Path | None = None) -> Path | None:
    """The mask of a camera that somebody gave for all scenes, if there is one; root: of depth, as of ``find_mask``."""
    return next(filter(isfile, _given(_roots(dataroot, root), channel)), None)


def find_mask(dataroot: str | Path, scene: str, channel: str, root: Path | None = None) -> Path | None:
    """The mask file of a scene's camera: the given one, else the one that was found, else None.

    root: a depth root that need not be among ``depth_roots``, looked into before them.
    """
    roots = _roots(dataroot, root)
    places = _given(roots, channel) + [found_mask(root, scene, channel) for root in roots]
    return next(filter(isfile, places), None)


def _roots(dataroot: str | Path, root: Path | None) -> list[Path]:
    return [Path(dataroot), *([] if root is None else [root]), *depth_roots(dataroot)]


def _given(roots: Sequence[Path], channel: str) -> list[Path]:
    return [root / FOLDER / f"{channel}.png" for root in roots]


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Stores a mask (H, W) bool; the file appears whole or not at all."""
    write_png(path, mask.astype(np.uint8) * 255)


def read_mask(path: Path, image: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) bool in a file. image: (rows, columns) of the images that it belongs to.

    Raises DataError where the file is no such mask.
    """
    remedy = "give a grey PNG of the shape of its images, 255 where the car's own body is and 0 elsewhere, or delete it"
    try:
        pixels = read_png(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if pixels is not None and pixels.ndim == 3:
        pixels = pixels[..., 0] if (pixels[..., :3] == pixels[..., :1]).all() else None  # painted in colour, black and white
    if pixels is None:
        raise DataError(f"{path}: not a whole grey PNG; {remedy}")
    check_shape(path, "mask", pixels.shape, image, remedy)
    values = np.unique(pixels)
    if not (set(values.tolist()) <= {0, 1} or set(values.tolist()) <= {0, 255}):
        raise DataError(f"{path}: its pixels have {len(values)} values from {values[0]} to {values[-1]}; {remedy}")
    mask = pixels > 0
    if mask.mean() > MOST:
        raise DataError(f"{path}: it calls {100 * mask.mean():.0f} % of the image the car's own body, inverted perhaps; {remedy}")
    return mask
