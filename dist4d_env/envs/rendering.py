"""The dashboard: the cameras with the source of each frame, their depth, a bird's-eye view, speed and trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dist4d_env.envs.birdseye import draw_birdseye
from dist4d_env.envs.drawing import Colour, bar, colour_depth, draw_text, enlarge, fill, pill
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.neighbours import reading_order
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.state import EpisodeState

GAP = 6
MARGIN = 12
HEADER = 54
FOOTER = 44
TILE_WIDTH = 400
"""Camera pictures are shown this wide, so that all fits a screen of 1920 x 1080; small ones are enlarged by a whole factor."""

PAPER: Colour = (11, 12, 16)
INK: Colour = (232, 236, 243)
FAINT: Colour = (134, 142, 156)
TRACK: Colour = (40, 44, 53)
SOURCES: dict[str, tuple[str, Colour]] = {
    "log": ("log", (70, 78, 92)),
    "dist_t": ("DiST-T", (33, 102, 214)),
    "dist_s": ("DiST-S", (176, 54, 148)),
    "splat": ("splat", (24, 126, 118)),
    "replay": ("replay", (164, 98, 22)),
    "oracle": ("oracle", (36, 122, 62)),
}
"""Label and colour of what makes frames, on dashboards and in reports."""
FIGURES = {
    "route_progress": ("progress", "m"),
    "route_offset": ("off the route", "m"),
    "log_deviation": ("off the log", "m"),
    "time_to_contact": ("time to collision", "s"),
    "speed_limit": ("limit", "m/s"),
}
EVENTS = {
    "collision": "collision",
    "off_road": "off road",
    "wrong_way": "wrong way",
    "speed_limit": "speed limit",
    "comfort": "hard manoeuvre",
}
"""Labels of reward terms that are shown where they count. "comfort" is of single ticks, unlike the metric, which is smoothed."""


def render_dashboard(
    frame: RGBDFrame | None,
    info: Mapping[str, Any],
    state: EpisodeState,
    scene: Scene,
    plan: np.ndarray | None = None,
) -> np.ndarray:
    """One picture (H, W, 3) uint8 of an instant; H and W are even and depend on the frame's size only.

    frame: the scene's cameras at this instant, None for a world without pictures; info: the environment's info dict (``time``
    and ``world``, and ``metrics`` and ``reward_terms`` where there); state: the simulator's; plan: (N, >=2) points, ego frame.
    """
    body = _cameras(frame, info, scene.rig) if frame is not None else None
    height = 560 if body is None else body.shape[0]
    birdseye_width = 900 if body is None else height
    left = MARGIN if body is None else MARGIN + body.shape[1] + MARGIN
    total_width, total_height = left + birdseye_width + MARGIN, HEADER + height + FOOTER
    picture = np.empty((total_height + total_height % 2, total_width + total_width % 2, 3), np.uint8)
    picture[...] = PAPER
    if body is not None:
        picture[HEADER : HEADER + height, MARGIN : MARGIN + body.shape[1]] = body
    birdseye = draw_birdseye(scene, state, height, birdseye_width, plan)
    _speedometer(birdseye, state)
    picture[HEADER : HEADER + height, left : left + birdseye_width] = birdseye
    _header(picture, info, scene)
    _footer(picture, info)
    return picture


def _cameras(frame: RGBDFrame, info: Mapping[str, Any], rig: CameraRig) -> np.ndarray:
    """The cameras that look ahead, below them those that look back, and a strip of depth maps: what is left of the car is left on
    the screen."""
    height, width = frame.depth.shape[1:]
    factor = TILE_WIDTH // width if 2 * width <= TILE_WIDTH else TILE_WIDTH / width
    tile_width, tile_height = round(width * factor), round(height * factor)
    rows = reading_order(rig.ego_from_camera)
    columns, views = max(map(len, rows)), len(rig.names)
    total = columns * tile_width + (columns - 1) * GAP
    strip_width = (total - (views - 1) * GAP) // views
    strip_height = round(strip_width * height / width)
    body = np.empty((len(rows) * (tile_height + GAP) + strip_height, total, 3), np.uint8)
    body[...] = PAPER
    places = [(line, column, camera) for line, row in enumerate(rows) for column, camera in enumerate(row)]
    for place, (line, column, camera) in enumerate(places):
        name = rig.names[camera]
        x, y = column * (tile_width + GAP), line * (tile_height + GAP)
        tile = body[y : y + tile_height, x : x + tile_width]
        tile[...] = enlarge(frame.rgb[camera], tile_width, tile_height, smooth=True)
        label, colour = SOURCES.get(info["world"]["source"][camera], (info["world"]["source"][camera], TRACK))
        pill(tile, 8, 8, name.removeprefix("CAM_").replace("_", " ").lower(), 13, INK, (8, 9, 12))
        pill(tile, tile_width - 8, 8, label, 13, (255, 255, 255), colour, align="right")
        x, y = place * (strip_width + GAP), len(rows) * (tile_height + GAP)
        body[y : y + strip_height, x : x + strip_width] = enlarge(
            colour_depth(frame.depth[camera]), strip_width, strip_height, smooth=False
        )
    return body


def _speedometer(image: np.ndarray, state: EpisodeState) -> None:
    height = image.shape[0]
    fill(image, 12, height - 84, 148, 72, (8, 9, 12), 0.72, 10)
    width = draw_text(image, 24, height - 82, f"{3.6 * state.ego.speed:.0f}", 40, INK)
    draw_text(image, 30 + width, height - 58, "km/h", 15, FAINT)
    width = draw_text(image, 24, height - 33, f"{round(state.ego.acceleration, 1) + 0.0:+.1f} m/s", 13, FAINT)
    draw_text(image, 23 + width, height - 36, "2", 9, FAINT)
    draw_text(image, 150, height - 33, f"{round(np.degrees(state.ego.steering)) + 0:+d}°", 13, FAINT, align="right")


def _header(picture: np.ndarray, info: Mapping[str, Any], scene: Scene) -> None:
    x = MARGIN
    x += draw_text(picture, x, 12, "DiST-4D", 22, INK) + 18
    x += draw_text(picture, x, 18, scene.name, 16, (168, 200, 255)) + 14
    draw_text(picture, x, 18, scene.version, 16, FAINT)
    right = picture.shape[1] - MARGIN
    right -= draw_text(picture, right, 14, f"{info['time']:.1f} s", 20, INK, align="right") + 26
    if info["world"]["source"]:
        trust, deviation = info["world"]["trust"], info["world"]["deviation_m"]
        colour = (88, 196, 120) if trust > 0.6 else (232, 184, 72) if trust > 0.3 else (232, 92, 84)
        bar(picture, right - 120, 23, 120, 10, trust, colour, TRACK)
        right -= 130
        right -= draw_text(picture, right, 18, f"trust {trust:.2f}", 15, FAINT, align="right") + 26
        away = f"{100 * deviation:.0f} cm" if deviation < 1 else f"{deviation:.1f} m"
        draw_text(picture, right, 18, f"{away} off the generated path", 15, FAINT, align="right")


def _footer(picture: np.ndarray, info: Mapping[str, Any]) -> None:
    """Running metrics on the left, what went wrong in this decision on the right."""
    y = picture.shape[0] - 31
    metrics, terms = info.get("metrics", {}), info.get("reward_terms", {})
    x = MARGIN
    for name, (label, unit) in FIGURES.items():
        if metrics.get(name) is not None and x < picture.shape[1] - 330:
            x += draw_text(picture, x, y, label, 14, FAINT) + 6
            x += draw_text(picture, x, y, f"{round(metrics[name], 1) + 0.0:.1f} {unit}", 14, INK) + 22
    x = picture.shape[1] - MARGIN
    for name, label in EVENTS.items():
        if terms.get(name, 0.0) > 0:
            colour = (150, 92, 16) if name == "comfort" else (196, 52, 46)
            x -= pill(picture, x, y - 3, label, 13, (255, 255, 255), colour, align="right") + 8
