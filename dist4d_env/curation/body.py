"""Which pixels of a camera show the car that it is mounted on: from what never moves while the car does, or from one image.

**From motion.** What stands still in the image is told from what moves by its fine structure, which mirrored surroundings and
changes of light leave alone. Let H_t be frame t without its slow variations, T^2 the variance of H over frames and P^2 the energy
of its mean (both over a small window, P^2 freed of what the mean of noise leaves). On the body P^2 / (P^2 + T^2) is near 1 where
it has structure, on the street T is large. What lasts by chance, such as a lane marking along the way or smooth asphalt, is told
from the body by the ground: neighbouring frames agree at least as well where the ground has gone as at the same pixel.

**From one image.** The body is where the LiDAR would meet the ground but has no return, and the colour is not that of the road.

Either evidence, and that of LiDAR returns for the street, spreads along the image and stops at its edges
(``completion.ImageGraph``); what is left must reach the lower or a side border and end at a lasting edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dist4d_env.curation.camera import FEWEST
from dist4d_env.curation.completion import ImageGraph
from dist4d_env.curation.points import street_points
from dist4d_env.curation.prepare import run_jobs, sensor_files
from dist4d_env.curation.views import View, ground_depth
from dist4d_env.data.body_masks import MOST, found_mask, given_mask, read_mask, write_mask
from dist4d_env.data.contract import Dataset
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.geometry.cameras import ImageTransform, in_image, project, unproject
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import Scene

ROWS = 225
"""Rows of the images that are looked at, at most."""
FRAMES, APART, MOST_FRAMES = 3, 1.0, 32
"""Frames that motion needs, metres that the car must have gone between two of them, and how many are used at most."""
REACH = 2.5
"""Metres from the camera within which a LiDAR return may lie on the body."""
HORIZON = np.deg2rad(-2.0)
"""Elevation above which no pixel is taken for the body."""
ABOVE, CHANGES, PERSISTS, COLOUR, RETURN = 1.0, 0.3, 0.3, 0.1, 20.0
"""How much each kind of evidence counts against the flow along the image (whose weights are at most 1)."""
FLOOR, NOISE, EDGE = 2.0, 2.5, (3.0, 7.0)
"""Steps of 255: squared, what fine structure may differ by for nothing; by what the colour of one road differs; per pixel, from
which on a step may be and surely is an edge."""
LEAST, OUTLINE, MARGIN = 0.003, 0.5, 1
"""Least share of the image, and of a body's outline that must be a lasting edge; pixels by which masks are widened, as too much
costs a stale rim and too little leaves a smear in the memory."""


@dataclass(frozen=True)
class Found:
    """What a camera sees of its own car. covers: share of the image; how: where the mask is from."""

    covers: float
    how: str


@dataclass(frozen=True)
class Pictures:
    """K frames of one camera.

    rgb: (K, H, W, 3) uint8; returned: (H, W) share of them on which a pixel has a LiDAR return of the street; below: (H, W) bool,
    below the horizon; paths: (first, second, (H, W, 2) float32) for neighbouring frames both ways, where in the second (column,
    row) the ground is that the first shows, NaN where it is out of view; reached: (H, W) bool, where the LiDAR's lowest beams
    would meet the ground, were nothing in between.
    """

    rgb: np.ndarray
    returned: np.ndarray
    below: np.ndarray
    paths: tuple[tuple[int, int, np.ndarray], ...]
    reached: np.ndarray


GIVEN, KEPT, MOTION, IMAGE = "given", "kept from before", "found from motion", "found in a single image"
"""Where masks are from."""


def prepare_bodies(dataset: Dataset, scenes: Sequence[str], root: Path, overwrite: bool = False, workers: int = 1) -> list[str]:
    """``prepare_body`` for scenes, with a progress bar. Returns a line per camera: how much of it the body covers, and
    from where its mask is in how many scenes."""
    found: dict[str, list[Found]] = {}
    with Progress("own body", "scene", len(scenes)) as bar:
        for cameras in run_jobs(partial(_job, dataset, root, overwrite), scenes, workers):
            for channel, one in cameras.items():
                found.setdefault(channel, []).append(one)
            bar.update()
    return [_line(channel, found[channel]) for channel in sorted(found)]


def _job(dataset: Dataset, root: Path, overwrite: bool, name: str) -> dict[str, Found]:
    return prepare_body(dataset.load(name, False), root, overwrite)


def _line(channel: str, found: Sequence[Found]) -> str:
    least, most = (round(100 * pick(one.covers for one in found), 1) for pick in (min, max))
    covers = "nothing" if most == 0 else f"{most:g} % of the image" if least == most else f"{least:g} to {most:g} % of the image"
    scenes = Counter(one.how for one in found)
    how = ", ".join(f"{how} in {count} scene{'s' * (count > 1)}" for how, count in sorted(scenes.items()))
    return f"{channel}: the car's own body covers {covers}; mask {how}"


def prepare_body(scene: Scene, root: Path, overwrite: bool = False) -> dict[str, Found]:
    """Finds and writes the masks of a scene's cameras that nobody has given, by camera; those without an image are left out.

    root: the depth root; masks that are there are kept unless ``overwrite``. A camera that sees nothing of its car gets one, too.
    Raises DataError where the file of a mask holds none.
    """
    sensors, found = sensor_files(scene), {}
    for view, channel in enumerate(sensors.camera_names):
        given, place = given_mask(sensors.dataroot, channel, root), found_mask(root, scene.name, channel)
        if given is not None or (place.is_file() and not overwrite):
            mask, how = read_mask(given or place, sensors.image_size[view]), KEPT if given is None else GIVEN
        else:
            body = find_body(scene, view)
            if body is None:
                continue
            mask, how = body
            write_mask(place, mask)
        found[channel] = Found(float(mask.mean()), how)
    return found


def find_body(scene: Scene, view: int) -> tuple[np.ndarray, str] | None:
    """The mask (H, W) bool of one camera of a scene, at ``ROWS`` rows or fewer, and how it was found: from motion, or where there
    are fewer than ``FRAMES`` frames ``APART`` apart in a single image. None where the scene has no image of the camera, or none
    but one that the LiDAR does not look into: missing returns would all be the body."""
    sensors = sensor_files(scene)
    keyframes = [k for k in range(len(sensors.keyframe_time)) if sensors.has_image(k, view)]
    if not keyframes:
        return None
    moving = _spread(sensors, view, keyframes)
    if len(moving) >= FRAMES:
        return body_from_motion(_pictures(scene, sensors, view, moving)), MOTION
    pictures = _pictures(scene, sensors, view, keyframes[:1])
    return (body_from_image(pictures), IMAGE) if (pictures.returned > 0).sum() >= FEWEST else None


def _spread(sensors: FileSensorLog, view: int, keyframes: Sequence[int]) -> list[int]:
    """Keyframes between which the camera has moved, evenly picked where there are too many."""
    chosen = [keyframes[0]]
    for keyframe in keyframes[1:]:
        here, last = (sensors.global_from_camera[k, view, :3, 3] for k in (keyframe, chosen[-1]))
        if np.linalg.norm(here - last) >= APART:
            chosen.append(keyframe)
    return [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, min(MOST_FRAMES, len(chosen))).round().astype(int))]


def _pictures(scene: Scene, sensors: FileSensorLog, view: int, keyframes: Sequence[int]) -> Pictures:
    stored = sensors.image_size[view]
    height = min(ROWS, stored[0])
    size = height, round(height * stored[1] / stored[0])
    rgb = np.stack([sensors.image(k, view, *size) for k in keyframes])
    transform, returned = ImageTransform.cover(stored, size), np.zeros(size)
    pose = scene.rig.ego_from_camera[view]
    flat = View(transform.intrinsics(sensors.intrinsics[keyframes[0], view]), pose, np.eye(4), np.zeros(3))
    depth, elevation = ground_depth(flat, *size)
    ground, reached = unproject(depth, flat.intrinsics), np.zeros(size, bool)
    for keyframe in keyframes:
        if not sensors.has_lidar(keyframe):
            continue
        sweep = sensors.lidar(keyframe)
        points = street_points(sweep, scene.ego_pose(float(np.clip(sweep.time, 0.0, scene.duration))))
        camera = apply(invert(sensors.global_from_camera[keyframe, view]), points)
        pixels, z = project(camera, transform.intrinsics(sensors.intrinsics[keyframe, view]))
        inside = (z > 0.1) & in_image(pixels, *size) & (np.linalg.norm(camera, axis=1) > REACH)
        columns, rows = pixels[inside].astype(int).T
        hit = np.zeros(size, bool)
        hit[rows, columns] = True
        returned += hit / len(keyframes)
        there = apply(invert(sweep.global_from_lidar) @ sensors.global_from_camera[keyframe, view], ground)
        reached |= _elevation(there) > np.percentile(_elevation(sweep.points[:, :3]), 1)
    poses = sensors.global_from_camera[keyframes, view]
    neighbours = [pair for k in range(1, len(keyframes)) for pair in ((k - 1, k), (k, k - 1))]
    paths = [(a, b, _path(apply(invert(poses[b]) @ poses[a], ground), flat.intrinsics)) for a, b in neighbours]
    return Pictures(rgb, returned, elevation < HORIZON, tuple(paths), reached)


def _elevation(points: np.ndarray) -> np.ndarray:
    """Radians (...) of points (..., 3) above the horizontal plane of their frame."""
    return np.arctan2(points[..., 2], np.maximum(np.hypot(points[..., 0], points[..., 1]), 1e-6))


def _path(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Where a camera shows points (H, W, 3) in its frame, as ``cv2.remap`` counts columns and rows (H, W, 2)."""
    pixels, z = project(points, intrinsics)
    inside = (z > 0.1) & (pixels > 0.5).all(-1) & (pixels < np.array(z.shape[::-1]) - 0.5).all(-1)
    return np.where(inside[..., None], pixels - 0.5, np.nan).astype(np.float32)


def body_from_motion(pictures: Pictures) -> np.ndarray:
    """(H, W) bool, what stays where it is in at least ``FRAMES`` pictures of a moving car."""
    count, height = len(pictures.rgb), pictures.rgb.shape[1]
    grey = pictures.rgb.astype(np.float32).mean(-1)
    grey *= grey.mean() / np.maximum(grey.mean((1, 2), keepdims=True), 1.0)
    fine = np.stack([one - cv2.GaussianBlur(one, (0, 0), height / 45) for one in grey])
    change = _around(fine.var(0, ddof=1))
    lasting = np.maximum(_around(fine.mean(0) ** 2) - change / count, 0)
    persists = lasting / (lasting + change + FLOOR)
    street = (pictures.returned > 0) & pictures.below
    usual = np.sqrt(np.median(change[street] if street.any() else change[pictures.below])) if pictures.below.any() else 1.0
    moves = np.sqrt(change) / max(float(usual), 1.0)
    middle = np.median(pictures.rgb, 0).astype(np.uint8)
    flows, known = _flow(fine, pictures.paths)
    body = PERSISTS * _ramp(persists, 0.4, 0.8) * np.where(known, _ramp(flows, -0.1, -0.4), np.clip((count - 2) / 6, 0, 1))
    world = CHANGES * np.maximum(_ramp(moves, 0.4, 0.8) * (1 - persists), _ramp(flows, 0.1, 0.4)) + RETURN * pictures.returned
    return _region(middle, body, world, pictures, persists)


def _flow(fine: np.ndarray, paths: Sequence[tuple[int, int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """How much better neighbouring frames (K, H, W) agree where the ground has gone than at the same pixel, in [-1, 1] (H, W), 0
    where that could not be compared; and where it could (H, W) bool."""
    stayed, gone, count = np.zeros((3, *fine.shape[1:]), np.float32)
    for first, second, path in paths:
        known = np.isfinite(path[..., 0])
        there = cv2.remap(fine[second], np.nan_to_num(path, nan=-1), None, cv2.INTER_LINEAR)
        stayed += np.where(known, (fine[first] - fine[second]) ** 2, 0)
        gone += np.where(known, (fine[first] - there) ** 2, 0)
        count += known
    stayed, gone, count = (_around(field) for field in (stayed, gone, count))
    return (stayed - gone) / np.maximum(stayed + gone + 2 * FLOOR * count, 1e-9), count > 0.5


def body_from_image(pictures: Pictures) -> np.ndarray:
    """(H, W) bool, of one picture what no LiDAR return lies on and what differs from the road in colour."""
    image = pictures.rgb[0]
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    street = ((pictures.returned > 0) & pictures.below).astype(np.float32)
    weight = street
    for _ in range(4):  # lane markings count less and less
        share = np.maximum(_wide(weight), 1e-9)[..., None]
        mean = _wide(weight[..., None] * lab) / share
        spread = np.sqrt(_wide(weight[..., None] * (lab - mean) ** 2) / share + NOISE**2)
        differs = np.linalg.norm((lab - mean) / spread, axis=-1) / np.sqrt(3)
        weight = street / (1 + differs**4)
    silent = pictures.below & pictures.reached & ~_near(pictures.returned > 0)
    body = COLOUR * _ramp(differs, 1.2, 2.2) * silent
    world = COLOUR * _ramp(differs, 1.2, 0.5) + RETURN * pictures.returned
    return _region(image, body, world, pictures, _edges(image))


def _region(image: np.ndarray, body: np.ndarray, world: np.ndarray, pictures: Pictures, lasting: np.ndarray) -> np.ndarray:
    """What evidence (H, W) for the body and the world leaves when it has spread: connected to the lower or a side border, below
    the horizon, with an outline that is ``lasting`` (H, W, 0 to 1)."""
    world = world + ABOVE * ~pictures.below
    total = body + world
    share = ImageGraph(image).solve((body / np.maximum(total, 1e-12))[..., None], total, tolerance=1e-3)[..., 0]
    mask = ((share > 0.5) & pictures.below).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    kept = np.zeros(mask.shape, bool)
    for region in range(1, count):
        here = regions == region
        touches = here[-1].any() or here[:, 0].any() or here[:, -1].any()
        if touches and stats[region, cv2.CC_STAT_AREA] >= LEAST * mask.size and _outlined(here, lasting):
            kept |= here
    wide = cv2.dilate(_without_holes(kept).astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    return wide & (wide.mean() <= MOST)


def _outlined(region: np.ndarray, lasting: np.ndarray) -> bool:
    """Whether most of a region's outline within the image is a lasting edge."""
    padded = np.pad(region.astype(np.uint8), 1, mode="edge")
    rim = region & (cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1] == 0)
    near = cv2.dilate(lasting.astype(np.float32), np.ones((5, 5), np.uint8))
    return not rim.any() or bool((near[rim] > 0.5).mean() >= OUTLINE)


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """A mask and what it encloses together with the image's lower border."""
    padded = np.pad(~mask, ((1, 0), (1, 1)), constant_values=True).astype(np.uint8)
    _, regions = cv2.connectedComponents(padded, connectivity=4)
    return mask | (regions != regions[0, 0])[1:, 1:-1] & mask.any()


def _around(field: np.ndarray) -> np.ndarray:
    return cv2.blur(field, (7, 7))


def _wide(field: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(field, (0, 0), field.shape[1] / 16)


def _near(returned: np.ndarray) -> np.ndarray:
    return cv2.dilate(returned.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def _edges(image: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1], how sure each pixel is at an edge of an RGB image."""
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    steps = [np.linalg.norm(cv2.Sobel(lab, cv2.CV_32F, *axis), axis=-1) / 8 for axis in ((1, 0), (0, 1))]
    return _ramp(np.hypot(*steps), *EDGE)


def _ramp(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at ``low`` and 1 at ``high``, clipped, linear between."""
    return np.clip((value - low) / (high - low), 0, 1)
