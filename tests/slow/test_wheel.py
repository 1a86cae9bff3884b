"""The wheel in an environment of its own, outside the checkout: what README and documentation promise works from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.raying import ray_lock

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("dist4d_env", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

pytestmark = pytest.mark.slow

Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither old build folders nor this checkout take part."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run([*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of a fresh environment with the wheel and both extras for reinforcement learning."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    interpreter = place / "bin" / "python"
    install = [*PIP, "--python", str(interpreter), "install", "--quiet", "--no-compile"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), f"{wheel}[sb3,rllib]"], check=True)
    yield interpreter
    shutil.rmtree(place)  # two gigabytes


@pytest.fixture(scope="module")
def run(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs code or the console script in an empty folder, with two short scenes of each split of a town made by the wheel."""
    here = tmp_path_factory.mktemp("somewhere")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DIST4D", "PYTEST"))}
    environment |= {"XDG_CACHE_HOME": str(here / "cache"), "NUSCENES": str(here / "town"), "OMP_NUM_THREADS": "1"}

    def call(code: str | None, *arguments: str, dataroot: Path | None = None) -> str:
        words = [str(python), "-c", code] if code is not None else [str(python.with_name("dist4d")), *arguments]
        own = environment if dataroot is None else environment | {"NUSCENES": str(dataroot)}
        done = subprocess.run(words, cwd=here, env=own, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    call(None, "town", "--split", "all", "--scenes", "2", "--duration", "6", "--no-pictures", "--out", "town")
    return call


def snippet(page: str) -> str:
    """The code of a page that says that it is run here."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(r"<!-- tests/slow/test_wheel.py runs this -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"docs/{page} has no such code"
    return found[1]


def test_it_imports_from_the_environment_and_explains_itself(run: Run, python: Path) -> None:
    place = Path(run("import dist4d_env; print(dist4d_env.__file__)").strip())
    assert place.is_relative_to(python.parents[1]) and (place.parent / "py.typed").exists()
    assert "usage: dist4d VERB" in run(None, "--help")
    assert "town_val" in run(None, "evaluate", "--help")


def test_packages_data_comes_along(run: Run) -> None:
    code = """
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.scenes.suites import read_suite, shipped_suites
print(resolve_weights("tiny"), *(read_suite(name).name for name in shipped_suites()))
"""
    assert "nuscenes safety-critical town-test town-val" in run(code)


def test_it_drives_by_name(run: Run) -> None:
    assert "pdms v1" in run(None, "evaluate", "--planner", "idm", "--horizon", "3", "--out", "idm")


def test_it_generates_with_its_own_weights(run: Run, town_dataroot: Path) -> None:
    code = """
import gymnasium as gym, dist4d_env
for keywords in ({"world": "dist4d"}, {"world": "replay", "size": (80, 144)}, {"world": "none", "observation": ("ego", "route")}):
    env = gym.make("DiST4D-nuScenes-v0", horizon=1.0, **keywords)
    observation, info = env.reset(seed=0)
    observation, *_, info = env.step(env.action_space.sample())
    print(keywords["world"], observation["CAM_FRONT"].shape if "CAM_FRONT" in observation else None, info["world"]["source"][:1])
"""
    lines = run(code, dataroot=town_dataroot).splitlines()
    assert "(64, 112, 3)" in lines[0] and "(80, 144, 3)" in lines[1] and "None" in lines[2]


def test_the_demo(run: Run, town_dataroot: Path) -> None:
    said = run(None, "demo", "--seconds", "1", "--decision-dt", "0.5", "--swerve", "0", dataroot=town_dataroot)
    assert "episode.mp4" in said and "report.html" in said


@pytest.mark.parametrize("page", ["reinforcement-learning.md", "reinforcement-learning-rllib.md"])
def test_it_trains_and_evaluates_as_documented(run: Run, page: str) -> None:
    out = Path(page).stem
    with ray_lock() if page.endswith("rllib.md") else nullcontext():  # it would join the Ray of a test beside it
        run(snippet(page).replace('"policy"', f'"{out}"'))
    assert "pdms v1" in run(None, "evaluate", "--planner", out, "--horizon", "3", "--out", f"{out}-results")
