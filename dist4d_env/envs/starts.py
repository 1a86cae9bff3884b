"""Where in a scene an episode may begin."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.scenes.scene import TICK, Scene


def on_grid(time: float) -> float:
    """The first instant of the 10 Hz grid that is not before a time: what was recorded until then is known there."""
    return math.ceil(time / TICK - 1e-6) * TICK


def possible_starts(scene: Scene, needs_images: bool, decision_dt: float) -> np.ndarray:
    """(K,) the keyframes from which two decisions fit into the log, as seconds on the 10 Hz grid.

    needs_images: for worlds that remember images only keyframes with images and depth count. Raises DataError where there is
    none.
    """
    check_length(scene, decision_dt)
    keyframes = remembered_keyframes(scene) if needs_images else np.arange(len(scene.sensors.keyframe_time))
    times = np.array([on_grid(time) for time in scene.sensors.keyframe_time[keyframes].tolist()])
    early = times[times <= scene.duration - 2 * decision_dt + 1e-6]
    if not len(early):
        raise DataError(
            f"{scene.name}: its first keyframe with images and depth is at {times[0]:.1f} s, too late for two decisions of "
            f"{decision_dt:g} s: fetch or prepare earlier ones, or choose a smaller decision_dt"
        )
    return early


def draw_start(scene: Scene, needs_images: bool, horizon: float, decision_dt: float, random: np.random.Generator) -> float:
    """One of the ``possible_starts`` from which the horizon fits into the log, the first of all where it fits from none. Raises
    DataError where there are no possible starts."""
    times = possible_starts(scene, needs_images, decision_dt)
    fitting = times[times <= scene.duration - horizon + 1e-6]
    return float(random.choice(fitting)) if len(fitting) else float(times[0])


def check_start(scene: Scene, needs_images: bool, start: float, decision_dt: float, name: str = "start") -> float:
    """A start asked for, moved on to the 10 Hz grid. name: of what asked for it. Raises ConfigError outside the scene, DataError
    without any image and for a scene that is too short."""
    check_length(scene, decision_dt)
    latest = scene.duration - 2 * decision_dt
    if isinstance(start, bool) or not isinstance(start, int | float | np.number) or not 0 <= start <= latest + 1e-6:
        raise ConfigError(f"{name}={start!r} must lie between 0 and {latest:.1f} s in {scene.name}")
    if needs_images:
        remembered_keyframes(scene)
    return min(on_grid(float(start)), math.floor(latest / TICK + 1e-6) * TICK)


def check_length(scene: Scene, decision_dt: float) -> None:
    """Raises DataError for a scene in which no episode fits."""
    if scene.duration < 2 * decision_dt - 1e-6:
        raise DataError(
            f"{scene.name} lasts {scene.duration:.1f} s, too short for an episode of two decisions of {decision_dt:g} s: choose "
            "another scene, or a smaller decision_dt"
        )


def remembered_keyframes(scene: Scene) -> np.ndarray:
    """Indices of the keyframes with images and depth. Raises DataError, with the remedy, if there is none."""
    sensors = scene.sensors
    pictured = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k)]
    if not pictured:
        raise DataError(
            f"{scene.name}: no keyframe in {scene.dataroot} has images, which this world remembers: fetch the camera files, or "
            "use world='none'"
        )
    complete = [k for k in pictured if sensors.has_depth(k)]
    if not complete:
        raise DataError(
            f"{scene.name}: the images have no depth yet: run python -m dist4d_env prepare --dataroot {scene.dataroot} "
            f"--scenes {scene.name}"
        )
    return np.array(complete)
