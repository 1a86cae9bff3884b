"""Results of a campaign: its stored episodes scored, compared, and written as JSON, Markdown and an HTML report."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist4d_env.evaluation.campaign import check_members, read_settings, stored
from dist4d_env.evaluation.episode_log import load_episode
from dist4d_env.evaluation.executors import Executor, check_stop, serial
from dist4d_env.evaluation.failures import Failure
from dist4d_env.evaluation.fingerprint import package_fingerprint
from dist4d_env.evaluation.leaderboard import Leaderboard, escaped
from dist4d_env.evaluation.report import replays as drawings
from dist4d_env.evaluation.report.campaign import render_campaign
from dist4d_env.evaluation.scores import recorded_scene, results_of
from dist4d_env.evaluation.summary import EpisodeScore, ScoredEpisode, score
from dist4d_env.metrics.driving.forms import Form
from dist4d_env.progress import Progress, noun
from dist4d_env.registry import DATASETS
from dist4d_env.scenes.files import write_text

REPLAYS = 1000
"""Episodes that a report can show as they were driven; about 4 kB each."""
FEW = 50
"""Up to so many episodes are scored in this process: faster than starting another."""
SCORED = "scored"
"""Folder of a campaign that keeps what has been scored, so that a run that goes on scores only what is new."""


@dataclass(frozen=True)
class ScoringTask:
    """A stored episode. dataroot: where its data set is now, None for where it was; form: of the scores that have two;
    allow: each "module:Class" that it may name as the reader of its data set."""

    path: Path
    dataroot: str | None
    form: Form = "corrected"
    allow: tuple[Any, ...] = ()


def score_stored(task: ScoringTask) -> ScoredEpisode:
    """Scores a stored episode with this version's metrics; no model is run."""
    check_stop()
    log = load_episode(task.path, task.dataroot, task.allow)
    drawing = drawings.pack(drawings.replay(log, recorded_scene(log)))
    place = log.dataroot, log.version, log.settings.get("dataset")
    return ScoredEpisode(task.path.stem, score(log, results_of(log, task.form)), *place, drawing)


def score_folder(
    folder: Path,
    dataroot: str | None = None,
    execute: Executor = serial,
    form: Form = "corrected",
    kept: Path | None = None,
    allow: Collection[Any] = (),
) -> list[ScoredEpisode]:
    """Every stored episode of a folder, in the order of their names. kept: a folder of scores, from which those of unchanged
    episodes, made by this version of the metrics, are taken, and to which the others are added; allow: as in ``ScoringTask``."""
    tasks = [ScoringTask(path.resolve(), dataroot, form, tuple(allow)) for path in stored(folder)]
    keys = {task.path.stem: _key(task) for task in tasks} if kept is not None else {}
    found = [one for task in tasks if kept is not None and (one := _read(kept, task, keys[task.path.stem])) is not None]
    known = {one.name for one in found}
    due = [task for task in tasks if task.path.stem not in known]
    with Progress("scoring", "episode", len(tasks), len(found)) as progress:
        for one in (serial if len(due) <= FEW else execute)(score_stored, due):
            if kept is not None:
                text = json.dumps({"key": keys[one.name], "scored": asdict(one)})
                write_text(kept / f"{one.name}.json", text)
            found.append(one)
            progress.update()
    return sorted(found, key=lambda scored: scored.name)


def _key(task: ScoringTask) -> str:
    """Of everything that an episode's scores and drawing depend on: its files, the code of the metrics and of the drawing, where
    its data set is, and the form."""
    digest = hashlib.sha256(f"{package_fingerprint()} {task.dataroot} {task.form}".encode())
    for path in (Path(drawings.__file__), task.path, task.path.with_suffix(".npz")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(kept: Path, task: ScoringTask, key: str) -> ScoredEpisode | None:
    """A kept score; None where there is none, or of something else."""
    try:
        text = json.loads((kept / f"{task.path.stem}.json").read_text(encoding="utf-8"))
        if text["key"] != key:
            return None
        DATASETS.check_named_by_file(text["scored"]["dataset"], task.allow)
        values = text["scored"]["score"]
        failures = tuple(Failure(**failure) for failure in values["failures"])
        return ScoredEpisode(**{**text["scored"], "score": EpisodeScore(**{**values, "failures": failures})})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_results(
    folder: Path,
    out: Path | None = None,
    dataroot: str | None = None,
    execute: Executor = serial,
    seed: int = 0,
    replays: int = REPLAYS,
    form: Form = "corrected",
    afresh: bool = True,
    allow: Collection[Any] = (),
) -> Leaderboard:
    """Scores a campaign's folder; writes results.json, leaderboard.md and report.html to ``out`` (the folder itself if None).

    replays: episodes that the report can show as they were driven; form: of scores that have two; it is named in each file;
    afresh: False takes the scores of episodes that have not changed since this version scored them from the folder, and keeps the
    others there; allow: as in ``ScoringTask``.
    """
    settings = read_settings(folder)
    settings = {**settings, "common": {**settings["common"], "form": form}}
    check_members(stored(folder), settings)
    episodes = score_folder(folder, dataroot, execute, form, None if afresh else folder / SCORED, allow)
    with Progress("comparing planners"):
        board = Leaderboard.of([one.score for one in episodes], seed)
    place = out or folder
    title = f"{settings['common']['suite']}, world {settings['common']['world']}"
    counted = f"{len(episodes)} {noun(len(episodes), 'episode')}"
    table = f"{escaped(title)}: {counted}; mean with 95 % interval; {form} scores\n\n{board.markdown()}\n"
    values = {"settings": settings["common"], **board.as_json(), "episodes": [asdict(one.score) for one in episodes]}
    write_text(place / "results.json", json.dumps(values, indent=1, allow_nan=False))
    write_text(place / "leaderboard.md", table)
    with Progress("writing the report"):
        page = render_campaign(board, episodes, settings, replays, lambda name: picture(folder, name))
        write_text(place / "report.html", page)
    return board


def picture(folder: Path, name: str) -> str | None:
    """The front cameras' pictures as base64; None in a world without pictures."""
    path = folder / "pictures" / f"{name}.jpg"
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else None
