"""The one builder of model inputs: training stores what it returns, the generative world calls it at every step.

Numpy in; ``collate_targets`` and ``collate_views`` turn conditions into torch batches. Everything is kept in compact types
(uint8 images, half-precision depth), because a training cache holds thousands of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.depth_code import encode_depth
from dist4d_env.models.layout import LAYOUT_CHANNELS, box_layout, map_layout
from dist4d_env.scenes.maps import SceneMap

MAX_BOXES = 24
"""Box tokens per frame: the nearest objects within ``BOX_RANGE`` metres of the ego."""

BOX_RANGE = 60.0
BEV_SHAPE = (8, 200, 200)
INSTANCES = 64
"""Instance numbers of boxes repeat after so many: a hint of identity over time, as the nearest boxes change their rows."""
ATTRIBUTES = {"night": ("night",), "dusk": ("dusk",), "rain": ("rain", "wet"), "overcast": ("overcast", "cloud")}
"""Scene attributes and the words of a scene's description that tell of them."""
MASK_CHANNELS = ("valid", "moving", "confidence", "age")
"""Is there a splatted point, is it an agent's, does a fine enough source confirm it, and 1 - exp(-seconds / 2) of its age."""


@dataclass(frozen=True)
class SplatImages:
    """A splat as networks see it; V cameras of H x W.

    base_rgb: (V, H, W, 3) uint8 and base_depth: (V, H, W) float16 metres, holes filled the way that ``Splat.filled`` does:
    what compositions start from; other_rgb: holes continued from behind; masks: (V, H, W, 4) uint8 0 to 255, MASK_CHANNELS.
    """

    base_rgb: np.ndarray
    base_depth: np.ndarray
    other_rgb: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Controls:
    """What the scene dictates about a frame, whatever is remembered.

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
    """Everything DiST-T is told about one frame to generate.

    images: the bullet-time splat at the frame's cameras; controls: map, boxes and cameras; reference_from_target: (4, 4) pose of
    the frame's ego in the reference's ego frame; interval: seconds from the reference.
    """

    images: SplatImages
    controls: Controls
    reference_from_target: np.ndarray
    interval: float


def splat_images(splat: Splat) -> SplatImages:
    """The parts of a splat that the networks see."""
    rgb, depth = splat.filled()
    other_rgb, _ = splat.background()
    age = np.where(splat.valid, 1 - np.exp(-splat.age / 2), 0)
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
    """(4,) float32 0 / 1: which of ATTRIBUTES a scene's description tells of."""
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


@dataclass(frozen=True)
class ViewInputs:
    """Torch tensors of splat images, any leading axes: RGB in [-1, 1], depth coded, masks in [0, 1].

    base: (..., 4, H, W) RGB and depth; other: (..., 3, H, W); masks: (..., 4, H, W).
    """

    base: torch.Tensor
    other: torch.Tensor
    masks: torch.Tensor


@dataclass(frozen=True)
class DiSTTInputs:
    """A batch for DiST-T: B samples, V cameras, T target frames of H x W.

    reference: (B, V, 4, H, W) RGB and depth code of the last known frame; views: ViewInputs over (B, V, T);
    layout: (B, V, T, 8, H, W) in [0, 1]; bev: (B, T, 8, 200, 200) in [0, 1]; box_corners: (B, T, N, 8, 3) metres in the target
    ego's frame; box_class: (B, T, N), -1 marks an empty row; box_instance: (B, T, N); intrinsics: (B, V, T, 3, 3);
    ego_from_camera: (B, V, T, 4, 4); trajectory: (B, T, 4, 4) ego poses in the reference's ego frame; interval: (B, T) seconds
    since the reference; attributes: (B, 4) 0 / 1; told: (B,) bool, false where the controls are withheld (``without_controls``);
    captions: (B, L, D) features of a text encoder, or None.
    """

    reference: torch.Tensor
    views: ViewInputs
    layout: torch.Tensor
    bev: torch.Tensor
    box_corners: torch.Tensor
    box_class: torch.Tensor
    box_instance: torch.Tensor
    intrinsics: torch.Tensor
    ego_from_camera: torch.Tensor
    trajectory: torch.Tensor
    interval: torch.Tensor
    attributes: torch.Tensor
    told: torch.Tensor
    captions: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> DiSTTInputs:
        """The same on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "views"}
        moved = {name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()}
        views = ViewInputs(*(getattr(self.views, f.name).to(device) for f in fields(self.views)))
        return replace(self, views=views, **moved)


def without_controls(inputs: DiSTTInputs, withheld: torch.Tensor) -> DiSTTInputs:
    """The inputs with map, boxes, trajectory, attributes and captions withheld from some samples, (B,) bool.

    This is the unconditional side of classifier-free guidance, the same in training and in sampling; what is remembered (the
    reference and the splat) and where the cameras are stays.
    """
    kept = ~withheld

    def masked(tensor: torch.Tensor) -> torch.Tensor:
        return tensor * kept.view(-1, *[1] * (tensor.dim() - 1)).to(tensor.dtype)

    return replace(
        inputs,
        layout=masked(inputs.layout),
        bev=masked(inputs.bev),
        box_class=torch.where(kept[:, None, None], inputs.box_class, -torch.ones_like(inputs.box_class)),
        attributes=masked(inputs.attributes),
        told=inputs.told & kept,
        captions=None if inputs.captions is None else masked(inputs.captions),
    )


def rgbd_tensor(rgb: np.ndarray, depth: np.ndarray, depth_code: str = "log") -> torch.Tensor:
    """Images (..., H, W, 3) uint8 and metres (..., H, W) to (..., 4, H, W) float32 in [-1, 1]."""
    colour = torch.from_numpy(np.array(rgb)).float().movedim(-1, -3) / 127.5 - 1
    code = encode_depth(torch.from_numpy(np.asarray(depth, np.float32)), depth_code)
    return torch.cat([colour, code[..., None, :, :]], -3)


def _channels_first(images: np.ndarray) -> torch.Tensor:
    """(..., H, W, C) uint8 0 to 255 to (..., C, H, W) float32 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).float().movedim(-1, -3) / 255


def collate_views(images: Sequence[SplatImages], depth_code: str = "log") -> ViewInputs:
    """B splats of V cameras to ViewInputs over (B, V)."""

    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(one, name) for one in images])

    return ViewInputs(
        rgbd_tensor(stacked("base_rgb"), stacked("base_depth"), depth_code),
        _channels_first(stacked("other_rgb")) * 2 - 1,
        _channels_first(stacked("masks")),
    )


def stacked_layouts(controls: Sequence[Sequence[Controls]]) -> torch.Tensor:
    """Layouts of B lists of T frames, (B, V, T, 8, H, W) in [0, 1]."""
    return _channels_first(np.swapaxes(np.stack([[one.layout for one in sample] for sample in controls]), 1, 2))


def collate_targets(
    references: Sequence[RGBDFrame],
    targets: Sequence[Sequence[TargetConditions]],
    depth_code: str = "log",
    captions: torch.Tensor | None = None,
) -> DiSTTInputs:
    """B reference frames and B lists of T targets, and captions (B, L, D) where the model takes them, to one batch."""

    def controls(name: str) -> np.ndarray:  # (B, T, ...)
        return np.stack([[getattr(one.controls, name) for one in sample] for sample in targets])

    def over_views(name: str) -> np.ndarray:  # (B, V, T, ...)
        return np.swapaxes(controls(name), 1, 2)

    def as_float(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    samples = [collate_views([one.images for one in sample], depth_code) for sample in targets]  # each over (T, V)
    views = ViewInputs(*(torch.stack([getattr(s, f.name) for s in samples]).transpose(1, 2) for f in fields(ViewInputs)))
    return DiSTTInputs(
        reference=rgbd_tensor(np.stack([r.rgb for r in references]), np.stack([r.depth for r in references]), depth_code),
        views=views,
        layout=stacked_layouts([[one.controls for one in sample] for sample in targets]),
        bev=as_float(controls("bev")),
        box_corners=as_float(controls("box_corners")),
        box_class=torch.from_numpy(controls("box_class")),
        box_instance=torch.from_numpy(controls("box_instance")),
        intrinsics=as_float(over_views("intrinsics")),
        ego_from_camera=as_float(over_views("ego_from_camera")),
        trajectory=as_float(np.stack([[one.reference_from_target for one in sample] for sample in targets])),
        interval=as_float(np.array([[one.interval for one in sample] for sample in targets])),
        attributes=as_float(controls("attributes")[:, 0]),
        told=torch.ones(len(targets), dtype=torch.bool),
        captions=captions,
    )


__all__ = [
    "ATTRIBUTES",
    "BEV_SHAPE",
    "INSTANCES",
    "LAYOUT_CHANNELS",
    "MASK_CHANNELS",
    "MAX_BOXES",
    "Controls",
    "DiSTTInputs",
    "SplatImages",
    "TargetConditions",
    "ViewInputs",
    "collate_targets",
    "collate_views",
    "frame_controls",
    "rgbd_tensor",
    "scene_attributes",
    "splat_images",
    "stacked_layouts",
    "target_conditions",
    "without_controls",
]
