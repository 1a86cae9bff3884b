"""What a campaign's stored episodes say: scored again, put side by side, written as JSON, Markdown and a report."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist4d_env.evaluation.campaign import read_settings, stored
from dist4d_env.evaluation.episode_log import load_episode, replacing
from dist4d_env.evaluation.executors import Executor, check_stop, serial
from dist4d_env.evaluation.leaderboard import Leaderboard
from dist4d_env.evaluation.report.replays import origin_of, pack, replay
from dist4d_env.evaluation.scores import recorded_scene, results_of
from dist4d_env.evaluation.summary import EpisodeScore, score
from dist4d_env.metrics.driving.forms import Form

REPLAYS = 1000
"""Episodes that a report can show as they were driven; about 4 kB each."""
FEW = 50
"""Up to so many episodes are scored in this process, which is done before another one has begun."""


@dataclass(frozen=True)
class JudgeTask:
    """A stored episode to be scored. dataroot: where its data set is now, None for where it was; form: of
    scores that have two."""

    path: Path
    dataroot: str | None
    form: Form = "corrected"


@dataclass(frozen=True)
class Judged:
    """name: of the episode's files; dataroot, version: of its data set; replay: for drawing, packed."""

    name: str
    score: EpisodeScore
    dataroot: str
    version: str
    replay: str


def judge(task: JudgeTask) -> Judged:
    """Scores a stored episode with this version's metrics; no model is run."""
    check_stop()
    log = load_episode(task.path, task.dataroot)
    results = results_of(log, task.form)
    drawing = pack(replay(log, origin_of(recorded_scene(log))))
    return Judged(task.path.stem, score(log, results), log.dataroot, log.version, drawing)


def judge_all(folder: Path, dataroot: str | None = None, execute: Executor = serial, form: Form = "corrected") -> list[Judged]:
    """Every stored episode of a folder, in the order of their names."""
    from tqdm import tqdm

    tasks = [JudgeTask(path.resolve(), dataroot, form) for path in stored(folder)]
    if len(tasks) <= FEW:
        execute = serial
    found = tqdm(execute(judge, tasks), total=len(tasks), desc="scoring", unit="episode", disable=None)
    return sorted(found, key=lambda judged: judged.name)


def write_results(
    folder: Path,
    out: Path | None = None,
    dataroot: str | None = None,
    execute: Executor = serial,
    seed: int = 0,
    replays: int = REPLAYS,
    form: Form = "corrected",
) -> Leaderboard:
    """Scores a campaign's folder; writes results.json, leaderboard.md and report.html to ``out`` (the folder itself if None).

    form: of scores that have two; each of the three files says which.
    """
    from dist4d_env.evaluation.report.campaign import render_campaign

    settings = read_settings(folder)
    settings = {**settings, "common": {**settings["common"], "form": form}}
    judged = judge_all(folder, dataroot, execute, form)
    board = Leaderboard.of([one.score for one in judged], seed)
    place = out or folder
    title = f"{settings['common']['suite']}, world {settings['common']['world']}"
    text = f"{title}: {len(judged)} episodes; mean with 95 % interval; {form} scores\n\n{board.markdown()}\n"
    _write(place / "results.json", json.dumps(as_json(board, judged, settings), indent=1, allow_nan=False))
    _write(place / "leaderboard.md", text)
    _write(place / "report.html", render_campaign(board, judged, settings, replays, lambda name: picture(folder, name)))
    return board


def as_json(board: Leaderboard, judged: Sequence[Judged], settings: dict[str, Any]) -> dict[str, Any]:
    """Settings, standings, comparisons and every episode as plain values."""
    return {"settings": settings["common"], **board.as_json(), "episodes": [asdict(one.score) for one in judged]}


def picture(folder: Path, name: str) -> str | None:
    """What the front cameras saw, as base64; None in a world without pictures."""
    path = folder / "pictures" / f"{name}.jpg"
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else None


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
