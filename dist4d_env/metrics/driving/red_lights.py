"""Red traffic lights: where the ego's front runs over a stop line whose light is red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.lights import RED, TrafficLights, crossed


def ego_fronts(ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Middles of the front bumper (..., 2) of ego rows (..., 7) that hold the rear axle."""
    ahead = vehicle.rear_axle_to_center + vehicle.length / 2
    return ego_centers(ego, replace(vehicle, rear_axle_to_center=ahead))


def run_at_red(start: np.ndarray, end: np.ndarray, row: np.ndarray, lights: TrafficLights) -> tuple[np.ndarray, np.ndarray]:
    """Moves of a front from (P, 2) to (P, 2) that go over a stop line the way it is meant for while its light is red: indices of
    moves and of lights. row: (P,) of the lights' states at which each move begins; a state holds until the next."""
    move, light, _ = crossed(start, end, lights.stop_line)
    red = lights.rows(row[move])[light, np.arange(len(move))] == RED
    return move[red], light[red]


def traffic_light_compliance(trace: EpisodeTrace) -> MetricResult:
    """1 if the ego's front went over no stop line at red, else 0; whoever is beyond the line when the light changes may go on.
    details: the first such step and its light. Not valid in a scene without traffic lights.

    NAVSIM's term of this name, a factor of EPDMS, looks whether the ego touches the lane behind the line while it is red: the
    same drives, and those that the red finds on that lane.
    """
    if not len(trace.lights):
        return MetricResult(0.0, False, {"reason": "the scene has no traffic lights"})
    place = ego_fronts(trace.ego, trace.vehicle)
    move, light = run_at_red(place[:-1], place[1:], np.arange(len(place) - 1), trace.lights)
    if not len(move):
        return MetricResult(1.0, True, {"step": None, "light": None})
    first = int(np.argmin(move))
    return MetricResult(0.0, True, {"step": int(move[first]) + 1, "light": trace.lights.token[light[first]]})
