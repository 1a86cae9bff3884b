"""Keywords, reset options and seeds of single and vector environments: right, nearly right and absurd."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzzing.values import ABSURD, check_outcome, is_number, is_whole, refused, town
from dist4d_env.envs.config import EnvConfig
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.errors import DiST4DError
from dist4d_env.scenes.scenario import Scenario

SCENE = "town-val-0000"
RIGHT: dict[str, list[Any]] = {
    "version": [None, "v1.0-town"],
    "scenes": ["val", "all", SCENE, [SCENE], ("val",)],
    "scenario": [None, Scenario(SCENE, 0.0), Scenario(SCENE, 1.0, ego_offset=0.5)],
    "size": [None, (64, 112), [32, 48], np.array([64, 112])],
    "observation": [None, "ego", ("ego", "agents"), ["route"], {"ego", "bev"}],
    "action": ["controls", "trajectory", "discrete"],
    "memory": ["log", "history"],
    "traffic": ["replay", "idm"],
    "decision_dt": [0.1, 0.5, 1, np.float32(0.5)],
    "horizon": [2, 2.5, 10.0, 1000.0],
    "reward": [None, "sparse", "pdms", {"progress": 1}, {"collision": -1e9}],
    "termination": [(), "collision", ["off_road", "wrong_way"], {"collision"}],
    "trust_floor": [0, 0.5, 1.0],
    "device": ["auto", "cpu"],
    "render_mode": [None, "rgb_array"],
    "dataset": [None, "nuscenes"],
    "world": ["none", "dist4d_env.worlds.none:NoneWorld"],
}
NEARLY: dict[str, list[Any]] = {
    "version": ["v1.0-other", "../town", 1.0],
    "scenes": ["Val", "scene-0001", [], [SCENE, 3], {"val": 1}],
    "scenario": [Scenario("elsewhere", 0.0), "missing.yaml", "\0", "."],
    "size": [(64.7, 112.2), (64,), (0, 0), (64, 112, 3), (10**6, 10**6), "64", (True, True), (-64, 112)],
    "observation": [(), "cameras", ["ego", "radar"], {"ego": 1}, [None]],
    "action": ["Controls", ["controls"], 0],
    "traffic": ["jam", "no.such:Thing", ["idm"], None],
    "decision_dt": [0.25, 0.05, 0.0, -0.5, 1e300, "0.5"],
    "horizon": [0.5, 1e308, 1000.5, -1.0, "10"],
    "reward": [{"fame": 1.0}, {"progress": "1"}, {"progress": 1e308}, {"progress": True}, [("progress", 1)], "dense"],
    "termination": ["boredom", {"collision": False}, 3],
    "trust_floor": [1.5, -0.1, "1"],
    "device": ["cuda:99", "meta", "gpu", "cpu:0:0", 0],
    "render_mode": ["human", "ansi", 1],
    "world": ["None", "no.such:World", "os:path", "builtins:int", b"none"],
    "wold": ["none"],
    "frameskip": [4],
}
ALSO = {
    "observation": "sensor",
    "scenes": "scene",
    "dataroot": "folder",
    "scenario": "scene",
    "decision_dt": "horizon",
    "version": "table",
}
"""What a message may name in place of a keyword."""
TOGETHER: dict[str, list[Any]] = {
    "num_envs": [1, 2, np.int64(2), 0, -1, 1.0, 10**18],
    "copy": [True, False, "no"],
    "autoreset_mode": ["NEXT_STEP", "SameStep", "DISABLED", "sometimes"],
    "max_episode_steps": [None, -1, 3, 0, 2.5],
}
NAMES = tuple(EnvConfig.__dataclass_fields__)


class Case(NamedTuple):
    """what: "keywords" of a single or "together" of a vector environment, "reset" of one that is there; values: of the keywords;
    seed, options: of the reset."""

    what: str
    values: dict[str, Any]
    seed: Any
    options: Any


def _values(*tables: dict[str, list[Any]], absurd: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """A few keywords, each with a value out of the tables or, some of them, an absurd one."""
    listed = [st.tuples(st.just(name), st.sampled_from(values)) for table in tables for name, values in table.items()]
    strange = [st.tuples(st.sampled_from(absurd), ABSURD)] if absurd else []
    return st.lists(st.one_of(*listed, *strange), max_size=3).map(dict)


_ABLE = tuple(name for name in NAMES if name not in ("service",))
_SCENES = st.sampled_from([SCENE, None, "elsewhere"]) | ABSURD
_SCENARIOS = st.sampled_from(RIGHT["scenario"] + NEARLY["scenario"]) | ABSURD
_OPTIONS = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={"scene": _SCENES, "start": st.floats(-1, 9)}),
    st.fixed_dictionaries({}, optional={"start": ABSURD, "scenario": _SCENARIOS}),
    st.dictionaries(st.text(max_size=6) | st.integers(), ABSURD, max_size=2),
    ABSURD,
)
_SEEDS = st.none() | st.integers(0, 10**30) | st.lists(st.none() | st.integers(-1, 99), max_size=3) | ABSURD
CASES: st.SearchStrategy[Case] = st.one_of(
    st.builds(Case, st.just("keywords"), _values(RIGHT, RIGHT, NEARLY, absurd=_ABLE), st.just(0), st.none()),
    st.builds(Case, st.just("reset"), st.just({}), _SEEDS, _OPTIONS),
    st.builds(Case, st.just("together"), _values(TOGETHER, absurd=tuple(TOGETHER)), _SEEDS, _OPTIONS),
)


@cache
def _kept() -> DiST4DDrivingEnv:
    return DiST4DDrivingEnv(dataroot=town(), world="none", observation=("ego",))


def attempt(case: Case, folder: Path) -> str:
    """Makes the environment and plays a decision, or begins an episode of one that is there."""
    os.environ.pop("NUSCENES", None)
    names = tuple(str(name) for name in case.values) + tuple(ALSO[name] for name in case.values if name in ALSO)
    names += ("seed", "option", "scene", "scenario", "start", "shape") if case.what != "keywords" else ()
    given = {name: value for name, value in case.values.items() if not (name == "dataroot" and value is None)}
    settings = {"dataroot": town(), "world": "none", **given}
    try:
        if case.what == "together":
            _play_together({**settings, "observation": ("ego",)}, case)
        else:
            _play(_kept() if case.what == "reset" else DiST4DDrivingEnv(**settings), case)
    except DiST4DError as error:
        return refused(error, names)
    _check(case)
    return "accepted"


def _play(env: DiST4DDrivingEnv, case: Case) -> None:
    observation, info = env.reset(seed=case.seed, options=case.options)
    check_outcome(env.observation_space, observation, 0.0, info)
    env.action_space.seed(0)
    observation, reward, *_, info = env.step(env.action_space.sample())
    check_outcome(env.observation_space, observation, reward, info)


def _play_together(settings: dict[str, Any], case: Case) -> None:
    venv = DiST4DVectorEnv(**settings)
    venv.reset(seed=case.seed, options=case.options)
    venv.action_space.seed(0)
    observations, rewards, *_ = venv.step(venv.action_space.sample())
    assert venv.observation_space.contains(observations) and np.isfinite(rewards).all(), "silent: numbers outside their space"


def _check(case: Case) -> None:
    """Raises AssertionError where something was taken that is none of what its name says."""
    for name, value in case.values.items():
        assert RULES.get(name, lambda value: True)(value), f"silent: {name} was taken"
    many = case.what == "together" and isinstance(case.seed, list | tuple | range | np.ndarray) and np.ndim(case.seed) == 1
    for seed in case.seed if many else [case.seed]:
        assert seed is None or (is_whole(seed) and seed >= 0), "silent: a seed was taken"
    options = {} if case.options is None else case.options
    assert isinstance(options, Mapping) and set(options) <= {"scene", "start", "scenario"}, "silent: options were taken"
    assert options.get("start") is None or is_number(options["start"]), "silent: a start was taken"
    assert isinstance(options.get("scene"), str | None), "silent: a scene was taken"


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str | os.PathLike)


RULES = {
    **dict.fromkeys(("dataroot", "version", "weights"), _is_text),
    **dict.fromkeys(("action", "memory", "device", "autoreset_mode"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("decision_dt", "horizon", "trust_floor"), is_number),
    "size": lambda value: value is None or (len(value) == 2 and all(is_whole(side) for side in value)),
    "reward": lambda value: not isinstance(value, Mapping) or all(is_number(weight) for weight in value.values()),
    "scenes": lambda value: not isinstance(value, Mapping | set | bytes),
    "termination": lambda value: not isinstance(value, Mapping | bytes),
    "num_envs": is_whole,
    "copy": lambda value: isinstance(value, bool | np.bool_),
    "max_episode_steps": lambda value: value is None or is_whole(value),
    "wold": lambda value: False,
    "frameskip": lambda value: False,
}
"""What an accepted keyword must be."""
