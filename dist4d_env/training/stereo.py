"""Training of multi-view stereo: exact depth of drawn streets, from what several cameras saw at several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.curation.points import boxes_when
from dist4d_env.curation.prepare import sensor_files
from dist4d_env.curation.sources import LEAST, MOST, SOURCES, choose_sources, keyframes_around, moving, pixel_from_pixel
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import covering_intrinsics
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.stereo import FURTHEST, Pyramid, StereoNetwork, Sweep, code_depth, depth_code
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.loading import as_stores, evenly
from dist4d_env.training.run_log import depth_colours
from dist4d_env.training.samples import SampleSettings, SampleStore, SceneSamples
from dist4d_env.training.segmenter import augmented

KEPT = 21
"""Keyframes of a scene that are used, evenly picked where there are more."""
CROP = (96, 160)
"""Height and width of what a step sees of each image."""
REACH = (0.7, 2.3)
"""Logarithms of metres between which it is drawn how far the sources of a window may be away."""
SKY_WEIGHT, DEPTH_WEIGHT = 0.2, 2.0
"""Of the likelihood of sky's plane, and of the error of log depth, in the loss."""
PROBABLE = 0.6
"""Probability from which on a pixel counts as found in validation."""


class StereoBatch(NamedTuple):
    """images: (N, 1 + S, 3, h, w), the reference first; seen: (N, 1 + S, 1, h, w), what may be matched; pixels: (N, S, 3, 4) from
    pixels of the reference to those of the sources; truth: (N, h, w) metres, 0 where it does not count."""

    images: torch.Tensor
    seen: torch.Tensor
    pixels: torch.Tensor
    truth: torch.Tensor


def stereo_samples(scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    """Arrays of one scene: images of its keyframes and cameras (K, V) with exact depth, poses, and what may be matched.

    Raises DataError where fewer than two keyframes have images and depth.
    """
    sensors, size = sensor_files(scene), (settings.height, settings.width)
    usable = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k) and sensors.has_depth(k)]
    if len(usable) < 2:
        raise DataError(
            f"{scene.name} has fewer than two keyframes with images and depth: write it with `python -m dist4d_env town`"
        )
    usable = evenly(usable, KEPT)
    body = sensors.body(*size)
    intrinsics = np.stack([covering_intrinsics(sensors.intrinsics[k], sensors.image_size, size) for k in usable])
    seen = np.ones((len(usable), len(sensors.camera_names), *size), bool)
    for row, keyframe in enumerate(usable):
        for view in range(seen.shape[1]):
            boxes = boxes_when(scene, float(sensors.camera_time[keyframe, view]))
            seen[row, view] = ~moving(boxes, intrinsics[row, view], sensors.global_from_camera[keyframe, view], size)
    return {
        "rgb": np.stack([sensors.rgb(k, *size) for k in usable]),
        "depth": np.stack([sensors.depth(k, *size) for k in usable]).astype(np.float16),
        "seen": seen if body is None else seen & ~body,
        "intrinsics": intrinsics,
        "global_from_camera": sensors.global_from_camera[usable],
    }


class StereoRecipe:
    """Windows of all scales, relit one by one, with sources before, after, or both.

    Raises ``DataError`` where no image has a source, as those of a parked car.
    """

    def __init__(self, train: SampleStore | Sequence[SampleStore], val: SampleStore | None, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = StereoNetwork()
        self.models: dict[str, nn.Module] = {"stereo": self.model}
        self.count, self.seed, self.stores = batch, seed, as_stores(train)
        self.val = val or self.stores[0]
        for stores in (self.stores, [self.val]):
            if any(_has_sources(scene) for store in stores for scene in store.scenes):
                continue
            names = ", ".join(str(store.folder) for store in stores)
            raise DataError(
                f"{names}: in no scene do two keyframes lie {0.5 * LEAST:g} to {np.exp(REACH[1]):.0f} m apart and show the same "
                "places; take scenes in which the car drives"
            )

    def batch(self, step: int, rank: int = 0) -> StereoBatch:
        """Windows of random images."""
        generator = np.random.default_rng([self.seed, step, rank])
        samples = [self._window(generator) for _ in range(self.count)]
        images, seen, pixels, truth = (torch.from_numpy(np.stack([sample[i] for sample in samples])) for i in range(4))
        relit = augmented(images.flatten(0, 1), generator).unflatten(0, images.shape[:2])
        return StereoBatch(relit, seen, pixels, truth)

    def _window(self, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        while True:
            scenes = self.stores[int(generator.integers(len(self.stores)))].scenes
            scene = scenes[int(generator.integers(len(scenes)))]
            places = scene.arrays["global_from_camera"].shape[:2]
            keyframe, view = (int(generator.integers(count)) for count in places)
            around = _some_around(scene, keyframe, generator)
            chosen = sources_of(scene, keyframe, view, around)
            if chosen:
                scale = float(np.exp(generator.uniform(np.log(0.85), np.log(1.5))))
                return example(scene, keyframe, view, chosen, (CROP, scale, generator))

    def loss(self, batch: StereoBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy of the planes next to the truth, of each sweep, and error of the last one's log depth."""
        sweeps = self._sweeps(batch)
        total, numbers = torch.zeros((), device=batch.truth.device), {}
        for stage, sweep in enumerate(sweeps):
            truth = F.interpolate(batch.truth[:, None], size=sweep.codes.shape[-2:], mode="nearest-exact")
            value = planes_loss(sweep, truth)
            numbers[f"planes_{stage}"] = value.detach()
            total = total + value
        found = code_depth(sweeps[-1].best()[0])[:, 0].float()
        counts = (batch.truth > 0) & (batch.truth < 80)
        error = (found.log() - batch.truth.clamp(min=0.1).log()).abs().clamp(max=1.0)
        depth = (error * counts).sum() / counts.sum().clamp(min=1)
        return total + DEPTH_WEIGHT * depth, {**numbers, "depth": depth.detach()}

    def _sweeps(self, batch: StereoBatch) -> list[Sweep]:
        count, images = batch.images.shape[:2]
        made = self.model.features(batch.images.flatten(0, 1), batch.seen.flatten(0, 1))
        each = [Pyramid(*(level.unflatten(0, (count, images))[:, index] for level in made)) for index in range(images)]
        return self.model(each[0], each[1:], batch.pixels)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """AbsRel below 60 m of all that stands still, the share within 5 %, both also of what is probable, and its share."""
        sums: dict[str, list[float]] = {}
        for scene, keyframe, view, chosen in self.val_samples():
            depth, sure, truth = self._found(scene, keyframe, view, chosen)
            near = (truth > 0) & (truth < 60)
            error = np.abs(depth - truth) / np.maximum(truth, 0.1)
            for name, where in (("", near), ("probable_", near & (sure > PROBABLE))):
                if where.any():
                    sums.setdefault(f"{name}absrel", []).append(float(error[where].mean()))
                    sums.setdefault(f"{name}within", []).append(float((error[where] < 0.05).mean()))
            sums.setdefault("probable", []).append(float((sure > PROBABLE)[near].mean()) if near.any() else 0.0)
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def _found(
        self, scene: SceneSamples, keyframe: int, view: int, chosen: list[tuple[int, int]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth, its probability and the truth of a whole image, (H, W) each."""
        device = next(self.model.parameters()).device
        arrays = [torch.from_numpy(array)[None] for array in example(scene, keyframe, view, chosen)]
        batch = StereoBatch(*(array.to(device) for array in arrays))
        count = batch.images.shape[1]
        made = self.model.features(batch.images[0], batch.seen[0])
        each = [Pyramid(*(level[index : index + 1] for level in made)) for index in range(count)]
        depth, sure = self.model.depth(each[0], each[1:], batch.pixels)
        return depth[0].cpu().numpy(), sure[0].cpu().numpy(), batch.truth[0].cpu().numpy()

    def val_samples(self) -> list[tuple[SceneSamples, int, int, list[tuple[int, int]]]]:
        """Up to 48 validation samples, evenly picked: scene, keyframe, view, sources."""
        found = []
        for scene in self.val.scenes:
            keyframes, views = scene.arrays["global_from_camera"].shape[:2]
            for keyframe in range(keyframes):
                around = keyframes_around(scene.arrays["global_from_camera"][:, 0, :3, 3], keyframe)
                for view in range(views):
                    found.append((scene, keyframe, view, around))
        picked = found[:: max(1, len(found) // 48)]
        return [
            (scene, keyframe, view, chosen)
            for scene, keyframe, view, around in picked
            if (chosen := sources_of(scene, keyframe, view, around))
        ]

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Images, exact depth and what was found of six validation samples."""
        samples, rows = self.val_samples(), []
        for scene, keyframe, view, chosen in samples[:: max(1, len(samples) // 6)][:6]:
            depth, sure, truth = self._found(scene, keyframe, view, chosen)
            coloured = [depth_colours(truth), depth_colours(depth)]
            image = np.array(scene.arrays["rgb"][keyframe, view])
            rows.append(np.hstack([image[: len(depth), : depth.shape[1]], *coloured, coloured[1] * (sure > PROBABLE)[..., None]]))
        return {"val": np.vstack(rows)} if rows else {}

    def export(self, folder: Path) -> None:
        """Write the network, in half precision."""
        save_model(self.model, folder / "stereo", torch.float16)


def _near(scene: SceneSamples, keyframe: int, most: float) -> np.ndarray:
    """(N,) the keyframes at least half of ``LEAST`` and at most ``most`` metres from one."""
    positions = np.array(scene.arrays["global_from_camera"][:, 0, :3, 3])
    away = np.linalg.norm(positions - positions[keyframe], axis=1)
    return np.flatnonzero((away >= 0.5 * LEAST) & (away <= most))


def _has_sources(scene: SceneSamples) -> bool:
    """Whether any image of a scene has a source that training may draw."""
    keyframes, views = scene.arrays["global_from_camera"].shape[:2]
    pairs = ((k, int(other)) for k in range(keyframes) for other in _near(scene, k, float(np.exp(REACH[1]))))
    return any(sources_of(scene, k, view, [other]) for k, other in pairs for view in range(views))


def _some_around(scene: SceneSamples, keyframe: int, generator: np.random.Generator) -> list[int]:
    """A keyframe before, one after, or one of each at random distances that stereo may meet."""
    near = _near(scene, keyframe, min(MOST, float(np.exp(generator.uniform(*REACH)))))
    sides = [near[near < keyframe], near[near > keyframe]]
    kind = generator.choice(4, p=[0.15, 0.15, 0.35, 0.35])
    wanted = [side for side, use in zip(sides, (kind != 1, kind != 0), strict=True) if use and len(side)]
    return [int(side[generator.integers(len(side))]) for side in wanted]


def sources_of(scene: SceneSamples, keyframe: int, view: int, around: Sequence[int]) -> list[tuple[int, int]]:
    """(keyframe, view) of the images that an image is compared with."""
    a = scene.arrays
    size = a["rgb"].shape[2:4]
    others = [(k, v) for k in around for v in range(a["intrinsics"].shape[1])]
    cameras = [(a["intrinsics"][k, v], a["global_from_camera"][k, v], size) for k, v in others]
    if not cameras:
        return []
    pose = a["global_from_camera"][keyframe, view]
    return [others[index] for index in choose_sources(a["intrinsics"][keyframe, view], pose, size, cameras)]


def example(
    scene: SceneSamples,
    keyframe: int,
    view: int,
    chosen: Sequence[tuple[int, int]],
    window: tuple[tuple[int, int], float, np.random.Generator] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images (1 + S, 3, h, w) in [-1, 1], what may be matched (1 + S, 1, h, w), pixels (S, 3, 4) and truth (h, w) of an image.

    window: height and width, scale, and what draws its place; the sources' windows lie where theirs of the same place is. None
    takes whole images and as many sources as there are.
    """
    a, rows = scene.arrays, [(keyframe, view), *chosen]
    size, places = a["rgb"].shape[2:4], []
    if window is None:
        crop, scale = (size[0] - size[0] % 8, size[1] - size[1] % 8), 1.0
        places = [np.zeros(2)] * len(rows)
    else:
        crop, scale, generator = window
        room = np.maximum(np.array(size) * scale - crop, 0)
        places = [generator.uniform(0, 1, 2) * room]
        middle = (places[0] + np.array(crop) / 2) / scale
        depth = float(np.clip(a["depth"][keyframe, view][tuple(middle.astype(int))], 4, 40))
        for k, v in chosen:
            matrix = _pixels(a, (keyframe, view), (k, v))
            x, y, z = matrix @ np.array([middle[1], middle[0], 1, 1 / depth])
            centre = np.array([y, x]) / z if z > 0.1 else np.array(size) / 2
            places.append(np.clip(centre * scale - np.array(crop) / 2 + generator.uniform(-8, 8, 2), 0, room))
    images, seen, shifts = [], [], []
    for (k, v), corner in zip(rows, places, strict=True):
        shift = np.array([[scale, 0, -corner[1]], [0, scale, -corner[0]], [0, 0, 1.0]])
        images.append(
            _cut(np.array(a["rgb"][k, v]), corner, scale, crop, cv2.INTER_LINEAR).transpose(2, 0, 1) / np.float32(127.5) - 1
        )
        seen.append(_cut(np.array(a["seen"][k, v], np.float32), corner, scale, crop, cv2.INTER_NEAREST)[None])
        shifts.append(shift)
    truth = _cut(np.array(a["depth"][keyframe, view], np.float32), places[0], scale, crop, cv2.INTER_NEAREST) * (seen[0][0] > 0)
    pixels = [
        shifts[i] @ _pixels(a, rows[0], rows[i]) @ np.block([[np.linalg.inv(shifts[0]), np.zeros((3, 1))], [np.zeros(3), 1.0]])
        for i in range(1, len(rows))
    ]
    missing = 0 if window is None else SOURCES - len(pixels)  # batches need the same number: what nothing is seen in adds nothing
    images += [np.zeros_like(images[0])] * missing
    seen += [np.zeros_like(seen[0])] * missing
    pixels += [pixels[0]] * missing
    return np.stack(images).astype(np.float32), np.stack(seen), np.stack(pixels).astype(np.float32), truth


def _pixels(arrays: Mapping[str, np.ndarray], one: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    matrices, poses = arrays["intrinsics"], arrays["global_from_camera"]
    return pixel_from_pixel(matrices[one], poses[one], matrices[other], poses[other])


def _cut(image: np.ndarray, corner: np.ndarray, scale: float, crop: tuple[int, int], way: int) -> np.ndarray:
    """A window of an image scaled by ``scale``, at a corner (row, column) of the scaled image."""
    y, x = ((corner[axis] + np.arange(crop[axis]) + 0.5) / scale - 0.5 for axis in (0, 1))
    maps = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(image, *maps, way, borderMode=cv2.BORDER_REPLICATE)


def planes_loss(sweep: Sweep, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a sweep against the two planes that true depth (N, 1, h, w) lies between; depth of FAR and more belongs to
    the farthest plane of the first sweep. Where truth is 0, or beyond what the sweep tries, nothing counts."""
    codes, sky = sweep.codes.float(), truth >= FAR
    wanted = depth_code(torch.where(sky, torch.full_like(truth, FURTHEST), truth.clamp(min=0.1)))
    place = (wanted - codes[:, :1]) / (codes[:, 1:2] - codes[:, :1])
    last = codes.shape[1] - 1
    counts = ((truth > 0) & (place > -0.5) & (place < last + 0.5))[:, 0].float()
    place = place.clamp(0, last - 1e-3)
    below, share = place.floor().long(), place - place.floor()
    logs = sweep.logits.float().log_softmax(1)
    likely = (1 - share) * logs.gather(1, below) + share * logs.gather(1, below + 1)
    weight = counts * torch.where(sky[:, 0], SKY_WEIGHT, 1.0)
    return -(likely[:, 0] * weight).sum() / weight.sum().clamp(min=1)
