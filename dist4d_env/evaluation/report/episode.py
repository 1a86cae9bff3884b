"""One self-contained HTML page about one episode: video, plots, metrics, timing. Opens offline, anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from dist4d_env.evaluation.episode_log import EpisodeLog, replacing
from dist4d_env.evaluation.report.charts import Band, Series, bar_rows, line_chart, path_map
from dist4d_env.evaluation.scores import results_of
from dist4d_env.metrics.driving.trace import MetricResult

SOURCES = {
    "log": ("recorded frame", "#6b7688"),
    "dist_t": ("DiST-T", "#2166d6"),
    "dist_s": ("DiST-S", "#b0369a"),
    "splat": ("splat, no model", "#187e76"),
    "replay": ("replay", "#a46216"),
    "oracle": ("oracle", "#247a3e"),
}
OUTCOMES = {"planner_error": "the planner failed"}

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfd;--card:#fff;--ink:#181c25;--faint:#667085;--line:#e4e7ec;--accent:#2166d6}
@media(prefers-color-scheme:dark){:root{--paper:#0d0f14;--card:#161920;--ink:#e8ecf3;--faint:#8b93a3;--line:#272c36;--accent:#6ea2ff}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:1320px;margin:0 auto;padding:36px 24px 64px}h1{font-size:30px;margin:0 0 4px;letter-spacing:-.02em}
h2{font-size:18px;margin:40px 0 12px}p.lead{color:var(--faint);margin:0 0 22px}
video{width:100%;border-radius:12px;background:#000;display:block}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0}
.tile,figure,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:24px;letter-spacing:-.02em}.tile span{color:var(--faint);font-size:13px}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(460px,1fr));gap:16px}figure{margin:0}
figcaption{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;font-size:14px;margin-bottom:6px}
figcaption em,figcaption span{color:var(--faint);font-style:normal;font-size:13px}
figcaption i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
svg{width:100%;height:auto;display:block}svg .grid{stroke:var(--line)}svg .tick{fill:var(--faint);font-size:11px}
svg.map{max-height:480px}.map .road{fill:var(--line)}.map .crossing{fill:var(--faint);opacity:.35}
.map .divider{fill:none;stroke:var(--faint);stroke-width:.25;opacity:.7}
.map .driven{fill:none;stroke:var(--accent);stroke-width:1}
.map .logged{fill:none;stroke:var(--ink);stroke-width:.5;stroke-dasharray:1.6 1.2;opacity:.7}.map .end{fill:var(--accent)}
table{border-collapse:collapse;width:100%;font-size:14px}
td,th{padding:6px 10px;border-bottom:1px solid var(--line);text-align:left}
th{color:var(--faint);font-weight:500}.number{text-align:right;font-variant-numeric:tabular-nums}.bar{width:40%}
.bar i{display:block;height:9px;border-radius:5px}.none{color:var(--faint)}.why{color:var(--faint);font-size:13px}
.sources{display:flex;height:26px;border-radius:8px;overflow:hidden}.sources i{display:block}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--faint);font-size:13px;margin-top:8px}
.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
footer{color:var(--faint);font-size:13px;margin-top:44px}
"""


def write_report(
    path: Path,
    log: EpisodeLog,
    video: Path | None = None,
    notes: str = "",
    results: Mapping[str, MetricResult] | None = None,
) -> None:
    """Writes the page, whole or not at all. video: an .mp4 to embed; notes: a sentence under the title; results: what
    ``results_of`` says of the episode, where it is known already."""
    with replacing(path) as temporary:
        temporary.write_text(render_report(log, video, notes, results), encoding="utf-8")


def render_report(
    log: EpisodeLog, video: Path | None = None, notes: str = "", results: Mapping[str, MetricResult] | None = None
) -> str:
    """The page as text. Scores are those of tables and campaigns: progress counts up to the end that was meant."""
    results = results_of(log) if results is None else results
    film = ""
    if video is not None:
        data = base64.b64encode(video.read_bytes()).decode()
        film = f'<video controls autoplay muted loop playsinline src="data:video/mp4;base64,{data}"></video>'
    sections = (
        film,
        _tiles(log, results),
        "<h2>What made the frames</h2>" + _sources(log) if any(step.source for step in log.steps) else "",
        f'<h2>Driving</h2><div class="grid2">{"".join(_charts(log))}</div>',
        f'<h2>Path</h2><div class="card">{path_map(log.trace)}</div>',
        f"<h2>Metrics</h2>{_metrics(results)}",
        f"<h2>Time per stage</h2>{_timing(log)}",
    )
    title = f"{log.scene}, driven by {log.planner.rpartition(':')[2]}"
    settings = ", ".join(f"{name} {value}" for name, value in log.settings.items())
    lead = f"{escape(notes)} Seed {log.seed}, a decision every {log.decision_dt:g} s; {escape(settings)}."
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f'<p class="lead">{lead}</p>{"".join(sections)}'
        f"<footer>Made by dist4d_env. Metrics marked n/a could not be computed in this scene; they are not zeros.</footer>"
        f"</main></body></html>"
    )


def stage_times(log: EpisodeLog) -> dict[str, tuple[float, float]]:
    """Mean and 95th percentile in milliseconds per decision of every stage; the start, which loads things, is left out."""
    steps = log.steps[1:] or log.steps
    stages = dict.fromkeys(name for step in steps for name in step.timing_ms)
    times = {name: np.array([step.timing_ms.get(name, 0.0) for step in steps]) for name in stages}
    return {name: (float(values.mean()), float(np.percentile(values, 95))) for name, values in times.items()}


def source_runs(log: EpisodeLog) -> list[Band]:
    """Stretches of time by what made the front camera's frame, from each decision to the next."""
    front = [step.source[min(1, len(step.source) - 1)] for step in log.steps if step.source]
    bands: list[Band] = []
    position = 0
    for source, run in groupby(front):
        length = len(list(run))
        name, colour = SOURCES.get(source, (source, "#888888"))
        start, end = log.steps[position].time, log.steps[min(position + length, len(log.steps) - 1)].time
        bands.append(Band(start, end, colour, name))
        position += length
    return bands


def _tiles(log: EpisodeLog, results: Mapping[str, MetricResult]) -> str:
    trace = log.trace
    driven = float(np.hypot(*np.diff(trace.ego[:, :2], axis=0).T).sum())
    trust = [step.trust for step in log.steps]
    per_step = sum(mean for name, (mean, _) in stage_times(log).items() if "/" not in name)
    score = results["pdms_v1"]
    tiles = {
        "outcome": OUTCOMES.get(log.outcome, log.outcome) + (f": {log.error}" if log.error else ""),
        "PDMS v1, closed loop": f"{score.value:.2f}" if score.valid else "n/a",
        "driven": f"{driven:.0f} m",
        "in": f"{trace.time[-1] - trace.time[0]:.1f} s",
        "total reward": f"{log.total_reward:.2f}",
        "lowest trust": f"{min(trust):.2f}",
        "per decision": f"{per_step:.0f} ms",
    }
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles.items())
        + "</div>"
    )


def _sources(log: EpisodeLog) -> str:
    bands = source_runs(log)
    total = max(log.steps[-1].time - log.steps[0].time, 1e-9)
    strip = "".join(
        f'<i style="width:{100 * (band.end - band.start) / total:.2f}%;background:{band.colour}" title="{escape(band.name)}"></i>'
        for band in bands
    )
    share = {band.name: (band.colour, sum(b.end - b.start for b in bands if b.name == band.name) / total) for band in bands}
    key = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)} {100 * part:.0f} %</span>'
        for name, (colour, part) in share.items()
    )
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
        Series("driven", trace.time, trace.ego[:, 3], "#2166d6"),
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
                Series("along", trace.time, trace.ego[:, 4], "#2166d6"),
                Series("across", trace.time, trace.ego[:, 3] * trace.ego[:, 6], "#b0369a"),
            ],
            bands,
        ),
        line_chart(
            "Deviation",
            "m",
            [
                Series("from the path the frame was generated on", time, np.array([s.deviation_m for s in steps]), "#b0369a"),
                Series("to the left of the route", time, metric("route_offset"), "#187e76"),
                Series("from the recorded ego", time, metric("log_deviation"), "#8b93a3", dashed=True),
            ],
            bands,
            0.0,
        ),
        line_chart("Trust", "0 to 1", [Series("trust", time, np.array([s.trust for s in steps]), "#c77700")], bands, 0.0),
    ]


def _metrics(results: Mapping[str, MetricResult]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name.replace("_", " "))}</td><td class="number">'
        + (f"{result.value:.3f}" if result.valid else '<span class="none">n/a</span>')
        + f'</td><td class="why">{escape(_details(result))}</td></tr>'
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
    rows = bar_rows(stage_times(log), "#2166d6")
    head = '<tr><th>stage</th><th class="number">mean, ms</th><th class="number">95th percentile, ms</th><th></th></tr>'
    return f'<div class="card"><table>{head}{rows}</table></div>'
