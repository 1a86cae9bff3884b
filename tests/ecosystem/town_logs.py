"""Scenes of any reader written as 123D logs through py123d's own writer: poses and boxes at 10 Hz, pictures at keyframes."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry.transforms import invert
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.interpolation import quaternions_of
from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.scenes.scene import Scene

START = 1_700_000_000_000_000
LANE_WIDTH = 3.5
STATUS = {GREEN: "GREEN", AMBER: "YELLOW", RED: "RED"}


def write_log(root: Path, scene: Scene, split: str = "town_val", name: str = "", **options: Any) -> Path:
    """One scene as a log with a map of its own; returns the log's folder. options: of ``LogWriterConfig``."""
    from py123d.api.scene.arrow.arrow_log_writer import ArrowLogWriter
    from py123d.api.scene.arrow.utils.log_writer_config import LogWriterConfig
    from py123d.datatypes.metadata import LogMetadata, MapMetadata

    name = name or scene.name
    metadata = None
    if scene.map is not None:
        metadata = MapMetadata("town", scene.location, map_has_z=False, map_is_per_log=True, split=split, log_name=name)
        _write_map(root, scene.map, metadata)
    stored = {"camera_store_option": "jpeg_binary", "lidar_store_option": "binary", "lidar_codec": "ipc_lz4"}
    writer = ArrowLogWriter(LogWriterConfig(force_log_conversion=True, **(stored | options)), root / "logs", root / "sensors")
    writer.reset(LogMetadata("town", split, name, scene.location, map_metadata=metadata))
    for sync in _frames(scene):
        writer.write_sync(sync)
    writer.close()
    return root / "logs" / split / name


def lane_ids(scene_map: SceneMap) -> dict[str, int]:
    """The number that each lane gets."""
    return {token: number for number, token in enumerate(scene_map.lanes)}


def pose_of(pose: np.ndarray) -> Any:
    from py123d.geometry import PoseSE3

    return PoseSE3(*pose[:3, 3], *quaternions_of(pose))


def stamp_of(seconds: float) -> Any:
    from py123d.datatypes.time import Timestamp

    return Timestamp.from_us(START + round(seconds * 1e6))


def label_of(name: str) -> Any:
    from py123d.parser.registry import NuScenesBoxDetectionLabel

    return NuScenesBoxDetectionLabel[name.replace(".", "_").upper()]


def ego_metadata() -> Any:
    """The simulator's car with its IMU where its own frame begins: on the ground below the rear axle."""
    from py123d.datatypes.vehicle_state.ego_state_metadata import EgoStateSE3Metadata

    car, pose = VehicleParameters(), np.eye(4)
    pose[:3, 3] = car.rear_axle_to_center, 0.0, car.height / 2
    return EgoStateSE3Metadata("zoe", car.width, car.length, car.height, car.wheelbase, pose_of(pose), pose_of(np.eye(4)))


def _frames(scene: Scene) -> Any:
    from py123d.api.scene.arrow.arrow_log_writer import ModalitiesSync
    from py123d.datatypes.vehicle_state.ego_state import EgoStateSE3

    ego, sensors = ego_metadata(), scene.sensors
    keyframes = {round(time, 1): k for k, time in enumerate(sensors.keyframe_time.tolist())}
    for row, time in enumerate(scene.ego.time.tolist()):
        stamp = stamp_of(time)
        found = [EgoStateSE3.from_imu(pose_of(scene.ego.global_from_ego[row]), ego, stamp), _boxes(scene, time, stamp)]
        if len(scene.lights):
            found.append(_lights(scene, row, stamp))
        if (keyframe := keyframes.get(round(time, 1))) is not None:
            found += [_camera(scene, keyframe, view) for view in range(len(scene.rig.names))]
            if sensors.has_lidar(keyframe):
                found.append(_lidar(scene, keyframe))
        yield ModalitiesSync(stamp, found)


def _boxes(scene: Scene, time: float, stamp: Any) -> Any:
    from py123d.datatypes.detections.box_detections import BoxDetectionAttributes, BoxDetectionSE3, BoxDetectionsSE3
    from py123d.datatypes.detections.box_detections_metadata import BoxDetectionsSE3Metadata
    from py123d.geometry import BoundingBoxSE3
    from py123d.parser.registry import NuScenesBoxDetectionLabel

    boxes = scene.boxes(time)
    found = [
        BoxDetectionSE3(
            BoxDetectionAttributes(label_of(scene.tracks.name[token]), scene.tracks.instance[token]),
            BoundingBoxSE3(pose_of(pose), *size),
        )
        for token, pose, size in zip(boxes.token.tolist(), boxes.poses, boxes.size.tolist(), strict=True)
    ]
    return BoxDetectionsSE3(found, stamp, BoxDetectionsSE3Metadata(NuScenesBoxDetectionLabel))


def _lights(scene: Scene, row: int, stamp: Any) -> Any:
    from py123d.datatypes.detections import traffic_light_detections as lights

    ids = lane_ids(scene.map)
    found = [
        lights.TrafficLightDetection(ids[lane], lights.TrafficLightStatus[STATUS.get(int(state), "UNKNOWN")])
        for tokens, state in zip(scene.lights.lanes, scene.lights.state[:, row], strict=True)
        for lane in tokens
        if lane in ids
    ]
    return lights.TrafficLightDetections(found, stamp, lights.TrafficLightDetectionsMetadata())


CAMERA_IDS = ("PCAM_L0", "PCAM_F0", "PCAM_R0", "PCAM_R1", "PCAM_B0", "PCAM_L1")


def camera_metadata(scene: Scene, view: int, **more: Any) -> Any:
    from py123d.datatypes.sensors.base_camera import CameraID
    from py123d.datatypes.sensors.pinhole_camera import PinholeCameraMetadata, PinholeIntrinsics

    height, width = scene.sensors.image_size[view]
    intrinsics = PinholeIntrinsics.from_camera_matrix(scene.sensors.intrinsics[0, view])
    known = {"distortion": None, "is_undistorted": True} | more
    camera = CameraID[CAMERA_IDS[view]]
    mount = pose_of(scene.rig.ego_from_camera[view])
    return PinholeCameraMetadata(
        scene.rig.names[view], camera, intrinsics, width=width, height=height, camera_to_imu_se3=mount, **known
    )


def _camera(scene: Scene, keyframe: int, view: int) -> Any:
    from py123d.api import ParsedCamera

    sensors = scene.sensors
    poses, times = sensors.cameras(keyframe)
    content = sensors.image_path(keyframe, view).read_bytes()
    return ParsedCamera(camera_metadata(scene, view), stamp_of(times[view]), pose_of(poses[view]), byte_string=content)


def _lidar(scene: Scene, keyframe: int) -> Any:
    from py123d.datatypes.sensors import Lidar, LidarID, LidarMetadata

    sweep, mount = scene.sensors.lidar(keyframe), scene.lidar.ego_from_lidar
    points = sweep.points[:, :3].astype(float) @ mount[:3, :3].T + mount[:3, 3]
    metadata, stamp = LidarMetadata("LIDAR_TOP", LidarID.LIDAR_TOP, pose_of(mount)), stamp_of(sweep.time)
    intensity = {"intensity": sweep.points[:, 3].astype(np.uint8)}
    return Lidar(stamp, stamp, metadata, points.astype(np.float32), intensity)


def _write_map(root: Path, scene_map: SceneMap, metadata: Any) -> None:
    from py123d.api.map.arrow.arrow_map_writer import ArrowMapWriter

    writer = ArrowMapWriter(True, root / "maps", root / "logs")
    writer.reset(metadata)
    for item in chain(_lanes(scene_map), _areas(scene_map), _lines(scene_map)):
        writer.write_map_object(item)
    writer.close()


def _lanes(scene_map: SceneMap) -> Any:
    from py123d.datatypes.map_objects.map_layer_types import LaneType
    from py123d.datatypes.map_objects.map_objects import Lane as Lane123D
    from py123d.datatypes.map_objects.map_objects import LaneGroup
    from py123d.geometry import Polyline2D

    ids = lane_ids(scene_map)
    for token, lane in scene_map.lanes.items():
        left, right = (Polyline2D.from_array(_beside(lane, side * LANE_WIDTH / 2)) for side in (1, -1))
        yield Lane123D(
            object_id=str(ids[token]),
            lane_type=LaneType.SURFACE_STREET,
            left_boundary=left,
            right_boundary=right,
            centerline=Polyline2D.from_array(np.ascontiguousarray(lane.centerline[:, :2])),
            lane_group_id=str(1000 + ids[token]) if lane.is_connector else None,
            predecessor_ids=[str(ids[other]) for other in lane.predecessors],
            successor_ids=[str(ids[other]) for other in lane.successors],
            speed_limit_mps=lane.speed_limit,
            shapely_polygon=lane.polygon,
        )
        if lane.is_connector:
            number = str(1000 + ids[token])
            yield LaneGroup(number, [str(ids[token])], left, right, intersection_id="0", shapely_polygon=lane.polygon)
    for number, block in enumerate(_parts(scene_map.layers["road_block"])):
        edge = Polyline2D.from_array(np.asarray(block.exterior.coords)[:2, :2])
        yield LaneGroup(str(5000 + number), [], edge, edge, shapely_polygon=block)


def _beside(lane: Lane, metres: float) -> np.ndarray:
    x, y, yaw = lane.centerline.T
    return np.stack([x - metres * np.sin(yaw), y + metres * np.cos(yaw)], -1)


def _areas(scene_map: SceneMap) -> Any:
    from py123d.datatypes.map_objects import map_objects as kinds
    from py123d.datatypes.map_objects.map_layer_types import IntersectionType, StopZoneType

    for layer, kind in {
        "drivable_area": kinds.GenericDrivable, "ped_crossing": kinds.Crosswalk, "walkway": kinds.Walkway,
        "carpark_area": kinds.Carpark,
    }.items():  # fmt: skip
        for number, area in enumerate(_parts(scene_map.layers[layer])):
            yield kind(str(number), shapely_polygon=area)
    for number, area in enumerate(_parts(scene_map.layers["stop_line"])):
        yield kinds.StopZone(str(number), stop_zone_type=StopZoneType.TRAFFIC_LIGHT, shapely_polygon=area)
    for number, area in enumerate(_parts([scene_map.intersections])):
        yield kinds.Intersection(str(number), IntersectionType.DEFAULT, [], shapely_polygon=area)


def _lines(scene_map: SceneMap) -> Any:
    from py123d.datatypes.map_objects.map_layer_types import RoadLineType
    from py123d.datatypes.map_objects.map_objects import RoadLine
    from py123d.geometry import Polyline2D

    kinds = {"road_divider": RoadLineType.SOLID_YELLOW, "lane_divider": RoadLineType.DASHED_WHITE}
    lines = [(kind, part) for layer, kind in kinds.items() for part in _parts(scene_map.layers[layer])]
    for number, (kind, line) in enumerate(lines):
        yield RoadLine(str(number), kind, Polyline2D.from_array(np.asarray(line.coords)[:, :2]))


def _parts(geometries: Any) -> list[Any]:
    """Polygons or lines, of collections their members: 123D stores no multipolygons."""
    return [part for part in shapely.get_parts(list(geometries)) if not part.is_empty]


def relative(pose: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Metres and radians between poses (..., 4, 4), the most of any."""
    turn = invert(pose) @ other
    angle = np.arccos(np.clip((np.trace(turn[..., :3, :3], axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    return float(np.linalg.norm(turn[..., :3, 3], axis=-1).max()), float(angle.max())
