"""Makes pictures/planning_report.png, the report of a small campaign: ``python -m docs.make_report_picture``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from dist4d_env.evaluation.cli import Options as Evaluation
from dist4d_env.evaluation.cli import run
from tests.play.browser import CHROMIUM

PICTURE = Path(__file__).parent / "pictures" / "planning_report.png"


@dataclass(frozen=True)
class Options:
    """Make the picture of docs/planning-benchmark.md."""

    planners: tuple[str, ...] = ("pdm_closed", "idm", "ppo", "constant_velocity")
    """Who drives."""
    only: tuple[str, ...] = ("recorded", "cut_in", "stalled")
    """Which families of the town's suite."""
    out: Path | None = None
    """Folder of a campaign that is done already; else one is driven."""


def main(options: Options) -> None:
    """Drives, unless that is done, and takes the screenshot with Chromium."""
    assert CHROMIUM is not None, "there is no Chromium here: make test-browser installs one"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = options.out or Path(folder, "campaign")
        if options.out is None:
            status = run(Evaluation(suite="town_val", planner=options.planners, only=options.only, out=out))
            if status:
                sys.exit(status)
        page = (out / "report.html").resolve().as_uri()
        subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1240,900",
             f"--user-data-dir={folder}/browser", f"--screenshot={PICTURE}", page],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    print(PICTURE)


if __name__ == "__main__":
    main(tyro.cli(Options))
