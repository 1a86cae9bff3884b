"""Tests with the real packages that people drive environments with, and with logs in 123D's format: make test-ecosystem."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset

PACKAGES = ("minari", "torchrl", "moviepy", "cloudpickle")
NEEDS = {"test_py123d.py": ("py123d",), "test_py123d_nuscenes.py": ("py123d",)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/ecosystem/" not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.ecosystem)
        missing = [name for name in NEEDS.get(item.path.name, PACKAGES) if importlib.util.find_spec(name) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}: run make test-ecosystem"))


@pytest.fixture
def keywords(town_dataroot):
    return {"dataroot": str(town_dataroot), "world": "none", "horizon": 2.0}


@pytest.fixture(scope="session")
def town(town_dataroot: Path) -> Dataset:
    return open_dataset(town_dataroot)


@pytest.fixture(scope="session")
def town_logs(town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two scenes of ``town_dataroot`` as 123D logs, which bring no depth."""
    from .town_logs import write_log

    place = tmp_path_factory.mktemp("logs")
    for name in town.names():
        write_log(place, town.load(name))
    return place
