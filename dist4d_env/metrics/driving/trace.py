"""Values of metrics: the episode trace as arrays, the plans issued in it, and a metric's result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.first_instant import put_there
from dist4d_env.metrics.driving.rectangles import contacts, ego_centers
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK

BEYOND = 1e9
"""What no place, speed or time reaches; squares of what is below are exact enough to compare."""


def require_shapes(what: str, arrays: Mapping[str, Any], **shapes: tuple[int, ...]) -> None:
    """ConfigError that names the first array that has another shape or is not of real numbers. what: whose arrays they are."""
    for name, shape in shapes.items():
        array = np.asarray(arrays[name])
        plain = (
            array.dtype == bool if name == "valid" else array.dtype.kind in "iuf" and array.dtype not in (np.half, np.longdouble)
        )
        if array.shape != shape or not plain:
            raise ConfigError(f"{what}: {name} is {array.dtype} {array.shape}, it must be {shape}")


def require_finite(what: str, **arrays: np.ndarray | None) -> None:
    """ConfigError that names the first array with a number in it that is not finite: a score of nan would look like a good one,
    because every comparison with it is false. what: whose arrays they are."""
    for name, array in arrays.items():
        if array is not None and not (np.abs(array) < BEYOND).all():
            raise ConfigError(
                f"{what}: {name} is not finite everywhere (below {BEYOND:g}): nothing can be scored against it, so mend what "
                "made it"
            )


def require_agents(what: str, valid: np.ndarray, size: np.ndarray, **rows: np.ndarray) -> None:
    """ConfigError where an agent that exists (valid: (T, N)) has a size (N, 2 or more) that is not positive or a row (T, N, ...)
    that is not finite."""
    there = size[valid.any(0)]
    if not ((there > 0) & (there < BEYOND)).all():
        raise ConfigError(f"{what}: the size of an agent is not a positive number: nothing can be scored against it")
    for name, values in rows.items():
        if not (np.abs(values) < BEYOND).all() and not (np.abs(values[valid]) < BEYOND).all():
            raise ConfigError(f"{what}: {name} of an agent is not finite where it exists: nothing can be scored against it")


@dataclass(frozen=True)
class EpisodeTrace:
    """An episode at 10 Hz, the start included, global frame.

    time: (T,); ego: (T, 7) x, y, yaw, speed, acceleration, steering, yaw_rate of the rear axle; agents over the N tracks of the
    scene: position (T, N, 3) centres, yaw (T, N), velocity (T, N, 2), valid (T, N), size (N, 3) length, width, height,
    category (N,) int8 into CATEGORIES; expert: (T, 3) logged x, y, yaw at the same times (clamped to the log's end); lights: the
    scene's traffic lights with their states at the same times.

    ConfigError for arrays of other shapes, and if the ego, the times, the recorded ego or an agent that exists is not finite, or
    an agent has no size. Metrics that count ticks (all but collisions, areas and progress) refuse a trace of another rate:
    ``at_ticks``.
    """

    time: np.ndarray
    ego: np.ndarray
    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    size: np.ndarray
    category: np.ndarray
    expert: np.ndarray
    map: SceneMap | None
    route: Route
    vehicle: VehicleParameters
    lights: TrafficLights = NO_LIGHTS

    def __post_init__(self) -> None:
        steps, tracks = max(np.size(self.time), 1), len(np.atleast_1d(self.category))
        shapes = {"time": (steps,), "ego": (steps, 7), "expert": (steps, 3), "size": (tracks, 3), "category": (tracks,)}
        shapes |= {"position": (steps, tracks, 3), "velocity": (steps, tracks, 2)}
        shapes |= {"yaw": (steps, tracks), "valid": (steps, tracks)}
        require_shapes("an episode's trace", vars(self), **shapes)
        for name in ("time", "ego", "expert", "size", "position", "velocity", "yaw"):  # kernels are compiled for these alone
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        known = self.category.dtype.kind in "iu" and bool(np.isin(self.category, range(len(CATEGORIES))).all())
        if not known:
            raise ConfigError("an episode's trace: category must be indices into CATEGORIES")
        require_finite("an episode's trace", ego=self.ego, time=self.time, expert=self.expert)
        rows = {"position": self.position, "yaw": self.yaw, "velocity": self.velocity}
        require_agents("an episode's trace", self.valid, self.size, **rows)

    def at_ticks(self) -> EpisodeTrace:
        """This trace, for a metric that counts ticks of 0.1 s. ConfigError if its rows are not that far apart."""
        apart = np.diff(self.time)
        if len(apart) and np.abs(apart - TICK).max() > TICK / 10:
            raise ConfigError(
                f"this score counts rows {TICK} s apart (10 Hz), but the trace's are {apart.min():.3g} to {apart.max():.3g} s "
                "apart: resample the trace to 10 Hz"
            )
        return self

    @cached_property
    def center(self) -> np.ndarray:
        """(T, 2) centres of the ego's box."""
        return ego_centers(self.ego, self.vehicle)

    @cached_property
    def contact(self) -> np.ndarray:
        """(T, N) which tracks touch the ego's footprint at which step."""
        own, hits = np.array([self.vehicle.length, self.vehicle.width]), np.zeros(self.valid.shape, bool)
        there = self.position[..., :2], self.yaw, self.size[:, :2], self.valid
        _, step, track = contacts(self.center[None], self.ego[None, :, 2], own, *there)
        hits[step, track] = True
        return hits

    @cached_property
    def spared(self) -> np.ndarray:
        """(N,) which tracks were put where the ego was (``first_instant``)."""
        step, track = np.nonzero(self.contact)
        spared = np.zeros(self.contact.shape[1], bool)
        spared[track[put_there(step, self.valid[:, track].T)]] = True
        return spared

    @cached_property
    def expert_position(self) -> np.ndarray:
        """``route_position`` of the logged ego at the same times."""
        return self.route.follow(ego_centers(self.expert, self.vehicle))

    @cached_property
    def route_position(self) -> np.ndarray:
        """(T,) arc length on the route of the ego's box centre, in metres, followed in time."""
        return self.route.follow(self.center)

    @cached_property
    def lanes(self) -> list[tuple[Lane, ...]]:
        """The lanes that hold the ego's box centre, step by step; none without a map."""
        return [()] * len(self.time) if self.map is None else self.map.lanes_along(self.center)


@dataclass(frozen=True)
class Plans:
    """The plans issued during an episode, for scores of plans instead of the driven path.

    step: (K,) tick of the trace at which each plan was issued; poses: (K, P, 3) x, y, heading in the ego frame of that tick, at
    dt, 2 dt, ... seconds after it. ConfigError if poses or dt are not finite, or steps no whole numbers.
    """

    step: np.ndarray
    poses: np.ndarray
    dt: float = 0.5

    def __post_init__(self) -> None:
        require_finite("an episode's plans", poses=self.poses, dt=np.array(self.dt))
        if np.size(self.step) and np.asarray(self.step).dtype.kind not in "iu":
            raise ConfigError(f"an episode's plans: step is {shown(self.step)}, it must be whole ticks of the trace")
        object.__setattr__(self, "poses", np.asarray(self.poses, np.float64))


@dataclass(frozen=True)
class MetricResult:
    """A metric's value, whether it could be computed, and the step and object that caused it."""

    value: float
    valid: bool
    details: dict[str, Any] = field(default_factory=dict)
