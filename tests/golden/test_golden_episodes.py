"""What episodes told when their values were stored, they tell today: on other machines and after every change of the code.

``python -m tests.golden.rewrite`` stores the values anew, where a change is meant.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import dist4d_env  # noqa: F401  (registers the environment)
from benchmarks.golden.driver import Episode, drive

from .chosen import EPISODES, digest, disagreement

VALUES = Path(__file__).parent / "values"


@pytest.mark.parametrize("episode", EPISODES, ids=lambda episode: episode.name)
def test_as_stored(episode: Episode, town_dataroot: Path, tmp_path: Path) -> None:
    record = drive(episode, str(town_dataroot), tmp_path)
    assert record.error is None
    assert record.facts.get("branches_agree", True)
    found, path = digest(record), VALUES / f"{episode.name}.json"
    if os.environ.get("GOLDEN_REWRITE"):
        lines = ",\n".join(f" {json.dumps(stream)}: {json.dumps(value)}" for stream, value in sorted(found.items()))
        path.parent.mkdir(exist_ok=True)
        path.write_text("{\n" + lines + "\n}\n")
    stored = json.loads(path.read_text())
    assert stored.keys() == found.keys()
    assert [told for name in stored if (told := disagreement(name, stored[name], found[name]))] == []
