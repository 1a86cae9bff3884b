"""Report of a single episode: video, charts, metrics and timing as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from dist4d_env.envs.rendering import SOURCES
from dist4d_env.evaluation.episode_log import EpisodeLog
from dist4d_env.evaluation.report.charts import Band, Series, bar_rows, line_chart, path_map
from dist4d_env.evaluation.report.page import colour_key, render_page, short_name, tiles
from dist4d_env.evaluation.report.replays import front_sources
from dist4d_env.evaluation.scores import recorded_scene, results_of
from dist4d_env.metrics.driving.trace import MetricResult
from dist4d_env.scenes.files import write_text

OUTCOMES = {"planner_error": "the planner failed"}
DRIVEN, SECOND = "var(--ink)", "#c77700"
"""Colours of the ego's own curves: those of ``SOURCES`` are bands behind them."""


def write_report(
    path: Path,
    log: EpisodeLog,
    video: Path | None = None,
    results: Mapping[str, MetricResult] | None = None,
) -> None:
    """Writes the page, whole or not at all. video: an .mp4 to embed; results: the episode's
    ``results_of``, where they are known already."""
    write_text(path, render_report(log, video, results))


def render_report(log: EpisodeLog, video: Path | None = None, results: Mapping[str, MetricResult] | None = None) -> str:
    """The page as text, with the scores of tables and campaigns (``scores.results_of``)."""
    results = results_of(log) if results is None else results
    film = ""
    if video is not None:
        data = base64.b64encode(video.read_bytes()).decode()
        film = f'<video controls autoplay muted loop playsinline src="data:video/mp4;base64,{data}"></video>'
        film += (
            '<div class="stills">'
            + "".join(
                f'<img alt="still {number} of the video" src="{_jpeg(frame)}">' for number, frame in enumerate(_stills(video), 1)
            )
            + "</div>"
        )
    sections = (
        film,
        _tiles(log, results),
        "<h2>What made the frames</h2>" + _sources(log) if any(step.source for step in log.steps) else "",
        f'<h2>Driving</h2><div class="charts">{"".join(_charts(log))}</div>',
        f'<h2>Path</h2><div class="card">{path_map(log.trace)}</div>',
        f"<h2>Metrics</h2>{_metrics(results)}",
        f"<h2>Time per stage</h2>{_timing(log)}",
    )
    title = f"{log.scene}, driven by {short_name(log.planner)}"
    settings = ", ".join(f"{name} {value}" for name, value in log.settings.items())
    lead = f"Seed {log.seed}, a decision every {log.decision_dt:g} s; {escape(settings)}."
    footer = "Made by dist4d_env. Metrics marked n/a could not be computed in this scene; they are not zeros."
    return render_page(title, f'<h1>{escape(title)}</h1><p class="lead">{lead}</p>{"".join(sections)}<footer>{footer}</footer>')


def _stills(video: Path, count: int = 3) -> list[Image.Image]:
    """Frames of a video at even distances, its first and last among them, for prints."""
    import av

    with av.open(str(video)) as film:
        frames = [frame.to_image() for frame in film.decode(video=0)]
    return [frames[index] for index in dict.fromkeys(np.linspace(0, len(frames) - 1, count).round().astype(int).tolist())]


def _jpeg(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def stage_times(log: EpisodeLog) -> dict[str, tuple[float, float]]:
    """Mean and 95th percentile in milliseconds per decision of every stage; the start, which loads things, is left out."""
    steps = log.steps[1:] or log.steps
    stages = dict.fromkeys(name for step in steps for name in step.timing_ms)
    times = {name: np.array([step.timing_ms.get(name, 0.0) for step in steps]) for name in stages}
    return {name: (float(values.mean()), float(np.percentile(values, 95))) for name, values in times.items()}


def source_runs(log: EpisodeLog) -> list[Band]:
    """Stretches of time by what made the front camera's frame, from each decision to the next."""
    bands: list[Band] = []
    position = 0
    for source, run in groupby(front_sources(log, recorded_scene(log))):
        length = len(list(run))
        name, colour = SOURCES.get(source, (source, (136, 136, 136)))
        start, end = log.steps[position].time, log.steps[min(position + length, len(log.steps) - 1)].time
        bands.append(Band(start, end, "#{:02x}{:02x}{:02x}".format(*colour), name))
        position += length
    return bands


def _tiles(log: EpisodeLog, results: Mapping[str, MetricResult]) -> str:
    trace = log.trace
    driven = float(np.hypot(*np.diff(trace.ego[:, :2], axis=0).T).sum())
    trust = [step.trust for step in log.steps]
    per_step = sum(mean for name, (mean, _) in stage_times(log).items() if "/" not in name)
    score = results["pdms_v1"]
    return tiles(
        {
            "outcome": OUTCOMES.get(log.outcome, log.outcome) + (f": {log.error}" if log.error else ""),
            "PDMS v1, closed loop": f"{score.value:.2f}" if score.valid else "n/a",
            "driven": f"{driven:.0f} m",
            "in": f"{trace.time[-1] - trace.time[0]:.1f} s",
            "total reward": f"{log.total_reward:.2f}",
            "lowest trust": f"{min(trust):.2f}",
            "per decision": f"{per_step:.0f} ms",
        }
    )


def _sources(log: EpisodeLog) -> str:
    bands = source_runs(log)
    total = max(log.steps[-1].time - log.steps[0].time, 1e-9)
    strip = "".join(
        f'<i style="width:{100 * (band.end - band.start) / total:.2f}%;background:{band.colour}" title="{escape(band.name)}"></i>'
        for band in bands
    )
    share = {band.name: (band.colour, sum(b.end - b.start for b in bands if b.name == band.name) / total) for band in bands}
    key = colour_key({f"{name} {100 * part:.0f} %": colour for name, (colour, part) in share.items()})
    return f'<div class="card"><div class="sources">{strip}</div><div class="key">{key}</div></div>'


def _charts(log: EpisodeLog) -> list[str]:
    trace, steps = log.trace, log.steps
    bands = source_runs(log)
    time = np.array([step.time for step in steps])
    gap = np.diff(trace.time, prepend=trace.time[0] - 0.1)
    expert_speed = np.hypot(*np.diff(trace.expert[:, :2], axis=0, prepend=trace.expert[:1, :2]).T) / gap
    expert_speed[0] = np.nan

    def metric(name: str) -> np.ndarray:
        return np.array([step.metrics.get(name, np.nan) for step in steps], float)

    speed = [
        Series("driven", trace.time, trace.ego[:, 3], DRIVEN),
        Series("recorded ego", trace.time, expert_speed, "#8b93a3", dashed=True),
    ]
    if np.isfinite(metric("speed_limit")).any():
        speed.append(Series("limit", time, metric("speed_limit"), "#d9534f", dashed=True))
    return [
        line_chart("Speed", "m/s", speed, bands, 0.0),
        line_chart(
            "Acceleration",
            "m/s²",
            [
                Series("along", trace.time, trace.ego[:, 4], DRIVEN),
                Series("across", trace.time, trace.ego[:, 3] * trace.ego[:, 6], SECOND),
            ],
            bands,
        ),
        line_chart(
            "Deviation",
            "m",
            [
                Series("from the path the frame was generated on", time, np.array([s.deviation_m for s in steps]), DRIVEN),
                Series("to the left of the route", time, metric("route_offset"), SECOND),
                Series("from the recorded ego", time, metric("log_deviation"), "#8b93a3", dashed=True),
            ],
            bands,
            0.0,
        ),
        line_chart("Trust", "0 to 1", [Series("trust", time, np.array([s.trust for s in steps]), SECOND)], bands, 0.0),
    ]


def _metrics(results: Mapping[str, MetricResult]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name.replace("_", " "))}</td><td class="number">'
        + (f"{result.value:.3f}" if result.valid else '<span class="none">n/a</span>')
        + f'</td><td class="details">{escape(_details(result))}</td></tr>'
        for name, result in results.items()
    )
    return f'<div class="card"><table><tr><th>metric</th><th class="number">value</th><th>details</th></tr>{rows}</table></div>'


def _details(result: MetricResult, most: int = 6) -> str:
    """The scalars among the details, and how long the rest is."""
    words = []
    for name, value in result.details.items():
        if isinstance(value, float | np.floating):
            words.append(f"{name.replace('_', ' ')} {value:.3g}")
        elif isinstance(value, str | int | bool | np.integer):
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words[:most])


def _timing(log: EpisodeLog) -> str:
    rows = bar_rows(stage_times(log), "var(--faint)")
    head = '<tr><th>stage</th><th class="number">mean, ms</th><th class="number">95th percentile, ms</th><th></th></tr>'
    return f'<div class="card"><table>{head}{rows}</table></div>'
