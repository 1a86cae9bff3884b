"""The frame of every report: one self-contained HTML page with the style, and where asked for the script, inlined."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from dist4d_env.progress import noun


def render_page(title: str, main: str, data: str | None = None) -> str:
    """A page as text. main: HTML of its body; data: HTML of the ``<script>`` elements that page.js reads, None for no script."""
    script = "" if data is None else f"{data}<script>{_asset('drawing.js')}{_asset('page.js')}</script>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_asset("page.css")}</style>'
        f"</head><body><main>{main}</main>{script}</body></html>"
    )


def tiles(values: Mapping[str, object]) -> str:
    """A row of tiles: values by their captions."""
    shown = "".join(
        f'<div class="tile"><b>{escape(str(value))}</b> <span>{escape(name)}</span></div>' for name, value in values.items()
    )
    return f'<div class="tiles">{shown}</div>'


def colour_key(colours: Mapping[str, str]) -> str:
    """What colours mean: colours by text."""
    return " ".join(f'<span><i style="background:{colour}"></i> {escape(text)}</span>' for text, colour in colours.items())


def short_name(planner: str) -> str:
    """A planner's name without its module."""
    return planner.rpartition(":")[2]


def episodes_of(count: int, missing: int) -> str:
    """How many episodes a planner drove, and how many it did not that others in the table drove, as HTML."""
    less = f', <b class="note">{missing} fewer than others</b>' if missing else ""
    return f"{count} {noun(count, 'episode')}{less}"


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
