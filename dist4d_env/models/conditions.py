"""Conditions of a frame, in numpy: splat images, projected layout, BEV map, boxes, cameras.

The generative world builds them at every step and training stores them, hence the compact types (uint8 images, half-precision
depth); ``models.inputs`` makes torch batches of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.layout import box_layout, map_layout
from dist4d_env.scenes.maps import SceneMap

MAX_BOXES = 24
"""Box tokens per frame: the nearest objects within ``BOX_RANGE`` metres of the ego."""

BOX_RANGE = 60.0
BEV_SHAPE = (8, 200, 200)
INSTANCES = 64
"""Instance numbers of boxes repeat after so many: a hint of identity over time, as the nearest boxes change their rows."""
ATTRIBUTES = {"night": ("night",), "dusk": ("dusk",), "rain": ("rain", "wet"), "overcast": ("overcast", "cloud")}
"""Scene attributes and the words of a scene's description that stand for them."""
MASK_CHANNELS = ("valid", "moving", "confidence", "age")
"""Is there a splatted point, is it an agent's, does a fine enough source confirm it, and its age, see ``age_code``."""


@dataclass(frozen=True)
class SplatImages:
    """A splat as network input; V cameras of H x W.

    base_rgb: (V, H, W, 3) uint8 and base_depth: (V, H, W) float16 metres, holes filled as by ``Splat.filled``:
    what compositions start from; other_rgb: holes continued from behind; masks: (V, H, W, 4) uint8 0 to 255, MASK_CHANNELS.
    """

    base_rgb: np.ndarray
    base_depth: np.ndarray
    other_rgb: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Controls:
    """Conditions of a frame that follow from the scene and not from memory.

    layout: (V, H, W, 8) uint8, LAYOUT_CHANNELS; bev: (8, 200, 200) uint8 0 / 1 around the ego; box_corners: (24, 8, 3) float32
    in the ego frame; box_class: (24,) int64, -1 in empty rows; box_instance: (24,) int64 in [0, INSTANCES), the same for an
    object at all times; intrinsics: (V, 3, 3); ego_from_camera: (V, 4, 4) from the cameras at their own exposures to the ego at
    the frame's time; attributes: (4,) float32 0 / 1, ATTRIBUTES.
    """

    layout: np.ndarray
    bev: np.ndarray
    box_corners: np.ndarray
    box_class: np.ndarray
    box_instance: np.ndarray
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    attributes: np.ndarray


@dataclass(frozen=True)
class TargetConditions:
    """All conditions of one frame that DiST-T generates.

    images: the bullet-time splat at the frame's cameras; controls: map, boxes and cameras; reference_from_target: (4, 4) pose of
    the frame's ego in the reference's ego frame; interval: seconds from the reference.
    """

    images: SplatImages
    controls: Controls
    reference_from_target: np.ndarray
    interval: float


def age_code(seconds: Any) -> Any:
    """Of an age, a number or an array, the value in [0, 1) of the mask channel "age"."""
    return 1 - np.exp(-seconds / 2)


def splat_images(splat: Splat) -> SplatImages:
    """The parts of a splat that are network inputs."""
    rgb, depth = splat.filled()
    other_rgb, _ = splat.background()
    age = np.where(splat.valid, age_code(splat.age), 0)
    masks = np.stack([splat.valid, splat.moving, splat.confidence, age], -1)
    return SplatImages(rgb, depth.astype(np.float16), other_rgb, np.round(masks * 255).astype(np.uint8))


def target_conditions(
    splat: Splat,
    *,
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    global_from_ego: np.ndarray,
    reference_global_from_ego: np.ndarray,
    interval: float,
    boxes: Boxes,
    scene_map: SceneMap | None,
    description: str = "",
) -> TargetConditions:
    """Conditions of one target frame.

    intrinsics (V, 3, 3), global_from_camera (V, 4, 4): the target's cameras; global_from_ego (4, 4): the ego at the target's
    time; reference_global_from_ego: at the reference frame's time, ``interval`` seconds earlier; boxes: at the target's time,
    global; scene_map: None draws an empty map; description: of the scene, for its attributes.
    """
    _, height, width = splat.valid.shape
    controls = frame_controls(intrinsics, global_from_camera, (height, width), global_from_ego, boxes, scene_map, description)
    return TargetConditions(
        images=splat_images(splat),
        controls=controls,
        reference_from_target=invert(reference_global_from_ego) @ global_from_ego,
        interval=interval,
    )


def frame_controls(
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    global_from_ego: np.ndarray,
    boxes: Boxes,
    scene_map: SceneMap | None,
    description: str = "",
) -> Controls:
    """The controls of one frame of ``size`` (height, width); arguments as in ``target_conditions``."""
    bev = np.zeros(BEV_SHAPE, np.uint8) if scene_map is None else scene_map.bev(global_from_ego)
    ground = map_layout(bev, global_from_ego, intrinsics, global_from_camera, *size)
    agents = box_layout(boxes, intrinsics, global_from_camera, *size)
    corners, classes, instances = _box_rows(boxes, global_from_ego)
    layout = np.concatenate([ground, agents], -1)
    ego_from_camera = invert(global_from_ego) @ global_from_camera
    attributes = scene_attributes(description)
    return Controls(layout, bev, corners, classes, instances, intrinsics, ego_from_camera, attributes)


def scene_attributes(description: str) -> np.ndarray:
    """(4,) float32 0 / 1: which of ATTRIBUTES a scene's description has words for."""
    text = description.lower()
    return np.array([any(word in text for word in words) for words in ATTRIBUTES.values()], np.float32)


def _box_rows(boxes: Boxes, global_from_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest boxes as corner rows (24, 8, 3) in the ego frame, classes (24,) and instances (24,)."""
    corners = np.zeros((MAX_BOXES, 8, 3), np.float32)
    classes, instances = np.full(MAX_BOXES, -1, np.int64), np.zeros(MAX_BOXES, np.int64)
    distance = np.linalg.norm(boxes.position[:, :2] - global_from_ego[:2, 3], axis=1)
    nearest = np.argsort(distance, kind="stable")[:MAX_BOXES]
    nearest = nearest[distance[nearest] < BOX_RANGE]
    chosen = boxes.select(nearest)
    corners[: len(chosen)] = apply(invert(global_from_ego), chosen.corners().reshape(-1, 3)).reshape(-1, 8, 3)
    classes[: len(chosen)] = chosen.category
    instances[: len(chosen)] = chosen.token % INSTANCES
    return corners, classes, instances
