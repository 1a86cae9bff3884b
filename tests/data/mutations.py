"""Single faults in a nuScenes-format data set, by name, and what the reader and ``validate`` make of them.

Every table of records, every field that the reader looks at, every table of the map and the files beside them. ``HARMLESS`` names
the mutations that nothing has to refuse, each with the reason.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data import validate
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import Scene

NAN, INF = float("nan"), float("inf")
GONE: Any = ...
"""Stands for a field that is not there."""
NUMBERS: dict[str, Any] = {
    "NaN": NAN,
    "infinite": INF,
    "1e30": 1e30,
    "400 digits": 10**400,
    "a text": "1",
    "null": None,
    "a list": [],
}
TEXTS: dict[str, Any] = {"null": None, "a number": 5, "a list": [], "missing": GONE}
TOKENS = {**TEXTS, "dangling": "ghost"}
LINKS = {"a number": 5, "a dict": {}, "dangling": "ghost"}


def vectors(good: list[float]) -> dict[str, Any]:
    """Wrong values of a list of numbers."""
    first = {f"first {name}": [value, *good[1:]] for name, value in NUMBERS.items()}
    return {**first, "null": None, "empty": [], "too long": [*good, 1.0], "a dict": {}, "a text": "abc", "missing": GONE}


SIZES = {"zero": [0, 4.5, 1.6], "negative": [2.0, -4.5, 1.6], "9 km": [2.0, 9000.0, 1.6]}
QUATERNIONS = {"zero": [0, 0, 0, 0], "tiny": [1e-200, 0, 0, 0], "five": [5, 0, 0, 0]}
MATRIX = [[100.0, 0, 80.0], [0, 100.0, 45.0], [0, 0, 1]]
MATRICES: dict[str, Any] = {
    "zero": np.zeros((3, 3)).tolist(), "no focal length": [[0, 0, 80.0], *MATRIX[1:]],
    "negative": [[-100.0, 0, 80.0], *MATRIX[1:]],
    "NaN": [[NAN, 0, 80.0], *MATRIX[1:]], "infinite": [[INF, 0, 80.0], *MATRIX[1:]],
    "a null": [[100.0, None, 80.0], *MATRIX[1:]],
    "two rows": MATRIX[:2], "ragged": [[100.0, 0], *MATRIX[1:]], "last row": [*MATRIX[:2], [0, 0, 0]], "empty": [], "null": None,
    "a text": "K", "missing": GONE, "centre 9 km away": [[100.0, 0, 9e6], *MATRIX[1:]],
}  # fmt: skip
TIMES = {**NUMBERS, "negative": -1, "zero": 0, "missing": GONE}
PIXELS = {**NUMBERS, "zero": 0, "negative": -90, "a fraction": 90.5, "missing": GONE}
FLAGS: dict[str, Any] = {"null": None, "a text": "false", "a number": 2, "missing": GONE, "false": False}
FAR = {"9 km away": [9100.0, 9100.0, 0.0]}
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "category": {"name": TEXTS},
    "instance": {"category_token": TOKENS, "first_annotation_token": LINKS, "nbr_annotations": {"a text": "x"}},
    "sensor": {
        "channel": {**TEXTS, "a path": "../up"},
        "modality": {**TEXTS, "unknown": "sonar", "radar": "radar"},
    },
    "calibrated_sensor": {
        "sensor_token": TOKENS,
        "translation": vectors([1.5, 0.0, 1.5]) | FAR,
        "rotation": vectors([1.0, 0.0, 0.0, 0.0]) | QUATERNIONS,
        "camera_intrinsic": MATRICES,
    },
    "ego_pose": {
        "translation": vectors([100.0, 100.0, 0.0]) | FAR,
        "rotation": vectors([1.0, 0.0, 0.0, 0.0]) | QUATERNIONS,
        "timestamp": {"NaN": NAN, "a text": "x"},
    },
    "log": {"location": {**TEXTS, "unknown": "atlantis", "a path": "../expansion/x", "a NUL": "\0"}},
    "scene": {
        "name": TEXTS,
        "description": {"null": None, "a number": 5},
        "log_token": TOKENS,
        "first_sample_token": TOKENS | {"empty": ""},
        "last_sample_token": LINKS,
        "nbr_samples": {"NaN": NAN, "another": 40},
    },
    "sample": {
        "timestamp": TIMES,
        "next": LINKS | {"empty": "", "null": None, "missing": GONE},
        "prev": LINKS,
        "scene_token": LINKS,
    },
    "sample_data": {
        "sample_token": TOKENS,
        "ego_pose_token": TOKENS,
        "calibrated_sensor_token": TOKENS,
        "filename": {**TEXTS, "a NUL": "samples/\0.jpg", "endless": "x" * 5000},
        "width": PIXELS,
        "height": PIXELS,
        "timestamp": TIMES,
        "is_key_frame": FLAGS,
        "next": LINKS,
        "prev": LINKS,
    },
    "sample_annotation": {
        "sample_token": TOKENS,
        "instance_token": TOKENS,
        "translation": vectors([130.0, 100.0, 0.8]) | FAR,
        "size": vectors([2.0, 4.5, 1.6]) | SIZES,
        "rotation": vectors([1.0, 0.0, 0.0, 0.0]) | QUATERNIONS,
        "prev": LINKS,
        "next": LINKS,
    },
    "map": {
        "filename": {"null": None, "missing": GONE, "dangling": "maps/ghost.png"},
        "log_tokens": {"null": None, "missing": GONE, "empty": []},
    },
}
MAP_FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "node": {"token": TEXTS, "x": NUMBERS | {"9 km away": 9100.0}, "y": NUMBERS},
    "polygon": {
        "exterior_node_tokens": {"null": None, "dangling": ["a", "b", "c"], "missing": GONE, "a dict": {}, "numbers": [1, 2, 3]},
        "holes": {"null": None, "of nulls": [None], "dangling": [{"node_tokens": ["a", "b", "c"]}], "missing": GONE},
    },
    "line": {"node_tokens": {"null": None, "dangling": ["a", "b"], "missing": GONE, "a text": "ab"}},
    "drivable_area": {"polygon_tokens": {"null": None, "dangling": ["ghost"], "missing": GONE, "a text": "p0"}},
    "road_segment": {"polygon_token": TOKENS, "is_intersection": {"null": None, "a text": "no", "missing": GONE}},
    "lane": {
        "token": TEXTS,
        "polygon_token": TOKENS,
        "speed_limit": {"NaN": NAN, "negative": -5, "zero": 0, "a text": "50", "infinite": INF},
    },
    "lane_connector": {"polygon_token": TOKENS},
    "ped_crossing": {"polygon_token": TOKENS},
    "stop_line": {"polygon_token": TOKENS},
    "lane_divider": {"line_token": TOKENS},
}  # fmt: skip
ARC_FIELDS: dict[str, dict[str, Any]] = {
    "start_pose": vectors([20.0, 100.0, 0.0]) | {"9 km away": [9100.0, 9100.0, 0.0]},
    "shape": {"null": None, "unknown": "XYZ", "short": "L", "a number": 5, "missing": GONE},
    "radius": {**NUMBERS, "zero": 0, "negative": -12.0, "missing": GONE},
    "segment_length": vectors([0.0, 120.0, 0.0]) | {"negative": [0.0, -120.0, 0.0], "9000 km": [0.0, 9e6, 0.0]},
}
HARMLESS = {
    **dict.fromkeys(("visibility row removed", "visibility.json no rows", "attribute.json no rows", "attribute row removed"),
                    "nothing reads these tables, and what points into them is not looked at"),
    **dict.fromkeys((f"map traffic_light {label}" for label in ("missing", "null", "a number", "a dict", "of nulls")),
                    "nothing reads this layer"),
    **dict.fromkeys(("map canvas_edge missing", "map canvas_edge null"), "it only bounds the coordinates of the nodes"),
    "map connections dangling": "a lane may lead out of the map; only connections to lanes that are there are kept",
}  # fmt: skip
"""Mutations that may be played and need not be listed, by name, and why."""

Edit = Callable[[Any], Any]


@dataclass(frozen=True)
class Mutation:
    """file: below the data set's folder; edit: changes its JSON content in place or returns other content (bytes are written as
    they are, None removes the file); said: parts of the error; spares: whether the other scenes stay playable."""

    name: str
    file: str
    edit: Edit
    said: tuple[str, ...] = ()
    spares: bool = True
    scene: str = field(default="")


class Folder:
    """A data set whose files can be changed one at a time and put back. scene: the scene that mutations concern."""

    def __init__(self, root: Path, place: Path) -> None:
        place.mkdir(parents=True)
        self.root = place
        for path in root.iterdir():
            if path.name.startswith("v1.0"):
                self.version = path.name
            if path.name.startswith("v1.0") or path.name == "maps":
                shutil.copytree(path, place / path.name)
            elif path.is_file():
                shutil.copy(path, place / path.name)
            else:
                (place / path.name).symlink_to(path)
        self.tables = {path.stem: json.loads(path.read_bytes()) for path in (place / self.version).glob("*.json")}
        self.scene, self.other = self.tables["scene"][0]["name"], self.tables["scene"][1]["name"]
        self.location = self.tables["log"][0]["location"]
        self.map = f"maps/expansion/{self.location}.json"
        self.layers = json.loads((place / self.map).read_bytes())

    @contextlib.contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[Path]:
        path = self.root / mutation.file
        before = path.read_bytes() if path.is_file() else None
        content = json.loads(before) if before is not None and path.suffix == ".json" else None
        after = mutation.edit(content)
        after = content if after is None and content is not None else after
        path.unlink(missing_ok=True)
        if after is not GONE:
            path.write_bytes(after if isinstance(after, bytes) else json.dumps(after).encode())
        os.utime(self.root / self.version / "visibility.json") if mutation.file.startswith("maps") else None  # read anew
        try:
            yield self.root
        finally:
            path.unlink(missing_ok=True)
            if before is not None:
                path.write_bytes(before)


def put(row: dict[str, Any], name: str, value: Any) -> None:
    if value is GONE:
        row.pop(name, None)
    else:
        row[name] = value


def _at(index: int, name: str, value: Any, table: str | None = None) -> Edit:
    def edit(content: Any) -> None:
        put((content[table] if table else content)[index], name, copy.deepcopy(value))

    return edit


def _rows_of(data: Folder) -> dict[str, int]:
    """For each table the row of the first scene that its mutations change: a front camera's second keyframe, a moving car's."""
    tables, scene = data.tables, data.tables["scene"][0]
    index = {name: {row["token"]: i for i, row in enumerate(rows)} for name, rows in tables.items()}
    sample = index["sample"][tables["sample"][index["sample"][scene["first_sample_token"]]]["next"]]
    token = tables["sample"][sample]["token"]
    camera = next(
        i for i, row in enumerate(tables["sample_data"])
        if row["sample_token"] == token and row["is_key_frame"] and "CAM_FRONT/" in row["filename"]
    )  # fmt: skip
    annotation = next(
        i for i, row in enumerate(tables["sample_annotation"]) if row["sample_token"] == token and row["prev"] and row["next"]
    )
    record, box = tables["sample_data"][camera], tables["sample_annotation"][annotation]
    calibration = index["calibrated_sensor"][record["calibrated_sensor_token"]]
    instance = index["instance"][box["instance_token"]]
    log = index["log"][scene["log_token"]]
    return {
        "scene": 0, "sample": sample, "sample_data": camera, "sample_annotation": annotation, "instance": instance,
        "calibrated_sensor": calibration, "sensor": index["sensor"][tables["calibrated_sensor"][calibration]["sensor_token"]],
        "ego_pose": index["ego_pose"][record["ego_pose_token"]], "log": log,
        "category": index["category"][tables["instance"][instance]["category_token"]],
        "map": next(i for i, row in enumerate(tables["map"]) if tables["log"][log]["token"] in row["log_tokens"]),
        "attribute": 0, "visibility": 0,
    }  # fmt: skip


SHARED = ("category", "sensor", "calibrated_sensor", "log", "map", "attribute", "visibility")
"""Tables whose rows may concern every scene."""


def mutations(data: Folder) -> list[Mutation]:
    """All single faults of a data set."""
    found = [*_of_fields(data), *_of_rows(data), *_of_tables(data), *_of_meaning(data), *_of_maps(data)]
    assert len({each.name for each in found}) == len(found)
    return found


def _of_fields(data: Folder) -> Iterator[Mutation]:
    rows = _rows_of(data)
    for table, fields in FIELDS.items():
        for name, values in fields.items():
            for label, value in values.items():
                file = f"{data.version}/{table}.json"
                said = ("maps/expansion", "scene.json") if name in ("location", "last_sample_token") else ()
                yield Mutation(f"{table}.{name} {label}", file, _at(rows[table], name, value), said, table not in SHARED)


def _of_rows(data: Folder) -> Iterator[Mutation]:
    rows = _rows_of(data)
    for table, row in rows.items():
        if not data.tables[table]:
            continue
        file, spares = f"{data.version}/{table}.json", table not in SHARED

        def place(value: Any, row: int = row) -> Edit:
            return lambda content: content.__setitem__(row, value)

        for label, value in (("null", None), ("a list", []), ("a number", 5), ("an empty dict", {})):
            yield Mutation(f"{table} row {label}", file, place(value), (), spares)
        yield Mutation(f"{table} null appended", file, lambda content: content.append(None), (), True)
        yield Mutation(f"{table} row twice", file, lambda content, row=row: content.append(dict(content[row])), (), spares)
        yield Mutation(
            f"{table} row removed",
            file,
            lambda content, row=row: content.pop(row) and None,
            ("neither a split nor a scene",) if table == "scene" else (),
            spares,
        )
        yield Mutation(f"{table} token a list", file, _at(row, "token", []), (), spares)
        yield Mutation(f"{table} token null", file, _at(row, "token", None), (), spares)


def _whole(content: Any) -> Edit:
    return lambda _: content


BROKEN_FILES: dict[str, Edit] = {
    "null": _whole(b"null"), "a number": _whole(b"5"), "a dict": lambda rows: {str(i): row for i, row in enumerate(rows)},
    "a text": _whole(b'"x"'), "no JSON": _whole(b"{"), "empty": _whole(b""), "not UTF-8": _whole(b'[{"token": "\xff\xfe"}]'),
    "nested": _whole(b"[" * 100_000), "missing": _whole(GONE),
}  # fmt: skip


def _of_tables(data: Folder) -> Iterator[Mutation]:
    for table in data.tables:
        for label, edit in BROKEN_FILES.items():
            yield Mutation(f"{table}.json {label}", f"{data.version}/{table}.json", edit, (f"{table}.json",), False)
        yield Mutation(f"{table}.json no rows", f"{data.version}/{table}.json", _whole([]), (), False)
    for label, content in (
        ("a list", b"[1]"),
        ("null names", b'{"val": [null]}'),
        ("not UTF-8", b'{"\xff": []}'),
        ("nested", b"[" * 100_000),
    ):
        yield Mutation(f"splits.json {label}", "splits.json", _whole(content), ("splits.json",), False)
    for task in ("lidarseg", "panoptic"):
        yield Mutation(f"{task}.json without its folder", f"{data.version}/{task}.json", _whole([]))


def _of_meaning(data: Folder) -> Iterator[Mutation]:
    """Values that are wrong only beside others."""
    rows, tables, version = _rows_of(data), data.tables, data.version
    sample, record = rows["sample"], rows["sample_data"]
    stamp, camera = tables["sample"][sample]["timestamp"], tables["sample_data"][record]["timestamp"]
    for label, value in (
        ("of the next", stamp + 500_000),
        ("backwards", stamp - 3_000_000),
        ("an hour late", stamp + 3_600_000_000),
    ):
        yield Mutation(f"sample.timestamp {label}", f"{version}/sample.json", _at(sample, "timestamp", value))
    for label, shift in (("an hour late", 3_600_000_000), ("5 s early", -5_000_000)):
        yield Mutation(f"sample_data.timestamp {label}", f"{version}/sample_data.json", _at(record, "timestamp", camera + shift))

    def same_times(content: list[dict[str, Any]]) -> None:
        for row in content:
            row["timestamp"] = stamp

    yield Mutation("sample times all equal", f"{version}/sample.json", same_times, (), False)
    yield Mutation("sample_data times all equal", f"{version}/sample_data.json", same_times, (), False)
    lidar = [i for i, row in enumerate(tables["sample_data"]) if row["fileformat"] == "pcd"][1:3]
    if len(lidar) == 2:
        other = tables["sample_data"][lidar[1]]
        yield Mutation("LiDAR times equal", f"{version}/sample_data.json", _at(lidar[0], "timestamp", other["timestamp"]))
        pose = next(i for i, row in enumerate(tables["ego_pose"]) if row["token"] == other["ego_pose_token"])
        where = [9100.0, 9100.0, 0.0]
        yield Mutation("LiDAR ego pose 9 km away", f"{version}/ego_pose.json", _at(pose, "translation", where))
        yield Mutation("LiDAR ego pose NaN", f"{version}/ego_pose.json", _at(pose, "translation", [NAN, 0.0, 0.0]))
    name = tables["scene"][1]["name"]
    yield Mutation(
        "scene.name of the other", f"{version}/scene.json", _at(0, "name", name), ("neither a split nor a scene",), False
    )
    box = rows["sample_annotation"]
    twin = {**tables["sample_annotation"][box], "token": "twin"}
    yield Mutation("an object twice in a sample", f"{version}/sample_annotation.json", lambda content: content.append(twin))
    double = {**tables["sample_data"][record], "token": "twin"}
    yield Mutation("a camera twice in a sample", f"{version}/sample_data.json", lambda content: content.append(double))
    yield Mutation(
        "sample.next runs in a circle", f"{version}/sample.json", _at(sample, "next", tables["sample"][sample]["token"])
    )
    mask = tables["map"][rows["map"]]["filename"]
    yield Mutation("map mask missing", mask, _whole(GONE), (Path(mask).name,), False)


def _of_maps(data: Folder) -> Iterator[Mutation]:
    for layer, fields in MAP_FIELDS.items():
        if not data.layers[layer]:
            continue
        for name, values in fields.items():
            for label, value in values.items():
                yield Mutation(f"map {layer}.{name} {label}", data.map, _at(0, name, value, layer), (data.location,), False)
    lane = next(iter(data.layers["arcline_path_3"]))
    for name, values in ARC_FIELDS.items():
        for label, value in values.items():

            def arc(content: Any, name: str = name, value: Any = value) -> None:
                put(content["arcline_path_3"][lane][0], name, copy.deepcopy(value))

            yield Mutation(f"map arcline.{name} {label}", data.map, arc, (data.location,), False)

    def change(table: str, key: str | None, value: Any) -> Edit:
        def edit(content: Any) -> None:
            put(content[table] if key else content, key or table, copy.deepcopy(value))

        return edit

    for layer in data.layers:
        for label, value in (("missing", GONE), ("null", None), ("a number", 5)):
            yield Mutation(f"map {layer} {label}", data.map, change(layer, None, value), (data.location,), False)
        if isinstance(data.layers[layer], list) and layer != "canvas_edge":
            for label, value in (("a dict", {"a": 1}), ("of nulls", [None])):
                yield Mutation(f"map {layer} {label}", data.map, change(layer, None, value), (data.location,), False)
    for label, value in (("null", None), ("a dict", {}), ("of nulls", [None]), ("a number", 5)):
        yield Mutation(f"map arcline record {label}", data.map, change("arcline_path_3", lane, value), (data.location,), False)
    for label, value in (
        ("null", None),
        ("a list", []),
        ("numbers", {"incoming": 5, "outgoing": [5]}),
        ("dangling", {"incoming": ["ghost"], "outgoing": ["ghost"]}),
    ):
        yield Mutation(f"map connections {label}", data.map, change("connectivity", lane, value), (data.location,), False)
    for label, edit in BROKEN_FILES.items():
        yield Mutation(f"map file {label}", data.map, _whole([]) if label == "a dict" else edit, (data.location,), False)


def outcome(data: Folder, mutation: Mutation) -> tuple[str, str]:
    """What a mutated data set is taken for, and the words: "refused", "listed" (playable, but ``validate`` says it), "silent",
    "raw" for a traceback, "unclear" for an error that does not name the file, is too long, or takes the other scene with it."""
    with data.mutated(mutation) as root:
        try:
            said, alive = _played(root, data)
            status, listed = _validated(root)
        except Exception as error:
            return "raw", f"{type(error).__name__}: {error}"
    if said is None:
        words = next((line for line in listed.splitlines() if Path(mutation.file).name in line), "")
        return ("listed", words) if status and words else ("silent", listed)
    names = (Path(mutation.file).name, *mutation.said)
    if len(said) > 300 or not any(name in said for name in names) or "\n" in said:
        return "unclear", f"{len(said)} characters: {said}"
    if mutation.spares and not alive:
        return "unclear", f"no scene is playable: {said}"
    return ("refused", said) if status else ("unclear", f"not listed by validate: {said}")


def _played(root: Path, data: Folder) -> tuple[str | None, bool]:
    """The error at the scene that is concerned, None if it plays, and whether the other scene plays."""
    try:
        dataset = open_dataset(root)
        dataset.scene_names("all"), dataset.splits()
    except DataError as error:
        return str(error), False
    said, alive = None, False
    for name in (data.scene, data.other):
        try:
            sane(dataset.load(name))
            alive |= name == data.other
        except DataError as error:
            said = said or str(error)
    return said, alive


def _validated(root: Path) -> tuple[int, str]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = int(not validate.examine(validate.Options(dataroot=root)).sound)
        except DataError as error:
            return 2, str(error)
    return status, text.getvalue()


def sane(scene: Scene) -> None:
    """Reads what a scene has to give; AssertionError for values that cannot be."""
    ego, tracks, sensors = scene.ego, scene.tracks, scene.sensors
    arrays = (ego.global_from_ego, ego.speed, ego.acceleration, ego.yaw_rate, tracks.position, tracks.yaw, tracks.velocity)
    assert all(np.isfinite(array).all() for array in arrays), "silent: a log or track is not finite"
    assert np.isfinite(scene.rig.intrinsics).all() and np.isfinite(scene.rig.ego_from_camera).all(), "silent: a rig"
    assert (tracks.size > 0).all() and np.isfinite(tracks.size).all(), "silent: a size"
    assert (np.diff(sensors.keyframe_time) > 0).all(), "silent: times"
    assert np.abs(ego.speed).max() < 150, "silent: a jump of the ego"
    assert np.isfinite(scene.route.points).all(), "silent: the route"
    if scene.map is not None:
        scene.map.bev(ego.global_from_ego[0])
        scene.map.nearest_lane_point(*ego.global_from_ego[0, :2, 3])
    scene.boxes(scene.duration / 2)
    for keyframe in range(len(sensors.keyframe_time)):
        sensors.has_images(keyframe), sensors.has_depth(keyframe), sensors.has_lidar(keyframe)
    if sensors.has_images(0):
        assert sensors.rgb(0, 64, 112).dtype == np.uint8
