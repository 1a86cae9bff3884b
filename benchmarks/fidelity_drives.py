"""Drives of the study of decision fidelity: what it needs of an episode, and a file that keeps them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dist4d_env.errors import DataError
from dist4d_env.evaluation.fingerprint import files_fingerprint
from dist4d_env.json_output import plain
from dist4d_env.scenes.files import replacing

SCORES = ("PDMS", "EPDMS", "CLS")
FORMAT = 1


@dataclass(frozen=True)
class Drive:
    """A stored episode. scores: by name, None where one is not valid, 0 where the planner failed; path: x, y (m) every 0.1 s.

    Of each decision: source and trust of the picture, from_log: metres from the recorded path, near: whether something that moves
    is near, apart: metres between the plan and the one on the true picture after ``AHEAD`` seconds, None where there is none.
    """

    planner: str
    scenario: str
    seed: int
    scene: str
    family: str
    outcome: str
    code: str
    scores: Mapping[str, float | None]
    path: list[tuple[float, float]]
    source: list[str]
    trust: list[float]
    from_log: list[float]
    near: list[bool]
    apart: list[float | None]

    @property
    def episode(self) -> tuple[str, int]:
        """What drives in other worlds share."""
        return self.scenario, self.seed


Key = tuple[str, str, str, int]
"""World, planner, scenario and seed."""


@dataclass(frozen=True)
class KeptDrives:
    """Drives of a study by world, planner, scenario and seed. study: what they all share, as ``study`` has it."""

    study: Mapping[str, Any]
    drives: Mapping[Key, Drive]

    def by_world(self) -> dict[str, list[Drive]]:
        """World -> its drives."""
        found: dict[str, list[Drive]] = {}
        for (world, *_), drive in self.drives.items():
            found.setdefault(world, []).append(drive)
        return found

    def with_those_of(self, other: KeptDrives) -> KeptDrives:
        """These and another's; where both have one, the other's. Raises DataError for those of another study."""
        if not other.drives:
            return self
        self.check(other.study)
        return KeptDrives(other.study, {**self.drives, **other.drives})

    def check(self, other: Mapping[str, Any]) -> None:
        """Raises DataError where these are drives of another study."""
        if self.drives and dict(self.study) != dict(other):
            raise DataError(f"these are drives of two studies: {dict(self.study)} and {dict(other)}; give each a file of its own")


def study(suite: str, size: str | None, weights: str) -> dict[str, Any]:
    """What all drives of a study share: the suite's name, the pictures' size, and the weights of dist4d, a folder by its name and
    what it holds."""
    folder = Path(weights)
    if folder.is_dir():
        weights = f"{folder.resolve().name} {files_fingerprint(folder)}"
    return {"suite": suite, "size": size, "weights": weights}


def load_drives(path: Path) -> KeptDrives:
    """Reads what ``save_drives`` wrote; nothing from a file that is not there. Raises DataError for what is no such file."""
    if not path.is_file():
        return KeptDrives({}, {})
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            header, *rows = map(json.loads, lines)
        if header["format"] != FORMAT:
            raise DataError(f"{path} is of format {header['format']}, not {FORMAT}")
        drives = [(row.pop("world"), checked(Drive(**row))) for row in rows]
        kept = {(world, drive.planner, *drive.episode): drive for world, drive in drives}
        return KeptDrives(dict(header["study"]), kept)
    except (OSError, EOFError, lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no drives as python -m benchmarks.fidelity_table --drives writes them: {error}") from error


def checked(drive: Drive) -> Drive:
    """The drive itself. Raises ValueError or TypeError where its numbers cannot be those of one."""
    if any(score is not None and not 0 <= score <= 1 for score in drive.scores.values()):
        raise ValueError(f"{drive.planner} in {drive.scenario}: its scores are {dict(drive.scores)}, not from 0 to 1")
    decisions = {len(each) for each in (drive.source, drive.trust, drive.from_log, drive.near, drive.apart)}
    if len(decisions) != 1 or not drive.path or any(len(point) != 2 for point in drive.path):
        raise ValueError(f"{drive.planner} in {drive.scenario}: its path and decisions don't fit together")
    return drive


def save_drives(path: Path, kept: KeptDrives) -> None:
    """A line of JSON each, in order of scenarios, so that what is alike stands together; paths to the centimetre."""
    rows = sorted(kept.drives, key=lambda key: (key[2], key[3], key[1], key[0]))
    with replacing(path) as temporary, lzma.open(temporary, "wt", preset=9, encoding="utf-8") as lines:
        lines.write(json.dumps({"format": FORMAT, "study": dict(kept.study)}) + "\n")
        for key in rows:
            lines.write(json.dumps({"world": key[0], **plain(asdict(rounded(kept.drives[key])))}) + "\n")


def rounded(drive: Drive) -> Drive:
    """A drive as it is kept: centimetres, and trust to four digits."""
    return replace(
        drive,
        path=[(round(x, 2), round(y, 2)) for x, y in drive.path],
        trust=[round(value, 4) for value in drive.trust],
        from_log=[round(value, 2) for value in drive.from_log],
        apart=[None if value is None else round(value, 3) for value in drive.apart],
    )
