"""What the pages promise is there, the code of the README runs, and notebooks are stored as they were run."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from dist4d_env.__main__ import VERBS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
ON_THE_PAGE = 1_000_000
"""Bytes that a stored notebook may have, pictures included; a moving picture may have three times that."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_exist(page):
    assert set(re.findall(r"python -m dist4d_env ([a-z]+)", page.read_text())) <= set(VERBS)


OURS = re.compile(r"(?:python -m (dist4d_env|agents\.\w+|benchmarks\.\w+)|\bdist4d) ([^\n`#|>;&]+)")
"""A command of this project on a page: its module, none for the console script, and its words."""


@pytest.mark.medium
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_exist(page, capsys):
    """Of every command that a page shows."""
    import tyro

    from dist4d_env.errors import DiST4DError
    from dist4d_env.verbs import parse

    for module, words in OURS.findall(re.sub(r"\s*\\\n\s*", " ", page.read_text())):
        plain = re.sub(r"\$\{?[\w%*#-]+\}?", "1", words.split("  ")[0])  # $seed and its like; remarks follow two blanks
        words = [word for word in shlex.split(plain) if word != "..."]
        try:
            if module not in ("", "dist4d_env"):
                options, *_ = get_type_hints(importlib.import_module(module).main).values()
                tyro.cli(options, args=words)
            elif words[0] in VERBS:
                parse(words[0], words[1:], "dist4d")
        except (DiST4DError, SystemExit):  # of what is asked for, and of what a sentence leaves out, there may be nothing
            assert "Unrecognized" not in (said := capsys.readouterr().err), said


def readme_block(number: int, **smaller: tuple[str, str]) -> str:
    """The code of a Python block of the README, with what takes long made ``smaller``: what stands there to what is run."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[number]
    for there, here in smaller.values():
        assert there in code
        code = code.replace(there, here)
    return code


def test_the_ten_lines_run(town_dataroot, monkeypatch, capsys):
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    exec(compile(readme_block(0), "README.md", "exec"), {})
    assert re.match(r"(horizon|collision|off_road|wrong_way|trust) \['", capsys.readouterr().out)


@pytest.mark.medium
def test_ten_lines_train_by_sb3_and_the_policy_drives(town_dataroot, monkeypatch, tmp_path):
    from dist4d_env.learning.policy_planner import PolicyPlanner

    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    monkeypatch.chdir(tmp_path)
    steps = ("n_steps=64, batch_size=512", "n_steps=10, batch_size=20")
    code = readme_block(1, scenes=('"train"', '"val"'), envs=('-v0", 64,', '-v0", 2,'), steps=steps, learn=("300_000", "20"))
    exec(compile(code, "README.md", "exec"), {})
    assert PolicyPlanner("policy").requires.cameras is False


@pytest.mark.slow
def test_ten_lines_train_by_rllib(town_dataroot, monkeypatch, tmp_path):
    pytest.importorskip("ray.rllib")
    from dist4d_env.learning.policy_planner import PolicyPlanner
    from dist4d_env.learning.views import View
    from tests.raying import small_ray

    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    monkeypatch.chdir(tmp_path)
    view = View()
    keywords = {"world": "none", "scenes": "val", "observation": view.groups, "action": view.environment_action}
    batch = ("learner=4096", "learner=40, minibatch_size=20, num_epochs=1")
    code = readme_block(2, batch=batch, rounds=("range(50)", "range(1)"), envs=("runner=16", "runner=2"))
    with small_ray():
        exec(compile(code, "README.md", "exec"), {"view": view, "keywords": keywords})
    assert PolicyPlanner("policy").requires.cameras is False


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_can_be_read_without_being_run(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6 and all(cell["execution_count"] for cell in code), "python -m docs.make_notebooks runs them"
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    assert sum("image/jpeg" in out.get("data", {}) for cell in code for out in cell["outputs"]) >= 4
    assert notebook.stat().st_size < ON_THE_PAGE


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook, town_dataroot, monkeypatch, tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from docs.make_notebooks import executed

    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    run = [cell for cell in executed(notebook, tmp_path).cells if cell.cell_type == "code"]
    stored = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [len(cell.outputs) for cell in run] == [len(cell["outputs"]) for cell in stored]


def test_a_notebook_is_a_page(tmp_path):
    from docs.hooks import on_page_markdown, page_of

    page = page_of(NOTEBOOKS[0])
    assert page.startswith("# ") and "```python\nimport" in page and "](data:image/jpeg;base64," in page
    assert on_page_markdown("[a](../notebooks/first-drive.ipynb)") == "[a](../notebooks/first-drive.md)"


def test_the_moving_picture_moves_and_is_small():
    from PIL import Image

    path = DOCS / "pictures" / "demo.webp"
    with Image.open(path) as picture:
        assert picture.n_frames >= 30 and picture.width >= 600
    assert path.stat().st_size < 3 * ON_THE_PAGE


def test_pictures_of_scenarios_are_of_the_suite():
    from dist4d_env.scenes.suites import read_suite
    from docs.make_scenario_pictures import SHOTS, SUITE

    there = {scenario.name for scenario in read_suite(SUITE).scenarios}
    assert {shot.scenario for shot in SHOTS if isinstance(shot.scenario, str)} <= there


def test_every_world_has_a_page_with_its_picture():
    from dist4d_env.registry import WORLDS

    pages = {page.stem: page.read_text() for page in (DOCS / "worlds").glob("*.md")}
    assert set(pages) == set(WORLDS.built_in)
    assert all(f"world_{name}.jpg" in text for name, text in pages.items() if name != "none")


def metric_rows(head: str) -> dict[str, str]:
    """A row of the table at the head of each page of a metric, by the page's name."""
    texts = {page.stem: page.read_text() for page in (DOCS / "metrics").glob("*.md")}
    return {name: found[1] for name, text in texts.items() if (found := re.search(rf"^\| {head} \|(.*)\|$", text, re.MULTILINE))}


def test_every_metric_has_a_page():
    from dist4d_env.evaluation.leaderboard import LABELS
    from dist4d_env.metrics.driving.running import RunningMetrics
    from dist4d_env.metrics.driving.suite import METRICS

    keys = metric_rows("keys")
    places = {name: [page for page, row in keys.items() if f"`{name}`" in row] for name in {*METRICS, *LABELS}}
    assert {name: pages for name, pages in places.items() if len(pages) != 1} == {}
    running = re.findall(r"^    (\w+) +\S", RunningMetrics.__doc__.split("=\n")[1], re.MULTILINE)
    assert len(running) == 19 and [name for name in running if f"`{name}`" not in (DOCS / "metrics/running.md").read_text()] == []


def test_what_computes_a_metric_is_there():
    rows = metric_rows("computed by")
    assert set(rows) == {page.stem for page in (DOCS / "metrics").glob("*.md")}
    for row in rows.values():
        names = re.findall(r"`(dist4d_env[\w.]+)", row)
        assert names and [pkgutil.resolve_name(name) for name in names]


@pytest.mark.parametrize(
    "script",
    ["make_tables.py", "make_speed_table.py", "make_traffic_tables.py", "make_first_contact_table.py", "make_depth_tables.py"],
)
def test_tables_say_what_the_benchmarks_stored(script):
    found = subprocess.run([sys.executable, DOCS / script, "--check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
