"""Reading camera images and depth through the one crop and resize of ``ImageTransform``."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import ImageTransform

_MODES = ("RGB", "L")


def read_image(path: str | Path, stored: tuple[int, int], height: int, width: int, content: bytes | None = None) -> np.ndarray:
    """(height, width, 3) uint8 of an image stored at (rows, columns), area-resampled through ``ImageTransform.cover``.

    content: what a file of that name would hold, for an image that lies in another. Raises DataError if the file is missing, cut
    off, no image, of another size than the tables say, or not 8-bit RGB or grey.
    """
    from PIL import Image

    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            if image.size != stored[::-1]:
                found = f"{image.size[1]} x {image.size[0]}"
                raise DataError(f"{path}: the image is {found}, its table says {stored[0]} x {stored[1]}; fetch both again")
            if image.mode not in _MODES:
                raise DataError(
                    f"{path}: the image's pixels are {image.mode}, not 8-bit RGB or grey; convert it, or fetch it again"
                )
            # JPEG can decode at 1/2, 1/4 or 1/8 size for a fraction of the time; twice the target leaves the filter its work.
            image.draft("RGB", (2 * width, 2 * height))
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image; fetch the sensor files of the data set or use another keyframe") from error
    except DataError:
        raise
    except Exception as error:  # a decoder meets a broken file with whatever its own code runs into
        words = f"{type(error).__name__}: {error}".replace(str(path), "it")[:80]
        raise DataError(f"{path}: the image cannot be read ({words}); fetch the file again") from error
    return resample_area(pixels, stored, height, width)


def resample_area(pixels: np.ndarray, stored: tuple[int, int], height: int, width: int) -> np.ndarray:
    """(h, w, C) pixels of an image stored at (rows, columns), perhaps decoded at a fraction, to (height, width, C) uint8.

    Every target pixel is the mean over its exact footprint, fractions of source pixels included; enlarging interpolates linearly.
    """
    if pixels.shape[:2] == (height, width) == stored:
        return pixels
    transform = ImageTransform.cover(stored, (height, width))
    fraction = max(round(stored[0] / pixels.shape[0]), 1), max(round(stored[1] / pixels.shape[1]), 1)
    rows = _weights(pixels.shape[0], height, transform.scale * fraction[0], transform.offset[1])
    columns = _weights(pixels.shape[1], width, transform.scale * fraction[1], transform.offset[0])
    channels = pixels.shape[2]
    # Sparse products run on one thread in a fixed order, so the result does not depend on the number of threads.
    half = rows @ pixels.reshape(pixels.shape[0], -1).astype(np.float32)  # (height, w * C)
    half = half.reshape(height, pixels.shape[1], channels).transpose(1, 0, 2).reshape(pixels.shape[1], -1)
    full = (columns @ half).reshape(width, height, channels).transpose(1, 0, 2)
    return np.ascontiguousarray(np.clip(np.rint(full), 0, 255).astype(np.uint8))


def resample_nearest(depth: np.ndarray, stored: tuple[int, int], height: int, width: int) -> np.ndarray:
    """(h, w) depth with the field of view of an image stored at (rows, columns), at any size, to (height, width), never mixed.

    Each target pixel takes the value at its centre.
    """
    transform = ImageTransform.cover(stored, (height, width))
    picks = []
    for size, target, whole, offset in zip(depth.shape, (height, width), stored, transform.offset[::-1], strict=True):
        centre = (np.arange(target) + 0.5 + offset) / transform.scale * (size / whole)
        picks.append(np.clip(centre.astype(int), 0, size - 1))
    return depth[np.ix_(*picks)]


@lru_cache(maxsize=64)
def _weights(source: int, target: int, scale: float, offset: float) -> csr_matrix:
    """Sparse (target, source) rows that sum to one: box overlap when shrinking, linear interpolation when enlarging."""
    if scale >= 1:
        centre = np.clip((np.arange(target) + 0.5 + offset) / scale - 0.5, 0, source - 1)
        left = np.minimum(centre.astype(int), max(source - 2, 0))
        share = centre - left
        rows = np.repeat(np.arange(target), 2)
        picks = np.stack([left, np.minimum(left + 1, source - 1)], -1).ravel()
        return csr_matrix((np.stack([1 - share, share], -1).ravel().astype(np.float32), (rows, picks)), (target, source))
    low, high = (np.clip((np.arange(target) + end + offset) / scale, 0, source) for end in (0, 1))
    pixel = np.arange(source)
    overlap = np.clip(np.minimum(high[:, None], pixel + 1) - np.maximum(low[:, None], pixel), 0, None)
    return csr_matrix((overlap / overlap.sum(1, keepdims=True)).astype(np.float32))
