"""Logged frames prepared for splatting, read once and kept while there is room."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.scenes.scene import Scene, SensorLog

_lock = threading.Lock()
_kept: OrderedDict[tuple, tuple[SensorLog, SplatSource]] = OrderedDict()


def cache_budget() -> int:
    """Bytes of prepared frames kept in memory: ``$DIST4D_FRAME_CACHE_MB`` megabytes, default 768."""
    text = os.environ.get("DIST4D_FRAME_CACHE_MB", "768")
    try:
        return int(float(text) * 1e6)
    except (ValueError, OverflowError):
        raise ConfigError(f"DIST4D_FRAME_CACHE_MB must be a number of megabytes, not {text!r}") from None


def load_source(scene: Scene, keyframe: int, height: int, width: int) -> SplatSource:
    """A keyframe's RGB-D frame with the boxes of each camera's exposure time, least recently used ones forgotten first.

    The boxes are the recorded ones, to which the pixels belong, whatever a scenario made of the scene.
    """
    sensors = scene.sensors  # two readers may have scenes of the same name in the same folder, with other pictures
    key = (scene.dataroot, scene.version, scene.token, id(sensors), keyframe, height, width)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key][1]
    scene = scene.recorded
    frame = scene.sensors.rgbd(keyframe, height, width)
    times = [min(max(float(t), 0.0), scene.duration) for t in frame.time]
    boxes = {t: scene.boxes(t) for t in times}
    source = SplatSource.from_frame(frame, [boxes[t] for t in times])
    with _lock:
        _kept[key] = sensors, source  # kept with it, so that no other gets its identity
        while len(_kept) > 1 and sum(s.nbytes for _, s in _kept.values()) > cache_budget():
            _kept.popitem(last=False)
    return source
