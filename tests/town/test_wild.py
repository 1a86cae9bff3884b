"""Wild looks: the same bits every time, exact depth under every effect, masks of the ego's body, rigs that differ."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.town import dataset, workers
from dist4d_env.town.generate import generate_scene
from dist4d_env.town.render import TownRenderer, _Cast
from dist4d_env.town.sensors import town_rig
from dist4d_env.town.textures_ground import SEMANTICS, VEHICLE
from dist4d_env.town.timeline import boxes_at, ego_pose_at
from dist4d_env.town.wild import natural
from dist4d_env.town.wild.body import view_of_body
from dist4d_env.town.wild.cameras import CHANNELS, wild_rig
from dist4d_env.town.wild.lens import camera_of, developed
from dist4d_env.town.wild.natural import dead_leaves, muted, photo
from dist4d_env.town.writer import write_dataset
from town.conftest import SIZE, scene_of

SEED = 4
"""Traffic is found at the first attempt for both scenes that are drawn."""


@pytest.fixture(scope="module")
def wild() -> TownRenderer:
    return TownRenderer(generate_scene("val", 0, SEED, "wild"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """town-val-0000 in wild looks, 1 s, written by this process alone."""
    place = tmp_path_factory.mktemp("wild") / "town"
    return write_dataset(place, "val", 1, SIZE, duration=1.0, workers=1, progress=False, seed=SEED, looks="wild")


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and ".rows" not in p.parts}


@pytest.mark.medium
def test_other_processes_write_the_same_bits(folder: Path, tmp_path: Path) -> None:
    """Two fresh interpreters, beside another scene, draw scene 0 as this process does, which has drawn other things before."""
    other = write_dataset(tmp_path / "two", "val", 2, SIZE, duration=1.0, workers=2, progress=False, seed=SEED, looks="wild")
    mine, theirs = files_of(folder), files_of(other)
    drawn = [name for name in mine if name.startswith(("samples", "depth", "body"))]
    assert len(drawn) == 3 * 13 + 6
    assert all(mine[name] == theirs[name] for name in drawn)


def test_the_same_streets_and_traffic_look_otherwise() -> None:
    plain, wild = scene_of("val", 0), generate_scene("val", 0, looks="wild")
    assert plain.looks == "plain" and wild.looks == "wild"
    assert np.array_equal(plain.ego_pose, wild.ego_pose) and len(plain.layout.lanes) == len(wild.layout.lanes)
    for mine, theirs in zip(plain.layout.lanes, wild.layout.lanes, strict=True):
        assert np.array_equal(mine.centerline, theirs.centerline) and mine.successors == theirs.successors
    assert [a.instance for a in plain.actors] == [a.instance for a in wild.actors]
    assert plain.layout.crossings == wild.layout.crossings and plain.layout.walkways == wild.layout.walkways
    kinds = {prop.kind for prop in wild.layout.props}
    assert {"tree", "bush", "fence", "solid", "trailer", "board", "cable"} <= kinds
    again = generate_scene("val", 0, looks="wild")
    assert again.layout.props == wild.layout.props and again.layout.buildings == wild.layout.buildings
    with pytest.raises(ConfigError, match="no looks 'odd': use one of plain, wild"):
        generate_scene("val", 0, looks="odd")


def test_nothing_that_was_added_stands_on_the_road_or_at_crossings() -> None:
    from shapely import contains_xy
    from shapely.ops import unary_union

    layout, plain = generate_scene("val", 0, looks="wild").layout, scene_of("val", 0).layout
    before = {(p.x, p.y) for p in plain.props}
    added = np.array([(p.x, p.y) for p in layout.props if (p.x, p.y) not in before])
    road = unary_union([*layout.road, *layout.intersections])
    assert len(added) > 100
    assert not contains_xy(road, *added.T).any() and not contains_xy(unary_union(layout.crossings).buffer(2.5), *added.T).any()


def test_depth_is_that_of_the_rays_whatever_the_picture_suffers(wild: TownRenderer) -> None:
    """Rain, blur, flare and drift change the picture alone; the body of the car is where its mask is."""
    scene, rig, time = wild.scene, wild_rig(SEED, 6, *SIZE), 4.0
    poses = ego_pose_at(scene, time) @ rig.ego_from_camera
    images = wild.render(rig, poses, boxes_at(scene, time), time)
    body = view_of_body(SEED, rig)
    cast = _Cast(rig.intrinsics, poses, wild._origin)
    view, row, column = (part.ravel() for part in np.mgrid[:6, : SIZE[0], : SIZE[1]])
    rays = cast(view, (column + 0.5).astype(np.float32), (row + 0.5).astype(np.float32))
    placed = wild._placed(rig, poses, boxes_at(scene, time), time)
    truth = np.minimum(wild.trace(*rays[:2], placed.surfaces, 400.0).distance, FAR).reshape(images.depth.shape)
    on_body = body.depth > 0
    assert 0.005 < on_body.mean() < 0.3
    assert np.array_equal(images.depth[~on_body], truth[~on_body])
    assert np.array_equal(images.depth[on_body], body.depth[on_body]) and (images.semantics[on_body] == VEHICLE).all()
    again = wild.render(rig, poses, boxes_at(scene, time), time)
    assert np.array_equal(images.rgb, again.rgb)
    wild._wild._rain, kept = 1.0, wild._wild._rain  # type: ignore[union-attr]
    rainy = wild.render(rig, poses, boxes_at(scene, time), time)
    wild._wild._rain = kept  # type: ignore[union-attr]
    assert not np.array_equal(rainy.rgb, images.rgb) and np.array_equal(rainy.depth, images.depth)


def test_six_cameras_together_show_what_each_shows_alone(wild: TownRenderer) -> None:
    scene, rig = wild.scene, wild_rig(SEED, 6, 24, 40)
    poses = ego_pose_at(scene, 8.0) @ rig.ego_from_camera
    together = wild.render(rig, poses, boxes_at(scene, 8.0), 8.0)
    for view, name in enumerate(rig.names):
        one = slice(view, view + 1)
        alone = replace(rig, names=(name,), intrinsics=rig.intrinsics[one], ego_from_camera=rig.ego_from_camera[one])
        images = wild.render(alone, poses[one], boxes_at(scene, 8.0), 8.0)
        assert np.array_equal(images.depth[0], together.depth[view])
        assert np.abs(images.rgb[0].astype(int) - together.rgb[view]).max() <= 1


def test_masks_hold_all_that_rides_along(folder: Path) -> None:
    """Under a mask's pixels whose neighbours are masked too, depth never changes; elsewhere it does."""
    rig = wild_rig(SEED, 6, *SIZE)
    assert sorted(p.name for p in (folder / "body").iterdir()) == sorted(f"{name}.png" for name in rig.names)
    masked = 0
    for name in rig.names:
        mask = cv2.imread(str(folder / "body" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == SIZE and set(np.unique(mask)) <= {0, 255}
        depth = np.stack([read_depth(path) for path in sorted((folder / "depth" / name).glob("*.png"))])
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        still = (depth == depth[0]).all(0)
        assert still[inner].all() and (depth[0][inner] < 3.5).all()
        assert (depth[:, mask == 0] > 1.2).all()
        masked += int(inner.sum())
    assert masked > 50


@pytest.mark.medium
def test_rigs_differ_from_seed_to_seed_and_cameras_are_as_many_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dataset, workers):
        monkeypatch.setattr(module, "cores", lambda: 1)  # each process would build the streets for itself
    views, heights = [], []
    for seed in range(40):
        rig = wild_rig(seed, 8, 900, 1600)
        views += list(np.degrees(2 * np.arctan(800 / rig.intrinsics[:, 0, 0])))
        heights.append(rig.ego_from_camera[:, 2, 3].mean())
        assert np.allclose(rig.ego_from_camera[:, :3, :3] @ rig.ego_from_camera[:, :3, :3].swapaxes(1, 2), np.eye(3))
    assert 45 < min(views) < 62 and 92 < max(views) < 110 and np.ptp(heights) > 0.4
    for count, names in CHANNELS.items():
        few, all_eight = wild_rig(5, count, *SIZE), wild_rig(5, 8, *SIZE)
        pick = [all_eight.names.index(name) for name in names]
        assert len(names) == count and few.names == names
        assert np.array_equal(few.intrinsics, all_eight.intrinsics[pick])
        assert np.array_equal(few.ego_from_camera, all_eight.ego_from_camera[pick])
    place = write_dataset(
        tmp_path / "eight", "val", 1, SIZE, duration=0.5, progress=False, looks="wild", cameras=8, on_demand=True
    )
    sensors = open_dataset(place).load("town-val-0000")
    assert sensors.rig.names == CHANNELS[8]
    assert sensors.sensors.rgb(0, *SIZE).shape == (8, *SIZE, 3)


def test_cameras_differ_and_drift() -> None:
    grey = np.full((32, 56, 3), 120, np.float32)
    far = np.full((32, 56), FAR, np.float32)

    def mean(key: tuple[int, int, int], name: str, time: float) -> np.ndarray:
        return developed(grey, camera_of(key, name, "day"), key, name, time, 0.0, far, 1.0).mean((0, 1))

    own = np.array([[mean((0, 1, 2), name, time) for time in np.arange(0, 20, 0.5)] for name in town_rig(*SIZE).names])
    assert np.ptp(own.mean((1, 2))) > 4 and (np.ptp(own.mean(2), axis=1) > 0.5).all()
    scenes = np.array([mean((0, 1, index), "CAM_FRONT", 1.0) for index in range(20)])
    assert scenes.mean(1).std() > 5 and (scenes[:, 0] - scenes[:, 2]).std() > 4


def test_drawn_pictures_have_natural_statistics() -> None:
    """Power falls with frequency by an exponent between 1.5 and 3, as it does in photographs (Field 1987)."""
    rng = np.random.default_rng(0)
    image = dead_leaves(rng, 256, 256, 4000, muted(rng, 30)).mean(-1)
    window = np.hanning(256)
    power = np.abs(np.fft.fft2((image - image.mean()) * window[:, None] * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    edges = np.geomspace(0.02, 0.3, 8)
    mean = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
    assert -3.0 < slope < -1.5


def test_every_photograph_is_small_and_listed_with_source_and_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(natural.__file__).parent / "photos"
    files = sorted(place.glob("*.webp"))
    assert len(files) == 5 and sum(path.stat().st_size for path in files) < 300_000
    rows = [line for line in (place / "SOURCES.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(files)
    for path in files:
        (row,) = [line for line in rows if f"`{path.name}`" in line]
        assert row.rsplit("|", 2)[1].strip() in ("CC0", "public domain")
    monkeypatch.setattr(natural, "__file__", "/nowhere/natural.py")
    photo.cache_clear()
    with pytest.raises(DataError, match="missing or unreadable: install the package again"):
        photo("brick")


def test_the_oracle_shows_what_was_recorded(folder: Path) -> None:
    env = gym.make("DiST4D-nuScenes-v0", dataroot=folder, world="oracle", size=(64, 112), horizon=1.0, decision_dt=0.1)
    seen, _ = env.reset(seed=0, options={"scene": "town-val-0000"})
    stored = open_dataset(folder).load("town-val-0000")
    rig = env.unwrapped.rig
    env.close()
    for view, name in enumerate(rig.names):
        recorded = stored.sensors.rgb(0, 64, 112)[view].astype(float)
        error = np.abs(cv2.GaussianBlur(seen[name].astype(float), (0, 0), 2) - cv2.GaussianBlur(recorded, (0, 0), 2))
        assert error.mean() < 12, name
    assert json.loads((folder / "town.json").read_text())["looks"] == "wild" and len(SEMANTICS) == 14


@pytest.mark.medium
def test_a_minute_of_driving() -> None:
    scene = generate_scene("val", 4, looks="wild", seconds=60.0)
    assert len(scene.time) == 601 and all(actor.valid.shape == (601,) for actor in scene.actors)
    step = np.hypot(*np.diff(scene.ego_pose[:, :2, 3], axis=0).T)
    assert step.sum() > 200 and step[-100:].sum() > 5
    again = generate_scene("val", 4, looks="wild", seconds=60.0)
    assert np.array_equal(scene.ego_pose, again.ego_pose)
    short = generate_scene("val", 4, looks="wild", seconds=5.0)
    assert np.array_equal(short.ego_pose, generate_scene("val", 4).ego_pose)
