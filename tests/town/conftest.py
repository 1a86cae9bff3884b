"""A tiny town with everything that can be stored, and scenes without pictures, made once for all tests here."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from dist4d_env.town.generate import generate_scene
from dist4d_env.town.model import TownScene
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.writer import write_dataset

SIZE = (48, 80)
DURATION = 1.5


@cache
def scene_of(split: str, index: int) -> TownScene:
    """A generated scene, kept for the tests that come later."""
    return generate_scene(split, index)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """town-val-0000: 1.5 s with 10 Hz sweeps and class images, written by this process alone."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place = base / "small-town"
    with FileLock(base / "small-town.lock"):
        if not place.exists():
            write_dataset(place, "val", 1, SIZE, sweeps=True, duration=DURATION, semantics=True, workers=1, progress=False)
    return place


@pytest.fixture(scope="session")
def scene() -> TownScene:
    """What ``written`` shows."""
    return scene_of("val", 0)


@pytest.fixture(scope="session")
def renderer(scene: TownScene) -> TownRenderer:
    return TownRenderer(scene)
