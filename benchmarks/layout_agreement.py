"""Layout agreement: whether generated pictures show the simulator's road and traffic, as sharply as true pictures do.

Where pixels cannot be known, agreement with the one true future no longer measures quality. Three numbers do, over all pictures
of a protocol's closed loop, or of two seconds of it:

- layout agreement: a segmenter trained on true pictures (``models/segmenter.py``) looks at the generated ones; what it finds is
  compared with the simulator's truth of that instant: intersection over union per class and its mean, and that mean as a share
  of what the same segmenter gets on the true pictures of the same instants;
- edge sharpness: 1 is as sharp as the truth (``metrics/sharpness.py``);
- Frechet distance over town-segmenter features: how far the set of pictures is from the set of true ones, every feature in
  units of its standard deviation over the true ones (``TownSegmenter.look``, ``metrics/frechet.py``).

Agreement and sharpness leave the car's own body out. Every value is made of one seed's pictures of all scenes, one of each
camera a step, so that rows are measured on equally many; their mean and spread are over seeds. ``scene_error`` is the standard
error that leaving out one scene after the other gives.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.common import mean_and_spread
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.images.accuracy import confusion, intersection_over_union, mean_iou
from dist4d_env.metrics.images.frechet import frechet_distance
from dist4d_env.metrics.images.sharpness import gradient_energy
from dist4d_env.models.segmenter import CLASSES, TownSegmenter, layout_classes
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.town.generate import generate_scene
from dist4d_env.town.render import TownRenderer
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleWorld, actor_boxes

TRUTH = "truth"
"""The row of the true pictures themselves."""
WINDOWS = {"2-4s": (2.0, 4.0), "6-8s": (6.0, 8.0), "all": (0.0, np.inf)}
"""Seconds in closed loop, first excluded and last included, of the steps that are measured together."""

Look = dict[str, Any]
"""One step's pictures as plain values: confusion (C * C,), views V, energy (of gradients), features (V, D) as text."""
Looks = dict[str, list[Look]]
"""method -> one look per step."""


class TrueStreet:
    """The oracle's pictures of a town scene together with what every pixel shows."""

    def __init__(self, scene: Scene, rig: CameraRig) -> None:
        (state,) = OracleWorld().reset([WorldStart(scene, rig, 0.0, 0)])
        self.rig, self.actors, self.renderer = rig, state.actors, _renderer(state.key)

    def show(self, now: SceneAt) -> tuple[RGBDFrame, np.ndarray]:
        """The true frame and its classes (V, H, W) uint8 into CLASSES."""
        poses = now.global_from_ego @ self.rig.ego_from_camera
        images = self.renderer.render(self.rig, poses, actor_boxes(now.boxes, self.actors), now.time)
        frame = RGBDFrame(images.rgb, images.depth, self.rig.intrinsics, poses, np.full(len(self.rig.names), float(now.time)))
        return frame, layout_classes(images.semantics)


@lru_cache(maxsize=1)
def _renderer(key: tuple[str, int, int]) -> TownRenderer:
    return TownRenderer(generate_scene(*key))


def look(segmenter: TownSegmenter, rgb: np.ndarray, classes: np.ndarray, body: np.ndarray | None = None) -> Look:
    """The segmenter's classes of pictures (V, H, W, 3) uint8 where the truth shows ``classes`` (V, H, W).

    body: (V, H, W) bool, the car's own, which worlds show as it was recorded: neither its class nor its edges count.
    """
    found, features = segmenter.look(rgb)
    street = np.ones(classes.shape, bool) if body is None else ~body
    return {
        "confusion": confusion(found[street], classes[street], len(CLASSES)).ravel().tolist(),
        "views": len(rgb),
        "energy": float(gradient_energy(rgb, None if body is None else street).mean()),
        "features": base64.b64encode(features.astype("<f4").tobytes()).decode(),
    }


def appearance(runs: Sequence[tuple[str, Looks]], step: float) -> dict[str, Any]:
    """window -> method -> layout agreement, sharpness and Frechet distance.

    runs: pairs of scene and looks, of one scene as many as there are seeds; the true pictures must be among them once per scene.
    step: seconds between looks.
    """
    table: dict[str, Any] = {}
    truth = {scene: looks[TRUTH] for scene, looks in runs if TRUTH in looks}
    by_method: dict[str, dict[str, list[list[Look]]]] = {}  # method -> scene -> one list of looks per seed
    for scene, looks in runs:
        for method, steps in looks.items():
            by_method.setdefault(method, {}).setdefault(scene, []).append(steps)
    for window, (after, until) in WINDOWS.items():
        chosen = [k for k in range(len(next(iter(truth.values())))) if after < (k + 1) * step <= until + 1e-6]
        if window != "all" and (not chosen or (chosen[-1] + 1) * step < until - 1e-6):
            continue  # the loop ended before
        true = {scene: [steps[k] for k in chosen] for scene, steps in truth.items()}
        for method, scenes in by_method.items():
            seeds = min(len(runs) for runs in scenes.values())
            found = [{scene: [runs[seed][k] for k in chosen] for scene, runs in scenes.items()} for seed in range(seeds)]
            table.setdefault(window, {})[method] = _scored(found, true)
    return table


def _scored(seeds: Sequence[Mapping[str, list[Look]]], truth: Mapping[str, list[Look]]) -> dict[str, Any]:
    """Every measure of a method: one value per seed; seeds and truth are scene -> looks."""
    cell: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        values = [measure(found, truth, list(found)) for found in seeds]
        cell[name] = mean_and_spread(values) | {"scene_error": _jackknife(measure, seeds[0], truth)}
    each = np.mean([intersection_over_union(_counts(found, list(found))) for found in seeds], 0)
    cell["iou"] = {name: float(value) for name, value in zip(CLASSES, each, strict=True)}
    cell["pictures"] = sum(len(_features(one)) for looks in seeds[0].values() for one in looks)
    return cell


def _counts(found: Mapping[str, list[Look]], scenes: Sequence[str]) -> np.ndarray:
    counts = sum(np.array(one["confusion"]) for scene in scenes for one in found[scene])
    return np.asarray(counts).reshape(len(CLASSES), len(CLASSES))


def _features(one: Look) -> np.ndarray:
    """(V, D)."""
    flat = np.frombuffer(base64.b64decode(one["features"]), "<f4")
    return flat.reshape(one["views"], -1).astype(float)


def _miou(found: Mapping[str, list[Look]], truth: Mapping[str, list[Look]], scenes: Sequence[str]) -> float:
    return mean_iou(_counts(found, scenes))


def _share(found: Mapping[str, list[Look]], truth: Mapping[str, list[Look]], scenes: Sequence[str]) -> float:
    return _miou(found, truth, scenes) / _miou(truth, truth, scenes)


def _sharpness(found: Mapping[str, list[Look]], truth: Mapping[str, list[Look]], scenes: Sequence[str]) -> float:
    energy = [sum(one["energy"] for scene in scenes for one in looks[scene]) for looks in (found, truth)]
    return float(np.sqrt(energy[0] / energy[1]))


def _frechet(found: Mapping[str, list[Look]], truth: Mapping[str, list[Look]], scenes: Sequence[str]) -> float:
    sets = [np.concatenate([_features(one) for scene in scenes for one in looks[scene]]) for looks in (found, truth)]
    unit = np.maximum(sets[1].std(0), 1e-6)
    return frechet_distance(sets[0] / unit, sets[1] / unit)


Measure = Callable[[Mapping[str, list[Look]], Mapping[str, list[Look]], Sequence[str]], float]
MEASURES: dict[str, Measure] = {"miou": _miou, "share_of_truth": _share, "sharpness": _sharpness, "frechet": _frechet}


def _jackknife(measure: Measure, found: Mapping[str, list[Look]], truth: Mapping[str, list[Look]]) -> float:
    """Standard error over scenes; NaN of a single one."""
    scenes = list(found)
    if len(scenes) < 2:
        return float("nan")
    left = np.array([measure(found, truth, [s for s in scenes if s != out]) for out in scenes])
    return float(np.sqrt((len(scenes) - 1) * np.square(left - left.mean()).mean()))
