"""What the comparison of traffic models measures: the built-in town, with its traffic there, one data set at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import realism, traffic_fit
from dist4d_env.errors import DataError


class Enough(Exception):
    """Raised where a test has seen what it came for."""


@pytest.fixture
def built_in(town_dataroot: Path, tmp_path: Path, monkeypatch) -> Path:
    """The folder that stands for the built-in town, while $NUSCENES names another one."""
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", lambda *_, **__: town_dataroot)
    monkeypatch.setenv("NUSCENES", str(tmp_path))
    return town_dataroot


def test_the_town_is_the_built_in_one(built_in: Path, monkeypatch) -> None:
    def seen(sets, options, finished):
        assert [scene.dataroot for scene in sets["town"]] == [str(built_in)]
        raise Enough

    monkeypatch.setattr(realism, "score", seen)
    with pytest.raises(Enough):
        realism.main(realism.Options(scenes=1))


def test_traffic_is_fitted_to_the_built_in_town(built_in: Path) -> None:
    with pytest.raises(DataError, match=f"'train' holds no scene of .*{built_in.name}"):  # as its stand-in has val scenes alone
        traffic_fit.main(traffic_fit.Options())
