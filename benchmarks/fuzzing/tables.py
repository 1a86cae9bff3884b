"""Fuzzer of data sets' tables: values of any kind put anywhere into the tables of records, the map and the splits."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import check_scene
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import Scene
from tests.data import tiny_nuscenes
from tests.data.mutations import sane

VERSION, MAP = "v1.0-tiny", f"maps/expansion/{tiny_nuscenes.LOCATION}.json"
LIMIT = 300


@cache
def source() -> tuple[Path, dict[str, Any]]:
    """The folder of the handmade data set, written once, and its files of JSON by their path below it."""
    root = tiny_nuscenes.write(Path(tempfile.mkdtemp(prefix="tiny-")) / "data")
    return root, {str(path.relative_to(root)): json.loads(path.read_bytes()) for path in sorted(root.rglob("*.json"))}


_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, "", "ghost", "\0", "\ud800", "../..", "x" * 3000, [], {}, [[]], [None], {"token": "ghost"}, 0, -1, 1, 0.5,
     float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, 2**31, 2**63, 10**400, 9100.0, [0, 0, 0, 0], [1, 0, 0, 0]]
)  # fmt: skip
_LISTS = st.lists(st.floats() | st.integers(-9, 9) | st.none(), max_size=5)
VALUES = _ODD | st.floats() | st.integers() | st.text(max_size=8) | _LISTS
_FILES = [f"{VERSION}/{name}.json" for name in (
    "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data", "scene",
    "sensor", "attribute", "visibility",
)]  # fmt: skip
_EDITS = st.tuples(
    st.sampled_from([*_FILES, MAP, MAP, MAP]),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    st.sampled_from(["set", "set", "set", "set", "nudge", "drop", "double"]),
    VALUES,
)
_BYTES = st.tuples(st.sampled_from([*_FILES, MAP, "splits.json"]), st.binary(max_size=40) | st.just(b"[" * 10**5))
CASES = st.lists(_EDITS, max_size=2) | st.lists(_EDITS, min_size=1, max_size=2) | _BYTES.map(lambda pair: [pair])


def attempt(case: list[tuple[Any, ...]], folder: Path) -> str:
    """Edits the handmade data set as the case says and loads both scenes. "accepted" if both are sane, "refused" if a DataError
    that is short enough names a file."""
    root, files = source()
    folder = Path(tempfile.mkdtemp(dir=folder))  # readers keep what they have read by its folder
    (folder / "samples").symlink_to(root / "samples")
    (folder / "sweeps").symlink_to(root / "sweeps")
    written = {name: json.dumps(content).encode() for name, content in files.items()}
    for edit in case:
        written[edit[0]] = edit[1] if len(edit) == 2 else json.dumps(edited(json.loads(written[edit[0]]), *edit[1:])).encode()
    for name, content in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "maps" / "mask.png").symlink_to(root / "maps" / "mask.png")
    errors: list[DataError] = []
    loaded: dict[str, Scene] = {}
    try:
        dataset = open_dataset(folder, VERSION)
        names = dataset.scene_names("all")
    except DataError as error:
        return _clear(error)
    for name in names:
        try:
            loaded[name] = dataset.load(name)
            sane(loaded[name])
        except DataError as error:
            errors.append(error)
        checked = check_scene(dataset, name)
        assert bool(checked.broken) == (name not in loaded), f"silent: validate says {checked.broken} of {name}"
    faults = [] if errors else getattr(dataset, "faults")()  # noqa: B009  (a reader may do without)
    assert all(len(words) <= LIMIT for words in faults), f"too long: {faults}"
    for scene in loaded.values():
        _near_the_source(scene)
    return _clear(errors[0]) if errors else "refused" if faults else "accepted"


def _clear(error: DataError) -> str:
    words = str(error)
    assert len(words) <= LIMIT and ".json" in words and "\n" not in words, f"unclear: {words}"
    return "refused"


def _near_the_source(scene: Scene) -> None:
    """Whatever was edited, what is taken stays where the data set is: 40 m of road, 100 m around it."""
    assert np.abs(scene.tracks.velocity).max(initial=0) < 3000, "silent: the speed of an object"
    assert np.abs(scene.sensors.cameras(0)[0][:, :3, 3] - scene.ego_pose(0.0)[:3, 3]).max() < 250, (
        "silent: a camera far from the ego"
    )
    assert scene.duration < 40, "silent: a log that is too long"


def edited(content: Any, path: list[int], how: str, value: Any) -> Any:
    """The content with one place in it changed; the numbers lead down to it, each taken modulo what is there."""
    here, step = content, None
    for step, number in enumerate(path):
        keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        if not keys:
            return value if step == 0 else content
        key = keys[number % len(keys)]
        inner = here[key]
        if step + 1 < len(path) and isinstance(inner, dict | list) and inner:
            here = inner
            continue
        if how == "drop":
            del here[key]
        elif how == "double" and isinstance(here, list):
            here.append(inner)
        elif how == "nudge" and isinstance(inner, int | float) and not isinstance(inner, bool):
            here[key] = inner + inner * 1e-9 if isinstance(inner, float) else inner
        else:
            here[key] = value
        break
    return content
