"""The store of scenes: the same scenes and the same errors as from whole tables, made once, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from dist4d_env.data import nuscenes, store, tables
from dist4d_env.data.array_files import read_arrays, write_arrays
from dist4d_env.data.open import open_dataset
from dist4d_env.data.tables import read_pieces, texts_of
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import Scene
from tests.data.mutations import Folder, mutations, outcome


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache, and every data set in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nuscenes, "LARGE", 0)
    forget()
    yield tmp_path / "cache" / "dist4d_env" / "scenes"
    forget()


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What helper processes are asked to do; this process does it."""
    asked: list[list[Any]] = []

    def run(module: str, works: list[list[Any]], each: Callable[[], object]) -> None:
        asked.extend(works)
        for work in works:
            store.help_with(*work, each)

    monkeypatch.setattr(store, "run_helpers", run)
    return asked


def forget() -> None:
    """What this process has read."""
    nuscenes._open.cache_clear(), nuscenes._load_scene.cache_clear()


def parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, text and geometry of a scene, arrays with their order in memory."""
    if isinstance(value, np.ndarray):
        yield name, (value.dtype, value.shape, value.strides, value.tobytes())
    elif isinstance(value, BaseGeometry):
        yield name, shapely.to_wkb(value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, dict):
        yield name, list(value)
        for key, inner in value.items():
            yield from parts(inner, f"{name}[{key}]")
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from parts(inner, f"{name}[{i}]")
    else:
        yield name, len(value) if isinstance(value, shapely.STRtree) else (type(value), value)


def differing(one: Scene, other: Scene) -> list[str]:
    first, second = dict(parts(one)), dict(parts(other))
    assert len(first) > 100
    return [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]


@pytest.mark.parametrize("root", ["tiny_root", "town_dataroot", "nuscenes_real"])
def test_the_same_scenes_bit_for_bit(
    root: str, cache: Path, works: list[Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(root)
    monkeypatch.setattr(nuscenes, "LARGE", 1 << 40)
    dataset = open_dataset(folder, dataset="nuscenes")
    whole, splits = [dataset.load(name) for name in dataset.names()], dataset.splits()
    monkeypatch.setattr(nuscenes, "LARGE", 0)
    for _ in range(2):  # with the map around each scene cut out, and as it was stored
        forget()
        assert dataset.names() == tuple(scene.name for scene in whole) and dataset.splits() == splits
        for scene in whole:
            assert not differing(scene, dataset.load(scene.name))
    assert len(list(cache.glob("*/*/places/*.safetensors"))) == len(whole)
    assert [work[0] for work in works] == ["spool", "spool", "read"]


def test_what_is_stored_belongs_to_whoever_writes_to_it(tiny_root: Path, cache: Path, works: list[Any]) -> None:
    dataset = open_dataset(tiny_root)
    scene = dataset.load("scene-0103")
    before = scene.tracks.position.copy()
    scene.tracks.position[:] = 0.0
    forget()
    np.testing.assert_array_equal(dataset.load("scene-0103").tracks.position, before)


@pytest.mark.medium
def test_every_ninth_mutation_is_told_as_from_whole_tables(
    tiny_root: Path, tmp_path: Path, cache: Path, works: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Folder(tiny_root, tmp_path / "data")
    every = mutations(data)
    start = next(i for i, each in enumerate(every) if each.name.startswith("sample.timestamp of the next"))
    for mutation in {each.name: each for each in [*every[::9], *every[start : start + 16]]}.values():
        told = []
        for large in (1 << 40, 0):
            monkeypatch.setattr(nuscenes, "LARGE", large)
            forget()
            told.append(outcome(data, mutation))
        assert told[0] == told[1], mutation.name
    assert {"read whole"} <= {work[0] for work in works}


def test_a_stopped_run_goes_on(tiny_root: Path, cache: Path, works: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def stop(self: Any) -> None:
        raise Stopped

    read = store.SceneReader.read
    monkeypatch.setattr(store.SceneReader, "read", lambda self: stop(self) if self.name == "town-extra" else read(self))
    with pytest.raises(Stopped):
        open_dataset(tiny_root)
    assert len(list(cache.glob("*/*/logs/*.safetensors"))) == 1 and not list(cache.glob("*/*/index.json"))
    monkeypatch.setattr(store.SceneReader, "read", read)
    works.clear()
    assert open_dataset(tiny_root).load("town-extra").name == "town-extra"
    assert [(work[0], work[-1]) for work in works] == [("read", [1])]
    assert not list(cache.glob("*/*/spool"))


def test_changed_tables_are_read_anew(broken_root: Path, cache: Path, works: list[Any]) -> None:
    dataset = open_dataset(broken_root)
    assert dataset.load("scene-0103").description == "a straight drive"
    file = broken_root / "v1.0-tiny" / "scene.json"
    file.write_text(file.read_text().replace("a straight drive", "another one"))
    assert dataset.load("scene-0103").description == "another one"
    assert len(list(cache.glob("*/*/index.json"))) == 1  # the other has gone


def test_a_map_that_comes_goes_or_changes(broken_root: Path, cache: Path, works: list[Any]) -> None:
    dataset, file = open_dataset(broken_root), broken_root / "maps" / "expansion" / "singapore-onenorth.json"
    content = file.read_text()
    file.unlink()
    with pytest.raises(DataError, match=r"scene-0103: .*onenorth\.json: no such map"):
        dataset.load("scene-0103")
    assert dataset.load("scene-0103", require_map=False).map is None
    for limit in (13.9, 8.3):
        file.write_text(content.replace("13.9", str(limit)))
        nuscenes._load_scene.cache_clear()
        lane_map = dataset.load("scene-0103").map
        assert lane_map is not None and lane_map.lanes["first"].speed_limit == limit
    (broken_root / "maps" / "mask.png").unlink()
    nuscenes._load_scene.cache_clear()
    with pytest.raises(DataError, match=r"scene-0103: .*map\.json, row 0: maps/mask\.png is not there"):
        dataset.load("scene-0103")


def test_an_error_names_the_folder_that_was_asked_for(broken_root: Path, cache: Path, works: list[Any], tmp_path: Path) -> None:
    file = broken_root / "v1.0-tiny" / "ego_pose.json"
    rows = json.loads(file.read_text())
    rows[5]["translation"] = [None, 0, 0]
    file.write_text(json.dumps(rows))
    (tmp_path / "link").symlink_to(broken_root)
    for root in (broken_root, tmp_path / "link"):
        said = rf"scene-0103: {re.escape(str(root))}/v1.0-tiny/ego_pose\.json, row 5: translation \[null"
        with pytest.raises(DataError, match=said):
            open_dataset(root).load("scene-0103")
        assert len(open_dataset(root).load("town-extra").tracks) == 3
    assert len(works) == 3  # both have one store


def test_a_cache_that_was_cleared_is_made_again(tiny_root: Path, cache: Path, works: list[Any]) -> None:
    dataset = open_dataset(tiny_root)
    first = dataset.load("scene-0103")
    shutil.rmtree(cache)
    nuscenes._load_scene.cache_clear()
    assert not differing(first, dataset.load("scene-0103"))


def test_a_damaged_file_of_the_cache_is_named(tiny_root: Path, cache: Path, works: list[Any]) -> None:
    dataset = open_dataset(tiny_root)
    [file] = cache.glob("*/*/logs/0.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"scene-0103: {re.escape(str(file))}: this file of the cache is damaged; delete"):
        dataset.load("scene-0103")


def test_helper_processes_make_it_from_any_script(tiny_root: Path, tmp_path: Path) -> None:
    """Also from one without a main guard; a second process finds it."""
    code = (
        "from dist4d_env.data import nuscenes; nuscenes.LARGE = 0; from dist4d_env.data.open import open_dataset; "
        f"print(len(open_dataset({str(tiny_root)!r}).load('scene-0103').tracks))"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    for _ in range(2):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
        assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert len(list(tmp_path.glob("dist4d_env/scenes/*/*/index.json"))) == 1


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text('}, {"\\[]é\n', max_size=9) | st.lists(st.integers()), max_size=3)),
    st.sampled_from([None, 0, 2]),
    st.integers(1, 40),
    st.booleans(),
)
@example([{"": "},{"}], None, 5, True)
def test_pieces_of_a_file_are_its_rows(rows: list[Any], indent: int | None, chunk: int, ascii_only: bool) -> None:
    """Or the file is refused, which is then read whole, where a text within it looks like the end of one row and the next."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(tables, "_CHUNK", chunk)
        path = Path(folder, "table.json")
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        found, texts = [], []
        try:
            for some, piece in read_pieces(path):
                found += some
                texts += texts_of(some, piece)
        except ValueError:
            assert any(tables._BETWEEN.search(json.dumps(value).encode()) for row in rows for value in row.values())
            return
        assert found == rows
        assert json.loads(b"[%b]" % b"".join(text + b"}" for text in texts)[1:]) == rows


@pytest.mark.parametrize(
    "content", [b"{}", b"[1", b"[{},]", b"[{} {}]", b"\xef\xbb\xbf[]", "[{}]".encode("utf-16"), b"[" * 10**5, b""]
)
def test_what_is_no_plain_list_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises((ValueError, RecursionError)):
        list(read_pieces(tmp_path / "table.json"))
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_pieces(tmp_path / "none.json"))


@given(st.integers(0, 3), st.sampled_from([bool, np.int8, np.uint8, np.int64, np.float32, float]), st.permutations(range(3)))
def test_arrays_keep_their_order_in_memory(rows: int, kind: type, axes: list[int]) -> None:
    array = np.arange(6 * rows).reshape(rows, 2, 3).astype(kind).transpose(axes)
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder, "file"), {"one": array, "none": np.zeros((0, 3))}, {"a": [1, ["é\ud800", None]]})
        found, rest = read_arrays(Path(folder, "file"))
    assert rest == {"a": (1, ("é\ud800", None))} and found["none"].shape == (0, 3)
    assert found["one"].dtype == array.dtype and (not rows or found["one"].strides == array.strides)
    np.testing.assert_array_equal(found["one"], array)


def test_official_splits_are_the_devkits() -> None:
    from nuscenes.utils.splits import create_splits_scenes

    ours, theirs = nuscenes.official_splits(), create_splits_scenes()
    assert ours == theirs and list(ours) == list(theirs)
