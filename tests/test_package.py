"""The package as a newcomer meets it: a light, silent import, a command line that explains itself, honest exit codes."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dist4d_env.__main__ import VERBS, main

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "diffusers", "nuscenes", "matplotlib", "trimesh", "cv2", "scipy", "shapely", "av", "tyro")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)


def test_import_is_light_and_silent():
    done = python(f"import sys, dist4d_env; print([m for m in {HEAVY} if m in sys.modules])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_import_costs_no_more_than_gymnasium():
    code = """
import gymnasium, sys
before = set(sys.modules)
import dist4d_env
print(sorted(set(sys.modules) - before))
"""
    assert python(code).stdout == "['dist4d_env']\n"


def test_wheel_holds_the_whole_package_and_nothing_else():
    """What setup.cfg hands to setuptools: every folder with code, every file of weights, policies, suites and report."""
    from setuptools import find_packages

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = find_packages(ROOT, include=setup["options.packages.find"]["include"].split())
    assert packages and all(name.split(".")[0] == "dist4d_env" for name in packages)
    folders = {path.parent for path in (ROOT / "dist4d_env").rglob("*.py")}
    assert {ROOT / name.replace(".", "/") for name in packages} == folders
    patterns = setup["options.package_data"]["dist4d_env"].split()
    data = {path for pattern in patterns for path in (ROOT / "dist4d_env").glob(pattern) if path.is_file()}
    files = {path for path in (ROOT / "dist4d_env").rglob("*") if path.is_file() and path.suffix != ".py"}
    files = {path for path in files if path.parent.name != "__pycache__"}
    assert files <= data, sorted(map(str, files - data))
    assert {"py.typed", "town_val.yaml", "policy.safetensors"} <= {path.name for path in data}


def test_no_function_is_longer_than_60_lines():
    for part in ("dist4d_env", "agents", "scenarios", "benchmarks", "examples", "docs", "tests"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 60, f"{path}:{node.lineno}: split {node.name}"


def test_version_is_said_once():
    import dist4d_env

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == dist4d_env.__version__


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)


def test_no_verb_is_bad_input(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_unknown_verb_is_one_line(capsys):
    assert main(["fly"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'fly'" in error and "demo" in error


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"python -m dist4d_env {verb}" in capsys.readouterr().out


def test_bad_input_is_one_line_and_status_two(tmp_path, capsys):
    assert main(["validate", "--dataroot", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and "nowhere" in error and "Traceback" not in error


def test_keyboard_stops_with_130(monkeypatch, capsys):
    from dist4d_env.evaluation import validation as validate

    def interrupted(options: validate.Options) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "run", interrupted)
    assert main(["validate", "--dataroot", "."]) == 130
    assert "stopped" in capsys.readouterr().err
