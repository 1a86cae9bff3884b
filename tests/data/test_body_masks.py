"""Masks of the car's own body: where they lie, which wins, how they reach frames, what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dist4d_env.data.body_masks import MOST, find_mask, found_mask, given_mask, read_mask, write_mask
from dist4d_env.data.depth_files import depth_roots, write_depth
from dist4d_env.data.images import resample_nearest
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import check_scene, table
from dist4d_env.errors import DataError

STORED = (90, 160)
SCENE = "scene-0103"


def boot(rows: int = 90, columns: int = 160) -> np.ndarray:
    mask = np.zeros((rows, columns), bool)
    mask[rows * 3 // 4 :, columns // 8 : -columns // 4] = True
    return mask


def test_a_given_mask_wins_over_a_found_one_and_scenes_have_their_own(broken_root: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("DIST4D_DEPTH", str(tmp_path / "elsewhere"))
    root = depth_roots(broken_root)[0]
    assert find_mask(broken_root, "a", "CAM") is given_mask(broken_root, "CAM") is None
    write_mask(found_mask(root, "a", "CAM"), boot())
    assert find_mask(broken_root, "a", "CAM") == root / "body" / "a" / "CAM.png" and find_mask(broken_root, "b", "CAM") is None
    for place in (root / "body" / "CAM.png", broken_root / "body" / "CAM.png"):
        write_mask(place, boot())
        assert {find_mask(broken_root, scene, "CAM") for scene in "ab"} == {given_mask(broken_root, "CAM")} == {place}


def test_every_way_to_store_black_and_white_is_read(tmp_path: Path):
    from PIL import Image

    mask = boot()
    grey = mask.astype(np.uint8) * 255
    Image.fromarray(mask).save(tmp_path / "one-bit.png")
    for name, pixels in (("grey", grey), ("ones", mask.astype(np.uint8)), ("colour", np.repeat(grey[..., None], 3, -1))):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    write_mask(tmp_path / "ours.png", mask)
    write_mask(tmp_path / "none.png", np.zeros_like(mask))
    for name in ("one-bit", "grey", "ones", "colour", "ours"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", STORED), mask)
    assert not read_mask(tmp_path / "none.png", STORED).any()
    assert read_mask(tmp_path / "ours.png", (900, 1600)).shape == STORED  # of any size


def malformed(path: Path, kind: str) -> None:
    pixels = boot().astype(np.uint8) * 255
    if kind == "turned":
        pixels = pixels.T.copy()
    elif kind == "square":
        pixels = pixels[:, :90].copy()
    elif kind == "grey levels":
        pixels = np.tile(np.arange(160, dtype=np.uint8), (90, 1))
    elif kind == "two greys":
        pixels = np.where(boot(), np.uint8(200), np.uint8(30))
    elif kind == "inverted":
        pixels = 255 - pixels
    elif kind == "red":
        pixels = np.stack([np.zeros_like(pixels), np.zeros_like(pixels), pixels], -1)
    assert cv2.imwrite(str(path), pixels)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "text":
        path.write_text("bonnet")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.unlink()
        path.mkdir()


KINDS = ("turned", "square", "grey levels", "two greys", "inverted", "red", "cut off", "text", "empty", "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_anything_else_is_one_error_with_the_file_and_the_remedy(tmp_path: Path, kind: str):
    assert (~boot()).mean() > MOST  # what the inverted one is refused for
    path = tmp_path / "CAM_BACK.png"
    malformed(path, kind)
    with pytest.raises(DataError, match=r"CAM_BACK\.png.*255 where the car's own body is") as error:
        read_mask(path, STORED)
    assert len(str(error.value)) - len(str(tmp_path)) < 300 and "\n" not in str(error.value)


def test_masks_reach_frames_through_the_one_crop(broken_root: Path):
    sensors = open_dataset(broken_root).load(SCENE).sensors
    for view in range(len(RING)):
        write_depth(broken_root / "depth" / sensors.depth_name(0, view), np.full((45, 80), 8.0, np.float32))
    assert sensors.rgbd(0, 32, 56).body is None
    write_mask(found_mask(broken_root / "depth", SCENE, "CAM_BACK"), np.zeros(STORED, bool))
    assert sensors.rgbd(0, 32, 56).body is None  # looked for and not there: as if there were no masks
    write_mask(broken_root / "body" / "CAM_BACK.png", boot(45, 80))
    for size in ((32, 56), (64, 112), (48, 48)):
        body = sensors.rgbd(0, *size).body
        assert body.dtype == bool and np.flatnonzero(body.any((1, 2))).tolist() == [RING.index("CAM_BACK")]
        np.testing.assert_array_equal(body[RING.index("CAM_BACK")], resample_nearest(boot(45, 80), STORED, *size))


def test_validate_names_masked_cameras_and_broken_masks(broken_root: Path):
    dataset = open_dataset(broken_root)
    assert "own body" not in table([check_scene(dataset, SCENE)])
    write_mask(broken_root / "body" / "CAM_BACK.png", boot())
    write_mask(found_mask(broken_root / "depth", SCENE, "CAM_FRONT"), boot())
    line = f"the car's own body is masked in {', '.join(n for n in RING if n in ('CAM_BACK', 'CAM_FRONT'))}  ({SCENE})"
    assert line in table([check_scene(dataset, SCENE)]).splitlines()
    malformed(broken_root / "body" / "CAM_BACK.png", "grey levels")
    check = check_scene(dataset, SCENE)
    assert check.use == "BROKEN" and len(check.broken) == 1 and "CAM_BACK.png" in check.broken[0]
