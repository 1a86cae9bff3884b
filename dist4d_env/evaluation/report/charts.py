"""Line charts, bars and a map as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from shapely.geometry.base import BaseGeometry

from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.lights import STATES

WIDTH, HEIGHT = 620, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 26


@dataclass(frozen=True)
class Series:
    """A line: x, y (N,), a name for the legend, a colour (CSS); dashed for references."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """A coloured stretch of the x axis with a name."""

    start: float
    end: float
    colour: str
    name: str


def line_chart(title: str, unit: str, series: Sequence[Series], bands: Sequence[Band] = (), bottom: float | None = None) -> str:
    """An SVG figure of lines over time in seconds; nan interrupts a line. bottom: a value that the y axis reaches down to."""
    x_low, x_high = _span(np.concatenate([line.x for line in series]))
    values = np.concatenate([line.y for line in series])
    y_low, y_high = _span(values, bottom)
    x_ticks, y_ticks = _ticks(x_low, x_high, 8), _ticks(y_low, y_high, 5)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])

    def at(x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        column = LEFT + (np.asarray(x) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return column, TOP + (y_high - np.asarray(y)) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for band in bands:
        (start, end), _ = at(np.array([band.start, band.end]), 0.0)
        parts.append(
            f'<rect x="{start:.1f}" y="{TOP}" width="{max(end - start, 0.5):.1f}" height="{HEIGHT - TOP - BOTTOM}" '
            f'fill="{band.colour}" opacity="0.13"><title>{escape(band.name)}</title></rect>'
        )
    for tick in y_ticks:
        _, row = at(0.0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{row + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        column, _ = at(tick, 0.0)
        parts.append(f'<text class="tick" x="{column:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:g} s</text>')
    for line in series:
        path = _path(np.stack(at(line.x, line.y), -1), np.isfinite(line.y))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="2" stroke-linejoin="round"{dash}/>')
    parts.append("</svg>")
    legend = "".join(f' <span><i style="background:{line.colour}"></i> {escape(line.name)}</span>' for line in series)
    return f"<figure><figcaption><b>{escape(title)}</b> <em>{escape(unit)}</em>{legend}</figcaption>{''.join(parts)}</figure>"


def bar_rows(values: Mapping[str, tuple[float, float]], colour: str) -> str:
    """Rows of a table with name, mean, 95th percentile (milliseconds) and a bar of the mean."""
    longest = max((mean for mean, _ in values.values()), default=0.0) or 1.0
    return "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{mean:.1f}</td><td class="number">{high:.1f}</td>'
        f'<td class="share"><i style="width:{100 * mean / longest:.1f}%;background:{colour}"></i></td></tr>'
        for name, (mean, high) in values.items()
    )


def path_map(trace: EpisodeTrace, margin: float = 18.0) -> str:
    """An SVG seen from above: drivable area, lane dividers, stop lines as their traffic lights show at the end, the logged path
    (dashed) and the driven one."""
    driven, logged = trace.ego[:, :2], trace.expert[:, :2]
    both = np.concatenate([driven, logged])
    low, high = both.min(0) - margin, both.max(0) + margin
    span = np.maximum(high - low, max(60.0, 0.35 * (high - low).max()) * np.array([1.0, 0.6]))
    low = (low + high - span) / 2

    def place(points: np.ndarray) -> np.ndarray:
        return np.stack([points[:, 0] - low[0], low[1] + span[1] - points[:, 1]], -1)

    parts = [f'<svg class="map" viewBox="0 0 {span[0]:.1f} {span[1]:.1f}" role="img" aria-label="the path from above">']
    if trace.map is not None:
        from shapely.geometry import box

        window = box(*low, *(low + span))
        for name, style in (("drivable_area", "road"), ("ped_crossing", "crossing"), ("lane_divider", "divider")):
            for geometry in trace.map.layers[name]:
                parts += [_outline(piece, place, style) for piece in _pieces(geometry.intersection(window))]
    for line, state in zip(trace.lights.stop_line, trace.lights.state[:, -1].tolist(), strict=True):
        if (line >= low).all() and (line <= low + span).all():
            parts.append(f'<path class="light {STATES[state]}" d="{_path(place(line))}"/>')
    for points, style in ((logged, "logged"), (driven, "driven")):
        parts.append(f'<path class="{style}" d="{_path(place(points))}"/>')
    here = place(driven[-1:])[0]
    parts.append(f'<circle class="end" cx="{here[0]:.2f}" cy="{here[1]:.2f}" r="{span.max() / 120:.2f}"/></svg>')
    return "".join(parts)


def _pieces(geometry: BaseGeometry) -> list[BaseGeometry]:
    """The simple parts of a geometry."""
    if geometry.is_empty:
        return []
    return [piece for part in geometry.geoms for piece in _pieces(part)] if hasattr(geometry, "geoms") else [geometry]


def _outline(geometry: BaseGeometry, place: Callable[[np.ndarray], np.ndarray], style: str) -> str:
    """A polygon or line string as an SVG path; nothing for points."""
    if geometry.geom_type == "Polygon":
        rings = [np.asarray(ring.coords)[:, :2] for ring in (geometry.exterior, *geometry.interiors)]
        lines = " ".join(_path(place(ring)) + "Z" for ring in rings)
        return f'<path class="{style}" fill-rule="evenodd" d="{lines}"/>'
    if geometry.geom_type == "LineString":
        points = np.asarray(geometry.coords)[:, :2]
        return f'<path class="{style}" d="{_path(place(points))}"/>'
    return ""


def _path(points: np.ndarray, known: np.ndarray | None = None) -> str:
    """SVG path data through points (N, 2), interrupted where ``known`` (N,) is false."""
    words, drawing = [], False
    for (column, row), here in zip(points.tolist(), np.ones(len(points), bool) if known is None else known, strict=True):
        if here:
            words.append(f"{'L' if drawing else 'M'}{column:.2f} {row:.2f}")
        drawing = bool(here)
    return "".join(words)


def _span(values: np.ndarray, bottom: float | None = None) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    low = low if bottom is None else min(low, bottom)
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)


def _ticks(low: float, high: float, count: int) -> np.ndarray:
    """About ``count`` round numbers that cover [low, high]."""
    rough = (high - low) / count
    power = 10 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return np.round(np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step, 10)
