"""Closed-loop rollout of a planner: one episode of an environment, recorded as an ``EpisodeLog``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ActionError, ConfigError, shortened
from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog, Step, scenario_record
from dist4d_env.evaluation.imagination import BranchingImagination, resampled
from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.planners.contract import (
    PLAN_LIMIT,
    RESET_LIMIT,
    Plan,
    Planner,
    PlannerContext,
    PlannerFailure,
    PlannerInput,
    PlannerNeeds,
    finite_numbers,
    guarded,
)
from dist4d_env.scenes.lights import NO_LIGHTS
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.actions import PLAN_DT, PLAN_POSES, TRAJECTORY_HIGH, TRAJECTORY_LOW
from dist4d_env.simulation.state import EpisodeState

MOST_TEXT = 400
"""Characters of why a planner failed that an episode keeps."""


class Asked(Protocol):
    """Who else is asked what to do at every decision, such as ``second_opinion.SecondOpinions``."""

    def reset(self, driving: DiST4DDrivingEnv) -> None:
        """The environment has begun an episode, and the planner is ready."""

    def ask(self, driving: DiST4DDrivingEnv, observation: Mapping[str, Any]) -> None:
        """About the present state, whose observation the planner was given."""

    def apart(self, plans: np.ndarray) -> np.ndarray:
        """(D,) metres between the plans (D, 8, 3) that were driven and the answers, nan where one is missing."""
        ...


@dataclass(frozen=True)
class RunOptions:
    """scene, start: where the episode begins, drawn from the seed if None; plan_limit, reset_limit: seconds that a plan and the
    planner's reset may take; scenario: the one to play, which has its own scene and start; opinions: who else is asked at every
    decision, which takes no time of the planner's."""

    scene: str | None = None
    start: float | None = None
    plan_limit: float = PLAN_LIMIT
    scenario: Scenario | None = None
    reset_limit: float = RESET_LIMIT
    opinions: Asked | None = None

    def __post_init__(self) -> None:
        if self.scenario is not None and (self.scene is not None or self.start is not None):
            raise ConfigError("a scenario has its own scene and start: leave scene= and start= out")
        check_limits(self.plan_limit, self.reset_limit)

    def reset_options(self) -> dict[str, Any]:
        """The environment's reset options."""
        options = {"scene": self.scene, "start": self.start, "scenario": self.scenario}
        return {key: value for key, value in options.items() if value is not None}


def check_limits(plan_limit: float, reset_limit: float) -> None:
    """Raises ConfigError for limits of time that are none."""
    for name, limit in (("plan_limit", plan_limit), ("reset_limit", reset_limit)):
        if not limit > 0:
            raise ConfigError(f"{name}={limit!r} must be a positive number of seconds")


def run_episode(
    env: Any,
    planner: Planner,
    seed: int,
    options: RunOptions = RunOptions(),
    watch: Callable[[DiST4DDrivingEnv, Mapping[str, Any]], None] | None = None,
    name: str | None = None,
) -> EpisodeLog:
    """Drives until the episode ends. A planner that fails ends it with the outcome "planner_error".

    env: made by ``gym.make``; ``watch(env, info)`` is called at the start and after every decision, for frames and rendering.
    Exceptions of the environment are raised: its failures are not the planner's.
    """
    driving: DiST4DDrivingEnv = env.unwrapped
    observation, info = env.reset(seed=seed, options=options.reset_options())
    start, steps = driving.episode.state.time, [step_of(info, 0.0, 0.0)]
    issued: list[tuple[int, np.ndarray]] = []
    outcome = error = None
    if watch:
        watch(driving, info)
    try:
        timed(options.reset_limit, "its reset", reset_planner, driving, planner)
        if options.opinions is not None:
            options.opinions.reset(driving)
    except PlannerFailure as failure:
        outcome, error = PLANNER_ERROR, _said("reset", failure)
    while outcome is None:
        time = driving.episode.state.time
        try:
            own = observation if options.opinions is None else copied(observation)  # a planner may change what it is given
            given = planner_input(driving, planner, own)
            plan, took = timed(options.plan_limit, "a plan", guarded, planner.plan, given)
            action = to_action(plan, driving.config.action)
            if options.opinions is not None:
                options.opinions.ask(driving, observation)
            observation, reward, terminated, truncated, info = env.step(action)
        except (PlannerFailure, ActionError) as failure:
            outcome, error = PLANNER_ERROR, _said(f"at {time:.1f} s", failure)
            break
        if driving.config.action == "trajectory":
            issued.append((round((time - start) / TICK), np.asarray(action, float)))
        steps.append(step_of(info, float(reward), 1e3 * took))
        if watch:
            watch(driving, info)
        if terminated or truncated:
            outcome = info["ended_by"]
    who = name or f"{type(planner).__module__}:{type(planner).__name__}"
    log = episode_log(driving, who, seed, steps, issued, outcome, error)
    return log if options.opinions is None else replace(log, apart=options.opinions.apart(log.plans.poses))


def copied(observation: Mapping[str, Any]) -> dict[str, Any]:
    """An observation with arrays of its own."""
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in observation.items()}


def episode_log(
    driving: DiST4DDrivingEnv,
    planner: str,
    seed: int,
    steps: Sequence[Step],
    issued: Sequence[tuple[int, np.ndarray]],
    outcome: str | None,
    error: str | None = None,
) -> EpisodeLog:
    """The log of an environment's episode as it stands. planner: who drove; issued: the plans handed to the simulator, (8, 3)
    each, with the tick of each; outcome: what ended it."""
    return EpisodeLog(
        scene=driving.scene.name,
        dataroot=driving.scene.dataroot,
        version=driving.scene.version,
        planner=planner,
        seed=seed,
        decision_dt=driving.config.decision_dt,
        outcome=outcome or "",
        error=error,
        steps=tuple(steps),
        plans=_plans(issued),
        trace=driving.trace(),
        scenario=scenario_record(driving.episode.scenario),
        settings=_settings(driving),
    )


def _settings(driving: DiST4DDrivingEnv) -> dict[str, Any]:
    """The environment's keywords that a log keeps; of a data set's reader its name, where it is given by name."""
    config = driving.config
    settings = {key: getattr(config, key) for key in ("world", "weights", "memory", "traffic", "action", "horizon")}
    settings |= {"dataset": config.dataset} if isinstance(config.dataset, str) else {}
    return settings | ({} if config.size is None else {"size": "{}x{}".format(*config.size)})


def reset_planner(driving: DiST4DDrivingEnv, planner: Planner, decision_dt: float | None = None) -> None:
    """Resets a planner for the episode that an environment plays, from its present instant on. decision_dt: seconds between the
    planner's decisions where they aren't the environment's. Raises PlannerFailure."""
    needs, episode = planner.requires, driving.episode
    imagination = BranchingImagination(driving) if needs.imagination else None
    horizon = episode.end_time - episode.state.time
    every = decision_dt or driving.config.decision_dt
    context = PlannerContext(visible_scene(driving.scene, needs), every, horizon, imagination)
    guarded(planner.reset, context, episode.policy_seed)


def planner_input(driving: DiST4DDrivingEnv, planner: Planner, observation: Any) -> PlannerInput:
    """A planner's input at the current instant; the true state only for privileged ones."""
    return input_of(driving.episode.state, planner.requires, observation)


def input_of(state: EpisodeState, needs: PlannerNeeds, observation: Any) -> PlannerInput:
    """What a planner with such needs is given of a state."""
    lights = state.lights if needs.map or needs.privileged else NO_LIGHTS.state[:, 0]
    return PlannerInput(state.time, state.ego, observation, state if needs.privileged else None, lights)


def visible_scene(scene: Scene, needs: PlannerNeeds) -> Scene:
    """What a planner is given of a scene: tracks, recorded path and states of traffic lights only if it is privileged, a map and
    where lights are if it asks for one."""
    if needs.privileged:
        return scene
    none = np.zeros(0, int)
    tracks = replace(
        scene.tracks,
        instance=(),
        name=(),
        **{key: getattr(scene.tracks, key)[none] for key in ("category", "size", "position", "yaw", "velocity", "valid")},
    )
    ego = replace(scene.ego, **{key: getattr(scene.ego, key)[:1] for key in scene.ego.__dataclass_fields__})
    scene_map, lights = (scene.map, scene.lights.unseen) if needs.map else (None, NO_LIGHTS)
    return replace(scene, tracks=tracks, recorded_tracks=None, ego=ego, map=scene_map, lights=lights)


def to_action(plan: Any, kind: str) -> Any:
    """The environment's action for a plan. Raises PlannerFailure for what is not finite or of the wrong shape.

    A ``Plan`` of any length and step becomes eight poses every 0.5 s: in between linear, beyond its end at its last velocity. A
    bare (8, 3) array is the action "trajectory" itself and thus such a plan; one of another length says not at which times its
    poses are due, and is refused. Other kinds of action are handed on.
    """
    if kind != "trajectory":
        if isinstance(plan, Plan):
            raise ConfigError(
                f"the planner returns trajectories, the action is {kind!r}: make an environment of action='trajectory'"
            )
        finite_numbers(plan, "an answer that is", "neither a Plan nor controls")
        return plan
    bare = not isinstance(plan, Plan)
    if bare:
        plan = Plan(finite_numbers(plan, "an answer that is", "neither a Plan nor an array of poses"))
    poses = finite_numbers(plan.trajectory, "a plan that is")
    if poses.ndim != 2 or poses.shape[1] != 3 or not len(poses):
        raise PlannerFailure(f"a plan is (N, 3) numbers x, y, heading, not {poses.dtype} {poses.shape}")
    if bare and len(poses) != PLAN_POSES:
        raise PlannerFailure(f"a bare array {poses.shape} does not say when its poses are due: return Plan(trajectory, dt)")
    dt = finite_numbers(plan.dt, "a plan whose dt is", "no number")
    if dt.ndim or not dt > 0:
        raise PlannerFailure(f"a plan whose dt is {plan.dt!r:.80}, not a positive number of seconds")
    action = resampled(poses, float(dt), PLAN_DT * np.arange(1, PLAN_POSES + 1))
    action[:, 2] = (action[:, 2] + np.pi) % (2 * np.pi) - np.pi
    if not ((action >= TRAJECTORY_LOW - 1e-6) & (action <= TRAJECTORY_HIGH + 1e-6)).all():
        raise PlannerFailure(f"a plan beyond the action's bounds: {np.round(action, 1).tolist()!s:.240}")
    return np.clip(action.astype(np.float32), TRAJECTORY_LOW, TRAJECTORY_HIGH)


def _plans(issued: Sequence[tuple[int, np.ndarray]]) -> Plans:
    """The actions handed to the simulator, stacked."""
    step = np.array([step for step, _ in issued], int)
    return Plans(step, np.array([poses for _, poses in issued], float).reshape(len(issued), PLAN_POSES, 3), PLAN_DT)


def _said(when: str, failure: Exception) -> str:
    """When and why a planner failed, in one line."""
    return shortened(f"{when}: {' '.join(str(failure).split())}", MOST_TEXT)


def timed(limit: float, what: str, call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """A call's result and its seconds. Raises PlannerFailure where it took more than ``limit``."""
    started = perf_counter()
    result = call(*arguments)
    took = perf_counter() - started
    if took > limit:
        raise PlannerFailure(f"late: {took:.2f} s for {what}, the limit is {limit:g} s")
    return result, took


def step_of(info: Mapping[str, Any], reward: float, planner_ms: float) -> Step:
    """An instant of decision as a log keeps it."""
    world = info["world"]
    return Step(
        time=info["time"],
        reward=reward,
        metrics={key: value for key, value in info["metrics"].items() if isinstance(value, int | float)},
        reward_terms=dict(info["reward_terms"]),
        source=tuple(world["source"]),
        deviation_m=world["deviation_m"],
        trust=world["trust"],
        timing_ms={**info["timing_ms"], "planner": planner_ms},
    )
