"""Actions of every kind for single and vector environments: numbers in and out of the space, and what is no action at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from benchmarks.fuzzing.values import ABSURD, check_outcome, refused, town
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.row import Snapshot
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.errors import ActionError
from dist4d_env.simulation.actions import ACTIONS

SHAPES = {"controls": (2,), "trajectory": (8, 3), "discrete": ()}
COUNT = 2


class Case(NamedTuple):
    """kind: of the actions; action: for a single environment or, where together, for one beside a good one."""

    kind: str
    action: Any
    together: bool


def _numbers(kind: str) -> st.SearchStrategy[Any]:
    """Arrays of the right shape, with numbers of any size."""
    if kind == "discrete":
        return st.integers(-3, 45) | st.integers(-3, 45).map(np.int64) | st.integers(0, 41).map(np.array)
    count = int(np.prod(SHAPES[kind]))
    each = st.floats(-1, 1) | st.floats(-200, 200) | st.floats()
    dtypes = st.sampled_from([np.float64, np.float32, np.float16, np.longdouble])
    return st.tuples(st.lists(each, min_size=count, max_size=count), dtypes, st.sampled_from(["array", "list", "torch"])).map(
        lambda drawn: _as(np.array(drawn[0]).reshape(SHAPES[kind]), drawn[1], drawn[2])
    )


def _as(values: np.ndarray, dtype: Any, how: str) -> Any:
    with np.errstate(over="ignore"):
        array = values.astype(dtype)
    if how == "array":
        return array
    return array.tolist() if how == "list" else torch.tensor(values, requires_grad=bool(values.flat[0] > 0))


def _case(kind: str) -> st.SearchStrategy[Case]:
    return st.builds(Case, st.just(kind), _numbers(kind) | _numbers(kind) | ABSURD, st.booleans())


CASES: st.SearchStrategy[Case] = st.sampled_from(ACTIONS).flatmap(_case)


@cache
def _single(kind: str) -> tuple[DiST4DDrivingEnv, Snapshot]:
    env = DiST4DDrivingEnv(dataroot=town(), world="none", action=kind, observation=("ego",))
    env.reset(seed=0)
    return env, env.snapshot()


@cache
def _together(kind: str) -> tuple[DiST4DVectorEnv, list[Snapshot]]:
    venv = DiST4DVectorEnv(COUNT, dataroot=town(), world="none", action=kind, observation=("ego",))
    venv.reset(seed=0)
    return venv, [row.snapshot() for row in venv.envs]


def expected(case: Case) -> np.ndarray | None:
    """The numbers of an action as 64-bit floats, None where it is none."""
    try:
        array = np.asarray(case.action)
    except Exception:
        return None
    kinds = "iu" if case.kind == "discrete" else "fiub"
    if array.shape != SHAPES[case.kind] or array.dtype.kind not in kinds:
        return None
    with np.errstate(over="ignore"):
        values: np.ndarray = array.astype(float)
    right = 0 <= values <= 41 if case.kind == "discrete" else np.isfinite(values).all()
    return values if right else None


def attempt(case: Case, folder: Path) -> str:
    """Gives the action to an environment whose episode has just begun; a refused one must not have moved it."""
    good = {"controls": np.zeros(2), "trajectory": np.zeros((8, 3)), "discrete": 3}[case.kind]
    values = expected(case)
    try:
        clipped = _step_together(case, good) if case.together else _step(case)
    except ActionError as error:
        assert values is None, f"a good action was refused: {error}"
        return refused(error, ("action", "actions"))
    assert values is not None, f"silent: {case.kind} took {type(case.action).__name__}"
    high = np.array([160.0, 80.0, np.inf]) if case.kind == "trajectory" else np.array([1.0])
    low = np.array([-20.0, -80.0, -np.inf]) if case.kind == "trajectory" else np.array([-1.0])
    outside = case.kind != "discrete" and bool(((values > high + 1e-6) | (values < low - 1e-6)).any())
    assert clipped == outside or (case.kind == "trajectory" and np.abs(values[:, 2]).max() > 1e9), f"silent: clipped={clipped}"
    return "accepted"


def _step(case: Case) -> bool:
    env, start = _single(case.kind)
    env.restore(start)
    before = env.episode.state
    try:
        observation, reward, *_, info = env.step(case.action)
    except ActionError:
        assert env.episode.state.ego == before.ego and env.episode.state.tick == 0, "a refused action moved the ego"
        raise
    check_outcome(env.observation_space, observation, reward, info)
    return bool(info["clipped"])


def _step_together(case: Case, good: Any) -> bool:
    venv, starts = _together(case.kind)
    for row, start in zip(venv.envs, starts, strict=True):
        row.restore(start)
    try:
        observations, rewards, *_, infos = venv.step([good, case.action])
    except ActionError:
        assert all(row.episode.state.tick == 0 for row in venv.envs), "a refused action moved an ego"
        raise
    assert venv.observation_space.contains(observations), "silent: observations lie outside their space"
    assert np.isfinite(rewards).all() and not infos["clipped"][0], "silent: the good action beside it was touched"
    return bool(infos["clipped"][1])
