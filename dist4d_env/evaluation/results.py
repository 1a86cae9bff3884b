"""Results of a campaign: its stored episodes scored, compared, and written as JSON, Markdown and an HTML report."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dist4d_env.evaluation.campaign import read_settings, stored
from dist4d_env.evaluation.episode_log import load_episode
from dist4d_env.evaluation.executors import Executor, check_stop, serial
from dist4d_env.evaluation.leaderboard import Leaderboard
from dist4d_env.evaluation.report.campaign import render_campaign
from dist4d_env.evaluation.report.replays import pack, replay
from dist4d_env.evaluation.scores import recorded_scene, results_of
from dist4d_env.evaluation.summary import ScoredEpisode, score
from dist4d_env.metrics.driving.forms import Form
from dist4d_env.scenes.files import write_text

REPLAYS = 1000
"""Episodes that a report can show as they were driven; about 4 kB each."""
FEW = 50
"""Up to so many episodes are scored in this process: faster than starting another."""


@dataclass(frozen=True)
class ScoringTask:
    """A stored episode. dataroot: where its data set is now, None for where it was; form: of the scores that have two."""

    path: Path
    dataroot: str | None
    form: Form = "corrected"


def score_stored(task: ScoringTask) -> ScoredEpisode:
    """Scores a stored episode with this version's metrics; no model is run."""
    check_stop()
    log = load_episode(task.path, task.dataroot)
    drawing = pack(replay(log, recorded_scene(log)))
    return ScoredEpisode(task.path.stem, score(log, results_of(log, task.form)), log.dataroot, log.version, drawing)


def score_folder(
    folder: Path, dataroot: str | None = None, execute: Executor = serial, form: Form = "corrected"
) -> list[ScoredEpisode]:
    """Every stored episode of a folder, in the order of their names."""
    from tqdm import tqdm

    tasks = [ScoringTask(path.resolve(), dataroot, form) for path in stored(folder)]
    if len(tasks) <= FEW:
        execute = serial
    found = tqdm(execute(score_stored, tasks), total=len(tasks), desc="scoring", unit="episode", disable=None)
    return sorted(found, key=lambda scored: scored.name)


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

    form: of scores that have two; it is named in each file.
    """
    settings = read_settings(folder)
    settings = {**settings, "common": {**settings["common"], "form": form}}
    episodes = score_folder(folder, dataroot, execute, form)
    board = Leaderboard.of([one.score for one in episodes], seed)
    place = out or folder
    title = f"{settings['common']['suite']}, world {settings['common']['world']}"
    table = f"{title}: {len(episodes)} episodes; mean with 95 % interval; {form} scores\n\n{board.markdown()}\n"
    values = {"settings": settings["common"], **board.as_json(), "episodes": [asdict(one.score) for one in episodes]}
    write_text(place / "results.json", json.dumps(values, indent=1, allow_nan=False))
    write_text(place / "leaderboard.md", table)
    write_text(place / "report.html", render_campaign(board, episodes, settings, replays, lambda name: picture(folder, name)))
    return board


def picture(folder: Path, name: str) -> str | None:
    """The front cameras' pictures as base64; None in a world without pictures."""
    path = folder / "pictures" / f"{name}.jpg"
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else None
