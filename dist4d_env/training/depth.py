"""Training of depth completion: exact depth of drawn streets, from images and LiDAR returns of which some are taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.curation.camera import CurationConfig, visible_returns
from dist4d_env.curation.points import vertical_field
from dist4d_env.curation.prepare import camera_view, points_at, sensor_files, separated_sweeps
from dist4d_env.curation.prompt import condition
from dist4d_env.curation.views import View
from dist4d_env.curation.visibility import height_above
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import unproject
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.depth_flow import MIDDLE, DepthFlow
from dist4d_env.models.pretrained import save_model
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.loading import as_stores, evenly
from dist4d_env.training.run_log import depth_colours
from dist4d_env.training.samples import SampleSettings, SampleStore
from dist4d_env.training.segmenter import augmented

CROP = (80, 128)
"""Height and width of what a step sees."""
MOST = 8
"""Keyframes of a scene that are used, evenly picked where there are more."""
AROUND = (0, 0, 1, 2)
"""Sweeps gathered before and after a keyframe, one drawn for each."""
PURE, SKY_WEIGHT, ERROR_WEIGHT, CLASS_WEIGHT = 0.4, 0.1, 0.1, 1.0
"""Share of samples of nothing but noise; weights of the depth of sky, of the expected error and of classes in the loss."""
SKY, GROUND, OBJECT, UNKNOWN = 0, 1, 2, 255
"""Classes as stored: indices into CLASSES; UNKNOWN pixels show the car's own body."""
STEPS = 2
"""Evaluations of the flow in validation."""


class DepthBatch(NamedTuple):
    """condition: (N, 14, h, w); truth: (N, 1, h, w) depth codes; classes: (N, h, w) int64; noise: (N, 1, h / 2, w / 2); level:
    (N,)."""

    condition: torch.Tensor
    truth: torch.Tensor
    classes: torch.Tensor
    noise: torch.Tensor
    level: torch.Tensor


def depth_samples(scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    """Arrays of one scene: images with exact depth, classes, visible returns and views, of its keyframes and cameras (N).

    Raises DataError where there are no images, depth and LiDAR.
    """
    sensors, size = sensor_files(scene), (settings.height, settings.width)
    usable = [
        k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k) and sensors.has_depth(k) and sensors.has_lidar(k)
    ]
    if not usable:
        raise DataError(f"{scene.name} has no keyframe with images, depth and LiDAR: write it with `python -m dist4d_env town`")
    generator = np.random.default_rng([settings.seed, *scene.name.encode()])
    body = sensors.body(*size)
    rows: dict[str, list[np.ndarray]] = {}
    for keyframe in evenly(usable, MOST):
        around = int(generator.choice(AROUND))
        sweeps = separated_sweeps(scene, sensors.sweeps(keyframe, around, around))
        rig = scene.rig.at_size(*size)
        for view in range(len(rig.names)):
            points, boxed = points_at(scene, float(sensors.camera_time[keyframe, view]), sweeps)
            seen = camera_view(scene, keyframe, view, points, CurationConfig())
            seen = replace(seen, intrinsics=rig.intrinsics[view], field=vertical_field(sweeps))
            sparse, upright = visible_returns(points, boxed, seen, *size, CurationConfig())
            depth = sensors.depth_of(keyframe, view, *size)
            one = {
                "rgb": sensors.image(keyframe, view, *size),
                "depth": depth.astype(np.float16),
                "classes": true_classes(depth, seen, None if body is None else body[view]),
                "sparse": sparse.astype(np.float16),
                "upright": upright,
                "intrinsics": seen.intrinsics,
                "ego_from_camera": invert(seen.global_from_ego) @ seen.global_from_camera,
                "plane": seen.plane,
                "field": np.array(seen.field),
            }
            for name, array in one.items():
                rows.setdefault(name, []).append(array)
    return {name: np.stack(stack) for name, stack in rows.items()}


def true_classes(depth: np.ndarray, view: View, body: np.ndarray | None) -> np.ndarray:
    """Classes (H, W) uint8 of exact depth (H, W): nothing within FAR is sky, near the plane is ground; body: (H, W) bool."""
    points = apply(view.global_from_camera, unproject(depth.astype(float), view.intrinsics).reshape(-1, 3))
    over = height_above(points, view.plane, view.global_from_ego).reshape(depth.shape)
    bends = 0.01 * np.linalg.norm(points[:, :2] - view.global_from_ego[:2, 3], axis=1).reshape(depth.shape)
    classes = np.where(depth >= FAR, SKY, np.where(over < CurationConfig().upright_above + bends, GROUND, OBJECT)).astype(
        np.uint8
    )
    if body is not None:
        classes[body] = UNKNOWN
    return classes


class DepthRecipe:
    """Crops of all scales, mirrored and relit, whose returns are taken away as they are missing in recordings and in tests."""

    def __init__(self, train: SampleStore | Sequence[SampleStore], val: SampleStore | None, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = DepthFlow().to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"depth": self.model}
        self.count, self.seed, self.stores = batch, seed, as_stores(train)
        self.val = val or self.stores[0]

    def batch(self, step: int, rank: int = 0) -> DepthBatch:
        """Crops of random images."""
        generator = np.random.default_rng([self.seed, step, rank])
        crops = [self._crop(generator) for _ in range(self.count)]
        conditions = torch.from_numpy(np.stack([crop[0] for crop in crops]))
        conditions[:, :3] = augmented(conditions[:, :3], generator)
        truth, classes = (torch.from_numpy(np.stack([crop[i] for crop in crops])) for i in (1, 2))
        level = np.where(generator.random(self.count) < PURE, 1.0, generator.random(self.count))
        height, width = truth.shape[1:]
        noise = generator.standard_normal((self.count, 1, height // 2, width // 2), np.float32)
        return DepthBatch(
            conditions, truth[:, None], classes.long(), torch.from_numpy(noise), torch.from_numpy(level.astype(np.float32))
        )

    def _crop(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scenes = self.stores[int(generator.integers(len(self.stores)))].scenes
        arrays = scenes[int(generator.integers(len(scenes)))].arrays
        row = int(generator.integers(len(arrays["rgb"])))
        sample = {name: np.array(array[row]) for name, array in arrays.items()}
        crop = cropped(sample, generator)
        crop["sparse"], crop["upright"] = thinned(crop["sparse"], crop["upright"], crop["intrinsics"][0, 0], generator)
        made = list(example(crop))
        if generator.random() < 0.5:
            made = [np.ascontiguousarray(array[..., ::-1]) for array in made]
        return made[0], made[1], made[2]

    def loss(self, batch: DepthBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Absolute error of log depth, likelihood of its scale, cross-entropy of the classes."""
        features, guesses = self.model.features(batch.condition)
        level = batch.level[:, None, None, None]
        noisy = (1 - level) * batch.truth[..., 1::2, 1::2] + level * batch.noise
        code, spread = self.model.clean(noisy, batch.level, features, guesses)
        grown = self.model.enlarge(torch.cat([code, spread], 1), features).float()
        error = (grown[:, 0] - batch.truth[:, 0]).abs()
        known = (batch.classes != UNKNOWN).float()
        weight = known * torch.where(batch.classes == SKY, SKY_WEIGHT, 1.0)
        depth = (error * weight).sum() / weight.sum().clamp(min=1)
        likelihood = ((error.detach() / grown[:, 1].exp() + grown[:, 1]) * weight).sum() / weight.sum().clamp(min=1)
        logits = self.model.classify(features).float()
        classes = F.cross_entropy(logits, batch.classes, ignore_index=UNKNOWN)
        loss = depth + ERROR_WEIGHT * likelihood + CLASS_WEIGHT * classes
        return loss, {"depth": depth.detach(), "classes": classes.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """AbsRel where returns were taken away, at random and in wedges, and everywhere; share of right classes, and of pixels
        taken for sky that are none."""
        device = next(self.model.parameters()).device
        sums: dict[str, list[float]] = {}
        for sample in self.val_samples():
            for kind in ("half", "wedges"):
                generator = np.random.default_rng(0)
                kept = removed(sample["sparse"], sample["intrinsics"][0, 0], kind, generator)
                inputs, truth, classes = example(sample | {"sparse": kept})
                depth, _, shares = self.model.sample(torch.from_numpy(inputs)[None].to(device), STEPS)
                found = depth[0].cpu().numpy()
                exact, near = np.exp(truth + MIDDLE), (classes != SKY) & (classes != UNKNOWN) & (sample["depth"] < 60)
                lost = (sample["sparse"] > 0) & (kept == 0) & near
                label = shares[0].argmax(0).cpu().numpy()
                for name, where in (("", lost), ("all_", near)):
                    if where.any():
                        sums.setdefault(f"{name}{kind}", []).append(float((np.abs(found - exact) / exact)[where].mean()))
                known = classes != UNKNOWN
                sums.setdefault("right", []).append(float((label == classes)[known].mean()))
                sums.setdefault(f"false_sky_{kind}", []).append(float((label == SKY)[near].mean()))
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def val_samples(self) -> list[dict[str, np.ndarray]]:
        """Up to 60 validation samples, evenly picked."""
        places = [(scene, row) for scene in self.val.scenes for row in range(len(scene.arrays["rgb"]))]
        return [
            {name: np.array(array[row]) for name, array in scene.arrays.items()}
            for scene, row in places[:: max(1, len(places) // 60)]
        ]

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Images, exact and completed depth of six validation samples."""
        device, rows = next(self.model.parameters()).device, []
        chosen = self.val_samples()
        for sample in chosen[:: max(1, len(chosen) // 6)][:6]:
            inputs, truth, _ = example(sample)
            depth = self.model.sample(torch.from_numpy(inputs)[None].to(device), STEPS)[0][0].cpu().numpy()
            rows.append(np.hstack([sample["rgb"], depth_colours(np.exp(truth + MIDDLE)), depth_colours(depth)]))
        return {"val": np.vstack(rows)}

    def export(self, folder: Path) -> None:
        """Write the network, in half precision."""
        save_model(self.model, folder / "depth", torch.float16)


def example(sample: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Condition (14, h, w), true depth code (h, w) and classes (h, w) of a sample."""
    view = View(
        sample["intrinsics"],
        sample["ego_from_camera"],
        np.eye(4),
        sample["plane"],
        (float(sample["field"][0]), float(sample["field"][1])),
    )
    sparse = sample["sparse"].astype(np.float32)
    truth = np.log(np.maximum(sample["depth"].astype(np.float32), 0.1)) - np.float32(MIDDLE)
    return condition(sample["rgb"], sparse, sample["upright"], view), truth, sample["classes"]


def cropped(sample: dict[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """A sample's window of random scale and place, at ``CROP``."""
    rows, columns = sample["depth"].shape
    height, width = CROP
    least = max(height / rows, width / columns)
    scale = max(least, float(np.exp(generator.uniform(np.log(0.75), np.log(1.45)))))
    size = np.array([height, width]) / scale
    corner = generator.uniform(0, 1, 2) * (np.array([rows, columns]) - size)
    # Pixel (r, c) of the crop shows the source at corner + ((r, c) + 0.5) / scale.
    y, x = (corner[axis] + (np.arange(CROP[axis]) + 0.5) / scale for axis in (0, 1))
    maps = np.meshgrid((x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32))
    picked = np.ix_(np.clip(y.astype(int), 0, rows - 1), np.clip(x.astype(int), 0, columns - 1))
    soft = cv2.GaussianBlur(sample["rgb"], (0, 0), 0.5 / scale) if scale < 1 else sample["rgb"]
    r, c = np.nonzero(sample["sparse"])
    at = np.floor((np.stack([r, c], 1) + generator.uniform(0.25, 0.75, (len(r), 2)) - corner) * scale).astype(int)
    inside = ((at >= 0) & (at < CROP)).all(1)
    order = np.argsort(-sample["sparse"][r, c].astype(np.float32), kind="stable")
    order = order[inside[order]]
    sparse, upright = np.zeros(CROP, np.float32), np.zeros(CROP, bool)
    sparse[at[order, 0], at[order, 1]] = sample["sparse"][r[order], c[order]]
    upright[at[order, 0], at[order, 1]] = sample["upright"][r[order], c[order]]
    shift = np.array([[scale, 0, -corner[1] * scale], [0, scale, -corner[0] * scale], [0, 0, 1]])
    return sample | {
        "rgb": cv2.remap(soft, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        "depth": sample["depth"][picked],
        "classes": sample["classes"][picked],
        "sparse": sparse,
        "upright": upright,
        "intrinsics": shift @ sample["intrinsics"],
    }


def thinned(
    sparse: np.ndarray, upright: np.ndarray, focal: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (H, W) of which some are missing, shifted, or of something else, and which of them are upright (H, W), shifted with
    them. Missing are none, a share, whole wedges, all above or below a row, or all of them."""
    kind = generator.choice(["none", "share", "wedges", "both", "rows", "all"], p=[0.2, 0.25, 0.25, 0.15, 0.12, 0.03])
    kept = sparse.copy()
    if kind == "all":
        return np.zeros_like(kept), upright
    if kind in ("share", "both"):
        kept[generator.random(kept.shape) < generator.uniform(0.1, 0.95)] = 0
    if kind in ("wedges", "both"):
        kept = removed(kept, focal, "wedges", generator, np.radians(generator.uniform(2, 10)), generator.uniform(1.5, 4))
    if kind == "rows":
        row, above = int(generator.integers(kept.shape[0])), generator.random() < 0.7
        kept[slice(0, row // 2) if above else slice((row + kept.shape[0]) // 2, None)] = 0
    wrong = (generator.random(kept.shape) < 0.004) * generator.normal(0, 0.4, kept.shape)
    kept = (kept * np.exp(np.abs(wrong) + generator.normal(0, 0.003, kept.shape))).astype(np.float32)
    if generator.random() < 0.3:
        shift, axis = int(generator.integers(-1, 2)), int(generator.integers(2))
        kept, upright = np.roll(kept, shift, axis), np.roll(upright, shift, axis)
    return np.where(kept < FAR, kept, 0), upright


def removed(
    sparse: np.ndarray,
    focal: float,
    kind: str,
    generator: np.random.Generator,
    wedge: float = float(np.radians(4)),
    every: float = 3.0,
) -> np.ndarray:
    """Returns (H, W) without a random half of them ("half"), or without those in wedges of so many radians, one in ``every``."""
    if kind == "half":
        return np.where(generator.random(sparse.shape) < 0.5, sparse, 0)
    middle = sparse.shape[1] / 2
    angle = np.arctan((np.arange(sparse.shape[1]) + 0.5 - middle) / focal)
    return sparse * ((angle / wedge + generator.uniform(0, every)) % every >= 1)
