"""Suites of the town are made in the built-in one, whatever else is at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scenarios import make


def test_suites_of_the_town_are_made_in_the_built_in_one(town_dataroot: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", lambda *_, **__: town_dataroot)
    monkeypatch.setenv("NUSCENES", str(tmp_path))
    seen = []
    monkeypatch.setattr(make, "town", lambda dataset, names, seed: seen.append((dataset.dataroot, names)) or [])
    monkeypatch.setattr(make, "write", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["make", "town_val"])
    make.main()
    assert seen == [(str(town_dataroot), ["town-val-0000", "town-val-0001"])]


def test_another_data_set_is_refused_for_them(monkeypatch, capsys) -> None:
    for part in ("town", "write"):
        monkeypatch.setattr(make, part, lambda *_: pytest.fail("made a suite"))
    monkeypatch.setattr(sys, "argv", ["make", "town_val", "--dataroot", "elsewhere"])
    with pytest.raises(SystemExit):
        make.main()
    assert "town_val is made in the built-in town: leave out --dataroot" in capsys.readouterr().err
