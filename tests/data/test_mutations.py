"""Every single fault of a data set is one clear error at the scene it concerns, or listed by ``validate``; none is raw."""

from __future__ import annotations

from pathlib import Path

import pytest

from dist4d_env.data import validate
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from tests.data.mutations import HARMLESS, Folder, Mutation, mutations, outcome

PLAYABLE = {
    "instance.first_annotation_token dangling", "sample_data.next dangling",
    "sample_data.prev dangling", "sample_annotation.json no rows",
    "lidarseg.json without its folder", "panoptic.json without its folder",
}  # fmt: skip
"""What only ``validate`` has to say: no scene uses it."""


def found(data: Folder, some: list[Mutation]) -> dict[str, tuple[str, str]]:
    return {each.name: outcome(data, each) for each in some}


@pytest.mark.medium
def test_every_mutation_of_the_handmade_data_set(tiny_root: Path, tmp_path: Path) -> None:
    data = Folder(tiny_root, tmp_path / "data")
    results = found(data, mutations(data))
    assert len(results) > 700
    bad = {name: result for name, result in results.items() if result[0] not in ("refused", "listed") and name not in HARMLESS}
    assert not bad
    unused = ("appended", "visibility", "attribute")
    listed = {name for name, (kind, _) in results.items() if kind == "listed" and not any(word in name for word in unused)}
    assert listed <= PLAYABLE


@pytest.mark.medium
def test_mutations_of_a_town(town_dataroot: Path, tmp_path: Path) -> None:
    """The built-in data set is read by the same code: every ninth mutation, and all of what is wrong only beside others."""
    data = Folder(town_dataroot, tmp_path / "data")
    every = mutations(data)
    start = next(i for i, each in enumerate(every) if each.name.startswith("sample.timestamp of the next"))
    results = found(data, [*every[::9], *every[start : start + 16]])
    assert not {n: r for n, r in results.items() if r[0] not in ("refused", "listed") and n not in HARMLESS}


def test_several_faults_are_all_listed(tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Folder(tiny_root, tmp_path / "data")
    by_name = {each.name: each for each in mutations(data)}
    names = ("ego_pose.translation first NaN", "sample_annotation.size zero", "sample null appended")
    with data.mutated(by_name[names[0]]), data.mutated(by_name[names[1]]), data.mutated(by_name[names[2]]) as root:
        assert not validate.examine(validate.Options(dataroot=root)).sound
    said = capsys.readouterr().out
    for words in (
        "ego_pose.json, row 5: translation [NaN",
        "sample_annotation.json, row 1: size [0,",
        "sample.json, row 8: null is not",
    ):
        assert words in said


def test_broken_tables_are_named_together(broken_root: Path) -> None:
    for table in ("log", "ego_pose"):
        (broken_root / "v1.0-tiny" / f"{table}.json").write_bytes(b"{")
    with pytest.raises(DataError, match=r"ego_pose\.json: not valid JSON.*\(and log\.json\)$"):
        open_dataset(broken_root)


def test_every_broken_file_is_listed(broken_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    for view in (1, 4):
        sensors.image_path(0, view).write_bytes(b"no picture")
    Path(sensors.dataroot, sensors.lidar_files[0]).write_bytes(b"abc")
    assert not validate.examine(validate.Options(dataroot=broken_root, scenes=("scene-0103",), images=True)).sound
    said = capsys.readouterr().out
    assert said.count("cannot be read") == 2 and said.count("not whole rows of x, y, z") == 1


def test_validate_outlives_any_reader(tiny_root: Path) -> None:
    class Failing:
        dataroot, version = str(tiny_root), ""

        def load(self, name: str, require_map: bool = True) -> None:
            raise ZeroDivisionError("of its own")

    checked = validate.check_scene(Failing(), "one")  # type: ignore[arg-type]  # all that is called
    assert checked.broken == ("its reader failed with ZeroDivisionError: of its own",)
