"""The leaderboard of many campaigns as a static page: a ranking per suite and settings, failures, links to replays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from dist4d_env.evaluation.drive import episode_name
from dist4d_env.evaluation.failures import KINDS
from dist4d_env.evaluation.leaderboard import Standing, label_of
from dist4d_env.evaluation.report.campaign import LEADING, OUTCOMES, count_cell, ended_bar, score_cell
from dist4d_env.evaluation.report.page import colour_key, episodes_of, render_page, short_name, tiles
from dist4d_env.evaluation.submission import Submission
from dist4d_env.evaluation.summary import SCORES
from dist4d_env.progress import noun

LINKED = 12
"""So many failures of a planner are linked to."""
SETTINGS = {
    "form": "scores",
    "decision_dt": "seconds to a decision",
    "horizon": "seconds to an episode",
    "jitter": "jitter of starts",
    "traffic": "traffic",
    "dist4d_env": "dist4d_env",
}
"""The settings of a track beside its suite, as they stand above its table."""
OF_WORLD: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "oracle": ("size",),
    "splat": ("memory", "size"),
    "replay": ("memory", "size"),
}
"""The settings that mean something to a built-in world; to others all three do."""
Entry = tuple[Submission, Standing]


def render_site(title: str, ranked: Sequence[Sequence[Submission]]) -> str:
    """The page as text. ranked: ``submission.tracks``. Links lead to the submissions' reports, relative to the page."""
    submissions = [submission for some in ranked for submission in some]
    counts = {
        "campaigns": len(submissions),
        "planners": sum(len(submission.standings) for submission in submissions),
        "episodes": sum(len(submission.episodes) for submission in submissions),
    }
    lead = "Planners by campaign, best first in each suite, places within each world; compare rows of one table alone."
    body = "".join(_track(some) for some in ranked)
    key = colour_key(dict(OUTCOMES.values()))
    foot = (
        "Means over episodes with 95 % intervals (hierarchical bootstrap over scenes, scenarios, seeds), as each campaign sent "
        "them. "
        "An episode in which the planner itself failed counts as 0; marked * is the mean without these. Who did not drive every "
        "episode of a table is not ranked. n/a: could not be computed, never read as zero."
    )
    head = f'<h1>{escape(title)}</h1><p class="lead">{lead}</p>{tiles(counts)}'
    return render_page(title, f'{head}{body}<div class="key">{key}</div><footer>{foot}</footer>')


def _track(submissions: Sequence[Submission]) -> str:
    """One suite's ranking."""
    settings, ranked_by = submissions[0].settings, submissions[0].ranked_by
    entries = [(submission, row) for submission in submissions for row in submission.standings]
    episodes = max(row.missing + len(submission.driven(row.planner)) for submission, row in entries)
    entries.sort(key=lambda entry: (entry[1].missing > 0, -_mean(entry[1], ranked_by), entry[1].errors))
    names = [name for name in SCORES if any(_has(row, name) for _, row in entries)]
    names = sorted(names, key=lambda name: name != ranked_by)[:LEADING]
    heads = "".join(f"<th>{escape(label_of(name))}</th>" for name in names)
    kinds = "".join(f'<th class="number">{escape(text)}</th>' for text in KINDS.values())
    places: Counter[str] = Counter()
    rows = ""
    for entry in entries:
        places[_world(entry[0])] += 1
        rows += _row(places[_world(entry[0])], entry, names)
    words = {name: settings.get(key) for key, name in SETTINGS.items()} | {"episodes": episodes}
    plainly = {True: "yes", False: "no"}
    lead = ", ".join(
        f"{name} {plainly[value] if isinstance(value, bool) else value}" for name, value in words.items() if value is not None
    )
    return (
        f"<h2>{escape(settings['suite'])}</h2><p>{escape(lead)}</p>"
        '<div class="card"><div class="scroll"><table><tr><th></th><th class="name">planner, campaign, world</th>'
        f"{heads}<th>ended by</th>{kinds}</tr>{rows}</table></div></div>" + "".join(_failures(entry) for entry in entries)
    )


def _row(place: int, entry: Entry, names: Sequence[str]) -> str:
    submission, row = entry
    number = "-" if row.missing else str(place)
    return (
        f'<tr><td class="number none">{number}</td><td class="name">{escape(short_name(row.planner))} '
        f"<small>{episodes_of(row.episodes, row.missing)}</small>"
        f"<small>{_linked(submission, submission.name)}</small><small>{escape(_world(submission))}</small></td>"
        + "".join(f'<td class="score">{score_cell(row, name) if name in row.metrics else "n/a"}</td>' for name in names)
        + f"<td>{ended_bar(row)}</td>"
        + "".join(count_cell(row.failures.get(kind, 0), row.episodes) for kind in KINDS)
        + "</tr>"
    )


def _failures(entry: Entry) -> str:
    """A planner's failures, each with a link to its replay where there is a report."""
    submission, row = entry
    found = [(one, failure) for one in submission.episodes if one["planner"] == row.planner for failure in one["failures"]]
    if not found:
        return ""
    items = "".join(
        f"<li>{_linked(submission, one['scenario'], episode_name(row.planner, one['scenario'], one['seed']), time)}, seed "
        f"{one['seed']}, at {time:.1f} s: {escape(text)}</li>"
        for one, (_, time, text) in found[:LINKED]
    )
    more = f"<li>and {len(found) - LINKED} more</li>" if len(found) > LINKED else ""
    what = f"{len(found)} {noun(len(found), 'failure')} of {short_name(row.planner)} in {submission.name}"
    return f"<details><summary>{escape(what)}</summary><ul>{items}{more}</ul></details>"


def _linked(submission: Submission, text: str, episode: str | None = None, time: float = 0.0) -> str:
    """A text that leads to the submission's report, or to an episode's replay a second before an instant."""
    if submission.report is None:
        return escape(text)
    place = "" if episode is None else f"#episode={quote(episode)}@{max(time - 1.0, 0.0):.1f}"
    return f'<a href="{escape(quote(submission.report) + place)}">{escape(text)}</a>'


def _world(submission: Submission) -> str:
    """The world as a reader has to know it."""
    settings = submission.settings
    drawn = [settings.get(key) for key in OF_WORLD.get(settings["world"], ("weights", "memory", "size"))]
    more = ", ".join(str(value) for value in drawn if value is not None)
    return f"{settings['world']} ({more})" if more else str(settings["world"])


def _has(row: Standing, name: str) -> bool:
    return name in row.metrics and row.metrics[name].count > 0


def _mean(row: Standing, name: str) -> float:
    return row.metrics[name].mean if _has(row, name) else -math.inf
