"""A campaign as one self-contained page: leaderboard, breakdowns, failures, and every episode as it was driven."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from dist4d_env.data.open import open_dataset
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.failures import KINDS
from dist4d_env.evaluation.leaderboard import Leaderboard, Standing, label_of
from dist4d_env.evaluation.report.page import colour_key, episodes_of, render_page, short_name, tiles
from dist4d_env.evaluation.report.replays import pack, scene_drawing
from dist4d_env.evaluation.statistics import Comparison, Estimate
from dist4d_env.evaluation.summary import ScoredEpisode
from dist4d_env.progress import noun

OUTCOMES = {
    "horizon": ("reached the horizon", "#2f9e77"),
    "collision": ("at-fault collision", "#d6453a"),
    "off_road": ("left the road", "#d98a1f"),
    "wrong_way": ("wrong way", "#9a4fc4"),
    "red_light": ("ran a red light", "#b3202c"),
    "trust": ("trust too low", "#7a8aa3"),
    "broken_frame": ("the world broke", "#5b6576"),
    PLANNER_ERROR: ("the planner failed", "#3a3f4a"),
}
SHARES = (
    "no_at_fault_collision", "no_collision", "drivable_area_compliance", "driving_direction_compliance", "time_to_collision",
    "comfort", "extended_comfort", "lane_keeping", "speed_limit_compliance", "traffic_light_compliance",
    "making_progress", "ego_progress", "route_completion",
)  # fmt: skip
"""Metrics in [0, 1], where more is better: what the table of parts colours."""
LARGEST = {"neuroncap_score": 5.0}
"""Composite scores that end elsewhere than at 1."""
UNRANKED = ("bench2drive_efficiency", "bench2drive_comfort")
"""Of other benchmarks, what is averaged over the episodes that have it; efficiency is coloured up to 1, the traffic's speed."""
LEADING = 3
"""So many composite scores stand in the leaderboard itself."""
OTHERS = "Each as its authors combine it, in their {form} form; they weigh differently, so compare down a column."
PARTS = "Means of the metrics that run from 0 to 1."


def render_campaign(
    board: Leaderboard,
    episodes: Sequence[ScoredEpisode],
    settings: Mapping[str, Any],
    replays: int,
    picture: Callable[[str], str | None],
) -> str:
    """The page as text. replays: how many episodes can be played in it, failures first; picture: an episode's camera strip as
    base64 by name."""
    common = settings["common"]
    kept = _chosen(episodes, board, replays)
    blobs = [_blob(f"e{index}", episodes[index].replay) for index in kept]
    strips = {index: strip for index in kept if (strip := picture(episodes[index].name)) is not None}
    blobs += [_blob(f"p{index}", strip) for index, strip in strips.items()]
    blobs += [_blob(f"m-{name}", drawing) for name, drawing in _maps(episodes, kept).items()]
    data = json.dumps(_data(board, episodes, kept, strips), separators=(",", ":")).replace("<", "\\u003c")
    title = f"{common['suite']}: closed loop, world {common['world']}"
    sections = (
        _head(title, board, episodes, common),
        _leaderboard(board),
        _columns(board, "Scores of other benchmarks", OTHERS.format(form=common["form"]), (*board.scores[LEADING:], *UNRANKED)),
        _columns(board, "Parts", PARTS, SHARES),
        _breakdown(board, "By family", "families"),
        _breakdown(board, "By difficulty", "difficulties"),
        _pairs(board),
        _failures(episodes),
        _episodes(episodes, kept),
        f"<footer>Made by dist4d_env {escape(str(common['dist4d_env']))}. n/a: could not be computed, never read as zero. "
        "Intervals: hierarchical bootstrap over scenes, their scenarios and seeds. An episode in which the planner itself failed "
        "counts as 0 in composite scores and is left out of every other mean.</footer>",
    )
    return render_page(title, "".join(sections), f'{"".join(blobs)}<script type="application/json" id="data">{data}</script>')


def _chosen(episodes: Sequence[ScoredEpisode], board: Leaderboard, most: int) -> list[int]:
    """Which episodes are kept as drawings: failures first, then the lowest scores."""
    name = board.ranked_by

    def rank(index: int) -> tuple[bool, float, int]:
        score = episodes[index].score
        value = score.metrics.get(name)
        return not score.failures, 2.0 if value is None else value, index

    return sorted(sorted(range(len(episodes)), key=rank)[:most])


def _maps(episodes: Sequence[ScoredEpisode], shown: Sequence[int]) -> dict[str, str]:
    places = {episodes[i].score.scene: (episodes[i].dataroot, episodes[i].version, episodes[i].dataset) for i in shown}
    opened = {place: open_dataset(place[0], place[1], dataset=place[2]) for place in set(places.values())}
    return {scene: pack(scene_drawing(opened[place].load(scene, False))) for scene, place in places.items()}


def _blob(name: str, text: str) -> str:
    return f'<script type="text/plain" id="{escape(name)}">{text}</script>'


def _data(
    board: Leaderboard, episodes: Sequence[ScoredEpisode], kept: Sequence[int], strips: Mapping[int, str]
) -> dict[str, Any]:
    """The values that page.js lists and filters."""
    metrics = list(dict.fromkeys(name for one in episodes for name in one.score.metrics))
    drawn = set(kept)
    names = ("planner", "scenario", "scene", "family", "difficulty", "seed", "outcome")
    return {
        "planners": [row.planner for row in board.standings],
        "metrics": metrics,
        "ranked": board.ranked_by,
        "labels": {name: label_of(name) for name in metrics},
        "kinds": KINDS,
        "outcomes": OUTCOMES,
        "episodes": [
            {
                "name": one.name,
                **{name: getattr(one.score, name) for name in names},
                "seconds": round(one.score.seconds, 2),
                "values": [None if (value := one.score.metrics.get(name)) is None else round(value, 4) for name in metrics],
                "failures": [
                    {"kind": f.kind, "at": round(f.time - one.score.start, 2), "track": f.track, "text": f.text}
                    for f in one.score.failures
                ],
                "drawn": index in drawn,
                "views": index in strips,
            }
            for index, one in enumerate(episodes)
        ],
    }


def _head(title: str, board: Leaderboard, episodes: Sequence[ScoredEpisode], common: Mapping[str, Any]) -> str:
    counts = {
        "planner": len(board.standings),
        "scenario": len({one.score.scenario for one in episodes}),
        "scene": len({one.score.scene for one in episodes}),
        "seed": len({one.score.seed for one in episodes}),
        "episode": len(episodes),
    }
    shown: dict[str, object] = {noun(count, word): count for word, count in counts.items()}
    shown |= {
        "hours driven": f"{sum(one.score.seconds for one in episodes) / 3600:.2f}",
        "with a failure": sum(bool(one.score.failures) for one in episodes),
        "planner failed": sum(row.errors for row in board.standings),
    }
    words = {"weights": common["weights"], "memory": common["memory"]} if common["world"] != "none" else {}
    words |= {"traffic": common["traffic"], "a decision every": f"{common['decision_dt']:g} s"}
    words["scores in their"] = f"{common['form']} form"
    lead = ", ".join(f"{name} {value}" for name, value in words.items())
    return f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{tiles(shown)}'


def _leaderboard(board: Leaderboard) -> str:
    heads = "".join(f"<th>{escape(label_of(name))}</th>" for name in board.scores[:LEADING])
    kinds = "".join(f'<th class="number">{escape(KINDS[kind])}</th>' for kind in KINDS)
    rows = "".join(
        f'<tr><td class="number none">{"-" if row.missing else place}</td><td class="name">{escape(short_name(row.planner))} '
        f"<small>{episodes_of(row.episodes, row.missing)}</small></td>"
        + "".join(f'<td class="score">{score_cell(row, name)}</td>' for name in board.scores[:LEADING])
        + f"<td>{ended_bar(row)}</td>"
        + "".join(count_cell(row.failures.get(kind, 0), row.episodes) for kind in KINDS)
        + "</tr>"
        for place, row in enumerate(board.standings, 1)
    )
    key = {
        text: colour for outcome, (text, colour) in OUTCOMES.items() if any(outcome in row.outcomes for row in board.standings)
    }
    lead = "Means over episodes with their 95 % intervals; the last columns count episodes."
    if any(row.missing for row in board.standings):
        lead += " Who did not drive every episode is not ranked."
    if any(row.survivors for row in board.standings):
        lead += " An episode in which the planner itself failed counts as 0; marked * is the mean without these."
    return (
        f"<h2>Leaderboard</h2><p>{lead}</p>"
        '<div class="card"><div class="scroll"><table><tr><th></th><th class="name">planner</th>'
        f'{heads}<th>ended by</th>{kinds}</tr>{rows}</table></div><div class="key">{colour_key(key)}</div></div>'
    )


def score_cell(row: Standing, name: str) -> str:
    estimate, largest = row.metrics[name], LARGEST.get(name, 1.0)
    if not estimate.count:
        return '<span class="none">n/a</span>'
    low, mean, high = (100 * min(max(value / largest, 0.0), 1.0) for value in (estimate.low, estimate.mean, estimate.high))
    notes = [f"{row.invalid(name)} not valid"] if row.invalid(name) else []
    survivors = row.survivors.get(name)
    if survivors is not None:
        mean_of_survivors = f"{survivors.mean:.3f}*" if survivors.count else "none*"
        notes.append(f"{mean_of_survivors} without the {row.errors} failed")
    note = "".join(f' <small class="note">{text}</small>' for text in notes)
    return (
        f"<b>{estimate.mean:.3f}</b> <small>{estimate.low:.3f} to {estimate.high:.3f}</small>{note}"
        f'<div class="whisker"><i style="left:{low:.1f}%;width:{max(high - low, 0.5):.1f}%"></i>'
        f'<u style="left:calc({mean:.1f}% - 1px)"></u></div>'
    )


def ended_bar(row: Standing) -> str:
    parts = ((name, row.outcomes.get(name, 0)) for name in dict.fromkeys([*OUTCOMES, *row.outcomes]))
    bars = "".join(
        f'<i style="width:{100 * count / row.episodes:.2f}%;background:{OUTCOMES.get(name, (name, "#888"))[1]}" '
        f'title="{escape(OUTCOMES.get(name, (name, ""))[0])}: {count}"></i>'
        for name, count in parts
        if count
    )
    return f'<div class="ended">{bars}</div>'


def count_cell(count: int, total: int) -> str:
    share = f" <small>{100 * count / total:.0f} %</small>" if count else ""
    return f'<td class="number count{" some" if count else ""}">{count}{share}</td>'


def _columns(board: Leaderboard, title: str, lead: str, wanted: Sequence[str]) -> str:
    """Means of several metrics as colours."""
    names = [name for name in wanted if any(name in row.metrics for row in board.standings)]
    if not names:
        return ""
    heads = "".join(f"<th>{escape(label_of(name))}</th>" for name in names)
    rows = {row.planner: [_cell(row.metrics.get(name), LARGEST.get(name, 1.0)) for name in names] for row in board.standings}
    return _heat_table(title, f"{lead} Point at a cell for its interval.", heads, rows)


def _breakdown(board: Leaderboard, title: str, groups: str) -> str:
    """The ranking score by family or difficulty."""
    names = list(dict.fromkeys(name for row in board.standings for name in getattr(row, groups)))
    if len(names) < 2:
        return ""
    heads = "".join(f'<th class="group">{escape(name.replace("_", " "))}</th>' for name in names)
    score, largest = board.ranked_by, LARGEST.get(board.ranked_by, 1.0)
    rows = {
        row.planner: [_cell(getattr(row, groups).get(name, {}).get(score), largest) for name in names] for row in board.standings
    }
    return _heat_table(title, f"{escape(label_of(score))} in each; point at a cell for its interval.", heads, rows)


def _heat_table(title: str, lead: str, heads: str, rows: Mapping[str, Sequence[str]], corner: str = "planner") -> str:
    """A table of coloured cells; heads: HTML of its columns; rows: cells by planner."""
    body = "".join(
        f'<tr><td class="name">{escape(short_name(planner))}</td>{"".join(cells)}</tr>' for planner, cells in rows.items()
    )
    return (
        f'<h2>{title}</h2><p>{lead}</p><div class="card scroll"><table class="heat">'
        f'<tr><th class="name">{corner}</th>{heads}</tr>{body}</table></div>'
    )


def _cell(estimate: Estimate | None, largest: float = 1.0) -> str:
    if estimate is None or not estimate.count:
        return '<td class="cell none">n/a</td>'
    share = min(max(estimate.mean / largest, 0.0), 1.0)
    about = f"{estimate.low:.3f} to {estimate.high:.3f}, {estimate.count} {noun(estimate.count, 'episode')}"
    return f'<td class="cell" style="{_heat(share - 0.5)}" title="{about}">{estimate.mean:.2f}</td>'


def _heat(lean: float, strength: float = 0.62) -> str:
    """A background for a value in [-0.5, 0.5]: red below zero, blue above."""
    tone = "--heat" if lean >= 0 else "--heat-low"
    return f"background:rgba(var({tone}),{strength * min(abs(lean) * 2, 1):.2f})"


def _pairs(board: Leaderboard) -> str:
    """Row against column in the ranking score, on the episodes that both drove."""
    if len(board.standings) < 2:
        return ""
    planners = [row.planner for row in board.standings]
    found = {(c.first, c.second): c for c in board.comparisons[board.ranked_by]}
    heads = "".join(f"<th>{escape(short_name(planner))}</th>" for planner in planners)
    rows = {mine: [_pair(found.get((mine, other)), found.get((other, mine))) for other in planners] for mine in planners}
    lead = (
        f"{escape(label_of(board.ranked_by))} of the row minus the column, on the same episodes. Bold: the 95 % interval of the "
        "difference leaves zero out. Point at a cell for it, and for the shares won, tied and lost."
    )
    return _heat_table("Pairs", lead, heads, rows, corner="")


def _pair(forth: Comparison | None, back: Comparison | None) -> str:
    one = forth or back
    if one is None or not one.difference.count:
        return '<td class="cell none">-</td>' if one is None else '<td class="cell none">n/a</td>'
    sign = 1 if forth is not None else -1
    low, high = sorted((sign * one.difference.low, sign * one.difference.high))
    won, lost = (one.won, one.lost) if forth is not None else (one.lost, one.won)
    about = (
        f"{low:+.3f} to {high:+.3f}; won {100 * won:.0f} %, tied {100 * one.tied:.0f} %, lost {100 * lost:.0f} % of "
        f"{one.difference.count}" + (f", {one.difference.left_out} without a value" if one.difference.left_out else "")
    )
    mean = f"{sign * one.difference.mean:+.2f}"
    text = f"<b>{mean}</b>" if one.clear else mean
    return f'<td class="cell" style="{_heat(sign * one.difference.mean, 0.5)}" title="{about}">{text}</td>'


def _failures(episodes: Sequence[ScoredEpisode]) -> str:
    if not any(one.score.failures for one in episodes):
        return "<h2>Failures</h2><p>There are none.</p>"
    return (
        "<h2>Failures</h2><p>The instant at which each went wrong, what was hit in red. A click shows how it came about.</p>"
        '<div class="tools" id="gallery-tools"></div><div class="gallery" id="gallery"></div>'
        '<p><button id="gallery-more" hidden>show more</button></p>'
    )


def _episodes(episodes: Sequence[ScoredEpisode], shown: Sequence[int]) -> str:
    note = (
        f" {len(shown)} of {len(episodes)} can be opened: failures, then the lowest scores." if len(shown) < len(episodes) else ""
    )
    return (
        f"<h2>Episodes</h2><p>Every episode as it was driven, seen from above, with its time lines.{note}</p>"
        '<div class="tools" id="list-tools"></div><div id="list"></div><p><button id="list-more" hidden>show more</button></p>'
        "<noscript><p>This list needs JavaScript; results.json holds the same.</p></noscript>"
    )
