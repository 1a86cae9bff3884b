"""A made data set of samples: textured planes seen by three cameras, with holes in the splats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dist4d_env.training.samples import BETWEEN, NEXT, SPACE, SampleSettings, SampleStore, write_scene, write_settings

VIEWS, HEIGHT, WIDTH = 3, 32, 48


def made_scene(seed: int, keyframes: int = 4) -> dict[str, np.ndarray]:
    """Arrays of one scene as ``prepare`` writes them."""
    generator = np.random.default_rng(seed)
    shape = (keyframes, VIEWS, HEIGHT, WIDTH)
    rows = np.linspace(0, 1, HEIGHT)[:, None]
    waves = np.sin(np.arange(WIDTH) / 4 + seed + np.arange(keyframes)[:, None, None, None])
    rgb = np.clip(120 + 60 * waves[..., None] + 60 * rows[..., None] * np.array([1, 0.5, -0.5]), 0, 255)
    rgb = np.broadcast_to(rgb, (*shape, 3)).astype(np.uint8)
    depth = np.broadcast_to(3 + 40 * (1 - rows), shape).astype(np.float16)
    table = [
        (NEXT, 0, 1),
        (NEXT, 0, 2),
        (NEXT, 1, 2),
        (NEXT, 2, 3),
        (BETWEEN, 0, 1),
        (BETWEEN, 1, 2),
        (SPACE, 0, 1),
        (SPACE, 1, 2),
    ]
    kind, reference, target = np.array(table, np.int16).T
    valid = generator.random((len(table), *shape[1:])) > 0.2
    base = np.where(valid[..., None], rgb[target], 90).astype(np.uint8)
    masks = np.stack([valid * 255, 0 * valid, valid * 200, valid * 100], -1).astype(np.uint8)
    camera = np.array([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    poses = np.tile(np.eye(4), (keyframes, 1, 1))
    poses[:, 0, 3] = np.arange(keyframes)
    return {
        "frame_rgb": rgb,
        "frame_depth": depth,
        "intrinsics": np.tile(np.array([[40.0, 0, 24], [0, 40.0, 16], [0, 0, 1]]), (VIEWS, 1, 1)),
        "global_from_camera": np.tile((poses @ camera)[:, None], (1, VIEWS, 1, 1)),
        "global_from_ego": poses,
        "time": np.arange(keyframes) * 0.5,
        "layout": generator.integers(0, 2, (*shape, 8)).astype(np.uint8) * 255,
        "bev": generator.integers(0, 256, (keyframes, 40000), dtype=np.uint8),
        "box_corners": generator.normal(0, 10, (keyframes, 24, 8, 3)).astype(np.float32),
        "box_class": np.tile(np.array([0] * 4 + [-1] * 20, np.int8), (keyframes, 1)),
        "box_instance": np.tile(np.arange(24, dtype=np.int8), (keyframes, 1)),
        "attributes": np.array([1, 0, 0, 1], np.float32),
        "splat_base_rgb": base,
        "splat_base_depth": depth[target],
        "splat_other_rgb": base,
        "splat_masks": masks,
        "kind": kind,
        "reference": reference,
        "target": target,
    }


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Two made scenes on disk."""
    folder: Path = tmp_path_factory.mktemp("samples")
    write_settings(folder, SampleSettings(HEIGHT, WIDTH, chunk=2))
    for seed in range(2):
        write_scene(folder, f"scene-{seed}", made_scene(seed))
    return SampleStore(folder)
