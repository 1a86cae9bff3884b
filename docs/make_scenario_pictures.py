"""Makes the pictures of docs/scenarios.md: ``python docs/make_scenario_pictures.py``.

scenarios.jpg: one scenario for each kind of edit, drawn from the town's geometry, front camera and bird's-eye view, early and at
its moment; the recorded path is driven. scenarios_generated.jpg: the same moments in the generated world.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from dist4d_env.envs.birdseye import View, draw_birdseye
from dist4d_env.envs.drawing import draw_text
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.runner import to_action
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.edits import Remove
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import read_suite

PICTURES = Path(__file__).parent / "pictures"
SUITE = Path(__file__).parents[1] / "dist4d_env" / "suites" / "town_val.yaml"
HEIGHT, WIDTH, MAP = 168, 294, 112
QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 88)


@dataclass(frozen=True)
class Options:
    """Make the pictures of docs/scenarios.md."""

    weights: str = "tiny"
    """Weights of the generated world."""


@dataclass(frozen=True)
class Shot:
    """A scenario of the town suite by name, or one made here, and the seconds after its start at which it is shown."""

    title: str
    scenario: str | Scenario
    moments: tuple[float, float]


SHOTS = (
    Shot("stop", "lead-stops-7p8mps2-town-val-0004", (0.5, 2.5)),
    Shot("slow", "lead-slows-to-2p4mps-town-val-0007", (0.5, 4.0)),
    Shot("remove", Scenario("town-val-0004", 0.0, 8.0, edits=(Remove("lead"),)), (0.5, 2.5)),
    Shot("insert", "car-stands-37p8m-ahead-town-val-0007", (1.0, 2.5)),
    Shot("cut_in", "cut-in-from-left-3p1m-town-val-0007", (3.0, 5.0)),
    Shot("jaywalk", "jaywalk-from-right-38p7m-town-val-0007", (1.5, 3.5)),
    Shot("cross", "bicycle-crosses-from-left-17m-3p8mps-town-val-0003", (1.0, 1.5)),
    Shot("oncoming", "oncoming-drifts-to-1p3m-town-val-0007", (4.0, 6.0)),
    Shot("door", "door-opens-1p2s-before-town-val-0003", (2.5, 3.5)),
)


def main(options: Options) -> None:
    PICTURES.mkdir(exist_ok=True)
    cv2.imwrite(str(PICTURES / "scenarios.jpg"), sheet(world="oracle", size=(HEIGHT, WIDTH))[..., ::-1], QUALITY)
    generated = sheet(world="dist4d", weights=options.weights)
    cv2.imwrite(str(PICTURES / "scenarios_generated.jpg"), generated[..., ::-1], QUALITY)


def sheet(**world: object) -> np.ndarray:
    """All shots, three in a row, each with its two moments beneath one another; (H, W, 3) RGB."""
    env = DiST4DDrivingEnv(observation=("cameras", "ego"), action="trajectory", termination=(), **world)
    tiles = [tile(env, shot) for shot in SHOTS]
    env.close()
    return np.concatenate([np.concatenate(tiles[k : k + 3], 1) for k in range(0, len(tiles), 3)])


def tile(env: DiST4DDrivingEnv, shot: Shot) -> np.ndarray:
    """One shot's two moments: front camera with the bird's-eye view beside it."""
    suite = {scenario.name: scenario for scenario in read_suite(SUITE).scenarios}
    scenario = suite[shot.scenario] if isinstance(shot.scenario, str) else shot.scenario
    observation, _ = env.reset(seed=0, options={"scenario": scenario})
    planner = LogFollower()
    planner.reset(PlannerContext(env.scene, env.config.decision_dt, 6.0), 0)
    rows = []
    while len(rows) < len(shot.moments):
        state = env.episode.state
        if state.time - scenario.start > shot.moments[len(rows)] - 1e-6:
            front = cv2.resize(observation["CAM_FRONT"], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            above = draw_birdseye(env.scene, state, HEIGHT, MAP, view=View(ahead=32.0, behind=10.0))
            rows.append(np.concatenate([front, above], 1))
        plan = planner.plan(PlannerInput(state.time, state.ego, observation, state))
        observation, *_ = env.step(to_action(plan, "trajectory"))
    picture = np.concatenate(rows)
    picture[4:24, 4 : 14 + 9 * len(shot.title)] = picture[4:24, 4 : 14 + 9 * len(shot.title)] // 3
    draw_text(picture, 9, 6, shot.title, 15, (255, 255, 255))
    return np.pad(picture, ((3, 3), (3, 3), (0, 0)), constant_values=16)


if __name__ == "__main__":
    main(tyro.cli(Options))
