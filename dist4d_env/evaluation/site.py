"""``python -m dist4d_env leaderboard``: results of many campaigns, as others send them, on one static page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from dist4d_env import json_output
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.campaign import is_campaign
from dist4d_env.evaluation.drive import file_name
from dist4d_env.evaluation.leaderboard import Standing
from dist4d_env.evaluation.report.site import render_site
from dist4d_env.evaluation.statistics import Estimate
from dist4d_env.evaluation.submission import COMPARED, Submission, tracks
from dist4d_env.scenes.files import write_text


@dataclass(frozen=True)
class Options:
    """Rank planners of many campaigns on one static page.

    Each folder holds what `evaluate --suite` wrote: results.json and, for links to replays, report.html, which is copied as it
    is. Writes index.html and reports/ to --out; nothing is driven or scored again, for which `evaluate FOLDER` is there.
    """

    folders: Positional[tuple[Path, ...]]
    """Folders of campaigns; their names stand on the page."""
    title: str = "Leaderboard"
    """Of the page."""
    out: Path = Path("leaderboard")
    """Folder for the page."""


def run(options: Options) -> int:
    """Writes the page and prints its path."""
    if not options.folders:
        raise ConfigError("no folder is named: give those that `evaluate --suite` wrote")
    submissions = [read_submission(folder) for folder in options.folders]
    names = [submission.name for submission in submissions]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two folders are named {name}, as which they stand on the page: rename one")
    for folder, submission in zip(options.folders, submissions, strict=True):
        if submission.report:
            write_text(options.out / submission.report, (folder / "report.html").read_text(encoding="utf-8", errors="replace"))
    ranked = tracks(submissions)
    write_text(options.out / "index.html", render_site(options.title, ranked))
    planners = sum(len(submission.standings) for submission in submissions)
    print(f"{planners} planners of {len(submissions)} campaigns\npage: {options.out / 'index.html'}")
    campaigns = sorted((one for some in ranked for one in some), key=lambda one: names.index(one.name))
    json_output.result({"page": options.out / "index.html", "campaigns": campaigns})
    return 0


def read_submission(folder: Path) -> Submission:
    """The results in a folder. Raises DataError where there are none, or where they are not a campaign's."""
    path, name = folder / "results.json", folder.resolve().name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings, episodes = content["settings"], content["episodes"]
        if not all(isinstance(settings[key], str) for key in ("suite", "world", "form")):
            raise TypeError("suite, world and form are no names")
        if any(isinstance(settings.get(key), list | dict) for key in COMPARED):
            raise TypeError(f"{', '.join(COMPARED)} are no single values")
        standings, ranked_by = tuple(_standing(row) for row in content["standings"]), str(content["ranked_by"])
        if len({standing.planner for standing in standings}) < len(standings):
            raise ValueError("a planner stands there twice")
        if standings and not any(ranked_by in standing.metrics for standing in standings):
            raise ValueError(f"ranked by {ranked_by}, which nobody has")
        report = f"reports/{file_name(name)}.html" if (folder / "report.html").is_file() else None
        return Submission(name, settings, standings, ranked_by, tuple(_episode(one) for one in episodes), report)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give folders that `evaluate --suite` wrote") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        command = f"evaluate {folder}" if is_campaign(folder) else "evaluate --suite"
        raise DataError(
            f"{path}: not a campaign's results ({type(error).__name__}: {error!s:.80}); make them with `{command}`"
        ) from error


def _standing(row: Mapping[str, Any]) -> Standing:
    """A stored standing with its estimates. Raises KeyError, TypeError or ValueError for what is none."""
    values = {field.name: row[field.name] for field in fields(Standing) if field.name != "missing"}  # counted anew, over all
    for name in ("metrics", "survivors"):
        values[name] = _estimates(values[name])
    for name in ("families", "difficulties"):
        values[name] = {str(group): _estimates(some) for group, some in values[name].items()}
    for name in ("outcomes", "failures"):
        values[name] = {str(kind): int(count) for kind, count in values[name].items()}
    if not isinstance(values["planner"], str) or not isinstance(values["episodes"], int) or values["episodes"] < 1:
        raise TypeError("planner and episodes are no name and number")
    return Standing(**values)


def _estimates(some: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    found = {}
    for name, estimate in some.items():
        values = [math.nan if estimate[key] is None else float(estimate[key]) for key in ("mean", "low", "high")]
        if any(math.isinf(value) for value in values) or min(int(estimate["count"]), int(estimate["left_out"])) < 0:
            raise ValueError(f"{name}: {values}, counts {estimate['count']} and {estimate['left_out']}")
        found[str(name)] = Estimate(values[0], values[1], values[2], int(estimate["count"]), int(estimate["left_out"]))
    return found


def _episode(one: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of an episode."""
    failures: Sequence[Mapping[str, Any]] = one["failures"]
    return {
        "planner": str(one["planner"]),
        "scenario": str(one["scenario"]),
        "seed": int(one["seed"]),
        "failures": [(str(each["kind"]), float(each["time"]) - float(one["start"]), str(each["text"])) for each in failures],
    }
