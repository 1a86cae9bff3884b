"""A tiny nuScenes-format data set, written by hand: one straight drive past a fork, in the devkit's own tables.

The ego drives along y = 100 at 8 m/s from x = 100, turning by nothing. Four keyframes 0.5 s apart, six 90 x 160 cameras whose
exposures are 5 ms apart from each other and have ego poses of their own, LIDAR_TOP with a sweep between keyframes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from dist4d_env.data.nuscenes import RING

SPEED = 8.0
START = 1_500_000_000_000_000
KEYFRAMES = 4
ROWS, COLUMNS = 90, 160
FOCAL = 100.0
YAWS = dict(zip(RING, (55, 0, -55, -110, 180, 110), strict=True))
LOCATION = "singapore-onenorth"
SCENES = ("scene-0103", "town-extra")  # one with an official name (val), one without


def write(root: Path) -> Path:
    """Writes the data set and returns its folder."""
    names = ("instance", "ego_pose", "scene", "sample", "sample_data", "sample_annotation")
    tables: dict[str, list[dict]] = {name: [] for name in names}
    tables["attribute"] = []
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    tables["category"] = [
        {"token": f"category-{i}", "name": name, "description": ""}
        for i, name in enumerate(("vehicle.car", "human.pedestrian.adult", "movable_object.debris"))
    ]
    tables["log"] = [{"token": "log", "logfile": "tiny", "vehicle": "n000", "date_captured": "2024-01-01", "location": LOCATION}]
    tables["map"] = [{"token": "mask", "category": "semantic_prior", "filename": "maps/mask.png", "log_tokens": ["log"]}]
    tables["sensor"], tables["calibrated_sensor"] = _sensors()
    for name in SCENES:
        _add_scene(root, tables, name)
    folder = root / "v1.0-tiny"
    folder.mkdir(parents=True)
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    (root / "maps" / "expansion").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "maps" / "mask.png")
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(_map()))
    return root


def ego_x(seconds: float) -> float:
    return 100.0 + SPEED * seconds


def _sensors() -> tuple[list[dict], list[dict]]:
    sensors, calibrations = [], []
    optical = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes in a frame that looks along x
    for channel in (*RING, "LIDAR_TOP"):
        camera = channel != "LIDAR_TOP"
        turn = Rotation.from_euler("z", YAWS[channel] if camera else -90, degrees=True).as_matrix()
        q = Rotation.from_matrix(turn @ optical if camera else turn).as_quat()[[3, 0, 1, 2]]
        sensors.append({"token": f"s-{channel}", "channel": channel, "modality": "camera" if camera else "lidar"})
        calibrations.append(
            {
                "token": f"c-{channel}",
                "sensor_token": f"s-{channel}",
                "translation": [1.5, 0.0, 1.5] if camera else [1.0, 0.0, 1.8],
                "rotation": q.tolist(),
                "camera_intrinsic": [[FOCAL, 0, COLUMNS / 2], [0, FOCAL, ROWS / 2], [0, 0, 1]] if camera else [],
            }
        )
    return sensors, calibrations


def _add_scene(root: Path, tables: dict[str, list[dict]], name: str) -> None:
    samples = [f"{name}-sample-{k}" for k in range(KEYFRAMES)]
    tables["scene"].append(
        {
            "token": f"{name}-token",
            "log_token": "log",
            "nbr_samples": KEYFRAMES,
            "name": name,
            "description": "a straight drive",
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
        }
    )
    for k, token in enumerate(samples):
        tables["sample"].append(
            {"token": token, "timestamp": START + 500_000 * k, "scene_token": f"{name}-token", **_links(samples, k)}
        )
    for view, channel in enumerate((*RING, "LIDAR_TOP")):
        lidar = channel == "LIDAR_TOP"
        shift = 0 if lidar else -5_000 * (view + 1)
        steps = range(2 * KEYFRAMES - 1) if lidar else range(0, 2 * KEYFRAMES, 2)
        tokens = [f"{name}-{channel}-{step}" for step in steps]
        for i, step in enumerate(steps):
            stamp = START + 250_000 * step + shift
            key = step % 2 == 0
            file = f"{'samples' if key else 'sweeps'}/{channel}/{name}__{channel}__{stamp}.{'pcd.bin' if lidar else 'jpg'}"
            tables["ego_pose"].append(
                {
                    "token": f"pose-{tokens[i]}",
                    "timestamp": stamp,
                    "rotation": [1, 0, 0, 0],
                    "translation": [ego_x((stamp - START) * 1e-6), 100.0, 0.0],
                }
            )
            tables["sample_data"].append(
                {
                    "token": tokens[i],
                    "sample_token": samples[step // 2],
                    "ego_pose_token": f"pose-{tokens[i]}",
                    "calibrated_sensor_token": f"c-{channel}",
                    "filename": file,
                    "fileformat": "pcd" if lidar else "jpg",
                    "width": 0 if lidar else COLUMNS,
                    "height": 0 if lidar else ROWS,
                    "timestamp": stamp,
                    "is_key_frame": key,
                    **_links(tokens, i),
                }
            )
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            if lidar:
                lidar_points().tofile(root / file)
            else:
                Image.fromarray(picture(view, step)).save(root / file, quality=95)
    _annotate(tables, name, samples)


def lidar_points() -> np.ndarray:
    """Returns (N, 5) of a flat road around the LiDAR, after two that tests know."""
    turn, far = np.meshgrid(np.deg2rad(np.arange(0, 360, 2)), (6, 9, 14, 25))
    road = np.stack([far * np.sin(turn), far * np.cos(turn), np.full(turn.shape, -1.8), *np.full((2, *turn.shape), 1.0)], -1)
    return np.concatenate([[[0, 10, -1.8, 7, 0], [1, 2, 3, 4, 5]], road.reshape(-1, 5)]).astype(np.float32)


def picture(view: int, step: int) -> np.ndarray:
    """A smooth image that differs by camera and keyframe."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    return np.stack([columns * 255 // COLUMNS, rows * 255 // ROWS, np.full_like(rows, 20 * view + 5 * step)], -1).astype(np.uint8)


def _annotate(tables: dict[str, list[dict]], name: str, samples: list[str]) -> None:
    """A car ahead at 4 m/s seen at every keyframe, a pedestrian missing at the third, debris seen once, at the second."""
    objects = (
        ("car", 0, (0, 1, 2, 3), lambda k: (130.0 + 2.0 * k, 100.0, 0.8), lambda k: 0.1 * k, (2.0, 4.5, 1.6)),
        ("walker", 1, (0, 1, 3), lambda k: (110.0, 106.0 + 0.5 * k, 0.9), lambda k: np.pi - 0.1 + 0.15 * k, (0.6, 0.7, 1.8)),
        ("debris", 2, (1,), lambda k: (120.0, 97.0, 0.2), lambda k: 0.0, (0.5, 0.5, 0.4)),
    )
    for label, category, keyframes, where, heading, size in objects:
        tokens = [f"{name}-{label}-{k}" for k in keyframes]
        tables["instance"].append(
            {
                "token": f"{name}-{label}",
                "category_token": f"category-{category}",
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for i, k in enumerate(keyframes):
            half = heading(k) / 2
            tables["sample_annotation"].append(
                {
                    "token": tokens[i],
                    "sample_token": samples[k],
                    "instance_token": f"{name}-{label}",
                    "visibility_token": "4",
                    "attribute_tokens": [],
                    "translation": list(where(k)),
                    "size": list(size),
                    "num_lidar_pts": 3,
                    "num_radar_pts": 0,
                    "rotation": [float(np.cos(half)), 0, 0, float(np.sin(half))],
                    **_links(tokens, i),
                }
            )


def _links(tokens: list[str], i: int) -> dict[str, str]:
    return {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else ""}


def _map() -> dict:
    """A 7 m road along y = 98.25 to 105.25 in two lanes (ours at y = 100 eastwards), a fork at x = 200: straight on, or left.

    Straight on leads 40 m, then left leads 200 m. One crossing, a stop line, a divider; no walkway, no car park.
    """
    return _add_lanes(_add_areas(_MapTables()))


class _MapTables(dict[str, Any]):
    """The tables of a map, empty at first."""

    LAYERS = (
        "polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane", "lane_connector", "ped_crossing",
        "walkway", "stop_line", "carpark_area", "road_divider", "lane_divider", "traffic_light",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__({name: [] for name in self.LAYERS})
        self.update({"version": "1.3", "canvas_edge": [500.0, 500.0], "arcline_path_3": {}, "connectivity": {}})

    def nodes(self, points: list[tuple[float, float]]) -> list[str]:
        """Tokens of new nodes."""
        tokens = [f"n{len(self['node']) + i}" for i in range(len(points))]
        self["node"] += ({"token": token, "x": x, "y": y} for token, (x, y) in zip(tokens, points, strict=True))
        return tokens

    def polygon(self, points: list[tuple[float, float]], hole: list[tuple[float, float]] | None = None) -> str:
        """The token of a new polygon."""
        token = f"p{len(self['polygon'])}"
        holes = [{"node_tokens": self.nodes(hole)}] if hole else []
        self["polygon"].append({"token": token, "exterior_node_tokens": self.nodes(points), "holes": holes})
        return token

    def line(self, points: list[tuple[float, float]]) -> str:
        """The token of a new line."""
        token = f"l{len(self['line'])}"
        self["line"].append({"token": token, "node_tokens": self.nodes(points)})
        return token


def _box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _add_areas(table: _MapTables) -> _MapTables:
    road = table.polygon(_box(20, 98.25, 400, 105.25), hole=_box(250, 103, 260, 105))
    table["drivable_area"].append({"token": "drivable", "polygon_tokens": [road, table.polygon(_box(195, 98.25, 220, 300))]})
    for token, corners, crossing in (
        ("crossroads", _box(200, 98.25, 220, 110), True),
        ("street", _box(20, 98.25, 200, 105.25), False),
    ):
        table["road_segment"].append({"token": token, "polygon_token": table.polygon(corners), "is_intersection": crossing})
    table["ped_crossing"].append({"token": "zebra", "polygon_token": table.polygon(_box(140, 98.25, 144, 105.25))})
    table["stop_line"].append(
        {"token": "stop", "polygon_token": table.polygon(_box(137, 98.25, 138, 101.75)), "stop_line_type": "YIELD"}
        | {"ped_crossing_tokens": [], "traffic_light_tokens": []}
    )
    table["lane_divider"].append({"token": "dashes", "line_token": table.line([(20, 101.75), (200, 101.75)])})

    return table


def _add_lanes(table: _MapTables) -> _MapTables:
    radius = 12.0
    lanes = {
        "first": ((20, 100), 0.0, "LSL", (0, 120, 0), ["second"]),
        "second": ((140, 100), 0.0, "LSL", (0, 60, 0), ["on", "left"]),
        "on": ((200, 100), 0.0, "LSL", (0, 40, 0), []),
        "left": ((200, 100), 0.0, "LSL", (radius * np.pi / 2, 0, 0), ["north"]),
        "north": ((212, 112), np.pi / 2, "LSL", (0, 180, 0), []),
        "oncoming": ((300, 103.5), np.pi, "LSL", (0, 280, 0), []),
    }
    for token, ((x, y), yaw, shape, lengths, outgoing) in lanes.items():
        end = (x + lengths[1] * np.cos(yaw), y + lengths[1] * np.sin(yaw))
        wide = 1.75 * np.array([-np.sin(yaw), np.cos(yaw)])
        corners = [tuple(np.add(p, s * wide)) for p, s in (((x, y), 1), (end, 1), (end, -1), ((x, y), -1))]
        if token == "left":
            corners = _box(200, 98.25, 213.75, 112)
        record = {"token": token, "polygon_token": table.polygon(corners)}
        if token in ("on", "left"):
            table["lane_connector"].append(record)
        else:
            record |= {"lane_type": "CAR", "left_lane_divider_segments": [], "right_lane_divider_segments": []}
            table["lane"].append(record | ({"speed_limit": 13.9} if token == "first" else {}))
        incoming = [other for other, entry in lanes.items() if token in entry[4]]
        table["connectivity"][token] = {"incoming": incoming, "outgoing": outgoing}
        table["arcline_path_3"][token] = [
            {"start_pose": [x, y, yaw], "end_pose": [0, 0, 0], "shape": shape, "radius": radius, "segment_length": list(lengths)}
        ]
    return table
