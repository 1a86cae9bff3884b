"""Recorded decisions that any planner can be asked about, here or in the same world turned and moved elsewhere."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from dist4d_env.envs.row import Snapshot
from dist4d_env.evaluation.imagination import BranchingImagination
from dist4d_env.evaluation.runner import to_action, visible_scene
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import pose_from_xy_yaw, wrap_angle
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.state import EpisodeState
from tests.metrics.worlds import Motion

HERE = Motion(0.0, (0.0, 0.0))


@dataclass(frozen=True)
class Moment:
    """One decision: the true state, what the environment showed, and its snapshot."""

    state: EpisodeState
    observation: dict[str, np.ndarray]
    snapshot: Snapshot


@dataclass(frozen=True)
class Situation:
    """Consecutive decisions in one scene of one environment."""

    env: Any
    scene: Scene
    moments: tuple[Moment, ...]

    def ask(self, planner: Any, seed: int, motion: Motion = HERE) -> list[Any]:
        """Resets the planner and asks it at every moment, in the world as moved; what it returned. Inputs are its own copies."""
        needs, config = planner.requires, self.env.config
        imagination = BranchingImagination(self.env) if needs.imagination else None
        scene = self.scene if motion is HERE else moved_scene(self.scene, motion)
        self.env.restore(self.moments[0].snapshot)
        planner.reset(PlannerContext(visible_scene(scene, needs), config.decision_dt, config.horizon, imagination), seed)
        return [planner.plan(self.given(planner, moment, motion)) for moment in self.moments]

    def given(self, planner: Any, moment: Moment, motion: Motion = HERE) -> PlannerInput:
        """What the planner is given at a moment; the environment is taken back there, for those who imagine."""
        self.env.restore(moment.snapshot)
        state = moment.state if motion is HERE else moved_state(moment.state, motion)
        shown = state if planner.requires.privileged else None
        return PlannerInput(state.time, state.ego, copy.deepcopy(moment.observation), shown)


def record(env: gym.Env, scene: str, decisions: int) -> Situation:
    """Drives as recorded for some decisions."""
    driving: Any = env.unwrapped
    observation, _ = driving.reset(seed=0, options={"scene": scene, "start": 0.0})
    follower, moments = LogFollower(), []
    follower.reset(PlannerContext(driving.scene, driving.config.decision_dt, driving.config.horizon), 0)
    for _ in range(decisions):
        state = driving.episode.state
        moments.append(Moment(state, observation, driving.snapshot()))
        observation, *_ = driving.step(to_action(follower.plan(PlannerInput(state.time, state.ego, {}, state)), "trajectory"))
    return Situation(driving, driving.scene, tuple(moments))


def moved_scene(scene: Scene, motion: Motion) -> Scene:
    """The whole scene turned about the origin, then moved; its sensor files stay where they are."""
    tracks, position = scene.tracks, np.array(scene.tracks.position)
    position[..., :2] = motion.points(position[..., :2])
    turned = replace(
        tracks, position=position, yaw=np.asarray(wrap_angle(tracks.yaw + motion.angle)), velocity=motion.vectors(tracks.velocity)
    )
    ego = replace(scene.ego, global_from_ego=pose_from_xy_yaw(*motion.shift, motion.angle) @ scene.ego.global_from_ego)
    scene_map = None if scene.map is None else motion.map(scene.map)
    return replace(scene, tracks=turned, ego=ego, map=scene_map, route=motion.route(scene.route))


def moved_state(state: EpisodeState, motion: Motion) -> EpisodeState:
    """The state in the moved scene."""
    boxes, position = state.boxes, np.array(state.boxes.position)
    position[:, :2] = motion.points(position[:, :2])
    yaw, velocity = np.asarray(wrap_angle(boxes.yaw + motion.angle)), motion.vectors(boxes.velocity)
    turned = Boxes(boxes.token, boxes.category, position, boxes.size, yaw, velocity)
    return replace(state, ego=moved_ego(state.ego, motion), boxes=turned)


def moved_ego(ego: EgoState, motion: Motion) -> EgoState:
    """The ego in the moved scene."""
    x, y = motion.points(np.array([ego.x, ego.y])).tolist()
    return replace(ego, x=x, y=y, yaw=float(wrap_angle(ego.yaw + motion.angle)))
