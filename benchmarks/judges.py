"""How well a town segmenter sees, and which distances it measures between sets of pictures: the numbers of its model card.

True pictures of a town with class images; every second one is the reference of the Frechet distance, and the others, or the
reference's own after a change, are held against it.

    python -m dist4d_env town --split val --scenes 8 --duration 3 --size 224x400 --semantics --out runs/seg-val
    python -m benchmarks.judges --dataroot runs/seg-val --other runs/seg-train
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import result_file, run
from benchmarks.rollouts import codec_of, through_codec
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.images.accuracy import confusion, intersection_over_union, mean_iou
from dist4d_env.metrics.images.frechet import frechet_distance
from dist4d_env.models.segmenter import CLASSES, load_segmenter, segmenter_for
from dist4d_env.training.loading import evenly
from dist4d_env.training.segmenter import load_pictures

NOISE = 0.03
"""Of the range of grey values."""


@dataclass(frozen=True)
class Options:
    """Intersection over union and Frechet distances of a town segmenter on true pictures."""

    dataroot: Path
    """A town written with --semantics, of scenes that the segmenter was not trained on."""
    other: Path | None = None
    """Another town with --semantics, whose pictures are held against the first's."""
    segmenter: Path | None = None
    """Folder of the segmenter; where none is given, the one that ships for pictures of about this size."""
    weights: str = "tiny"
    """Preset or directory whose codec pictures go through."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    rgb, truth = load_pictures(options.dataroot)
    judge = options.segmenter or segmenter_for((rgb.shape[1], rgb.shape[2]))
    segmenter = load_segmenter(judge)
    found, features = segmenter.look(rgb)
    counts = confusion(found, truth, len(CLASSES))
    softer = confusion(segmenter.look(np.stack([blurred(one, 1.0) for one in rgb]))[0], truth, len(CLASSES))
    unit = np.maximum(features[::2].std(0), 1e-6)
    distances = {"other true ones": frechet_distance(features[1::2] / unit, features[::2] / unit)}
    for name, changed in changes(rgb[::2], options):
        distances[name] = frechet_distance(segmenter.look(changed)[1] / unit, features[::2] / unit)
    each = dict(zip(CLASSES, intersection_over_union(counts).tolist(), strict=True))
    content = {"segmenter": judge.name, "size": list(rgb.shape[1:3]), "pictures": len(rgb), "miou": mean_iou(counts)}
    result = result_file("judges", options, content | {"miou_blurred": mean_iou(softer), "iou": each, "frechet": distances})
    for name in (*content, "miou_blurred", "iou", "frechet"):
        print(name, result[name])
    return result


def changes(rgb: np.ndarray, options: Options) -> Iterator[tuple[str, np.ndarray]]:
    """Names, and the pictures (N, H, W, 3) uint8 made of true ones; of the other town as many as there are."""
    height, width = rgb.shape[1:3]
    if options.other is not None:
        others = load_pictures(options.other)[0]
        yield "another town", others[evenly(range(len(others)), len(rgb))]
    for sigma in (0.7, 1.0, height / 64):
        yield f"blurred by {sigma:g} pixels", np.stack([blurred(one, sigma) for one in rgb])
    small = [cv2.resize(one, (width // 4, height // 4), interpolation=cv2.INTER_AREA) for one in rgb]
    yield "a quarter of the resolution", np.stack([cv2.resize(one, (width, height)) for one in small])
    codec = codec_of(options.weights)
    if codec is not None:
        unused = np.ones((1, height, width), np.float32), np.eye(3)[None], np.eye(4)[None], np.zeros(1)
        yield "through the codec", np.concatenate([through_codec(codec, RGBDFrame(one[None], *unused)).rgb for one in rgb])
    grain = np.random.default_rng(0).normal(0, 255 * NOISE, rgb.shape)
    yield "noise of 3 %", (rgb + grain).round().clip(0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


if __name__ == "__main__":
    run(main, Options)
