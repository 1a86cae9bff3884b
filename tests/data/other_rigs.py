"""Copies of a data set in nuScenes format with other cameras: fewer, of other names, of other image sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

RIGS: dict[str, tuple[dict[str, str], dict[str, tuple[int, int]]]] = {
    "five": ({name: name for name in ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK_LEFT")}, {}),
    "one": ({"CAM_FRONT": "CAM_FRONT"}, {}),
    "renamed": ({"CAM_BACK": "rear", "CAM_FRONT": "front", "CAM_FRONT_LEFT": "left", "CAM_FRONT_RIGHT": "right"}, {}),
    "sizes": (
        {"CAM_FRONT_LEFT": "left", "CAM_FRONT": "front", "CAM_FRONT_RIGHT": "right"},
        {"left": (96, 128), "front": (80, 112), "right": (64, 160)},
    ),
}
"""By name: cameras of the town that are kept, with their new names, and the sizes that their images are brought to."""


def write(source: Path, target: Path, rig: str) -> Path:
    """Copies a data set with one of RIGS and returns its folder."""
    cameras, sizes = RIGS[rig]
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("samples", "depth", "v1.0-*"))
    version = next(source.glob("v1.0-*"))
    tables = {path.stem: json.loads(path.read_text()) for path in version.glob("*.json")}
    channels = {row["token"]: row["channel"] for row in tables["sensor"]}
    channel_of = {row["token"]: channels[row["sensor_token"]] for row in tables["calibrated_sensor"]}
    stored = {channel_of[row["calibrated_sensor_token"]]: (row["height"], row["width"]) for row in tables["sample_data"]}
    shutil.copytree(source / "samples" / "LIDAR_TOP", target / "samples" / "LIDAR_TOP")
    for old, new in cameras.items():
        shutil.copytree(source / "samples" / old, target / "samples" / new)
        shutil.copytree(source / "depth" / old, target / "depth" / new)
        for path in (target / "samples" / new).iterdir() if new in sizes else ():
            resized = cv2.resize(cv2.imread(str(path)), sizes[new][::-1], interpolation=cv2.INTER_LINEAR)
            cv2.imwrite(str(path), resized, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for path in (target / "depth" / new).iterdir() if new in sizes else ():
            code = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), cv2.resize(code, sizes[new][::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    for row in tables["calibrated_sensor"]:
        old = channel_of[row["token"]]
        height, width = sizes.get(cameras.get(old, ""), stored[old])
        if old == "LIDAR_TOP":
            continue
        for line, factor in zip(row["camera_intrinsic"], (width / stored[old][1], height / stored[old][0], 1.0), strict=False):
            line[:] = [value * factor for value in line]
    kept = [row for row in tables["sample_data"] if channel_of[row["calibrated_sensor_token"]] in ("LIDAR_TOP", *cameras)]
    tables["sample_data"] = [_renamed(row, channel_of[row["calibrated_sensor_token"]], cameras, sizes) for row in kept]
    for row in tables["sensor"]:
        row["channel"] = cameras.get(row["channel"], row["channel"])
    folder = target / version.name
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return target


def _renamed(row: dict[str, Any], old: str, cameras: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    new = cameras.get(old, old)
    height, width = sizes.get(new, (row["height"], row["width"]))
    return {**row, "filename": row["filename"].replace(f"/{old}/", f"/{new}/"), "height": height, "width": width}
