"""Following a planned trajectory: the decoupled longitudinal and lateral LQR of nuPlan and NAVSIM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.simulation.state import EgoState, Reference

DT = 0.1
HORIZON = 10  # ticks that the controllers look ahead
LONGITUDINAL_Q, LONGITUDINAL_R = 10.0, 1.0
LATERAL_Q, LATERAL_R = (1.0, 10.0, 0.0), 1.0  # lateral error, heading error, steering
_ACCELERATION_PENALTY, _CURVATURE_RATE_PENALTY, _FIRST_CURVATURE_PENALTY = 1e-4, 1e-2, 1e-10
STOPPING_SPEED, STOPPING_GAIN = 0.2, 0.5


def reference_from_poses(poses: np.ndarray, start_tick: int = 0) -> Reference:
    """Fits speed and curvature to poses (P, 3), P >= 4, every 0.1 s, by regularised least squares (weights as in nuPlan).

    Speed: displacements are ``v_i (cos h_i, sin h_i) dt`` with ``v_i = v_0 + dt sum(a)`` and a penalty on acceleration.
    Curvature: heading changes are ``v_i k_i dt`` with ``k_i = k_0 + dt sum(k')`` and a penalty on the curvature rate.
    """
    return Reference(start_tick, *fit_profiles(poses))


def fit_profiles(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses with their headings unwrapped, speed and curvature as in ``Reference``, for one trajectory (P, 3) or many (B, P, 3).

    Many are fitted bit for bit as each alone.
    """
    poses = np.concatenate([poses[..., :2], unwrapped(poses[..., 2])[..., None]], -1)
    displacement = np.diff(poses[..., :2], axis=-2)
    turn = np.diff(poses[..., 2], axis=-1)
    speed = _fit_speed(displacement, poses[..., :-1, 2])
    return poses, speed, _fit_curvature(turn, speed)


def unwrapped(heading: np.ndarray) -> np.ndarray:
    """``np.unwrap`` of headings (..., P), quicker where nothing jumps. Zeros are made positive, so that trajectories alone and
    among others agree in all bits."""
    step = np.abs(heading[..., 1:] - heading[..., :-1])
    return (heading if (step < math.pi).all() else np.unwrap(heading, axis=-1)) + 0.0


def _fit_speed(displacement: np.ndarray, heading: np.ndarray) -> np.ndarray:
    count = heading.shape[-1]
    along = displacement[..., 0] * deterministic.cos(heading) + displacement[..., 1] * deterministic.sin(heading)
    diagonal, next_one, next_two = np.full(count, DT**2), np.zeros(count), np.zeros(count)
    weight = _ACCELERATION_PENALTY / DT**2
    # The reference implementation calls its penalty one on jerk; what it weighs is each acceleration, and only the last two
    # by their difference. Traces agree with it to rounding in this form and to centimetres with a penalty on jerk.
    diagonal[: count - 2] += weight
    diagonal[1 : count - 3] += weight
    next_one[: count - 3] -= weight
    diagonal[count - 3 :] += weight * np.array([1.0, 4.0, 1.0])
    next_one[count - 3 : count - 1] -= 2 * weight
    next_two[count - 3] += weight
    return _solve(diagonal, next_one, next_two, DT * along)


def _fit_curvature(turn: np.ndarray, speed: np.ndarray) -> np.ndarray:
    count = turn.shape[-1]
    weight = _CURVATURE_RATE_PENALTY / DT**2
    diagonal, next_one = (speed * DT) ** 2, np.zeros(count)
    diagonal[..., 0] += _FIRST_CURVATURE_PENALTY
    diagonal[..., :-1] += weight
    diagonal[..., 1:] += weight
    next_one[:-1] -= weight
    return _solve(diagonal, next_one, np.zeros(count), speed * DT * turn)


def _solve(diagonal: np.ndarray, next_one: np.ndarray, next_two: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Solves symmetric positive definite systems of two upper bands by L D L', one number after the other: quicker than
    LAPACK at this size and the same bits on any number of threads.

    Bands (P,) or (B, P), target the same: a step of the elimination is one of plain numbers or of columns (B,).
    """
    d, e, f, x = _columns(diagonal), _columns(next_one), _columns(next_two), _columns(target)
    count = len(d)
    for i in range(count):
        one, two = e[i] / d[i], f[i] / d[i]
        if i + 1 < count:
            d[i + 1] = d[i + 1] - one * e[i]
            e[i + 1] = e[i + 1] - one * f[i]
            x[i + 1] = x[i + 1] - one * x[i]
        if i + 2 < count:
            d[i + 2] = d[i + 2] - two * f[i]
            x[i + 2] = x[i + 2] - two * x[i]
        x[i], e[i], f[i] = x[i] / d[i], one, two
    for i in range(count - 2, -1, -1):
        x[i] = x[i] - (e[i] * x[i + 1] + (f[i] * x[i + 2] if i + 2 < count else 0.0))
    return np.stack(x, -1) if target.ndim > 1 else np.array(x)


def _columns(band: np.ndarray) -> list[Any]:
    return band.tolist() if band.ndim == 1 else list(np.ascontiguousarray(band.T))


def track(ego: EgoState, reference: Reference, tick: int, wheelbase: float) -> tuple[float, float]:
    """The commanded acceleration (m/s^2) and steering rate (rad/s) at a simulator tick.

    Both controllers are one-step LQRs over one second: the longitudinal one brings the speed to the reference speed one second
    ahead, the lateral one brings the errors after one second of the linearised bicycle to zero, the steering rate held. Past the
    trajectory's end its last pose and profile values stand.
    """
    index = max(tick - reference.start_tick, 0)
    last = len(reference.speed) - 1
    wanted = float(reference.speed[min(index + HORIZON, last)])
    if ego.speed <= STOPPING_SPEED and wanted <= STOPPING_SPEED:
        return -STOPPING_GAIN * (ego.speed - wanted), 0.0
    span = HORIZON * DT
    acceleration = -span * LONGITUDINAL_Q / (span * span * LONGITUDINAL_Q + LONGITUDINAL_R) * (ego.speed - wanted)
    return acceleration, _steering_rate(ego, reference, index, acceleration, wheelbase)


def _steering_rate(ego: EgoState, reference: Reference, index: int, acceleration: float, wheelbase: float) -> float:
    x, y, heading = reference.poses[min(index, len(reference.poses) - 1)].tolist()
    cos, sin = math.cos(heading), math.sin(heading)
    side = -sin * (ego.x - x) + cos * (ego.y - y)
    turned = wrap(ego.yaw - heading)
    steering = ego.steering
    # The state after one second is free + gain * rate: both are carried through the same linear steps.
    side_gain = turned_gain = steering_gain = 0.0
    last = len(reference.curvature) - 1
    curvature = reference.curvature[[min(index + step, last) for step in range(HORIZON)]].tolist()
    for step in range(HORIZON):
        distance = (ego.speed + acceleration * step * DT) * DT
        side, turned = side + distance * turned, turned + distance * (steering / wheelbase - curvature[step])
        side_gain, turned_gain = side_gain + distance * turned_gain, turned_gain + distance * steering_gain / wheelbase
        steering_gain += DT
    q_side, q_turned, q_steering = LATERAL_Q
    pull = q_side * side_gain * side + q_turned * turned_gain * wrap(turned) + q_steering * steering_gain * steering
    stiffness = q_side * (side_gain * side_gain) + q_turned * (turned_gain * turned_gain)
    stiffness += q_steering * (steering_gain * steering_gain) + LATERAL_R
    return -pull / stiffness


def wrap(angle: Any) -> Any:
    """An angle, or an array of them, to [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
