"""Heads of traffic lights as the scene has them now, drawn into each camera, and the network that paints them into pictures.

What is remembered of a head shows the state that it had then, and its lamps are a pixel or two in pictures that DiST-T and DiST-S
see reduced. So a network of its own repaints lamps in what either shows, at the picture's own size, and leaves every other pixel
as it is.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dist4d_env.geometry.cameras import invert_intrinsics
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert
from dist4d_env.models.arguments import check_choice, check_levels
from dist4d_env.models.composition import CompositionUNet
from dist4d_env.models.conditions import ATTRIBUTES
from dist4d_env.models.depth_code import DEPTH_CODES, decode_depth
from dist4d_env.models.inputs import channels_first, rgb_pixels, rgbd_tensor
from dist4d_env.scenes.lights import LAMP_SPACING, LAMPS, UNKNOWN

SIGNAL_CHANNELS = ("red", "amber", "green", "head")
"""How much of a pixel each lit lamp covers (0-2, as LAMPS); nearness as in ``LAYOUT_CHANNELS`` where a head's lamps are (3)."""

REACH = 80.0
"""Metres from a camera to the farthest head that is drawn."""
LENS, AHEAD = 0.16, 0.13
"""Metres: radius of a lamp, and how far lamps lie before the middle of a head."""
_MARGIN = 1.0  # pixels around the lamps: what is remembered of them may lie so far off
_ASLANT = 0.17  # sine of the least angle under which a face is seen
_SUB = 4  # points a pixel and direction, of which the covered share is taken


def signal_layout(
    heads: np.ndarray, states: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Heads that face a camera, (V, H, W, 4) uint8 of SIGNAL_CHANNELS, nearer ones over farther ones; what may stand before them
    is left out.

    heads: (K, 4) and states: (K,) of these, as in ``scenes.lights``: three lamps, red on top, then amber, then green. Heads of
    unknown state are not drawn.
    """
    views = len(intrinsics)
    image = np.zeros((views, height, width, len(SIGNAL_CHANNELS)), np.uint8)
    heads, states = heads[states != UNKNOWN], states[states != UNKNOWN]
    if not len(heads):
        return image
    facing = np.stack([np.cos(heads[:, 3]), np.sin(heads[:, 3]), np.zeros(len(heads))], -1)
    axes = np.stack([facing, np.stack([-facing[:, 1], facing[:, 0], facing[:, 2]], -1), np.tile([0.0, 0, 1], (len(heads), 1))], 1)
    camera_from_global, pixel_rays = invert(global_from_camera), invert_intrinsics(intrinsics)
    for view in range(views):
        turn = camera_from_global[view, :3, :3]
        middle, local = heads[:, :3] @ turn.T + camera_from_global[view, :3, 3], axes @ turn.T  # (K, 3), (K, 3 axes, 3)
        distance = np.linalg.norm(middle, axis=1)
        seen = (distance < REACH) & (middle[:, 2] > 1.0) & (-(middle * local[:, 0]).sum(1) > _ASLANT * distance)
        for index in sorted(np.flatnonzero(seen), key=lambda k: -distance[k]):
            lamp = LAMPS.index(int(states[index]))
            _draw(image[view], middle[index], local[index], intrinsics[view], pixel_rays[view], lamp)
    return image


def _draw(
    image: np.ndarray, middle: np.ndarray, axes: np.ndarray, intrinsics: np.ndarray, pixel_rays: np.ndarray, lamp: int
) -> None:
    """Draw one head into ``image`` (H, W, 4). middle: (3,) and axes: (3, 3) rows forward, left and up, in the camera's frame."""
    height, width = image.shape[:2]
    face, sides, up = middle + AHEAD * axes[0], LENS * axes[1], (LAMP_SPACING + LENS) * axes[2]
    corners = np.stack([face + sides + up, face + sides - up, face - sides + up, face - sides - up])
    if corners[:, 2].min() < 0.3:
        return
    outline = corners @ intrinsics.T
    outline = outline[:, :2] / outline[:, 2:]
    (left, top), (right, bottom) = np.floor(outline.min(0) - 2).astype(int), np.ceil(outline.max(0) + 2).astype(int)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return
    u, v = ((np.arange(low * _SUB, high * _SUB) + 0.5) / _SUB for low, high in ((left, right), (top, bottom)))
    rays = u[None, :, None] * pixel_rays[:, 0] + v[:, None, None] * pixel_rays[:, 1] + pixel_rays[:, 2]
    towards = rays @ axes[0]
    towards = np.where(np.abs(towards) < 1e-6, -1e-6, towards)
    on = (rays * ((face @ axes[0]) / towards)[..., None] - face) @ axes[1:].T  # metres to the left and up from the middle lamp
    margin = _MARGIN * middle[2] / intrinsics[0, 0]
    lamps = (np.abs(on[..., 0]) <= LENS + margin) & (np.abs(on[..., 1]) <= LAMP_SPACING + LENS + margin)
    lit = on[..., 0] ** 2 + (on[..., 1] - LAMP_SPACING * (1 - lamp)) ** 2 <= LENS**2
    shape = (bottom - top, _SUB, right - left, _SUB)
    drawn, covered = lamps.reshape(shape).any((1, 3)), lit.reshape(shape).mean((1, 3))
    values = np.zeros((*drawn.shape, len(SIGNAL_CHANNELS)), np.uint8)
    values[..., lamp], values[..., 3] = np.round(255 * covered), int(255 / (1 + middle[2] / 10))
    image[top:bottom, left:right][drawn] = values[drawn]


def in_sight(depth: torch.Tensor, signals: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 1, H, W) bool of heads, SIGNAL_CHANNELS (N, 4, H, W) in [0, 1], that nothing at depths (N, 1, H, W) hides."""
    nearness = signals[:, 3:]
    return (nearness > 0) & (depth > 0.85 * 10 * (1 / nearness.clamp(min=1e-3) - 1) - 1)


class SignalPainter(ModelMixin, ConfigMixin):
    """Paints heads of traffic lights into RGB-D pictures as they show now. Untrained it leaves pictures as they are."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (24, 48), blocks: int = 1, depth_code: str = "log") -> None:
        super().__init__()
        check_levels(widths, blocks)
        check_choice("depth_code", depth_code, DEPTH_CODES)
        self.net = CompositionUNet(4 + len(SIGNAL_CHANNELS), 3, tuple(widths), blocks, scalars=len(ATTRIBUTES))

    def forward(self, image: torch.Tensor, signals: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """image: (N, 4, H, W) RGB in [-1, 1] and depth code; signals: (N, 4, H, W) in [0, 1]; attributes: (N, 4), ATTRIBUTES of
        the scene. Returns the image, another only ``in_sight``. H and W must be divisible by 2 ** len(widths)."""
        seen = in_sight(decode_depth(image[:, 3:], self.config.depth_code), signals)
        change = self.net(torch.cat([image, signals], 1), attributes).to(image.dtype)
        return torch.cat([torch.where(seen, image[:, :3] + change, image[:, :3]), image[:, 3:]], 1)

    @torch.no_grad()
    def paint(self, frame: RGBDFrame, signals: np.ndarray, attributes: np.ndarray) -> RGBDFrame:
        """A frame with heads as SIGNAL_CHANNELS (V, H, W, 4) has them. Only around these is anything computed."""
        rgb, device = frame.rgb.copy(), next(self.parameters()).device
        scene = torch.from_numpy(attributes)[None].to(device)
        for view in np.flatnonzero(signals[..., 3].any((1, 2))):
            place = (view, *self._around(signals[view, ..., 3] > 0))
            if not np.isfinite(frame.depth[place]).all():
                continue
            image = rgbd_tensor(frame.rgb[place], frame.depth[place], self.config.depth_code)[None].to(device)
            painted = self(image, channels_first(signals[place])[None].to(device), scene)[0, :3]
            rgb[place] = rgb_pixels(painted)
        return RGBDFrame(rgb, frame.depth, frame.intrinsics, frame.global_from_camera, frame.time, frame.body)

    def _around(self, where: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the window around pixels (H, W), some more on each side, whole cells of the coarsest level."""
        cell, windows = 2 ** len(self.config.widths), []
        for axis in (1, 0):
            found = np.flatnonzero(where.any(axis))
            low, high = (found[0] - 8) // cell * cell, -(-(found[-1] + 9) // cell) * cell
            windows.append(slice(max(int(low), 0), min(int(high), where.shape[1 - axis])))
        return windows[0], windows[1]
