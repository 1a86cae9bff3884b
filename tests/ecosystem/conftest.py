"""Tests with the real packages that people drive environments with: make test-ecosystem."""

from __future__ import annotations

import importlib.util

import pytest

PACKAGES = ("minari", "torchrl", "moviepy", "cloudpickle")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "/tests/ecosystem/" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.ecosystem)
        if MISSING:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(MISSING)}: run make test-ecosystem"))


@pytest.fixture
def keywords(town_dataroot):
    return {"dataroot": str(town_dataroot), "world": "none", "horizon": 2.0}
