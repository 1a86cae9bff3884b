"""Realism of a traffic model on recorded scenes: seeded rollouts beside a driven ego, scored as the sim agents challenge does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.evaluation.statistics import Estimate, Resampler
from dist4d_env.json_output import plain
from dist4d_env.metrics.driving.recording import log_trace, trace_of
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.metrics.foreign.wosac import HISTORY, STEPS, Realism, realism
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import follow
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

HASTE = 0.1
"""Share by which the ego of rollouts beyond the first is faster or slower than recorded, evenly either way."""


def windows(scene: Scene, count: int) -> list[float]:
    """Up to ``count`` starts in seconds, evenly spread, with the history before and the scored ticks after them on record."""
    first, last = HISTORY - 1, len(scene.ego.time) - 1 - STEPS
    if last < first:
        return []
    return [float(row * TICK) for row in np.unique(np.linspace(first, last, count).round().astype(int))]


def rollouts(scene: Scene, start: float, traffic: Any, count: int, seed: int = 0) -> list[EpisodeTrace]:
    """Traces of the history before ``start`` and of STEPS simulated ticks after it.

    The first ego follows the recorded path in recorded time; those of further rollouts follow it up to HASTE faster or slower,
    as drawn from the seed, which is what a model without chance of its own can react to.
    """
    simulator = Simulator(SimulatorConfig(action="trajectory", traffic=traffic))
    simulator.add(scene)
    past = log_trace(scene, start - (HISTORY - 1) * TICK, start, simulator.config.vehicle)
    random = np.random.default_rng([seed, round(start / TICK)])
    state = simulator.reset([0] * count, [start] * count)
    pace = np.concatenate([[1.0], 1 + HASTE * random.uniform(-1, 1, count - 1)])
    state, ticks = simulator.execute(state, follow(_paths(scene, start, pace, state.ego), TICK, state.ego, state.tick), STEPS)
    traces = []
    for index in range(count):
        trace = trace_of(scene, simulator.config.vehicle, ticks.row[index], ticks.ego[index], ticks.agents[index])
        names = ("time", "ego", "position", "yaw", "velocity", "valid", "expert")
        both = {name: np.concatenate([getattr(past, name), getattr(trace, name)]) for name in names}
        lights = scene.lights.seen_at(np.concatenate([ticks.row[index, :1] - np.arange(HISTORY, 0, -1), ticks.row[index]]))
        traces.append(replace(trace, **both, lights=lights))
    return traces


def _paths(scene: Scene, start: float, pace: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """(B, STEPS, 3) the recorded path in the ego's frame (B, 7), each in its own time; past its end it stands."""
    log = log_trace(scene, start, None).ego
    time = np.arange(1, STEPS + 1) * pace[:, None]
    x, y, yaw = (np.interp(time, np.arange(len(log)), column) for column in (log[:, 0], log[:, 1], np.unwrap(log[:, 2])))
    dx, dy = x - ego[:, :1], y - ego[:, 1:2]
    cos, sin = np.cos(ego[:, 2:3]), np.sin(ego[:, 2:3])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw - ego[:, 2:3]], -1)


@dataclass(frozen=True)
class Window:
    """A scene's window and its realism."""

    scene: str
    start: float
    found: Realism


@dataclass(frozen=True)
class RealismResult:
    """windows: as scored; estimates: of every likelihood, group, error and rate, over windows, with 95 % intervals."""

    windows: tuple[Window, ...]
    estimates: Mapping[str, Estimate]

    @classmethod
    def of(cls, found: Sequence[Window], seed: int = 0) -> RealismResult:
        """Means over windows. Raises DataError where there are none."""
        if not found:
            raise DataError(f"no scene is long enough: realism needs {(HISTORY + STEPS) * TICK:.1f} s of recording")
        resampler = Resampler([(window.scene, window.start) for window in found], seed)
        rows = [_flat(window.found) for window in found]
        return cls(tuple(found), {name: resampler.mean([row[name] for row in rows]) for name in rows[0]})

    def as_json(self) -> dict[str, Any]:
        """Plain values; nan is null."""
        estimates = {name: asdict(estimate) for name, estimate in self.estimates.items()}
        return dict(plain({"estimates": estimates, "windows": [asdict(window) for window in self.windows]}))

    def table(self) -> str:
        """A line per value."""
        agents = sum(window.found.agents for window in self.windows)
        lines = [f"{len(self.windows)} windows of {STEPS * TICK:g} s, {agents} agents; mean with 95 % interval"]
        for name, e in self.estimates.items():
            lines.append(
                f"{name.replace('_', ' '):<30}" + (f"{e.mean:>7.3f} [{e.low:.3f}, {e.high:.3f}]" if e.count else "    n/a")
            )
        return "\n".join(lines)


def _flat(found: Realism) -> dict[str, float]:
    errors = {"ADE": found.ade, "minADE": found.min_ade, "collision_rate": found.collisions, "offroad_rate": found.offroad}
    return {"realism": found.meta, **found.groups, **found.likelihoods, **errors}


def judge(scene: Scene, start: float, traffic: Any, count: int, seed: int = 0) -> Window:
    """The realism of a traffic model in one window of a scene."""
    log = log_trace(scene, start - (HISTORY - 1) * TICK, start + STEPS * TICK)
    return Window(scene.name, start, realism(log, rollouts(scene, start, traffic, count, seed)))


def write_result(path: Path, result: RealismResult, settings: Mapping[str, Any]) -> None:
    """Writes a result and the settings it was made with as JSON, whole or not at all."""
    write_text(path, json.dumps({"settings": dict(settings), **result.as_json()}, indent=1, allow_nan=False))
