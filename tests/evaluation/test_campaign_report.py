"""The report of a campaign: one page, nothing fetched, and a real browser shows it without a complaint."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.executors import serial
from dist4d_env.evaluation.failures import find_failures
from dist4d_env.evaluation.report.episode import write_report
from dist4d_env.evaluation.report.replays import STRIDE, origin_of, pack, replay, scene_drawing, unpack
from dist4d_env.evaluation.results import score_folder, write_results
from dist4d_env.evaluation.scores import recorded_scene, results_of
from dist4d_env.evaluation.video import write_video
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite
from tests.evaluation.test_pages import Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NODE = shutil.which("node")
LINK = "#episode=log__car-in-the-way__seed0@1.5"
ASSETS = files("dist4d_env.evaluation.report")
SCENARIOS = (
    Scenario("town-val-0000", name="<b>as</b>-logged", family="nominal", difficulty="easy", horizon=2.0),
    Scenario("town-val-0001", name="car-in-the-way", family="blocked", difficulty="hard", horizon=4.0,
             edits=(Insert(category="car", ahead=22.0),)),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(town_dataroot, tmp_path_factory) -> Path:
    """Two planners through two scenarios in the world of reprojected pictures; one runs into the parked car."""
    place = tmp_path_factory.mktemp("report")
    suite = Suite("trial", str(town_dataroot), None, SCENARIOS)
    run(Campaign(("lane", "log"), suite, world="replay"), place, serial)
    write_results(place)
    return place


def test_page_is_self_contained_and_escapes(folder):
    text = (folder / "report.html").read_text()
    page = Page(text.replace('<link rel="icon" href="data:,">', ""))
    assert page.open == [] and page.fetched == [] and "url(" not in text and "@import" not in text
    assert set(re.findall(r"https?://[^\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "<b>as</b>" not in text and "\\u003cb>as\\u003c/b>" in text
    assert page.tags.count("table") == 6, "leaderboard, other benchmarks, parts, families, difficulties, pairs"
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert data is not None
    json.loads(data[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(text) < 600_000


def test_every_file_says_which_form_it_shows(folder, tmp_path):
    write_results(folder, tmp_path, form="faithful")
    page, table = (tmp_path / "report.html").read_text(), (tmp_path / "leaderboard.md").read_text()
    assert "scores in their faithful form" in page and "corrected" not in page and "faithful scores" in table
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["form"] == "faithful"
    assert "scores in their corrected form" in (folder / "report.html").read_text()


@pytest.mark.skipif(NODE is None, reason="no node here (Debian: apt-get install nodejs)")
@pytest.mark.parametrize("name", ["drawing.js", "page.js"])
def test_the_script_parses(name):
    checked = subprocess.run([str(NODE), "--check", str(ASSETS / name)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--hide-scrollbars",
               "--enable-logging=stderr", f"--user-data-dir={page.parent / 'browser'}", *options]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")
def test_a_browser_shows_everything_without_errors(folder):
    shown = browse(folder / "report.html", "--dump-dom", f"{(folder / 'report.html').as_uri()}{LINK}")
    assert shown.returncode == 0 and "CONSOLE" not in shown.stderr, shown.stderr[-2000:]
    page = shown.stdout.split("<main>")[1].split("</main>")[0]
    assert 'data-ready="yes"' in shown.stdout
    assert page.count("<details") == 4 and 1 <= page.count('class="shot"') == page.count('class="above"')
    assert page.count("<figure") == 5, "speed, acceleration, time to collision, beside, trust"
    assert "drove into a standing car" in page and '<canvas class="views"' in page
    assert "cannot unpack" not in page and "reading ..." not in page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 500], ids=["desktop", "phone"])
@pytest.mark.medium
def test_pictures_are_drawn_and_nothing_sticks_out(folder, width, tmp_path):
    """The screenshot shows the ego's blue and the red of the car it hit; the page is no wider than the window, and on a desktop
    no table has to be moved sideways."""
    probe = tmp_path / "report.html"
    measure = (
        "<script>const hidden = [...document.querySelectorAll('.scroll')].map(box => box.scrollWidth - box.clientWidth);"
        "document.title = document.documentElement.scrollWidth + ' and ' + Math.max(...hidden);</script></body>"
    )
    probe.write_text((folder / "report.html").read_text().replace("</body>", measure))
    place = f"{probe.as_uri()}{LINK}"
    size = f"--window-size={width},5200"
    title = re.search(r"<title>(\d+) and (\d+)</title>", browse(probe, size, "--dump-dom", place).stdout)
    assert title is not None and int(title[1]) == width and (width < 1000 or title[2] == "0")
    browse(probe, size, f"--screenshot={tmp_path / 'page.png'}", place)
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    for red, green, blue in ((33, 102, 214), (201, 55, 44), (213, 218, 226)):
        assert (abs(pixels - (red, green, blue)).sum(-1) < 12).sum() > 300, "ego, what it hit, road"


def framed(page: Path, width: int) -> Path:
    """A page that shows another at this width, narrower than a browser's window can be, and says how wide that is."""
    inner, outer = page.with_name("inner.html"), page.with_name("outer.html")
    measure = "<script>onload = () => parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    inner.write_text(page.read_text().replace("</body>", measure))
    outer.write_text(
        f'<iframe src="inner.html" style="border:0;width:{width}px;height:3000px"></iframe>'
        "<script>addEventListener('message', event => document.title = 'width ' + event.data)</script>"
    )
    return outer


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.medium
def test_pages_fit_a_phone(folder, log, tmp_path):
    """No report, of a campaign or of one episode, has to be moved sideways at 390 px."""
    write_video(tmp_path / "film.mp4", (np.full((48, 64, 3), 90, np.uint8) for _ in range(4)), 2.0)
    write_report(tmp_path / "episode.html", log, tmp_path / "film.mp4")
    (tmp_path / "campaign.html").write_text((folder / "report.html").read_text())
    for name in ("episode", "campaign"):
        page = framed(tmp_path / f"{name}.html", 390)
        assert "<title>width 390</title>" in browse(page, "--dump-dom", page.as_uri()).stdout, name


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.medium
def test_prints_have_their_pictures(folder, log, tmp_path):
    """Failures as they are drawn and photographed, though nobody has scrolled to them; frames of the film, which cannot play."""
    write_video(tmp_path / "film.mp4", (np.full((48, 64, 3), 40 * i, np.uint8) for i in range(6)), 2.0)
    write_report(tmp_path / "episode.html", log, tmp_path / "film.mp4")
    for page, least in ((tmp_path / "episode.html", 3), (folder / "report.html", 1)):
        browse(page, f"--print-to-pdf={tmp_path / 'print.pdf'}", page.as_uri())
        assert len(re.findall(rb"/Subtype\s*/Image", (tmp_path / "print.pdf").read_bytes())) >= least, page


def test_counts_and_words_read_well(folder):
    """Right plurals, and spaces where the layout alone would part words."""
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", (folder / "report.html").read_text(), flags=re.S)
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text))
    assert "2 planners" in shown and "1 seed" in shown and "1 seeds" not in text and "1 episodes" not in text
    assert "lane 2 episodes" in shown and re.search(r"1 50 %", shown) and re.search(r"0\.\d{3} 0\.\d{3} to", shown)


def test_replays_come_back_to_the_centimetre(folder):
    log = next(one for one in _logs(folder) if one.planner == "log" and one.scenario["name"] == "car-in-the-way")
    scene = recorded_scene(log)
    packed = unpack(pack(replay(log, scene)))
    rows = np.arange(0, len(log.trace.time), STRIDE)
    x, y = (np.cumsum(column) / 100 for column in packed["ego"][:2])
    driven = log.trace.ego[rows, :2] - origin_of(scene)
    assert np.abs(np.column_stack([x, y]) - driven).max() <= 0.0051
    track = len(scene.tracks)
    (inserted,) = (agent for agent in packed["agents"] if agent[3] == track)
    assert inserted[0] == "car" and len(inserted[6]) == 1, "what stands has one row"
    where = log.trace.position[0, track, :2] - origin_of(scene)
    assert np.allclose([inserted[6][0] / 100, inserted[7][0] / 100], where, atol=0.0051)
    assert [plan[0] for plan in packed["plans"]] == log.plans.step.tolist()


def test_maps_are_drawn_around_the_path(folder):
    scene = recorded_scene(_logs(folder)[0])
    drawn = scene_drawing(scene)
    road = np.concatenate([np.reshape(line, (-1, 2)) for line in drawn["road"]]) / 10 + origin_of(scene)
    path = scene.ego.global_from_ego[:, :2, 3]
    assert (road.min(0) < path.min(0)).all() and (road.max(0) > path.max(0)).any()
    assert (road > path.min(0) - 71).all() and (road < path.max(0) + 71).all()
    empty = scene_drawing(replace(scene, map=None))
    assert all(lines == [] for lines in empty.values())


def test_failures_name_instant_and_object(folder):
    log = next(one for one in _logs(folder) if one.planner == "log" and one.scenario["name"] == "car-in-the-way")
    (hit,) = find_failures(log, results_of(log))
    assert (hit.kind, hit.track, hit.text) == ("collision", len(recorded_scene(log).tracks), "drove into a standing car")
    assert log.trace.contact[hit.step, hit.track] and not log.trace.contact[: hit.step].any()
    failed = replace(log, outcome="planner_error", error="at 0.5 s: late")
    assert find_failures(failed, results_of(failed))[-1].text == "at 0.5 s: late"


def test_only_so_many_episodes_are_kept(folder, tmp_path):
    write_results(folder, tmp_path, replays=1)
    text = (tmp_path / "report.html").read_text()
    assert text.count('type="text/plain" id="e') == 1 and "1 of 4 can be opened" in text
    kept = int(re.search(r'id="e(\d+)"', text)[1])
    assert score_folder(folder)[kept].score.failures, "failures come first"


def _logs(folder: Path):
    from dist4d_env.evaluation.episode_log import load_episode

    return [load_episode(path) for path in sorted((folder / "episodes").glob("*.json"))]
