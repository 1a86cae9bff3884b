"""The leaderboard of many campaigns: who is ranked where, what is linked, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from urllib.parse import unquote

import pytest

from dist4d_env import __version__
from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.campaign import Campaign
from dist4d_env.evaluation.campaign import run as drive
from dist4d_env.evaluation.executors import serial
from dist4d_env.evaluation.results import write_results
from dist4d_env.evaluation.site import Options, read_submission, run
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite
from tests.evaluation.test_pages import Page

SCENARIOS = (
    Scenario("town-val-0000", name="as-logged", family="nominal", horizon=2.0),
    Scenario("town-val-0001", name="car-in-the-way", family="blocked", horizon=4.0, edits=(Insert(category="car", ahead=22.0),)),
)


@pytest.fixture(scope="module")
def folders(town_dataroot, tmp_path_factory):
    """Two campaigns of one suite; the second drove one of its scenarios alone."""
    place = tmp_path_factory.mktemp("sent")
    for name, planners, only in (("ours", ("lane", "log"), ()), ("theirs <b>", ("lane",), ("as-logged",))):
        suite = Suite("trial", str(town_dataroot), None, SCENARIOS)
        drive(Campaign(planners, suite, only=only, apart=False), place / name, serial)
        write_results(place / name)
    return place / "ours", place / "theirs <b>"


def test_one_command_makes_the_page(folders, tmp_path, capsys):
    assert main(["leaderboard", *map(str, folders), "--out", str(tmp_path / "site")]) == 0
    assert "3 planners of 2 campaigns" in capsys.readouterr().out
    text = (tmp_path / "site" / "index.html").read_text()
    page = Page(text.replace('<link rel="icon" href="data:,">', ""))
    assert page.open == [] and page.tags.count("table") == 1 and "theirs <b>" not in text and "theirs &lt;b&gt;" in text
    places = re.findall(r'<tr><td class="number none">(.)</td><td class="name">(\w+) ', text)
    assert [place for place, _ in places] == ["1", "2", "-"], "who drove less is not ranked"
    assert "1 fewer than others" in text and places[0][1] == "lane" and f"traffic replay, dist4d_env {__version__}" in text
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    assert all(row.count('class="name"') == 1 for row in rows), "one column stays in place when a table is scrolled"
    links = re.findall(r'href="(reports/[^"]+)"', text)
    assert links and all((tmp_path / "site" / unquote(link.partition("#")[0])).is_file() for link in links)
    replays = [link for link in links if "#episode=log__car-in-the-way__seed0@" in link]
    assert replays and "1 failure of log in ours" in text


def test_programs_read_who_did_not_drive_all(folders, tmp_path, capsys):
    assert main(["leaderboard", *map(str, folders), "--out", str(tmp_path / "site"), "--json"]) == 0
    campaigns = json.loads(capsys.readouterr().out)["campaigns"]
    assert [(one["name"], [row["missing"] for row in one["standings"]]) for one in campaigns] == [
        ("ours", [0, 0]),
        ("theirs <b>", [1]),
    ]


@pytest.mark.parametrize("setting", ["form", "traffic", "dist4d_env"])
def test_other_settings_are_another_table_whose_heading_says_so(folders, tmp_path, setting):
    content = json.loads((folders[0] / "results.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(content | {"settings": content["settings"] | {setting: "another"}}))
    run(Options((folders[0], other), out=tmp_path / "site"))
    text = (tmp_path / "site" / "index.html").read_text()
    assert Page(text).tags.count("table") == 2
    assert len(set(re.findall(r"<h2>trial</h2><p>(.*?)</p>", text))) == 2


def test_places_are_within_a_world(folders, tmp_path):
    content = json.loads((folders[0] / "results.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    seen = content["settings"] | {"world": "oracle", "weights": "tiny", "memory": "log", "size": [64, 112]}
    (other / "results.json").write_text(json.dumps(content | {"settings": seen}))
    run(Options((folders[0], other), out=tmp_path / "site"))
    text = (tmp_path / "site" / "index.html").read_text()
    assert sorted(re.findall(r'<tr><td class="number none">(.)</td>', text)) == ["1", "1", "2", "2"]
    assert "oracle ([64, 112])" in text


def test_a_folder_without_a_report_has_no_links(folders, tmp_path):
    sent = tmp_path / "sent"
    sent.mkdir()
    shutil.copy(folders[0] / "results.json", sent)
    run(Options((sent,), out=tmp_path / "site"))
    assert 'href="reports/' not in (tmp_path / "site" / "index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == ["index.html"]


@pytest.mark.parametrize("change", ["standings", "settings", "episodes", "ranked_by"])
def test_broken_results_are_named(folders, tmp_path, change):
    content = json.loads((folders[0] / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**content, change: [{"planner": 3}]}))
    if change == "ranked_by":
        del content[change]
        (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"not a campaign's results .*; make them with `evaluate --suite`"):
        read_submission(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DataError, match=f"make them with `evaluate {tmp_path}`"):
        read_submission(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["settings"].update(decision_dt=[1]),
        lambda content: content.update(ranked_by="nonsense"),
        lambda content: content["standings"].append(content["standings"][0]),
        lambda content: next(iter(content["standings"][0]["metrics"].values())).update(mean=float("inf")),
        lambda content: next(iter(content["standings"][0]["metrics"].values())).update(count=-3),
    ],
)
def test_results_that_cannot_be_are_named(folders, tmp_path, change):
    content = json.loads((folders[0] / "results.json").read_text())
    change(content)
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="not a campaign's results"):
        read_submission(tmp_path)


def test_bad_folders_are_refused(folders, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        run(Options((tmp_path,), out=tmp_path / "site"))
    with pytest.raises(ConfigError, match="two folders are named ours"):
        run(Options((folders[0], folders[0]), out=tmp_path / "site"))
    with pytest.raises(ConfigError, match="no folder"):
        run(Options((), out=tmp_path / "site"))
    assert not (tmp_path / "site").exists()
