"""From keyframe annotations and pose records to the ego log and the tracks at 10 Hz."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.scenes.interpolation import interpolate_poses
from dist4d_env.scenes.scene import TICK, EgoLog, Tracks

_HALF_WINDOW = 0.25  # s: keyframe poses are 0.5 s apart, so a centred difference over 0.5 s has no jumps
_REACH = 0.5  # s to both sides: ten boxes a second are too close to difference neighbours, which jitter by centimetres


def ticks(duration: float) -> np.ndarray:
    """0, 0.1, ... up to the last tick that does not lie behind ``duration`` seconds."""
    return np.arange(int(np.floor(duration / TICK + 1e-6)) + 1) * TICK


def ego_log(time: np.ndarray, poses: np.ndarray, duration: float) -> EgoLog:
    """The log at 10 Hz from pose records (N, 4, 4) at rising times (N,); rates are centred differences over 0.5 s."""
    grid = ticks(duration)
    early, late = (np.clip(grid + shift, 0.0, grid[-1]) for shift in (-_HALF_WINDOW, _HALF_WINDOW))
    span = np.maximum(late - early, 1e-9)
    here, before, after = (interpolate_poses(time, poses, at) for at in (grid, early, late))
    heading = yaw_of(here)
    step = (after[:, :2, 3] - before[:, :2, 3]) / span[:, None]
    speed = step[:, 0] * deterministic.cos(heading) + step[:, 1] * deterministic.sin(heading)
    turn = (yaw_of(after) - yaw_of(before) + np.pi) % (2 * np.pi) - np.pi
    acceleration = (np.interp(late, grid, speed) - np.interp(early, grid, speed)) / span
    return EgoLog(grid, here, speed, acceleration, turn / span)


def interpolate_tracks(
    instance: tuple[str, ...],
    name: tuple[str, ...],
    category: np.ndarray,
    size: np.ndarray,
    keyframe_time: np.ndarray,
    position: np.ndarray,
    yaw: np.ndarray,
    annotated: np.ndarray,
    duration: float,
) -> Tracks:
    """Tracks at 10 Hz from keyframes: position (N, K, 3), yaw (N, K) and annotated (N, K) bool at keyframe_time (K,).

    An object is valid at a tick on a keyframe that annotates it and between two neighbouring keyframes that both do. None is
    before the first keyframe or after the last; a tick within half a tick of one of these counts as that keyframe. Velocities at
    keyframes are centred differences over half a second to both sides, or the annotated neighbours where these are as far
    apart, as nuScenes' are (one-sided at a track's ends, zero if annotated alone).
    """
    grid = ticks(duration)
    count = len(keyframe_time)
    after = np.clip(np.searchsorted(keyframe_time, grid, side="right"), 1, max(count - 1, 1))
    before, after = after - 1, np.minimum(after, count - 1)
    span = keyframe_time[after] - keyframe_time[before]
    share = np.clip((grid - keyframe_time[before]) / np.where(span > 0, span, 1.0), 0.0, 1.0)
    share = np.where(share < 1e-4, 0.0, np.where(share > 1 - 1e-4, 1.0, share))
    valid = (annotated[:, before] | (share == 1)) & (annotated[:, after] | (share == 0))
    # Annotations may begin after the log and end before it: what was there then is not known.
    valid &= (grid >= keyframe_time[0] - TICK / 2) & (grid <= keyframe_time[-1] + TICK / 2)

    position, yaw = np.where(annotated[..., None], position, 0.0), np.where(annotated, yaw, 0.0)
    velocity = _keyframe_velocity(keyframe_time, position[..., :2], annotated)
    turn = (yaw[:, after] - yaw[:, before] + np.pi) % (2 * np.pi) - np.pi
    heading = np.where(share == 1, yaw[:, after], yaw[:, before] + share * turn)
    return Tracks(
        instance=instance,
        name=name,
        category=category,
        size=size,
        time=grid,
        position=np.where(valid[..., None], _between(position, before, after, share), 0.0),
        yaw=np.where(valid, (heading + np.pi) % (2 * np.pi) - np.pi, 0.0),
        velocity=np.where(valid[..., None], _between(velocity, before, after, share), 0.0),
        valid=valid,
    )


def _between(values: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share[:, None]
    return (1 - share) * values[:, before] + share * values[:, after]


def _keyframe_velocity(time: np.ndarray, position: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """(N, K, 2) from position (N, K, 2), zero where there is nothing to difference."""
    count = len(time)
    index = np.arange(count)
    early = late = np.broadcast_to(index, annotated.shape)
    reach = round(_REACH / float(np.median(np.diff(time)))) if count > 1 else 1
    for away in range(1, max(reach, 1) + 1):  # as far as a track goes without a gap
        before, after = np.maximum(index - away, 0), np.minimum(index + away, count - 1)
        early = np.where(annotated[:, before] & (early == np.minimum(before + 1, index)), before, early)
        late = np.where(annotated[:, after] & (late == np.maximum(after - 1, index)), after, late)
    rows = np.arange(len(position))[:, None]
    span = time[late] - time[early]
    moved = position[rows, late] - position[rows, early]
    return np.where(((span > 0) & annotated)[..., None], moved / np.where(span > 0, span, 1.0)[..., None], 0.0)
