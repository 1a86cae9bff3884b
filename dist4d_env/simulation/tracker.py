"""Following a planned trajectory: the decoupled longitudinal and lateral LQR of nuPlan and NAVSIM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.simulation import kernels

DT = 0.1
HORIZON = 10  # ticks that the controllers look ahead
LONGITUDINAL_Q, LONGITUDINAL_R = 10.0, 1.0
LATERAL_Q, LATERAL_R = (1.0, 10.0, 0.0), 1.0  # lateral error, heading error, steering
_ACCELERATION_PENALTY, _CURVATURE_RATE_PENALTY, _FIRST_CURVATURE_PENALTY = 1e-4, 1e-2, 1e-10
STOPPING_SPEED, STOPPING_GAIN = 0.2, 0.5


@dataclass(frozen=True)
class References:
    """B trajectories to follow and the profiles fitted to them.

    start_tick: (B,) the simulator tick of the first pose; poses: (B, P, 3) x, y, unwrapped heading, global, every 0.1 s; speed,
    curvature: (B, P - 1) smooth profiles in m/s and 1/m. A shorter one is padded with its last pose and values, which is what
    stands past its end anyway.
    """

    start_tick: np.ndarray
    poses: np.ndarray
    speed: np.ndarray
    curvature: np.ndarray

    @classmethod
    def fitted(cls, poses: np.ndarray, start_tick: np.ndarray) -> References:
        """The references to global poses (B, P, 3) every 0.1 s from the ticks (B,) on."""
        return cls(start_tick, *fit_profiles(poses))

    def __len__(self) -> int:
        return len(self.start_tick)

    def take(self, rows: np.ndarray) -> References:
        """Those of some rows."""
        return References(self.start_tick[rows], self.poses[rows], self.speed[rows], self.curvature[rows])

    def put(self, rows: np.ndarray, others: References) -> References:
        """These with those at ``rows`` replaced by ``others``, in their order."""
        length = max(self.poses.shape[1], others.poses.shape[1])
        ours, theirs = self.padded(length), others.padded(length)
        return References(*(with_rows(getattr(ours, n), rows, getattr(theirs, n)) for n in _FIELDS))

    def padded(self, length: int) -> References:
        """With ``length`` poses or more."""
        more = length - self.poses.shape[1]
        if more <= 0:
            return self
        grown = [np.concatenate([a, np.repeat(a[:, -1:], more, axis=1)], 1) for a in (self.poses, self.speed, self.curvature)]
        return References(self.start_tick, *grown)


_FIELDS = ("start_tick", "poses", "speed", "curvature")


def with_rows(array: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A copy of an array with some rows replaced."""
    array = array.copy()
    array[rows] = others
    return array


def fit_profiles(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits speed and curvature to poses (P, 3) or (B, P, 3), P >= 4, every 0.1 s, by regularised least squares (weights as in
    nuPlan); returns the poses with their headings unwrapped, speeds and curvatures.

    Speed: displacements are ``v_i (cos h_i, sin h_i) dt`` with ``v_i = v_0 + dt sum(a)`` and a penalty on acceleration.
    Curvature: heading changes are ``v_i k_i dt`` with ``k_i = k_0 + dt sum(k')`` and a penalty on the curvature rate.
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


def track(ego: np.ndarray, references: References, tick: np.ndarray, wheelbase: float) -> tuple[np.ndarray, np.ndarray]:
    """The commanded accelerations (B,) in m/s^2 and steering rates (B,) in rad/s of egos (B, 7) at simulator ticks (B,).

    Both controllers are one-step LQRs over one second: the longitudinal one brings the speed to the reference speed one second
    ahead, the lateral one brings the errors after one second of the linearised bicycle to zero, the steering rate held. Past a
    trajectory's end its last pose and profile values stand.
    """
    followed = references.start_tick, references.poses, references.speed, references.curvature
    return kernels.track_all(*map(kernels.contiguous, (ego, tick, *followed)), wheelbase, GAINS)


_SPAN = HORIZON * DT
GAINS = (
    HORIZON,
    DT,
    -_SPAN * LONGITUDINAL_Q / (_SPAN * _SPAN * LONGITUDINAL_Q + LONGITUDINAL_R),
    STOPPING_GAIN,
    STOPPING_SPEED,
    *LATERAL_Q,
    LATERAL_R,
)
"""The constants above as ``kernels.track`` takes them."""
