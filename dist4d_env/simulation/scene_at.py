"""The state of a scene at one instant as a world is given it: ego pose, boxes, and what is anticipated of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import Boxes


@dataclass(frozen=True)
class SceneAt:
    """The simulator's truth at one instant.

    time: seconds since the scene's first keyframe; global_from_ego: (4, 4); boxes: every agent now, global frame.
    anticipated_time: (K,) later instants, one decision apart; anticipated_pose: (K, 4, 4) where the ego will be if its
    controls (or its plan) go on; anticipated_boxes: K boxes. K may be 0. lights: (G,) and anticipated_lights: (K, G) states of
    the scene's traffic lights now and then, int8 into ``scenes.lights.STATES``; None: those that were recorded.
    """

    time: float
    global_from_ego: np.ndarray
    boxes: Boxes
    anticipated_time: np.ndarray
    anticipated_pose: np.ndarray
    anticipated_boxes: tuple[Boxes, ...]
    lights: np.ndarray | None = None
    anticipated_lights: np.ndarray | None = None
