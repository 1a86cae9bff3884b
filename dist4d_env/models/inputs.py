"""Network inputs: conditions of frames (``models.conditions``) as batches of torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from dist4d_env.geometry.neighbours import neighbours
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.models.composition import resized
from dist4d_env.models.conditions import Controls, SplatImages, TargetConditions
from dist4d_env.models.depth_code import encode_depth


class ViewInputs(NamedTuple):
    """Torch tensors of splat images, any leading axes: RGB in [-1, 1], depth coded, masks in [0, 1].

    base: (..., 4, H, W) RGB and depth; other: (..., 3, H, W); masks: (..., 4, H, W).
    """

    base: torch.Tensor
    other: torch.Tensor
    masks: torch.Tensor

    def to(self, device: torch.device | str) -> ViewInputs:
        """The same on another device."""
        return ViewInputs(*(tensor.to(device) for tensor in self))


class DiSTTInputs(NamedTuple):
    """A batch for DiST-T: B samples, V cameras, T target frames of H x W.

    reference: (B, V, 4, H, W) RGB and depth code of the last known frame; views: ViewInputs over (B, V, T);
    layout: (B, V, T, 8, H, W) in [0, 1]; bev: (B, T, 8, 200, 200) in [0, 1]; box_corners: (B, T, N, 8, 3) metres in the target
    ego's frame; box_class: (B, T, N), -1 marks an empty row; box_instance: (B, T, N); intrinsics: (B, V, T, 3, 3);
    ego_from_camera: (B, V, T, 4, 4); neighbours: (B, V, 2) int64, cameras to the left and right (``geometry.neighbours``);
    trajectory: (B, T, 4, 4) ego poses in the reference's ego frame; interval: (B, T) seconds since the reference; attributes:
    (B, 4) 0 / 1; controlled: (B,) bool, false where the controls are withheld (``without_controls``); captions: (B, L, D)
    features of a text encoder, or None.
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
    neighbours: torch.Tensor
    trajectory: torch.Tensor
    interval: torch.Tensor
    attributes: torch.Tensor
    controlled: torch.Tensor
    captions: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> DiSTTInputs:
        """The same on another device."""
        return DiSTTInputs._make(None if part is None else part.to(device) for part in self)

    def at_size(self, height: int, width: int) -> DiSTTInputs:
        """The same seen by cameras of fewer pixels: images averaged over areas, intrinsics to match."""
        own = tuple(self.layout.shape[-2:])
        if own == (height, width):
            return self
        scale = torch.tensor([width / own[1], height / own[0], 1.0], device=self.intrinsics.device)
        return self._replace(
            reference=resized(self.reference, height, width),
            views=ViewInputs(*(resized(part, height, width) for part in self.views)),
            layout=resized(self.layout, height, width),
            intrinsics=self.intrinsics * scale[:, None],
        )


def without_controls(inputs: DiSTTInputs, withheld: torch.Tensor) -> DiSTTInputs:
    """The inputs with map, boxes, trajectory, attributes and captions withheld from some samples, (B,) bool.

    This is the unconditional side of classifier-free guidance, the same in training and in sampling; reference, splat and camera
    poses stay.
    """
    kept = ~withheld

    def masked(tensor: torch.Tensor) -> torch.Tensor:
        return tensor * kept.view(-1, *[1] * (tensor.dim() - 1)).to(tensor.dtype)

    return inputs._replace(
        layout=masked(inputs.layout),
        bev=masked(inputs.bev),
        box_class=torch.where(kept[:, None, None], inputs.box_class, -torch.ones_like(inputs.box_class)),
        attributes=masked(inputs.attributes),
        controlled=inputs.controlled & kept,
        captions=None if inputs.captions is None else masked(inputs.captions),
    )


def rgbd_tensor(rgb: np.ndarray, depth: np.ndarray, depth_code: str = "log") -> torch.Tensor:
    """Images (..., H, W, 3) uint8 and metres (..., H, W) to (..., 4, H, W) float32 in [-1, 1]."""
    colour = torch.from_numpy(np.array(rgb)).float().movedim(-1, -3) / 127.5 - 1
    code = encode_depth(torch.from_numpy(np.asarray(depth, np.float32)), depth_code)
    return torch.cat([colour, code[..., None, :, :]], -3)


def rgb_pixels(colour: torch.Tensor) -> np.ndarray:
    """Colour (..., 3, H, W), clipped to [-1, 1], to images (..., H, W, 3) uint8."""
    pixels: np.ndarray = ((colour.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()
    return pixels


def channels_first(images: np.ndarray) -> torch.Tensor:
    """(..., H, W, C) uint8 0 to 255 to (..., C, H, W) float32 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).float().movedim(-1, -3) / 255


def collate_views(images: Sequence[SplatImages], depth_code: str = "log") -> ViewInputs:
    """B splats of V cameras to ViewInputs over (B, V)."""

    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(one, name) for one in images])

    return ViewInputs(
        rgbd_tensor(stacked("base_rgb"), stacked("base_depth"), depth_code),
        channels_first(stacked("other_rgb")) * 2 - 1,
        channels_first(stacked("masks")),
    )


def stacked_views(targets: Sequence[Sequence[TargetConditions]], depth_code: str = "log") -> ViewInputs:
    """Splats of B lists of T frames, over (B, V, T)."""
    samples = [collate_views([one.images for one in sample], depth_code) for sample in targets]  # each over (T, V)
    return ViewInputs(*(torch.stack(parts).transpose(1, 2) for parts in zip(*samples, strict=True)))


def stacked_layouts(controls: Sequence[Sequence[Controls]]) -> torch.Tensor:
    """Layouts of B lists of T frames, (B, V, T, 8, H, W) in [0, 1]."""
    return channels_first(np.swapaxes(np.stack([[one.layout for one in sample] for sample in controls]), 1, 2))


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

    return DiSTTInputs(
        reference=rgbd_tensor(np.stack([r.rgb for r in references]), np.stack([r.depth for r in references]), depth_code),
        views=stacked_views(targets, depth_code),
        layout=stacked_layouts([[one.controls for one in sample] for sample in targets]),
        bev=as_float(controls("bev")),
        box_corners=as_float(controls("box_corners")),
        box_class=torch.from_numpy(controls("box_class")),
        box_instance=torch.from_numpy(controls("box_instance")),
        intrinsics=as_float(over_views("intrinsics")),
        ego_from_camera=as_float(over_views("ego_from_camera")),
        neighbours=torch.from_numpy(np.stack([neighbours(sample[0].controls.ego_from_camera) for sample in targets])),
        trajectory=as_float(np.stack([[one.reference_from_target for one in sample] for sample in targets])),
        interval=as_float(np.array([[one.interval for one in sample] for sample in targets])),
        attributes=as_float(controls("attributes")[:, 0]),
        controlled=torch.ones(len(targets), dtype=torch.bool),
        captions=captions,
    )
