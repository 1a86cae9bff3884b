"""The nuScenes tables of town scenes: rows of one scene, and the rows that all scenes share."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.transforms import invert
from dist4d_env.town.model import SceneOutline, TownScene

VERSION_FOLDER = "v1.0-town"
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
CATEGORIES = (
    "vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "vehicle.motorcycle", "vehicle.bicycle", "human.pedestrian.adult",
    "movable_object.barrier", "movable_object.trafficcone",
)  # fmt: skip
ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "pedestrian.moving", "pedestrian.standing",
)  # fmt: skip
LIDAR = "LIDAR_TOP"
_EPOCH = 1_700_000_000_000_000  # microseconds
_SPLIT_EPOCH = {"train": 0, "val": 10**12, "test": 2 * 10**12}

Rows = dict[str, list[dict[str, Any]]]


def token(*parts: object) -> str:
    """A nuScenes token that depends on nothing but its parts."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def stamp(scene: TownScene, time: float) -> int:
    """Microseconds of a scene's time; scenes lie a minute apart, long ones two, so that no two of a split share a stamp."""
    apart = 60_000_000 if scene.time[-1] < 50 else 120_000_000
    return _EPOCH + _SPLIT_EPOCH[scene.split] + scene.index * apart + round(time * 1e6)


def quaternion(rotation: np.ndarray) -> list[float]:
    """A rotation matrix (3, 3) as w, x, y, z."""
    from scipy.spatial.transform import Rotation

    if rotation[2, 2] == 1.0:  # a turn about z, as nearly all here are
        half = np.arctan2(rotation[1, 0], rotation[0, 0]) / 2
        return [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))]
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    sign = -1.0 if w < 0 else 1.0
    return [float(sign * v) for v in (w, x, y, z)]


def log_name(scene: SceneOutline) -> str:
    return f"{scene.name}-seed{scene.seed}"


def shared_rows(rig: CameraRig, ego_from_lidar: np.ndarray) -> Rows:
    """Sensors, calibration, categories, attributes and visibility levels; ``rig`` at the stored image size."""
    rows: Rows = {name: [] for name in TABLES}
    mounts = [(name, "camera", rig.ego_from_camera[i], rig.intrinsics[i].tolist()) for i, name in enumerate(rig.names)]
    for channel, modality, pose, intrinsic in [*mounts, (LIDAR, "lidar", ego_from_lidar, [])]:
        rows["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
        rows["calibrated_sensor"].append(
            {
                "token": token("calibrated_sensor", channel), "sensor_token": token("sensor", channel),
                "translation": pose[:3, 3].tolist(), "rotation": quaternion(pose[:3, :3]), "camera_intrinsic": intrinsic,
            }
        )  # fmt: skip
    rows["category"] = [
        {"token": token("category", name), "name": name, "description": "", "index": i} for i, name in enumerate(CATEGORIES)
    ]
    rows["attribute"] = [{"token": token("attribute", n), "name": n, "description": ""} for n in ATTRIBUTES]
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    rows["visibility"] = [{"token": str(i + 1), "level": level, "description": ""} for i, level in enumerate(levels)]
    return rows


def log_and_map_rows(scenes: list[SceneOutline]) -> Rows:
    """One log per scene and one map per location; mask files are named for their location."""
    rows: Rows = {"log": [], "map": []}
    for scene in scenes:
        rows["log"].append(
            {
                "token": token("log", scene.token), "logfile": log_name(scene), "vehicle": "town",
                "date_captured": "2024-01-01", "location": scene.layout.name,
            }
        )  # fmt: skip
    for location in sorted({scene.layout.name for scene in scenes}):
        logs = [token("log", scene.token) for scene in scenes if scene.layout.name == location]
        rows["map"].append(
            {
                "token": token("map", location), "category": "semantic_prior", "filename": f"maps/{location}.png",
                "log_tokens": logs,
            }
        )  # fmt: skip
    return rows


class SceneRows:
    """Collects the rows of one scene while its files are written."""

    def __init__(self, scene: TownScene, keyframes: np.ndarray, rig: CameraRig) -> None:
        self.scene, self.keyframes, self.rig = scene, keyframes, rig
        self.rows: Rows = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation")}
        self._last_data: dict[str, dict[str, Any]] = {}
        self._annotations: dict[int, list[dict[str, Any]]] = {}
        tokens = [self.sample(k) for k in range(len(keyframes))]
        description = f"town, {scene.light}, {len(scene.actors)} actors"
        self.rows["scene"].append(
            {
                "token": scene.token, "log_token": token("log", scene.token), "nbr_samples": len(tokens),
                "first_sample_token": tokens[0], "last_sample_token": tokens[-1], "name": scene.name, "description": description,
            }
        )  # fmt: skip
        for k, time in enumerate(keyframes):
            self.rows["sample"].append(
                {
                    "token": tokens[k], "timestamp": stamp(scene, time), "scene_token": scene.token,
                    "prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < len(tokens) else "",
                }
            )  # fmt: skip

    def sample(self, keyframe: int) -> str:
        return token("sample", self.scene.token, keyframe)

    def add_file(self, channel: str, time: float, near: float, is_keyframe: bool, pose: np.ndarray) -> str:
        """One sensor file at its own time and ego pose; ``near``: the LiDAR stamp it belongs to. Returns its path."""
        scene, at = self.scene, stamp(self.scene, time)
        kind = "samples" if is_keyframe else "sweeps"
        lidar = channel == LIDAR
        filename = f"{kind}/{channel}/{log_name(scene)}__{channel}__{at}{'.pcd.bin' if lidar else '.jpg'}"
        name = token("sample_data", scene.token, channel, at)
        record = {
            "token": name, "sample_token": self.sample(int(np.abs(self.keyframes - near).argmin())),
            "ego_pose_token": token("ego_pose", scene.token, channel, at), "timestamp": at, "filename": filename,
            "calibrated_sensor_token": token("calibrated_sensor", channel), "fileformat": "pcd" if lidar else "jpg",
            "height": 0 if lidar else self.rig.height, "width": 0 if lidar else self.rig.width,
            "is_key_frame": is_keyframe, "prev": "", "next": "",
        }  # fmt: skip
        previous = self._last_data.get(channel)
        if previous is not None:
            previous["next"], record["prev"] = name, previous["token"]
        self._last_data[channel] = record
        self.rows["sample_data"].append(record)
        self.rows["ego_pose"].append(
            {
                "token": record["ego_pose_token"], "timestamp": at,
                "rotation": quaternion(pose[:3, :3]), "translation": pose[:3, 3].tolist(),
            }
        )  # fmt: skip
        return filename

    def annotate(self, keyframe: int, boxes: Boxes, lidar_points: np.ndarray, visible: np.ndarray) -> None:
        """Annotations of a keyframe. lidar_points: (N,) counts; visible: (N,) share that the cameras see, 0 to 1."""
        for i, actor in enumerate(boxes.token):
            pose = boxes.poses[i]
            record = {
                "token": token("annotation", self.scene.token, actor, keyframe), "sample_token": self.sample(keyframe),
                "instance_token": self.scene.actors[actor].instance,
                "visibility_token": str(1 + int(np.searchsorted([0.4, 0.6, 0.8], visible[i], side="right"))),
                "attribute_tokens": _attributes(self.scene, int(actor), boxes.velocity[i]),
                "translation": pose[:3, 3].tolist(), "rotation": quaternion(pose[:3, :3]),
                "size": [float(boxes.size[i, 1]), float(boxes.size[i, 0]), float(boxes.size[i, 2])],  # width, length, height
                "num_lidar_pts": int(lidar_points[i]), "num_radar_pts": 0, "prev": "", "next": "",
            }  # fmt: skip
            row = self._annotations.setdefault(int(actor), [])
            if row:
                row[-1]["next"], record["prev"] = record["token"], row[-1]["token"]
            row.append(record)
            self.rows["sample_annotation"].append(record)

    def finished(self) -> Rows:
        """All rows; instances come from the annotations."""
        self.rows["instance"] = [
            {
                "token": self.scene.actors[actor].instance, "category_token": token("category", self.scene.actors[actor].name),
                "nbr_annotations": len(row), "first_annotation_token": row[0]["token"], "last_annotation_token": row[-1]["token"],
            }
            for actor, row in sorted(self._annotations.items())
        ]  # fmt: skip
        return self.rows


def _attributes(scene: TownScene, actor: int, velocity: np.ndarray) -> list[str]:
    who = scene.actors[actor]
    moving = bool(np.hypot(*velocity) > 0.2)
    if who.name in ("vehicle.motorcycle", "vehicle.bicycle"):
        return [token("attribute", "cycle.with_rider")]
    if who.name.startswith("human"):
        return [token("attribute", "pedestrian.moving" if moving else "pedestrian.standing")]
    if who.name.startswith("vehicle"):
        parked = bool((who.position == who.position[0]).all())
        return [token("attribute", "vehicle.parked" if parked else "vehicle.moving" if moving else "vehicle.stopped")]
    return []


def points_in_boxes(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """(N,) number of global points (P, 3) in each box."""
    if not len(boxes):
        return np.zeros(0, int)
    points = points[np.argsort(points[:, 0], kind="stable")]  # so that a box looks at a slice of them only
    reach = np.hypot(boxes.size[:, 0], boxes.size[:, 1])[:, None] / 2 * (-1, 1)
    slices = np.searchsorted(points[:, 0], boxes.position[:, :1] + reach)
    counts = np.zeros(len(boxes), int)
    for i, (inverse, (first, last)) in enumerate(zip(invert(boxes.poses), slices, strict=True)):
        counts[i] = (np.abs(points[first:last] @ inverse[:3, :3].T + inverse[:3, 3]) <= boxes.size[i] / 2).all(1).sum()
    return counts


def visible_share(boxes: Boxes, depth: np.ndarray, rig: CameraRig, global_from_camera: np.ndarray) -> np.ndarray:
    """(N,) the share of 27 points spread through each box that the cameras see, according to depth images (V, H, W).

    A point counts as seen where the image is not nearer than the box's own front, half a diagonal before the point.
    """
    if not len(boxes):
        return np.zeros(0)
    grid = np.stack(np.meshgrid(*[[-0.4, 0.0, 0.4]] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = np.einsum("nij,nkj->nki", boxes.poses[:, :3, :3], grid * boxes.size[:, None]) + boxes.position[:, None]
    slack = np.linalg.norm(boxes.size, axis=1)[:, None] / 2
    seen = np.zeros(points.shape[:2], bool)
    for view in range(len(depth)):
        camera = points @ invert(global_from_camera[view])[:3, :3].T + invert(global_from_camera[view])[:3, 3]
        z = camera[..., 2]
        pixel = (camera @ rig.intrinsics[view].T)[..., :2] / np.maximum(z, 1e-6)[..., None]
        inside = (z > 0.1) & (pixel >= 0).all(-1) & (pixel < (rig.width, rig.height)).all(-1)
        column, row = (np.where(inside, pixel[..., k], 0).astype(int) for k in (0, 1))
        seen |= inside & (depth[view, row, column] > z - slack)
    return seen.mean(1)
