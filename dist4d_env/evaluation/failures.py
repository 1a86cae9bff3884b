"""Failures of an episode, each with its kind, tick and the agent that was hit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog
from dist4d_env.metrics.driving.trace import MetricResult

KINDS = {
    "collision": "at-fault collision",
    "off_road": "left the road",
    "wrong_way": "drove the wrong way",
    "red_light": "ran a red light",
    PLANNER_ERROR: "the planner failed",
}
_HITS = {
    "stopped_track": "drove into a standing {}",
    "active_front": "hit a {} with its front",
    "active_lateral": "hit a {} with its side, out of its lane",
}


@dataclass(frozen=True)
class Failure:
    """kind: as in KINDS; step: tick of the trace; time: seconds since the scene's first keyframe; track: row of the trace's
    agents that was hit, None for other kinds; text: a description."""

    kind: str
    step: int
    time: float
    track: int | None
    text: str


def find_failures(log: EpisodeLog, results: Mapping[str, MetricResult]) -> tuple[Failure, ...]:
    """The failures of an episode in order of time, from the details of its metrics."""
    found: list[Failure] = []
    last = len(log.trace.time) - 1

    def add(kind: str, step: int, text: str, track: int | None = None) -> None:
        found.append(Failure(kind, int(step), float(log.trace.time[step]), track, text))

    for hit in results["no_at_fault_collision"].details.get("collisions", ()):
        if hit["at_fault"]:
            what = _HITS.get(hit["kind"], "hit a {}").format(hit["category"].replace("_", " "))
            add("collision", hit["step"], what, int(hit["track"]))
    road = results["drivable_area_compliance"]
    if road.valid and road.value < 1:
        add("off_road", road.details["step"], "a corner of its footprint left the drivable area")
    direction = results["driving_direction_compliance"]
    if log.outcome == "wrong_way":
        add("wrong_way", last, "its centre came into lanes that all run against it")
    elif direction.valid and direction.value < 1 and direction.details.get("step") is not None:
        add("wrong_way", direction.details["step"], "drove metres in lanes that run against it")
    lights = results["traffic_light_compliance"]
    if lights.valid and lights.value < 1:
        add("red_light", lights.details["step"], "its front went over a stop line at red")
    if log.outcome == PLANNER_ERROR:
        add(PLANNER_ERROR, last, log.error or "no reason was given")
    return tuple(sorted(found, key=lambda failure: failure.step))
