"""Images, depth and LiDAR of a scene: sizes, poses, errors."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.data.depth_files import write_depth
from dist4d_env.data.images import resample_area, resample_nearest
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import ImageTransform
from dist4d_env.scenes.scene import Scene
from tests.data import tiny_nuscenes

STORED = (90, 160)


def test_whole_factors_are_plain_block_means() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    expected = pixels.reshape(45, 2, 80, 2, 3).mean((1, 3))
    assert np.abs(resample_area(pixels, STORED, 45, 80) - expected).max() <= 0.5 + 1e-4


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 130), st.integers(8, 220))
def test_a_ramp_stays_where_the_transform_puts_it(height: int, width: int) -> None:
    """A linear image has at each target centre the value of its source position: no shift at any size."""
    rows, columns = np.mgrid[:90, :160] + 0.5
    pixels = np.stack([rows * 2, columns, rows + columns / 2], -1)
    transform = ImageTransform.cover(STORED, (height, width))
    result = resample_area(pixels, STORED, height, width)
    row = (np.arange(height) + 0.5 + transform.offset[1]) / transform.scale
    column = (np.arange(width) + 0.5 + transform.offset[0]) / transform.scale
    inner_rows = (row > 1) & (row < 89)
    inner_columns = (column > 1) & (column < 159)
    expected = np.stack(np.broadcast_arrays(row[:, None] * 2, column[None], row[:, None] + column[None] / 2), -1)
    # Rounding, and when shrinking the steps of the source pixels cut by a footprint's edge.
    tolerance = 0.51 + (2 * 2 * 0.125 * transform.scale if transform.scale < 1 else 0)
    assert np.abs(result - expected)[inner_rows][:, inner_columns].max(initial=0) <= tolerance


def test_decoding_at_a_fraction_keeps_the_grid() -> None:
    """An image of 90 rows decoded at 1/8 has 12 rows, the last of them only partly filled; the picture must not shift for it."""
    rows = np.mgrid[:96, :160][0] + 0.5
    eighth = (rows * 2).reshape(12, 8, 20, 8).mean((1, 3))[..., None].repeat(3, -1)
    result = resample_area(eighth, STORED, 9, 16)
    np.testing.assert_allclose(result[:, 0, 0], (np.arange(9) + 0.5) * 20, atol=1.0)


def test_depth_is_picked_never_mixed() -> None:
    depth = np.where(np.arange(160) < 80, 3.0, 90.0).astype(np.float32)[None].repeat(90, 0)
    for height, width in ((45, 80), (23, 41), (64, 112), (180, 320)):
        assert set(np.unique(resample_nearest(depth, STORED, height, width))) == {3.0, 90.0}
    half = resample_nearest(depth[::2, ::2], STORED, 90, 160)  # stored at half size, same field of view
    np.testing.assert_array_equal(half, depth)


def test_rgb_at_any_size(tiny_scene: Scene) -> None:
    stored = tiny_scene.sensors.rgb(2, *STORED)
    for view in range(len(RING)):
        assert np.abs(stored[view].astype(int) - tiny_nuscenes.picture(view, 4)).mean() < 3  # JPEG
    small = tiny_scene.sensors.rgb(2, 32, 56)
    assert small.shape == (6, 32, 56, 3) and small.dtype == np.uint8
    transform = ImageTransform.cover(STORED, (32, 56))
    column = (np.arange(56) + 0.5 + transform.offset[0]) / transform.scale
    np.testing.assert_allclose(small[1, 16, :, 0], column * 255 / 160, atol=4)


def test_each_camera_has_its_own_time_and_pose(tiny_scene: Scene) -> None:
    poses, time = tiny_scene.sensors.cameras(1)
    np.testing.assert_allclose(time, 0.5 - 0.005 * np.arange(1, 7), atol=1e-9)
    for view in range(len(RING)):
        expected = np.array([tiny_nuscenes.ego_x(time[view]) + 1.5, 100.0, 1.5])
        np.testing.assert_allclose(poses[view, :3, 3], expected, atol=1e-9)
    ahead = poses[RING.index("CAM_FRONT")] @ np.array([0, 0, 1, 0])
    np.testing.assert_allclose(ahead, [1, 0, 0, 0], atol=1e-9)


def test_rig_follows_the_image_size(tiny_scene: Scene) -> None:
    assert tiny_scene.rig.names == RING and (tiny_scene.rig.height, tiny_scene.rig.width) == STORED
    half = tiny_scene.rig.at_size(45, 80)
    np.testing.assert_allclose(half.intrinsics[0], [[50, 0, 40], [0, 50, 22.5], [0, 0, 1]], atol=1e-9)


def test_rgbd_and_depth_errors(broken_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIST4D_DEPTH", raising=False)
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    assert sensors.has_images(0) and not sensors.has_depth(0)
    with pytest.raises(DataError, match=r"CAM_FRONT_LEFT.*python -m dist4d_env prepare --dataroot .* --scenes scene-0103"):
        sensors.rgbd(0, 45, 80)
    for view in range(len(RING)):
        write_depth(broken_root / "depth" / sensors.depth_name(0, view), np.full((45, 80), 5.0 + view, np.float32))
    assert sensors.has_depth(0) and not sensors.has_depth(1)
    frame = sensors.rgbd(0, 32, 56)
    assert frame.depth.shape == (6, 32, 56) and frame.rgb.shape == (6, 32, 56, 3)
    np.testing.assert_allclose(frame.depth[3], 8.0, rtol=0.005)
    np.testing.assert_allclose(frame.intrinsics[0], ImageTransform.cover(STORED, (32, 56)).intrinsics(sensors.intrinsics[0, 0]))
    np.testing.assert_array_equal(frame.global_from_camera, sensors.cameras(0)[0])


def test_missing_cut_off_and_wrong_images(broken_root: Path) -> None:
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    sensors.image_path(1, 2).unlink()
    assert sensors.has_images(0) and not sensors.has_images(1)
    with pytest.raises(DataError, match=r"scene-0103: keyframe 1 has no image samples/CAM_FRONT_RIGHT/.*with images: 0, 2-3"):
        sensors.rgb(1, *STORED)
    path = sensors.image_path(2, 4)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=rf"{path.name}.*cannot be read.*fetch"):
        sensors.rgb(2, *STORED)
    path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=path.name):
        sensors.rgb(2, *STORED)
    sensors.image_path(0, 0).write_bytes(sensors.image_path(0, 1).read_bytes())
    assert sensors.rgb(0, *STORED).shape == (6, *STORED, 3)  # the first keyframe still works
    with pytest.raises(DataError, match="no keyframe 4; there are 0 to 3"):
        sensors.rgb(4, *STORED)


def test_image_of_another_size_than_its_table(broken_root: Path) -> None:
    from PIL import Image

    sensors = open_dataset(broken_root).load("scene-0103").sensors
    Image.new("RGB", (80, 45)).save(sensors.image_path(0, 0))
    with pytest.raises(DataError, match="45 x 80, its table says 90 x 160"):
        sensors.rgb(0, *STORED)


def test_lidar_and_sweeps(broken_root: Path) -> None:
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    sweep = sensors.lidar(1)
    assert sweep.points.shape == (len(tiny_nuscenes.lidar_points()), 4) and sweep.points.dtype == np.float32 and sweep.time == 0.5
    # The point 10 m along the sensor's y axis, which looks ahead, lies on the ground 11 m ahead of the ego.
    ground = sweep.global_from_lidar @ np.array([0, 10, -1.8, 1])
    np.testing.assert_allclose(ground[:3], [tiny_nuscenes.ego_x(0.5) + 11, 100, 0], atol=1e-6)
    assert [round(s.time, 2) for s in sensors.sweeps(1, 2, 1)] == [0.0, 0.25, 0.5, 0.75]
    assert [round(s.time, 2) for s in sensors.sweeps(0, 5, 0)] == [0.0]
    Path(broken_root, sensors.lidar_files[1]).unlink()
    assert [round(s.time, 2) for s in sensors.sweeps(1, 2, 1)] == [0.0, 0.5, 0.75]
    Path(broken_root, sensors.lidar_files[2]).write_bytes(b"x" * 21)
    with pytest.raises(DataError, match=r"pcd\.bin: not whole rows"):
        sensors.lidar(1)
    Path(broken_root, sensors.lidar_files[2]).unlink()
    with pytest.raises(DataError, match="no such LiDAR file"):
        sensors.lidar(1)


def test_sensor_log_pickles(tiny_scene: Scene) -> None:
    back = pickle.loads(pickle.dumps(tiny_scene.sensors))
    np.testing.assert_array_equal(back.rgb(0, 32, 56), tiny_scene.sensors.rgb(0, 32, 56))


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("CMYK", "jpeg"), ("I;16", "png"), ("P", "png"), ("1", "png")])
def test_images_of_other_pixels(broken_root: Path, mode: str, suffix: str) -> None:
    from PIL import Image

    sensors = open_dataset(broken_root).load("scene-0103").sensors
    Image.new(mode, STORED[::-1]).save(sensors.image_path(0, 2), format=suffix)
    with pytest.raises(DataError, match=rf"CAM_FRONT_RIGHT.*pixels are {mode}, not 8-bit RGB or grey; convert it"):
        sensors.rgb(0, *STORED)


def test_grey_images(broken_root: Path) -> None:
    from PIL import Image

    sensors = open_dataset(broken_root).load("scene-0103").sensors
    Image.new("L", STORED[::-1], 77).save(sensors.image_path(0, 2))
    assert (sensors.rgb(0, 45, 80)[2] == 77).all()


def test_depth_of_another_shape_than_its_image(broken_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIST4D_DEPTH", raising=False)
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    shapes = [(45, 80), (90, 160), (17, 30), (180, 320), (50, 89), (31, 55)]  # rounded to whole pixels as ``prepare`` does
    for view, shape in enumerate(shapes):
        write_depth(broken_root / "depth" / sensors.depth_name(0, view), np.full(shape, 5.0, np.float32))
    assert sensors.depth(0, 45, 80).shape == (6, 45, 80)
    for shape in ((90, 90), (160, 90), (45, 84), (1, 160)):
        write_depth(broken_root / "depth" / sensors.depth_name(0, 3), np.full(shape, 5.0, np.float32))
        with pytest.raises(
            DataError, match=rf"depth image is {shape[0]} x {shape[1]}, not of the shape of its image, 90 x 160.*prepare"
        ):
            sensors.depth(0, 45, 80)


def test_circles_of_links_and_points_that_are_not_finite(broken_root: Path) -> None:
    sensors = open_dataset(broken_root).load("scene-0103").sensors
    path = sensors.image_path(1, 0)
    path.unlink()
    path.symlink_to(path.name)
    assert not sensors.has_images(1) and sensors.has_images(0)
    with pytest.raises(DataError, match="keyframe 1 has no image"):
        sensors.rgb(1, *STORED)
    lidar = Path(sensors.dataroot, sensors.lidar_files[0])
    np.array([[0, 10, np.nan, 7, 0]], np.float32).tofile(lidar)
    with pytest.raises(DataError, match=rf"{lidar.name}: point 0 is not finite"):
        sensors.lidar(0)
    np.tile(np.array([[3000, 10_000, -1800, 7, 0]], np.float32), (50, 1)).tofile(lidar)
    with pytest.raises(DataError, match=rf"{lidar.name}: half of its points are over 10594 m away; .* not millimetres"):
        sensors.lidar(0)
    lidar.unlink()
    lidar.symlink_to(lidar.name)
    assert not sensors.has_lidar(0)
    table = broken_root / "v1.0-tiny" / "ego_pose.json"
    table.unlink()
    table.symlink_to(table.name)
    with pytest.raises(DataError, match=r"ego_pose\.json: table missing"):
        open_dataset(broken_root)
    loop = broken_root / "loop"
    loop.symlink_to(loop)
    with pytest.raises(DataError, match="is no folder"):
        open_dataset(loop)
