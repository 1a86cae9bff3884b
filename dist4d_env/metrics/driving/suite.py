"""Every planning metric by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dist4d_env.metrics.driving.collision import no_at_fault_collision, no_collision
from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.progress import ego_progress, expert_deviation, progress, route_completion
from dist4d_env.metrics.driving.red_lights import traffic_light_compliance
from dist4d_env.metrics.driving.road import (
    drivable_area_compliance,
    driving_direction_compliance,
    lane_keeping,
    speed_limit_compliance,
)
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult

METRICS: Mapping[str, Callable[[EpisodeTrace], MetricResult]] = MappingProxyType(
    {
        "no_at_fault_collision": no_at_fault_collision,
        "no_collision": no_collision,
        "drivable_area_compliance": drivable_area_compliance,
        "driving_direction_compliance": driving_direction_compliance,
        "time_to_collision": time_to_collision,
        "comfort": comfort,
        "lane_keeping": lane_keeping,
        "speed_limit_compliance": speed_limit_compliance,
        "traffic_light_compliance": traffic_light_compliance,
        "progress": progress,
        "ego_progress": ego_progress,
        "route_completion": route_completion,
        "expert_deviation": expert_deviation,
        "pdms_v1": pdms_v1,
    }
)


def evaluate(trace: EpisodeTrace, reference: float | None = None) -> dict[str, MetricResult]:
    """All metrics of an episode.

    reference: metres that the logged ego makes in the whole time that the episode was meant to last
    (``recording.logged_progress``), which ``ego_progress`` and with it ``pdms_v1`` are relative to, so that an episode that ended
    early is scored by what it left undone. Without it they compare with what the logged ego made in the time of the trace.
    """
    results: dict[str, MetricResult] = {}
    for name, metric in METRICS.items():
        if metric is ego_progress:
            results[name] = ego_progress(trace, reference=reference)
        elif metric is pdms_v1:
            results[name] = pdms_v1(trace, reference, results)
        else:
            results[name] = metric(trace)
    return results
