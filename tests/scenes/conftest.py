"""The handmade data set of ``tiny_nuscenes``, as it is and to be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_nuscenes

from dist4d_env.data.nuscenes import open_dataset
from dist4d_env.scenes.scene import Scene


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nuscenes.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_scene(tiny_root: Path) -> Scene:
    return open_dataset(tiny_root).load("scene-0103")


@pytest.fixture
def broken_root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "broken"))
