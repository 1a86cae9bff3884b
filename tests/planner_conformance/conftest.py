"""The conformance suite's options and its situations.

    pytest --planner module:Class tests/planner_conformance

checks your planner; without ``--planner`` the suite checks the ones of this repository. ``--planner-world`` chooses what draws
the pictures for planners that need cameras (default "replay": logged pictures from where the ego is, quick and without a model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.errors import DiST4DError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions
from dist4d_env.registry import EXPERT_ERRORS, PLANNERS
from tests.planner_conformance.situations import Situation, record

VECTORS = ("ego", "route", "agents", "bev")
VARIED = ("expert_", "measuring_", "end_to_end_")
"""How names begin of which only some are checked."""


def _light_mpc() -> Any:
    from dist4d_env.planners.mpc import MpcConfig, SamplingMPC

    return SamplingMPC(MpcConfig(samples=16, elites=4, iterations=1))


def _light_imagination() -> Any:
    from dist4d_env.planners.imagine import Candidate, ImagineConfig, ImaginingPlanner

    return ImaginingPlanner(ImagineConfig(candidates=(Candidate(0.3), Candidate(1.0))))


OWN: Mapping[str, Callable[[], Any]] = {
    **{name: partial(make_planner, name) for name in PLANNERS.built_in if not name.startswith(VARIED)},
    **{name: partial(make_planner, name) for name in (f"expert_{kind}_{errors[2]:g}" for kind, errors in EXPERT_ERRORS.items())},
    "measuring_noisy": partial(make_planner, "measuring_noisy"),
    "end_to_end_noisy": partial(make_planner, "end_to_end_noisy"),
    "mpc": _light_mpc,
    "imagine": _light_imagination,
}
"""The planners that are checked without ``--planner``: costly ones with few samples, one expert of each kind of error, of the
variants of "measuring" and "end_to_end" those that draw from their seed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("planner conformance")
    group.addoption("--planner", metavar="MODULE:CLASS", help="the planner to check: a short name or module:Class")
    group.addoption("--planner-world", default="replay", help="the world for planners that need cameras (default: replay)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "planner_name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("planner", default=None)
        metafunc.parametrize("planner_name", [wanted] if wanted else list(OWN), scope="session")


@pytest.fixture(scope="session")
def make(planner_name: str, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes the planner anew."""

    def fresh() -> Any:
        if not request.config.getoption("planner", default=None):
            return OWN[planner_name]()
        try:
            return make_planner(planner_name)
        except DiST4DError as error:
            reason = str(error)
        pytest.fail(reason, pytrace=False)

    return fresh


@pytest.fixture(scope="session")
def environments(town_dataroot: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[bool], gym.Env]]:
    """An environment with or without pictures, made when it is first asked for."""
    made: dict[bool, gym.Env] = {}
    world = request.config.getoption("planner_world", default="replay")

    def get(cameras: bool) -> gym.Env:
        if cameras not in made:
            made[cameras] = gym.make(
                "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", action="trajectory", horizon=3.0,
                world=world if cameras else "none",
                observation=("cameras", "depth", *VECTORS) if cameras else VECTORS,
            )  # fmt: skip
        return made[cameras]

    yield get
    for env in made.values():
        env.close()


@pytest.fixture(scope="session")
def env(make: Callable[[], Any], environments: Callable[[bool], gym.Env]) -> gym.Env:
    """The environment that the planner needs."""
    needs = make().requires
    return environments(bool(needs.cameras or needs.imagination))


@pytest.fixture(scope="session")
def options(request: pytest.FixtureRequest) -> RunOptions:
    """Where episodes are driven. Your planner has the time that the benchmark gives; on our own nothing is timed."""
    limit = RunOptions.plan_limit if request.config.getoption("planner", default=None) else 600.0
    return RunOptions("town-val-0000", 0.0, limit)


@pytest.fixture(scope="session")
def recorded() -> dict[tuple[int, str], Situation]:
    """Situations that were recorded already."""
    return {}


@pytest.fixture(scope="session")
def situation(env: gym.Env, recorded: dict[tuple[int, str], Situation]) -> Situation:
    """The first decisions of an episode as the recorded ego drives it."""
    return recorded.setdefault((id(env), "first"), record(env, "town-val-0000", 3))


@pytest.fixture(scope="session")
def elsewhere(env: gym.Env, recorded: dict[tuple[int, str], Situation]) -> Situation:
    """The same in another scene."""
    return recorded.setdefault((id(env), "second"), record(env, "town-val-0001", 2))
