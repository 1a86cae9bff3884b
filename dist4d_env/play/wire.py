"""What goes to the page: the scene once, the state every tick, pictures as they come. Lengths in metres, angles in radians."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from dist4d_env.envs.drawing import colour_depth
from dist4d_env.evaluation.episode_log import forward_cameras
from dist4d_env.evaluation.report.replays import origin_of, scene_drawing
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.neighbours import reading_order
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.play.session import Picture, Session
from dist4d_env.play.worlds import OFFERED
from dist4d_env.registry import PLANNERS
from dist4d_env.scenes.scene import TICK

VIEWS = ("colour", "depth", "cloud")
"""How pictures are shown: as they are, their depth in colours, or as points in space."""
DEPTH_UNIT = 1 / 600
"""Metres of one step of the depth that goes to the page, as 16-bit numbers."""
NEARBY = 90.0
"""Metres around the ego within which agents are sent."""
QUALITY = 92
PLANNERS_OFFERED = tuple(name for name in PLANNERS.built_in if not name.startswith("expert_") and name != "imagine")


def scene_message(session: Session, scenes: Sequence[str]) -> dict[str, Any]:
    """What does not change while a scene is driven in. Places relative to ``origin``; the map in decimetres."""
    scene, origin = session.scene, origin_of(session.scene)
    rig = scene.rig.at_size(*session.settings.size)
    named = session.settings.look.world
    return {
        "type": "scene",
        "scene": scene.name,
        "scenes": list(scenes),
        "about": scene.description,
        "worlds": list(OFFERED) if named in OFFERED else [*OFFERED, named],
        "planners": list(PLANNERS_OFFERED),
        "duration": _rounded(scene.duration),
        "tick": TICK,
        "size": list(session.settings.size),
        "map": scene_drawing(scene),
        "route": _points(scene.route.points - origin),
        "stopLines": [_points(line[:, :2] - origin) for line in scene.lights.stop_line],
        "vehicle": [session.vehicle.length, session.vehicle.width, session.vehicle.rear_axle_to_center],
        "cameras": list(rig.names),
        "front": front_camera(rig),
        "rows": [list(row) for row in reading_order(rig.ego_from_camera)],
        "intrinsics": [[float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])] for k in rig.intrinsics],
        "egoFromCamera": [np.round(pose[:3], 5).ravel().tolist() for pose in rig.ego_from_camera],
    }


def front_camera(rig: CameraRig) -> int:
    """The camera that is the large one at first: the middle one of those that look ahead."""
    ahead = forward_cameras(rig)
    return ahead[len(ahead) // 2]


def state_message(session: Session) -> dict[str, Any]:
    """The present instant."""
    moment, view, origin = session.now, session.view(), origin_of(session.scene)
    state, ego = view.state, view.state.ego
    boxes, tracks = state.boxes, session.scene.tracks
    near = np.hypot(boxes.position[:, 0] - ego.x, boxes.position[:, 1] - ego.y) < NEARBY
    agents = [
        [int(token), CATEGORIES[category], *(_rounded(value) for value in (x - origin[0], y - origin[1], yaw, length, width))]
        for token, category, (x, y, _), yaw, (length, width, _) in zip(
            boxes.token[near], boxes.category[near], boxes.position[near], boxes.yaw[near], boxes.size[near], strict=True
        )
    ]
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    plan = view.plan[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + (ego.x - origin[0], ego.y - origin[1])
    terms = moment.info["reward_terms"]
    return {
        "type": "state",
        "tick": session.cursor,
        "ticks": len(session.path) - 1,
        "time": _rounded(state.time),
        "ego": [_rounded(value, 4) for value in (ego.x - origin[0], ego.y - origin[1], ego.yaw, ego.speed, ego.acceleration)],
        "wheel": _rounded(ego.steering, 4),
        "agents": agents,
        "inserted": len(tracks) - len(session.scene.recorded.tracks),
        "touched": sorted(view.touched),
        "lights": state.lights.tolist(),
        "plan": _points(plan) if len(view.plan) else [],
        "metrics": {name: value for name, value in moment.info["metrics"].items() if name != "final"},
        "events": [name for name, value in terms.items() if name in EVENTS and value > 0],
        "endedBy": moment.ended_by,
        "final": _final(moment.info) if moment.ended_by is not None else None,
        "driver": session.pilot.name if session.pilot is not None else "hand",
        "branches": [len(branch) - 1 for branch in session.branches],
        "shown": sum(each.shown is not None for each in session.path[: session.cursor + 1]),
    }


EVENTS = ("collision", "off_road", "wrong_way", "red_light")


def pictures_message(picture: Picture, view: str, truth: Picture | None, focus: int, **facts: Any) -> bytes:
    """A header's length (4 bytes), the header as JSON and the pictures one behind the other.

    view: one of VIEWS; truth: for a comparison of camera ``focus``, whose difference is sent too.
    """
    frame, info = picture.drawn.frame.rgbd, picture.drawn.frame.info
    shown = [colour_depth(depth) for depth in frame.depth] if view == "depth" else frame.rgb
    parts = [(f"camera{index}", _jpeg(image)) for index, image in enumerate(shown)]
    compared: dict[str, Any] = {}
    if truth is not None:
        real = truth.drawn.frame.rgbd
        compared = _compared(frame, real, focus)
        there = colour_depth(real.depth[focus]) if view == "depth" else real.rgb[focus]
        parts += [("truth", _jpeg(there)), ("difference", _jpeg(_difference(frame, real, focus, view)))]
    if view == "cloud":
        parts.append(("depth", np.where(frame.depth < FAR - 0.5, frame.depth / DEPTH_UNIT, 0).astype("<u2").tobytes()))
    header = {
        "tick": picture.tick,
        "world": picture.drawn.look.world,
        "memory": picture.drawn.look.memory,
        "view": view,
        "elsewhere": picture.elsewhere,
        "source": list(info.source),
        "trust": _rounded(info.trust, 3),
        "deviation": _rounded(info.deviation_m),
        "size": list(frame.depth.shape[1:]),
        "focus": focus,
        "compared": compared,
        "parts": [[name, len(content)] for name, content in parts],
        **facts,
    }
    head = json.dumps(header).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *(content for _, content in parts)])


def _compared(frame: RGBDFrame, truth: RGBDFrame, focus: int) -> dict[str, Any]:
    """How far one camera's picture is from the truth."""
    square = float(((frame.rgb[focus].astype(np.float32) - truth.rgb[focus]) ** 2).mean())
    near = (truth.depth[focus] < FAR - 0.5) & (frame.depth[focus] < FAR - 0.5)
    relative = np.abs(frame.depth[focus] - truth.depth[focus])[near] / truth.depth[focus][near]
    return {
        "psnr": _rounded(10 * math.log10(255**2 / square)) if square > 0 else None,
        "depthError": _rounded(float(relative.mean()), 4) if near.any() else None,
    }


def _difference(frame: RGBDFrame, truth: RGBDFrame, focus: int, view: str) -> np.ndarray:
    """Where two pictures differ, black where they don't: colours by twice their difference, depth by its relative one."""
    if view == "depth":
        relative = np.abs(frame.depth[focus] - truth.depth[focus]) / truth.depth[focus]
        grey = np.clip(relative * 510, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    apart = np.abs(frame.rgb[focus].astype(np.int16) - truth.rgb[focus])
    return np.clip(2 * apart, 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB; chroma as fine as luma, for small pictures are enlarged."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, content = cv2.imencode(".jpg", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options)
    assert done
    return content.tobytes()


def _final(info: Mapping[str, Any]) -> dict[str, float | None]:
    """The scores of the whole episode."""
    return {name: result["value"] for name, result in info["metrics"]["final"].items()}


def _points(points: np.ndarray) -> list[float]:
    """x, y, x, y, ... in metres."""
    return np.round(points, 2).ravel().tolist()


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
