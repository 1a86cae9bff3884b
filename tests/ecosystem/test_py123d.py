"""Scenes of the town, written as 123D logs by py123d itself, are what they were; and what cannot be read says why."""

from __future__ import annotations

import pickle
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import shapely

from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.data.py123d.labels import CATEGORY_OF, category_index
from dist4d_env.data.py123d.lenses import Lens
from dist4d_env.data.soundness import load_scene
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.lights import NO_LIGHTS
from dist4d_env.scenes.maps import BEV_LAYERS
from dist4d_env.scenes.scene import Scene

from .town_logs import lane_ids, relative, write_log

NAMES = ("town-val-0000", "town-val-0001")


@pytest.fixture(scope="module", params=NAMES)
def pair(request, town, town_logs) -> tuple[Scene, Scene]:
    """A scene as the nuScenes reader has it, and as the log has it."""
    return town.load(request.param), load_scene(open_dataset(town_logs), request.param)


def test_folders_of_logs_are_recognised(town_logs):
    dataset = open_dataset(town_logs)
    assert (type(dataset).__name__, dataset.version, dataset.names()) == ("Py123dDataset", "town", NAMES)
    assert dataset.splits() == {"val": NAMES} and dataset.scene_names("val") == list(NAMES)
    assert pickle.loads(pickle.dumps(dataset)) == dataset and len(pickle.dumps(dataset)) < 300
    scene = dataset.load(NAMES[0])
    assert (scene.dataset, scene.version, scene.dataroot) == ("py123d", "town", str(town_logs))
    assert open_dataset(scene.dataroot, scene.version, dataset=scene.dataset).load(scene.name) is scene
    with pytest.raises(DataError, match=r"neither a split nor a scene.*Did you mean 'town-val-0001'"):
        dataset.load("town-val-001")
    with pytest.raises(DataError, match=r"no 123D logs of 'toy' .there: town.; choose one with version="):
        open_dataset(town_logs, "toy")


def test_ego_and_cameras(pair):
    ours, theirs = pair
    np.testing.assert_array_equal(ours.ego.time, theirs.ego.time)
    assert relative(ours.ego.global_from_ego, theirs.ego.global_from_ego) < (1e-9, 1e-6)
    for name in ("speed", "acceleration", "yaw_rate"):
        np.testing.assert_allclose(getattr(theirs.ego, name), getattr(ours.ego, name), atol=1e-9)
    assert ours.rig.names == theirs.rig.names, "in ring order, whatever py123d's own"
    np.testing.assert_allclose(theirs.rig.intrinsics, ours.rig.intrinsics)
    assert relative(ours.rig.ego_from_camera, theirs.rig.ego_from_camera) < (1e-9, 1e-6)
    np.testing.assert_allclose(theirs.sensors.keyframe_time, ours.sensors.keyframe_time)
    np.testing.assert_allclose(theirs.sensors.camera_time, ours.sensors.camera_time)
    assert relative(ours.sensors.global_from_camera, theirs.sensors.global_from_camera) < (1e-9, 1e-6)


def test_pictures_and_lidar(pair):
    ours, theirs = (scene.sensors for scene in pair)
    assert theirs.has_images(0) and theirs.has_lidar(0) and not theirs.has_depth(0)
    for size in ((64, 112), (32, 56), (96, 80)):
        np.testing.assert_array_equal(theirs.rgb(4, *size), ours.rgb(4, *size))
    here, there = ours.lidar(3), theirs.lidar(3)
    np.testing.assert_allclose(there.points[:, :3], here.points[:, :3], atol=1e-5)
    np.testing.assert_allclose(there.points[:, 3], here.points[:, 3], atol=1.0)  # 123D keeps whole numbers
    assert relative(here.global_from_lidar, there.global_from_lidar) < (1e-9, 1e-6) and there.time == here.time
    assert [s.time for s in theirs.sweeps(3, 2, 2)] == [s.time for s in ours.sweeps(3, 2, 2)]
    np.testing.assert_allclose(pair[1].lidar.ego_from_lidar, pair[0].lidar.ego_from_lidar, atol=1e-12)
    again = pickle.loads(pickle.dumps(pair[1]))
    np.testing.assert_array_equal(again.sensors.rgb(1, 64, 112), ours.rgb(1, 64, 112))


def test_tracks(pair):
    ours, theirs = (scene.tracks for scene in pair)
    row = [theirs.instance.index(instance) for instance in ours.instance]
    assert len(theirs) == len(ours) and theirs.name[row[0]] == ours.name[0].replace(".", "_").upper()
    np.testing.assert_array_equal(theirs.category[row], ours.category)
    np.testing.assert_array_equal(theirs.valid[row], ours.valid)
    np.testing.assert_allclose(theirs.size[row], ours.size)
    there = ours.valid
    np.testing.assert_allclose(theirs.position[row][there], ours.position[there], atol=1e-9)
    turned = (theirs.yaw[row] - ours.yaw)[there]
    assert np.abs(np.angle(np.exp(1j * turned))).max() < 1e-6
    # The same differences over half a second to both sides, but for the ends of tracks, where boxes are closer than keyframes.
    apart = np.abs(theirs.velocity[row] - ours.velocity)[there]
    assert np.percentile(apart, 98) < 0.03 and apart.max() < 0.3


def test_map_and_route(pair):
    ours, theirs = pair
    assert theirs.map.missing == ours.map.missing
    for name in BEV_LAYERS:
        here, there = (shapely.union_all(scene.map.layers[name]) for scene in pair)
        assert here.area > 0 or here.length > 0
        assert shapely.symmetric_difference(here, there).area < 1e-6 and there.length == pytest.approx(here.length), name
    assert shapely.symmetric_difference(ours.map.intersections, theirs.map.intersections).area < 1e-6
    ids = {token: str(number) for token, number in lane_ids(ours.map).items()}
    assert set(theirs.map.lanes) == set(ids.values())
    for token, lane in ours.map.lanes.items():
        other = theirs.map.lanes[ids[token]]
        assert (other.is_connector, other.speed_limit) == (lane.is_connector, lane.speed_limit)
        assert {ids[o] for o in lane.successors} == set(other.successors)
        assert {ids[o] for o in lane.predecessors} == set(other.predecessors)
        line, same = (shapely.linestrings(each.centerline[:, :2]) for each in (lane, other))
        assert shapely.hausdorff_distance(line, same) < 0.05
        assert np.hypot(*np.diff(other.centerline[:, :2], axis=0).T).max() < 1.05
        middle = len(other.centerline) // 2
        x, y, yaw = other.centerline[middle]
        nearest = np.argmin(np.hypot(*(lane.centerline[:, :2] - (x, y)).T))
        assert abs(np.angle(np.exp(1j * (yaw - lane.centerline[nearest, 2])))) < 0.1
    assert tuple(ids[token] for token in ours.route.lanes) == theirs.route.lanes
    assert max(abs(theirs.route.project(x, y)[1]) for x, y in ours.route.points.tolist()) < 0.01
    assert theirs.route.log_length == pytest.approx(ours.route.log_length)


def test_traffic_lights(pair):
    """Their states on every lane at every tick; and the route meets the same ones, to a metre."""
    ours, theirs = pair
    ids = {token: str(number) for token, number in lane_ids(ours.map).items()}
    shown = {
        ids[lane]: ours.lights.state[light] for light, lanes in enumerate(ours.lights.lanes) for lane in lanes if lane in ids
    }
    found = {lane: theirs.lights.state[light] for light, lanes in enumerate(theirs.lights.lanes) for lane in lanes}
    assert set(found) == set(shown)
    for lane, states in found.items():
        np.testing.assert_array_equal(states, shown[lane])
    at, light = ours.lights.met(ours.route.points)
    at_too, light_too = theirs.lights.met(theirs.route.points)
    assert len(at) and np.abs(at_too - at).max() < 1.0
    np.testing.assert_array_equal(theirs.lights.state[light_too], ours.lights.state[light])


def test_every_label_of_py123d_has_a_category():
    import py123d.parser.registry
    import py123d.parser.truckdrive.truckdrive_labels  # noqa: F401
    from py123d.datatypes.detections.box_detection_label import BOX_DETECTION_LABEL_REGISTRY, DefaultBoxDetectionLabel

    assert set(CATEGORY_OF) == set(BOX_DETECTION_LABEL_REGISTRY)
    alike = {
        "VEHICLE": ("car", "truck", "bus", "trailer", "construction_vehicle", "bicycle", "other"),  # a pedicab
        "TWO_WHEELER": ("bicycle", "motorcycle"),
        "TRAIN": ("bus",),
    }
    for kind, labels in BOX_DETECTION_LABEL_REGISTRY.items():
        wanted = {label.name for label in labels} - ({"EGO"} if labels is DefaultBoxDetectionLabel else set())
        assert set(CATEGORY_OF[kind]) == wanted
        for label in wanted:
            default = labels[label].to_default().name
            assert CATEGORIES[category_index(kind, label)] in alike.get(default, CATEGORIES), (kind, label)


def test_an_unmapped_label_is_named(town, tmp_path, monkeypatch):
    write_log(tmp_path, town.load(NAMES[0]))
    monkeypatch.delitem(CATEGORY_OF["NuScenesBoxDetectionLabel"], "VEHICLE_CAR")
    with pytest.raises(
        DataError, match="town-val-0000: an object's label is VEHICLE_CAR of NuScenesBoxDetectionLabel, which has no"
    ):
        open_dataset(tmp_path).load(NAMES[0])


def test_long_logs_are_cut_into_parts(town, tmp_path):
    """A log of 45 s, of which boxes and poses repeat every 6 s: scenes of 20 and 25 s that follow each other."""
    scene = town.load(NAMES[0])
    rows = np.arange(451) % 60
    ego = replace(scene.ego, **{name: getattr(scene.ego, name)[rows] for name in ("speed", "acceleration", "yaw_rate")})
    poses = scene.ego.global_from_ego[rows]
    poses[:, 0, 3] = np.linspace(0, 45, 451)
    ego = replace(ego, time=np.arange(451) / 10, global_from_ego=poses)
    sensors = replace(scene.sensors, keyframe_time=np.array([0.0]))
    tracks = scene.tracks
    tracks = replace(
        tracks, time=ego.time, valid=tracks.valid[:, rows], position=tracks.position[:, rows], yaw=tracks.yaw[:, rows],
        velocity=tracks.velocity[:, rows],
    )  # fmt: skip
    write_log(tmp_path, replace(scene, ego=ego, tracks=tracks, sensors=sensors, map=None, lights=NO_LIGHTS))
    dataset = open_dataset(tmp_path)
    assert dataset.names() == (f"{NAMES[0]}-000", f"{NAMES[0]}-001") == dataset.splits()["val"]
    first, second = (dataset.load(name) for name in dataset.names())
    assert first.map is None and len(first.ego.time) == 201 and len(second.ego.time) == 251
    assert relative(first.ego.global_from_ego[-1], second.ego.global_from_ego[0]) < (1e-6, 1e-5)
    assert len(first.sensors.keyframe_time) == 41 and first.sensors.has_images(0) and not first.sensors.has_images(1)
    assert not second.sensors.has_images(0) and first.token != second.token


@pytest.fixture
def spoiled(town, tmp_path) -> Path:
    """A data set of one short log that a test may damage."""
    scene = town.load(NAMES[0])
    keyframes = replace(scene.sensors, keyframe_time=scene.sensors.keyframe_time[:1])
    write_log(tmp_path, replace(scene, sensors=keyframes))
    return tmp_path


def log_of(root: Path) -> Path:
    return root / "logs" / "town_val" / NAMES[0]


def refused(root: Path, name: str = NAMES[0]) -> str:
    """What loading says, in one sentence that is not too long."""
    with pytest.raises(DataError) as raised:
        open_dataset(root).load(name).sensors.rgb(0, 64, 112)
    assert len(str(raised.value)) < 400
    return str(raised.value)


def test_a_half_converted_log(spoiled):
    (log_of(spoiled) / "sync.arrow").unlink()
    assert "sync.arrow is not there: the conversion of this log was broken off; convert the log again" in refused(spoiled)


@pytest.mark.parametrize("table", ["sync", "ego_state_se3", "box_detections_se3", "camera.pcam_f0"])
def test_a_file_that_was_cut_off(spoiled, table):
    path = log_of(spoiled) / f"{table}.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{table}.arrow is broken; convert the log again" in refused(spoiled) or f"{table}.arrow cannot be read" in refused(
        spoiled
    )


@pytest.mark.parametrize("table", ["ego_state_se3", "box_detections_se3", "traffic_light_detections"])
def test_a_table_that_is_missing(spoiled, table):
    (log_of(spoiled) / f"{table}.arrow").unlink()
    assert f"{table}.arrow is not there" in refused(spoiled)


def test_a_map_that_is_missing_or_empty(spoiled, town):
    from py123d.api.map.arrow.arrow_map_writer import ArrowMapWriter
    from py123d.datatypes.metadata import MapMetadata

    (log_of(spoiled) / "map.arrow").unlink()
    location = town.load(NAMES[0]).location
    assert f"town_{location}.arrow: no such map; convert the maps, too" in refused(spoiled)
    assert open_dataset(spoiled).load(NAMES[0], require_map=False).map is None
    writer = ArrowMapWriter(True, spoiled / "maps", spoiled / "logs")
    writer.reset(MapMetadata("town", location, map_has_z=False, map_is_per_log=True, split="town_val", log_name=NAMES[0]))
    writer.close()
    assert "is empty: its conversion failed" in refused(Path(shutil.copytree(spoiled, spoiled / "again")))


def test_pictures_that_are_missing(spoiled):
    assert open_dataset(spoiled).load(NAMES[0]).sensors.has_images(0)
    with pytest.raises(DataError, match=r"keyframe 1 has no image .* of frame 5 .*keyframes with images: 0"):
        open_dataset(spoiled).load(NAMES[0]).sensors.rgb(1, 64, 112)
    for camera in log_of(spoiled).glob("camera.*"):
        camera.unlink()
    bare = Path(shutil.copytree(spoiled, spoiled / "again"))
    assert "keyframe 0 has no image of any camera" in refused(bare)
    scene = open_dataset(bare).load(NAMES[0])
    assert scene.rig.names == () and len(scene.tracks) > 9 and not scene.sensors.has_images(0) and scene.sensors.has_lidar(0)
    with closing(gym.make("DiST4D-nuScenes-v0", dataroot=str(bare), scenes=NAMES[0], world="none", horizon=2.0)) as env:
        env.reset(seed=0)
        assert np.isfinite(env.step(np.zeros(2, np.float32))[1])


def test_logs_are_prepared_validated_and_driven(town, tmp_path, capsys):
    """From logs without depth to drives in what was made for them: the first two seconds of a street."""
    scene = town.load(NAMES[0])
    write_log(tmp_path, replace(scene, sensors=replace(scene.sensors, keyframe_time=scene.sensors.keyframe_time[:3])))
    where = {"dataroot": str(tmp_path), "scenes": NAMES[0], "horizon": 2.0}
    assert main(["validate", "--dataroot", str(tmp_path), "--images"]) == 0
    assert "images without depth: run `python -m dist4d_env prepare`" in capsys.readouterr().out
    with closing(gym.make("DiST4D-nuScenes-v0", world="replay", **where)) as env:
        with pytest.raises(DataError, match="the images have no depth yet: run python -m dist4d_env prepare"):
            env.reset(seed=0)
    assert main(["prepare", "--dataroot", str(tmp_path), "--workers", "1"]) == 0
    assert "18 depth images written" in capsys.readouterr().out
    assert main(["validate", "--dataroot", str(tmp_path), "--images"]) == 0
    seen = scene.sensors.rgb(0, 64, 112)
    for world in ("replay", "splat", "dist4d"):
        with closing(gym.make("DiST4D-nuScenes-v0", world=world, **where)) as env:
            first, _ = env.reset(seed=0, options={"start": 0.0})
            off = np.abs(np.stack([first[name].astype(float) for name in scene.rig.names]) - seen)
            assert off.mean() < 8, "the logged pictures, or close to them"
            for _ in range(3):
                now, reward, _, _, info = env.step(np.zeros(2, np.float32))
            assert np.isfinite(reward) and info["world"]["trust"] > 0.5
            assert all(np.isfinite(now[f"{name}/depth"]).all() and now[name].std() > 5 for name in scene.rig.names)


def cameras_of(kind: str, middle: float = 159.0):
    """A camera of 240 x 320 with a lens, as wide as data sets have them. middle: column of an f-theta camera's axis."""
    from py123d.datatypes.sensors import base_camera, fisheye_mei_camera, ftheta_camera, pinhole_camera
    from py123d.geometry import PoseSE3

    size = {"width": 320, "height": 240, "camera_to_imu_se3": PoseSE3.identity()}
    if kind == "barrel":
        lens = pinhole_camera.PinholeIntrinsics(200.0, 200.0, 158.0, 121.0), pinhole_camera.PinholeDistortion(-0.3, 0.1, 0, 0, 0)
        return pinhole_camera.PinholeCameraMetadata(kind, base_camera.CameraID.PCAM_F0, *lens, **size)
    if kind == "cushion":
        lens = pinhole_camera.PinholeIntrinsics(200.0, 200.0, 158.0, 121.0), pinhole_camera.PinholeDistortion(0.2, 0, 1e-3, 0, 0)
        return pinhole_camera.PinholeCameraMetadata(kind, base_camera.CameraID.PCAM_F0, *lens, **size)
    if kind == "fisheye":
        distortion = fisheye_mei_camera.FisheyeMEIDistortion(0.01, 0.1, 0.0, 0.0)
        projection = fisheye_mei_camera.FisheyeMEIProjection(260.0, 260.0, 160.0, 120.0)
        return fisheye_mei_camera.FisheyeMEICameraMetadata(
            kind, base_camera.CameraID.FMCAM_L, 2.2, distortion, projection, **size
        )
    forward = np.array([0.0, 150.0, 0.0, -2.0, 0.0, 0.0])
    intrinsics = ftheta_camera.FThetaIntrinsics(middle, 118.0, fw_poly=forward, bw_poly=np.array([0.0, 1 / 150, 0, 0, 0, 0]))
    return ftheta_camera.FThetaCameraMetadata(kind, base_camera.CameraID.FTCAM_F0, intrinsics, **size)


def colours(rays: np.ndarray) -> np.ndarray:
    """Of what is seen along rays (..., 3): smooth, and different along every axis."""
    x, y, z = np.moveaxis(rays / np.linalg.norm(rays, axis=-1, keepdims=True), -1, 0)
    return np.clip(np.stack([127 + 120 * x, 127 + 120 * y, 100 + 60 * np.sin(6 * x) * np.cos(5 * y) + 60 * z], -1), 0, 255)


def rays_of(metadata) -> np.ndarray:
    """(H, W, 3) where each pixel of a camera looks: found by turning ``project_to_image`` round."""
    from scipy.interpolate import griddata

    x, y = np.meshgrid(np.linspace(-3, 3, 700), np.linspace(-3, 3, 700))
    ahead = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], -1)
    place, _, _ = metadata.project_to_image(ahead)
    near = (np.abs(place - (160, 120)) < (240, 200)).all(1) & (np.hypot(*ahead[:, :2].T) < 2.2)
    columns, rows = np.meshgrid(np.arange(320), np.arange(240))
    slopes = griddata(place[near], ahead[near, :2], np.stack([columns, rows], -1), method="linear")
    return np.concatenate([slopes, np.ones((240, 320, 1))], -1)


@pytest.mark.parametrize("kind", ["barrel", "cushion", "fisheye", "ftheta"])
def test_lenses_are_straightened_to_a_pinhole(kind):
    metadata = cameras_of(kind)
    lens = Lens.of(metadata)
    assert lens.bent
    bent = np.nan_to_num(colours(rays_of(metadata))).round().astype(np.uint8)
    columns, rows = np.meshgrid(np.arange(320), np.arange(240))
    wanted = colours(np.stack([columns + 0.5, rows + 0.5, np.ones(rows.shape)], -1) @ np.linalg.inv(lens.intrinsics).T)
    error = np.abs(lens.straighten(bent).astype(float) - wanted)
    assert np.percentile(error, 99) < 2.5, "every pixel shows what a pinhole would"
    assert np.abs(bent.astype(float) - wanted).mean() > 3 * error.mean() + 2, "and the camera's own image would not"
    half = np.degrees(np.arctan(160 / lens.intrinsics[0, 0]))
    assert 25 < half <= 60.1


def test_cameras_that_show_no_pinholes_view_are_refused():
    from py123d.datatypes.sensors.pinhole_camera import PinholeCameraMetadata

    with pytest.raises(DataError, match=r"camera ftheta \(FTHETA\) shows no pinhole's view: leave it out"):
        Lens.of(cameras_of("ftheta", middle=5000.0))
    plain = cameras_of("barrel")
    without = PinholeCameraMetadata("bare", plain.camera_id, None, None, 320, 240, plain.camera_to_imu_se3)
    with pytest.raises(DataError, match="camera bare has no intrinsics"):
        Lens.of(without)
