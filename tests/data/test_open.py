"""Which reader opens a folder: the one that recognises it, or the one that is named."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from dist4d_env.data.contract import resolve_scenes
from dist4d_env.data.nuscenes import NuScenesDataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.registry import DATASETS


@dataclass(frozen=True)
class Notes:
    """A data set whose scenes are the lines of a file."""

    dataroot: str
    version: str = ""

    @classmethod
    def recognises(cls, dataroot: str | Path) -> bool:
        return Path(dataroot, "notes.txt").is_file()

    def names(self) -> tuple[str, ...]:
        return tuple(Path(self.dataroot, "notes.txt").read_text().split())

    def splits(self) -> dict[str, tuple[str, ...]]:
        return {"val": self.names()[:1]}

    def scene_names(self, scenes: str | tuple[str, ...]) -> list[str]:
        return resolve_scenes(self, scenes)  # type: ignore[arg-type]  # nothing is loaded here

    def load(self, name: str, require_map: bool = True) -> None:
        return None


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "outside", SimpleNamespace(Notes=Notes))
    (tmp_path / "notes.txt").write_text("one two three")
    return tmp_path


def test_a_registered_reader_recognises_its_folders(notes: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="holds no data set that one of the readers town, nuscenes, py123d recognises"):
        open_dataset(notes)
    monkeypatch.setitem(DATASETS.built_in, "notes", "outside:Notes")
    assert isinstance(open_dataset(notes), Notes) and isinstance(open_dataset(tiny_root), NuScenesDataset)
    assert open_dataset(notes).scene_names(("val", "three")) == ["one", "three"]


def test_a_reader_can_be_named(notes: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUSCENES", raising=False)
    for dataset in ("outside:Notes", Notes):
        assert open_dataset(notes, dataset=dataset) == Notes(str(notes))
    mine = Notes(str(notes))
    assert open_dataset(dataset=mine) is mine
    assert open_dataset(tiny_root, dataset="nuscenes").version == "v1.0-tiny"
    with pytest.raises(ConfigError, match="open already: leave out dataroot"):
        open_dataset(notes, dataset=mine)
    with pytest.raises(ConfigError, match=r"dataset 'waymo' is unknown: .*'nuscenes'"):
        open_dataset(notes, dataset="waymo")
    with pytest.raises(ConfigError, match="needs dataroot"):
        open_dataset(dataset=Notes)
    with pytest.raises(ConfigError, match="has no names, splits"):
        open_dataset(dataset=SimpleNamespace(dataroot="", version=""))


def test_a_folder_too_high_or_too_low_is_told_which_one_it_is(tiny_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tiny_root)
    for wrong, right in ((tiny_root / "v1.0-tiny", tiny_root.resolve()), (tmp_path, tmp_path / "data")):
        said = (
            rf"{re.escape(str(wrong))} \(from the dataroot argument\) holds no data set, but {re.escape(str(right))} does: pass"
        )
        with pytest.raises(DataError, match=said):
            open_dataset(wrong)
