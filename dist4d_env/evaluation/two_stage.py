"""NAVSIM v2's two stages on recorded scenes: plans of a frame, then plans from where these lead, each seen through the world."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import DataError
from dist4d_env.evaluation.runner import planner_input, reset_planner, timed, to_action
from dist4d_env.evaluation.statistics import Estimate, Resampler
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.json_output import plain
from dist4d_env.metrics.driving.epdms import epdms
from dist4d_env.metrics.driving.extended_comfort import GAP, consecutive_comfort
from dist4d_env.metrics.driving.forms import Form
from dist4d_env.metrics.driving.recording import log_trace, trace_of
from dist4d_env.metrics.driving.trace import EpisodeTrace, Plans
from dist4d_env.metrics.plans.episode import human_breaks, score_issued
from dist4d_env.metrics.plans.scene import FUTURE, PAST
from dist4d_env.metrics.plans.two_stage import Aggregate, Columns, Stages, aggregate
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, PLAN_TICKS, Planner, PlannerFailure, guarded
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scenario import LIMITS, Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import follow, global_plans
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.traffic import row_of

SPACING = 0.5
"""Metres between the starts of the second stage, which lie on a grid of the global frame, so that planners share them."""
STAGE = PLAN_POSES * PLAN_DT
"""Seconds that a plan is scored over."""
BEFORE = GAP * TICK
"""Seconds between a frame and the one before."""


@dataclass(frozen=True)
class Judge:
    """What asks a planner and scores its plans. env: of action "trajectory"; plan_limit, reset_limit: seconds that a plan, and
    the planner's reset, may take; seed: of the episodes that begin at each frame."""

    env: Any
    planner: Planner
    form: Form = "corrected"
    plan_limit: float = math.inf
    reset_limit: float = math.inf
    seed: int = 0

    @property
    def driving(self) -> DiST4DDrivingEnv:
        """The environment itself."""
        driving: DiST4DDrivingEnv = self.env.unwrapped
        return driving

    def plan(self, scenario: Scenario) -> tuple[np.ndarray, tuple[str, ...]]:
        """(8, 3) the planner's plan where a scenario starts, and what made the pictures. Raises PlannerFailure."""
        observation, info = self.env.reset(seed=self.seed, options={"scenario": scenario})
        timed(self.reset_limit, "its reset", reset_planner, self.driving, self.planner)
        given = planner_input(self.driving, self.planner, observation)
        plan, _ = timed(self.plan_limit, "a plan", _planned, self.planner, given)
        return plan, tuple(info["world"]["source"])


@dataclass(frozen=True)
class Scored:
    """A scored plan. parts: sub-scores, the extended comfort still to come; forgiven: as in ``epdms``; driven:
    (41, 7) the simulated ego; end: (3,) x, y, heading of its last pose, as planned, and speed: there, m/s; source: what made the
    pictures."""

    parts: Columns
    forgiven: frozenset[str]
    driven: np.ndarray
    end: np.ndarray
    speed: float
    source: tuple[str, ...]

    def columns(self, comfort: float) -> dict[str, float]:
        """All columns, what is forgiven as 1, given the extended comfort."""
        parts = {**self.parts, "extended_comfort": comfort}
        return {"score": epdms(parts, self.forgiven)} | {n: 1.0 if n in self.forgiven else v for n, v in parts.items()}


@dataclass(frozen=True)
class Group:
    """A frame and the one half a second before. stages: of both, None where the planner failed, as ``error`` says; sources: what
    made the pictures of the second stage."""

    scene: str
    time: float
    stages: tuple[Stages, Stages] | None
    sources: tuple[str, ...] = ()
    error: str | None = None


def frames(scene: Scene, count: int, recorded: float = STAGE) -> list[float]:
    """Up to ``count`` times, evenly spread keyframes, that have a recorded frame half a second before and ``recorded`` seconds of
    recording after the second stage begins."""
    times = np.round(scene.sensors.keyframe_time, 1)
    times = times[(times >= BEFORE) & (times + STAGE + recorded <= scene.duration + TICK / 2)]
    chosen = np.unique(np.linspace(0, len(times) - 1, min(count, len(times))).round().astype(int)) if len(times) else []
    return [float(times[index]) for index in chosen]


def judge_frame(judge: Judge, scene: Scene, time: float) -> Group:
    """Both stages of a frame. The second begins at the four points of the grid around the end of the frame's plan, with the
    heading and the speed that the plan ends with, and for the frame before half a second earlier on the line through them.

    Traffic is the environment's: where it replays the log it does so around every plan, where it reacts, from the log's state at
    the stage's beginning to the plan's simulation. In the second stage no past is known and nothing is forgiven.
    """
    try:
        now, before = (_first(judge, scene, at) for at in (time, time - BEFORE))
        pairs = [_pair(judge, scene, time, now, start) for start in grid_around(now.end[:2])]
    except PlannerFailure as failure:
        return Group(scene.name, time, None, error=str(failure))
    stages = []
    comfort = _agree(before, now, judge.form)
    for which, scored in enumerate((now, before)):
        second = [pair[which].columns(_agree(pair[1], pair[0], judge.form)) for pair in pairs]
        starts = np.array([pair[which].driven[0, :2] for pair in pairs])
        stages.append(Stages(scored.columns(comfort), scored.end[:2], second, starts))
    sources = tuple(source for pair in pairs for one in pair for source in one.source)
    return Group(scene.name, time, (stages[0], stages[1]), sources)


def grid_around(place: np.ndarray) -> np.ndarray:
    """(4, 2) the points of the grid around a place (2,)."""
    low = np.floor(place / SPACING)
    return np.array([(low + np.array([i, j])) * SPACING for i in (0, 1) for j in (0, 1)])


def _first(judge: Judge, scene: Scene, time: float) -> Scored:
    """The plan of a recorded frame, its past and the recorded ego's failures known."""
    scenario = Scenario(scene.name, time)
    past = log_trace(scene, max(time - PAST * TICK, 0.0), time) if time > TICK else None
    human = log_trace(scene, time, time + STAGE + BEFORE * 2)
    return _scored(judge, scene, scenario, past, human)


def _pair(judge: Judge, scene: Scene, time: float, first: Scored, start: np.ndarray) -> tuple[Scored, Scored]:
    """The plans of a start of the second stage and of half a second before."""
    heading = float(first.end[2])
    back = first.speed * BEFORE * np.array([math.cos(heading), math.sin(heading)])
    places = ((start, time + STAGE), (start - back, time + STAGE - BEFORE))
    starts = [starting_at(scene, at, float(x), float(y), heading, first.speed) for (x, y), at in places]
    return _scored(judge, scene, starts[0], None), _scored(judge, scene, starts[1], None)


def starting_at(scene: Scene, time: float, x: float, y: float, heading: float, speed: float) -> Scenario:
    """The scenario whose ego starts there: global x, y and heading, speed in m/s."""
    pose = scene.ego.global_from_ego[min(row_of(time), len(scene.ego.time) - 1)]
    yaw = float(yaw_of(pose))
    dx, dy = x - pose[0, 3], y - pose[1, 3]
    moved = {
        "ego_ahead": math.cos(yaw) * dx + math.sin(yaw) * dy,
        "ego_offset": math.cos(yaw) * dy - math.sin(yaw) * dx,
        "ego_yaw": (heading - yaw + math.pi) % (2 * math.pi) - math.pi,
        "ego_speed": speed,
    }
    within: dict[str, Any] = {name: float(np.clip(value, *LIMITS[name])) for name, value in moved.items()}
    return Scenario(scene.name, time, **within)


def _scored(
    judge: Judge, scene: Scene, scenario: Scenario, past: EpisodeTrace | None, human: EpisodeTrace | None = None
) -> Scored:
    plan, source = judge.plan(scenario)
    config = judge.driving.config
    simulator = Simulator(SimulatorConfig(action="trajectory", traffic=config.traffic))
    simulator.add(scene)
    state = simulator.reset([0], [scenario])
    _, ticks = simulator.execute(state, follow(plan[None], PLAN_DT, state.ego, state.tick), FUTURE)
    rows = np.concatenate([state.row, ticks.row[0]])
    agents = replace(ticks.agents[0], values=np.concatenate([state.agents.values, ticks.agents.values[:, 0]], 1),
                     valid=np.concatenate([state.agents.valid, ticks.agents.valid[0]]))  # fmt: skip
    known = np.count_nonzero(rows < len(scene.ego.time))  # past the recording there is no traffic to score against
    egos = np.concatenate([state.ego, ticks.ego[0]])
    trace = trace_of(scene, simulator.config.vehicle, rows[:known], egos[:known], agents[:known])
    step = 0 if past is None else len(past.time) - 1
    if past is not None:
        trace = _joined(past, trace)
    plans = Plans(np.array([step]), plan[None], PLAN_DT)
    driven, _, parts = score_issued(trace, plans, human, "v2", judge.form, None)
    poses = global_plans(plan[None], PLAN_DT, state.ego[:, :3])[0]
    speed = float(np.linalg.norm(poses[PLAN_TICKS, :2] - poses[PLAN_TICKS - GAP, :2]) / BEFORE)
    columns = {name: float(values[0]) for name, values in parts.items()}
    return Scored(columns, human_breaks(trace, plans, human, judge.form)[0], driven[0], poses[PLAN_TICKS], speed, source)


def _joined(past: EpisodeTrace, trace: EpisodeTrace) -> EpisodeTrace:
    """A trace with the recording before it, whose last row is the trace's first."""
    names = ("time", "ego", "position", "yaw", "velocity", "valid", "expert")
    both = {name: np.concatenate([getattr(past, name)[:-1], getattr(trace, name)]) for name in names}
    state = np.concatenate([past.lights.state[:, :-1], trace.lights.state], 1)
    return replace(trace, **both, lights=replace(trace.lights, state=state) if len(trace.lights) else trace.lights)


def _agree(earlier: Scored, later: Scored, form: Form) -> float:
    """Extended comfort of two plans half a second apart."""
    value, _ = consecutive_comfort(np.array([0, GAP]), np.stack([earlier.driven, later.driven]), form)
    return float(value[1])


def _planned(planner: Planner, given: Any) -> np.ndarray:
    return np.asarray(to_action(guarded(planner.plan, given), "trajectory"), float)


@dataclass(frozen=True)
class TwoStageResult:
    """groups: as judged; columns: aggregated over those that the planner survived, None for none; score: with its 95 % interval
    over scenes; ranked: the same with 0 for groups in which the planner failed."""

    groups: tuple[Group, ...]
    columns: Aggregate | None
    score: Estimate
    ranked: Estimate

    @classmethod
    def of(cls, groups: Sequence[Group], seed: int = 0) -> TwoStageResult:
        """Aggregates. Raises DataError where there are no groups."""
        if not groups:
            raise DataError(f"no scene is long enough for two stages: they need {BEFORE + 2 * STAGE:g} s of recording")
        own = [None if g.stages is None else aggregate([g.stages]).both["score"] for g in groups]
        resampler = Resampler([(g.scene, g.time) for g in groups], seed)
        survived = [g.stages for g in groups if g.stages is not None]
        ranked = resampler.mean([value or 0.0 for value in own])
        return cls(tuple(groups), aggregate(survived) if survived else None, resampler.mean(own), ranked)

    def as_json(self) -> dict[str, Any]:
        """Plain values; nan is null."""
        groups = [
            {
                "scene": g.scene,
                "time": g.time,
                "error": g.error,
                "score": None if g.stages is None else aggregate([g.stages]).both["score"],
                "frames": None if g.stages is None else [_frame_json(frame) for frame in g.stages],
                "sources": {source: g.sources.count(source) for source in sorted(set(g.sources))},
            }
            for g in self.groups
        ]
        columns = None if self.columns is None else asdict(self.columns)
        values = {"score": asdict(self.score), "ranked": asdict(self.ranked), "columns": columns, "groups": groups}
        return dict(plain(values))

    def table(self) -> str:
        """Both stages as text, a line per column."""
        failed = [g for g in self.groups if g.stages is None]
        lines = [f"{len(self.groups)} groups of two frames; two-stage EPDMS {self.score}"]
        if self.columns is not None:
            lines.append(f"{'':<30}{'both':>9}{'first':>9}{'second':>9}")
            for name in self.columns.both:
                means = (stage[name] for stage in (self.columns.both, self.columns.first, self.columns.second))
                lines.append(f"{name.replace('_', ' '):<30}" + "".join(f"{_shown(mean):>9}" for mean in means))
        if failed:
            lines.append(f"the planner failed in {len(failed)} of {len(self.groups)} groups; these are in no mean above:")
            lines += [f"  {g.scene} at {g.time:.1f} s: {g.error}" for g in failed]
            lines.append(f"counted as 0, as rankings do: {self.ranked}")
        return "\n".join(lines)


def _shown(mean: float) -> str:
    return "n/a" if math.isnan(mean) else f"{mean:.3f}"


def _frame_json(frame: Stages) -> dict[str, Any]:
    places = {"end": frame.end.tolist(), "starts": frame.starts.tolist()}
    return {"first": dict(frame.first), "second": [dict(columns) for columns in frame.second], **places}


def write_result(path: Path, result: TwoStageResult, settings: Mapping[str, Any]) -> None:
    """Writes a result and the settings it was made with as JSON, whole or not at all."""
    write_text(path, json.dumps({"settings": dict(settings), **result.as_json()}, indent=1, allow_nan=False))
