"""The episodes whose values are stored, and what is stored of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.golden.driver import Episode, Record
from benchmarks.golden.episodes import CUSTOM, imaged, vectors

TOWN: dict[str, Any] = {"scenes": "val"}
EDITED = """\
scene: town-val-0001
start: 1.0
edits:
  - remove: {target: nearest}
  - insert: {ahead: 18, speed: 6}
  - stop: {target: edit-0, at: 0.6, deceleration: 4.4}
"""


def at(scene: int, start: float) -> dict[str, Any]:
    return {"scene": f"town-val-{scene:04}", "start": start}


EPISODES: tuple[Episode, ...] = (
    vectors("controls", at(0, 1.0), style="route", horizon=4.0, **TOWN),
    vectors("trajectory", at(1, 0.5), action="trajectory", decision_dt=0.3, horizon=3.0, reward="pdms", **TOWN),
    vectors("discrete-wild", None, action="discrete", style="wild", horizon=2.0, seed=4, reward="sparse", **TOWN),
    vectors("idm", at(0, 0.0), traffic="idm", style="throttle", horizon=4.0, reward=CUSTOM, **TOWN),
    vectors("edited", scenario=EDITED, style="route", horizon=4.0, branch=3, steps=6, **TOWN),
    vectors("many", envs=5, style="wild", horizon=2.0, seed=1, **TOWN),
    vectors("birdseye", at(0, 2.0), observation=["ego", "bev"], steps=3, **TOWN),
    imaged("replay", at(0, 2.0), world="replay", steps=3, **TOWN),
    imaged("oracle", at(1, 2.0), world="oracle", steps=1, size=[32, 56], **TOWN),
    imaged("splat-edited", scenario=EDITED, weights="splat", style="left", steps=3, **TOWN),
    imaged("dist4d", at(0, 2.0), weights="tiny", steps=3, **TOWN),
    imaged("dist4d-history", at(1, 2.0), weights="tiny", memory="history", style="right", steps=2, **TOWN),
)

LOOSE = ("observations/CAM", "observations/bev", "infos/world/trust")
"""Streams that come from pictures."""
Digest = dict[str, Any]


def digest(record: Record) -> dict[str, Digest]:
    """What is stored of an episode, by stream; numbers with seven digits."""
    arrays = record.arrays()
    digests: dict[str, Digest] = {"rewards": {"all": rounded(arrays.pop("rewards"))}}
    if (agents := arrays.get("observations/agents")) is not None:  # pi and -pi are the same heading
        arrays["observations/agents"] = np.concatenate([agents, np.cos(agents[..., 2:3])], -1)
        arrays["observations/agents"][..., 2] = np.sin(agents[..., 2])
    digests |= {name: of_array(values) for name, values in arrays.items()}
    for path in sorted({path for info in record.infos for path in info}):
        digests[f"infos/{path}"] = of_values([info[path] for info in record.infos if path in info])
    return digests


def of_array(values: np.ndarray) -> Digest:
    """Mean, standard deviation and some of the numbers: up to twelve of the last row and up to twelve of all rows."""
    last, every = values[-1].ravel(), values.ravel()
    some = [part[np.linspace(0, part.size - 1, min(12, part.size)).astype(int)] for part in (last, every)]
    return {
        "shape": list(values.shape),
        "moments": rounded([every.mean(dtype=float), every.std(dtype=float), last.mean(dtype=float), last.std(dtype=float)]),
        "some": rounded(np.concatenate(some)),
    }


def of_values(values: list[Any]) -> Digest:
    """The last known value, which may be one for each row of a vector environment, and of numbers the mean."""
    numbers = np.array([np.nan if each is None else each for value in values for each in np.atleast_1d(value)])
    if numbers.dtype.kind not in "fiu":
        known_values = [value for value in values if value is not None]
        return {"rows": len(values), "known": len(known_values), "last": known_values[-1]}
    known = numbers[~np.isnan(numbers)]
    return {
        "rows": len(values),
        "moments": rounded([known.sum() / max(len(known), 1)]),
        "all": rounded(np.atleast_1d(values[-1])),
    }


def rounded(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in np.ravel(np.asarray(values, float))]


def disagreement(stream: str, stored: Digest, found: Digest) -> str | None:
    """What of a stream is not as stored, None if everything is within its tolerance.

    Vectors and metrics agree to a hundred-thousandth. Moments of pictures agree to one percent, and of single pixels one in six
    may be another: at an edge the last bit decides between two surfaces. Single colours may be eight levels off, for networks run
    in bfloat16 on processors that are faster so.
    """
    loose = stream.startswith(LOOSE)
    colours = stream.startswith("observations/CAM") and not stream.endswith("/depth")
    for part in stored.keys() | found.keys():
        before, now = stored.get(part), found.get(part)
        if part in ("moments", "all", "some") and isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
            off = ~close(before, now, loose, 8.0 if colours and part == "some" else 0.5)
            if off.sum() > (len(before) / 6 if loose and part == "some" else 0):
                first = int(np.flatnonzero(off)[0])
                return f"{stream}, {part}[{first}]: {before[first]} is stored, {now[first]} was found"
        elif before != now:
            return f"{stream}, {part}: {before} is stored, {now} was found"
    return None


def close(before: list[float | None], now: list[float | None], loose: bool, off: float) -> np.ndarray:
    """Which numbers agree. off: by how much loose ones may be others, or by a hundredth."""
    one, other = np.array(before, float), np.array(now, float)
    relative, absolute = (1e-2, off) if loose else (1e-5, 1e-5)
    return np.isclose(one, other, relative, absolute, equal_nan=True)
