"""The cameras of wild data sets and what they see of their own car: another rig and another car for every seed."""

from __future__ import annotations

import zlib

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.town.meshes import Mesh, blob, flat, join
from dist4d_env.town.sensors import MOUNTS, SOURCE_SIZE, camera_pose
from dist4d_env.town.textures_ground import VEHICLE
from dist4d_env.town.wild.natural import muted

SIDES = {"CAM_LEFT": (1.3, 0.52, 1.55, 90.0), "CAM_RIGHT": (1.3, -0.52, 1.55, -90.0)}
"""The seventh and eighth camera: x, y, z in the ego frame, yaw in degrees."""
CHANNELS = {
    1: ("CAM_FRONT",), 2: ("CAM_FRONT", "CAM_BACK"), 3: ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    4: ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK"), 5: tuple(name for name in MOUNTS if name != "CAM_BACK"),
    6: tuple(MOUNTS), 7: (*MOUNTS, "CAM_LEFT"), 8: (*MOUNTS, *SIDES),
}  # fmt: skip
"""Which cameras a rig of so many has."""


def wild_rig(seed: int, count: int, height: int, width: int) -> CameraRig:
    """``count`` cameras of the data set of a seed: fields of view of 50 to 105 degrees, 1.2 to 2 m high, turned and tilted.

    A camera is the same whatever the others are. Raises ConfigError for a number that no rig has.
    """
    if count not in CHANNELS:
        raise ConfigError(f"a rig of {count} cameras is not possible: choose 1 to {max(CHANNELS)}")
    names, rng = CHANNELS[count], np.random.default_rng([seed, 90])
    view, high, low = rng.uniform(58, 98), rng.uniform(1.25, 1.95), rng.normal(0.02, 0.025)
    intrinsics, poses = np.zeros((count, 3, 3)), np.zeros((count, 4, 4))
    mounts = {name: mount[:4] for name, mount in MOUNTS.items()} | SIDES
    for i, name in enumerate(names):
        own = np.random.default_rng([seed, 91, zlib.crc32(name.encode())])
        x, y, z, yaw = mounts[name] + own.normal(0, (0.08, 0.03, 0.02, 0.0))
        pose = camera_pose(x, y, z + high - 1.55, np.radians(yaw + own.normal(0, 5 if y else 0.7)))
        poses[i] = pose @ _tilted(low + own.normal(0, 0.015), own.normal(0, 0.006))
        focal = SOURCE_SIZE[1] / 2 / np.tan(np.radians(np.clip(view * np.exp(own.normal(0, 0.07)), 50, 105)) / 2)
        centre = np.array(SOURCE_SIZE[::-1]) / 2 + own.normal(0, 15, 2)
        intrinsics[i] = [[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]
    return CameraRig(names, intrinsics, poses, *SOURCE_SIZE).at_size(height, width)


def _tilted(down: float, roll: float) -> np.ndarray:
    """camera_from_camera (4, 4): looking ``down`` by an angle, then rolled, both in radians."""
    c, s, a, b = np.cos(down), np.sin(down), np.cos(roll), np.sin(roll)
    turn = np.eye(4)
    turn[:3, :3] = np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T @ np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]])
    return turn


def ego_body(seed: int, channel: str) -> Mesh:
    """Bonnet and boot of the data set's car, and what else of it one camera alone sees at the edge of its picture, in the ego
    frame."""
    rig, rng = wild_rig(seed, max(CHANNELS), *SOURCE_SIZE), np.random.default_rng([seed, 92])
    paint, dark = muted(rng, 1, 0.25, 0.05, 0.95)[0], np.full(3, 0.12)
    vehicle = VehicleParameters()
    front = vehicle.rear_axle_to_center + vehicle.length / 2
    meshes = []
    for name, ahead, end in (("CAM_FRONT", 1.0, front), ("CAM_BACK", -1.0, vehicle.length - front)):
        share = rng.uniform(0.02, 0.16) if rng.random() < 0.8 else 0.004
        meshes.append(_lid(rig, rig.names.index(name), ahead, end, vehicle.width / 2, share, paint, rng))
    own = np.random.default_rng([seed, 93, zlib.crc32(channel.encode())])
    if channel not in ("CAM_FRONT", "CAM_BACK") and own.random() < 0.6:
        meshes.append(_flank(rig, rig.names.index(channel), paint if own.random() < 0.5 else dark, own))
    return join(meshes)


def _lid(
    rig: CameraRig, view: int, ahead: float, end: float, half: float, share: float, paint: np.ndarray, rng: np.random.Generator
) -> Mesh:
    """A bonnet (ahead = 1) or boot (-1) up to ``end`` metres from the axle, as high as covers a share of the picture's rows."""
    pose, camera = rig.ego_from_camera[view], rig.intrinsics[view]
    ray = pose[:3, :3] @ np.array([0, (rig.height * (1 - share) - camera[1, 2]) / camera[1, 1], 1.0])
    begin = ahead * pose[0, 3] + 0.05
    top = float(np.clip(pose[2, 3] + ray[2] / (ahead * ray[0]) * (end - begin) * 0.92, 0.6, pose[2, 3] - 0.12))
    bulge, droop = rng.uniform(0.01, 0.06), rng.uniform(0.03, 0.12)
    s, y = np.meshgrid(np.linspace(0, 1, 13), np.linspace(-1, 1, 13), indexing="ij")
    points = np.stack(
        [ahead * (begin + s * (end - begin)), half * y, top - bulge * y * y - droop * np.maximum(s - 0.75, 0) * 4 * s], -1
    )
    slope = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normals = slope * np.sign(slope[..., 2:]) / np.linalg.norm(slope, axis=-1, keepdims=True)
    pick = [(slice(None, -1), slice(None, -1)), (slice(1, None), slice(None, -1)), (slice(1, None), slice(1, None)),
            (slice(None, -1), slice(1, None))]  # fmt: skip
    faces, turns = (np.stack([part[p] for p in pick], 2).reshape(-1, 4, 3) for part in (points, normals))
    corners, bent = (part[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3) for part in (faces, turns))
    return flat(corners, tint=paint, semantic=VEHICLE, normals=bent.astype(np.float32))


def _flank(rig: CameraRig, view: int, tint: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A piece of door, mirror, pillar or roof rack at the edge of a picture."""
    pose, camera = rig.ego_from_camera[view], rig.intrinsics[view]
    beside = rng.random() < 0.7
    column = rig.width * (rng.choice([-0.02, 1.02]) if beside else rng.uniform(0.1, 0.9))
    row = rig.height * (rng.uniform(0.45, 1.0) if beside else 1.03)
    far = rng.uniform(0.35, 0.8)
    middle = np.array([(column - camera[0, 2]) / camera[0, 0], (row - camera[1, 2]) / camera[1, 1], 1.0]) * far
    wide = rng.uniform(0.05, 0.16) * rig.width / camera[0, 0] * far
    radii = np.array([wide, wide * rng.uniform(0.6, 1.6), wide * rng.uniform(0.5, 1.5)])
    radii *= (0.8, 2.5, 1.0) if beside else (2.5, 0.6, 1.0)
    lumps = rng.uniform(0.92, 1.0, 42)
    return blob(middle, np.minimum(radii, far * 0.6), lumps, semantic=VEHICLE, tint=tint).moved(pose)
