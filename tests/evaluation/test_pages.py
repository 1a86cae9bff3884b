"""Video, charts and the report."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from dist4d_env.envs.rendering import SOURCES
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.report.charts import Band, Series, line_chart, path_map
from dist4d_env.evaluation.report.episode import _charts, render_report, source_runs, stage_times, write_report
from dist4d_env.evaluation.report.replays import _lights
from dist4d_env.evaluation.scores import results_of
from dist4d_env.evaluation.video import VideoWriter, write_video
from dist4d_env.scenes.lights import GREEN, RED
from tests.simulation.road import light_at


def frames(count: int = 6):
    for index in range(count):
        frame = np.full((48, 64, 3), (40, 90, 200), np.uint8)
        frame[:, 8 * index : 8 * index + 8] = (220, 30, 30)
        yield frame


def test_video_shows_its_frames(tmp_path):
    path = tmp_path / "films" / "episode.mp4"
    assert write_video(path, frames(), fps=10) == 6
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.width, stream.height) == ("h264", 10, 64, 48)
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert len(seen) == 6
    for shown, drawn in zip(seen, frames(), strict=True):
        assert np.abs(shown.astype(int) - drawn).mean() < 12


def test_same_frames_same_file(tmp_path):
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        write_video(path, frames(), fps=2.5)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_video_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"), VideoWriter(tmp_path / "a.mp4", 10) as video:
        video.add(next(frames()))
        raise RuntimeError("stopped")
    with pytest.raises(ConfigError, match="at least one frame"):
        write_video(tmp_path / "b.mp4", [], 10)
    with pytest.raises(ConfigError, match="even H and W"):
        write_video(tmp_path / "c.mp4", [np.zeros((47, 64, 3), np.uint8)], 10)
    with pytest.raises(ConfigError, match="two sizes"):
        write_video(tmp_path / "d.mp4", [next(frames()), np.zeros((64, 64, 3), np.uint8)], 10)
    assert list(tmp_path.iterdir()) == []


def svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", figure, re.S).group())


def test_charts_draw_lines_where_there_are_values():
    x = np.arange(5.0)
    lines = [
        Series("a", x, np.array([0, 1, np.nan, 3, 4]), "#123456"),
        Series("b", x, np.full(5, np.nan), "#654321", dashed=True),
    ]
    figure = line_chart("Speed", "m/s", lines, [Band(1, 2, "#abcdef", "DiST-S")])
    drawing = svg(figure)
    paths = drawing.findall("path")
    assert [path.get("d").count("M") for path in paths] == [2, 0], "a gap begins the line anew, and nothing is drawn of nothing"
    assert len(drawing.findall("rect")) == 1 and "nan" not in figure
    low, *_, high = (float(point.split()[1]) for point in re.findall(r"[ML]([\d. ]+)", paths[0].get("d")))
    assert low > high, "larger values stand higher"


def test_charts_take_constant_values():
    svg(line_chart("Trust", "0 to 1", [Series("trust", np.zeros(1), np.ones(1), "#123456")], bottom=0.0))


def test_map_shows_both_paths(log):
    styles = {path.get("class") for path in svg(path_map(log.trace)).findall("path")}
    assert {"road", "logged", "driven"} <= styles
    assert {"logged", "driven"} == {p.get("class") for p in svg(path_map(replace(log.trace, map=None))).findall("path")}


def test_map_shows_stop_lines_as_their_lights_show(log):
    x, y = log.trace.ego[-1, :2]
    states = np.repeat([GREEN, RED], [3, len(log.trace.time) - 3])
    lit = light_at(0.0, states)
    lit = replace(lit, stop_line=lit.stop_line + np.array([x, y]))
    lines = [path for path in svg(path_map(replace(log.trace, lights=lit))).findall("path") if "light" in path.get("class")]
    assert [path.get("class") for path in lines] == ["light red"]
    away = replace(lit, stop_line=lit.stop_line + 1e4)
    assert "light" not in path_map(replace(log.trace, lights=away))
    assert list(_lights(replace(log, trace=replace(log.trace, lights=away)), np.arange(0, 9, 2), np.zeros(2))) == []
    (packed,) = _lights(replace(log, trace=replace(log.trace, lights=lit)), np.arange(0, 9, 2), log.trace.ego[-1, :2])
    assert packed == [0, 18, 0, -18, 0, GREEN, 2, RED], "ends in decimetres; green from row 0, red from tick 4 on, which is row 2"


class Page(HTMLParser):
    """Checks that tags close, and collects what a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href") and not value.startswith("data:")]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_self_contained_page(log, tmp_path):
    write_video(tmp_path / "episode.mp4", frames(), fps=10)
    write_report(tmp_path / "report.html", log, tmp_path / "episode.mp4")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.fetched == [] and "url(" not in text and "@import" not in text
    assert page.tags.count("video") == 1 and "script" not in page.tags
    assert page.tags.count("figure") == 4, "speed, acceleration, deviation, trust"
    assert "pdms v1" in text and "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_lines_have_other_colours_than_what_made_the_frames(log):
    sources = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in SOURCES.values()}
    lines = {path.get("stroke") for chart in _charts(log) for path in svg(chart).findall("path")}
    assert len(lines) > 2 and not lines & {*sources, "var(--accent)"}, "accent is the blue of DiST-T"
    assert re.search(r"\.map \.driven {.*stroke: var\(--ink\)", render_report(log)), "the same as on the charts"


def test_report_escapes_what_others_wrote(log):
    text = render_report(replace(log, outcome="planner_error", error="<b>bad</b>"))
    assert "&lt;b&gt;bad&lt;/b&gt;" in text and "<b>bad" not in text and "the planner failed" in text


def test_report_scores_as_tables_do(early):
    """An episode that ended halfway is judged by the end that it was meant to have, on its own page, too."""
    results = results_of(early)
    text = render_report(early)
    value, progress = results["pdms_v1"].value, results["ego_progress"].value
    assert progress < 0.7 and f"<b>{value:.2f}</b> <span>PDMS v1, closed loop</span>" in text
    assert re.search(rf"<td>ego progress</td><td class=\"number\">{progress:.3f}</td>", text)
    assert "epdms v2" in text, "every score of the table, by its name"
    assert render_report(early, results=results) == text


def test_times_and_sources(log):
    timed = [
        replace(step, timing_ms={"world": float(i)}, source=("x", "dist_t" if i < 3 else "dist_s"))
        for i, step in enumerate(log.steps)
    ]
    told = replace(log, steps=tuple(timed))
    assert stage_times(told) == {"world": (pytest.approx(3.5), pytest.approx(5.75))}, "the start is left out"
    assert [(band.name, band.start, band.end) for band in source_runs(told)] == [
        ("DiST-T", 0.0, pytest.approx(1.5)),
        ("DiST-S", pytest.approx(1.5), pytest.approx(3.0)),
    ]
