"""Shapes of traffic lights, and their lamps on and off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.lights import LAMP_SPACING, LAMPS
from dist4d_env.town.meshes import Material, Mesh, box, cylinder, flat, join
from dist4d_env.town.model import Head, Signal
from dist4d_env.town.textures_ground import POLE

_OFF = np.array([(0.22, 0.05, 0.05), (0.22, 0.15, 0.04), (0.05, 0.16, 0.12)], np.float32)
_ON = np.array([(1.9, 0.08, 0.06), (1.9, 1.0, 0.08), (0.08, 1.8, 1.0)], np.float32)  # bright by day
_GLOW = 2.0  # at night
_LENS, _HOUSING, _SIDES = 0.16, (0.24, 0.44, 1.12), 10
_TINT, _SHINE = slice(15, 18), 18  # of the rows of ``Surface.faces``


def signal_mesh(signals: Sequence[Signal], origin: np.ndarray) -> tuple[Mesh, np.ndarray]:
    """Traffic lights relative to ``origin`` (2,), their lamps off, and of the faces at the mesh's end, which are the lamps',
    the numbers of signal and lamp (F, 2)."""
    heads = [(number, head) for number, signal in enumerate(signals) for head in signal.heads]
    lamps = [(number, place, head) for number, head in heads for place in range(len(LAMPS))]
    meshes = [_post(head, origin) for _, head in heads] + [_lens(place).moved(_pose(head, origin)) for _, place, head in lamps]
    return join(meshes), np.repeat(np.array([lamp[:2] for lamp in lamps]), _SIDES, 0)


def switched(faces: np.ndarray, lamps: np.ndarray, states: np.ndarray) -> np.ndarray:
    """``Surface.faces`` (22, N) of a mesh that ends in lamps (F, 2) with those on that states (G,) of the signals turn on."""
    faces, (signal, place) = faces.copy(), lamps.T
    on = np.flatnonzero(states[signal] == np.array(LAMPS)[place])
    at = faces.shape[1] - len(lamps) + on
    faces[_TINT, at], faces[_SHINE, at] = _ON[place[on]].T, _GLOW
    return faces


def _pose(head: Head, origin: np.ndarray) -> np.ndarray:
    x, y, z = head.middle
    pose = pose_from_xy_yaw(x - float(origin[0]), y - float(origin[1]), head.facing)
    pose[2, 3] = z
    return pose


def _post(head: Head, origin: np.ndarray) -> Mesh:
    """Housing, the board behind it, the pole, and an arm where the head isn't at the pole."""
    steel: Material = {"semantic": POLE, "tint": (0.24, 0.26, 0.27)}
    black: Material = {"semantic": POLE, "tint": (0.10, 0.10, 0.10)}
    depth, width, height = np.array(_HOUSING) / 2
    housing = box((-depth, -width, -height), (depth, width, height), **black)
    board = box((-depth - 0.02, -1.55 * width, -1.2 * height), (-depth + 0.04, 1.55 * width, 1.2 * height), **black)
    behind = (depth + 0.1) * np.array([np.cos(head.facing), np.sin(head.facing)])  # so that the pole doesn't hide the lamps
    (x, y), reach = (head.pole - origin - behind).tolist(), np.array(head.middle[:2]) - head.pole
    meshes = [join([housing, board]).moved(_pose(head, origin)), cylinder(x, y, 0, head.middle[2] + 0.3, 0.10, 0.08, **steel)]
    if (length := float(np.hypot(*reach))) > 0.1:
        arm = box((0, -0.05, head.middle[2] - 0.05), (length, 0.05, head.middle[2] + 0.05), **steel)
        meshes.append(arm.moved(pose_from_xy_yaw(x, y, float(np.arctan2(reach[1], reach[0])))))
    return join(meshes)


def _lens(place: int) -> Mesh:
    """A disc of a head, in the head's own frame."""
    angle, height = np.arange(_SIDES + 1) * 2 * np.pi / _SIDES, LAMP_SPACING * (1 - place)
    rim = np.stack([np.full(len(angle), _HOUSING[0] / 2 + 0.01), _LENS * np.cos(angle), height + _LENS * np.sin(angle)], -1)
    middle = np.broadcast_to([rim[0, 0], 0.0, height], (_SIDES, 3))
    return flat(np.stack([middle, rim[:-1], rim[1:]], 1), tint=_OFF[place], semantic=POLE)
