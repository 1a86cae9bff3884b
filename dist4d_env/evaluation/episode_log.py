"""One driven episode as a value, and as a pair of files: arrays in .npz, everything else in .json."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import DataError, DiST4DError, shown
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.trace import BEYOND, EpisodeTrace, Plans, require_shapes
from dist4d_env.scenes.files import replacing, write_text
from dist4d_env.scenes.lights import NO_LIGHTS, STATES, TrafficLights
from dist4d_env.scenes.scenario import Scenario, scenario_dict
from dist4d_env.scenes.scene import Scene

FORMAT = 2
TRACE_ARRAYS = ("time", "ego", "position", "yaw", "velocity", "valid", "size", "category", "expert")
LIGHT_STATES, APART = "trace/light_state", "plans/apart"
PLAIN_FIELDS = ("scene", "version", "planner", "seed", "decision_dt", "outcome", "error", "settings", "scenario", "fingerprint")
FIELDS: Mapping[str, Any] = {
    **dict.fromkeys(("scene", "version", "planner", "outcome", "dataroot"), str),
    **dict.fromkeys(("settings", "scenario", "fingerprint", "vehicle"), dict),
    "seed": int, "error": str | None, "steps": list, "decision_dt": int | float, "plans_dt": int | float,
}  # fmt: skip
"""The kinds of what the .json holds."""
LONGEST = 1e6
"""Seconds of a horizon, a decision or a plan's step in a log that makes sense."""
PLANNER_ERROR = "planner_error"


@dataclass(frozen=True)
class Step:
    """An instant of decision. source: what made each camera's frame; timing_ms: per stage and planner."""

    time: float
    reward: float
    metrics: Mapping[str, float]
    reward_terms: Mapping[str, float]
    source: tuple[str, ...]
    deviation_m: float
    trust: float
    timing_ms: Mapping[str, float]


@dataclass(frozen=True)
class EpisodeLog:
    """A driven episode.

    outcome: what ended it ("horizon", a termination, or "planner_error", with the reason in ``error``); steps: one per
    decision and one for the start; plans: as they were handed to the simulator, with the tick of each (none where the planner
    returns controls); settings: the environment's keywords; scenario: the values of its YAML file; fingerprint: of the code and
    the planner that drove it, where it was driven by name; apart: (D,) metres between each plan and the second opinions on it,
    nan where there is none, None where nobody was asked (``second_opinion``).
    """

    scene: str
    dataroot: str
    version: str
    planner: str
    seed: int
    decision_dt: float
    outcome: str
    error: str | None
    steps: tuple[Step, ...]
    plans: Plans
    trace: EpisodeTrace
    settings: Mapping[str, Any] = field(default_factory=dict)
    scenario: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    apart: np.ndarray | None = None

    @property
    def total_reward(self) -> float:
        """Sum of the rewards."""
        return float(sum(step.reward for step in self.steps))


def save_episode(log: EpisodeLog, folder: Path, name: str | None = None) -> Path:
    """Writes NAME.npz, then NAME.json, each whole or not at all; returns the path of the .json."""
    name = name or f"{log.scene}_{log.planner.rpartition(':')[2]}_seed{log.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"trace/{key}": getattr(log.trace, key) for key in TRACE_ARRAYS}
    arrays |= {"plans/step": log.plans.step, "plans/poses": log.plans.poses}
    if log.apart is not None:
        arrays[APART] = log.apart
    if len(log.trace.lights):
        arrays[LIGHT_STATES] = log.trace.lights.state
    path = folder / f"{name}.json"
    text = {
        "format": FORMAT,
        **{key: getattr(log, key) for key in PLAIN_FIELDS},
        "dataroot": str(Path(log.dataroot).resolve()),
        "plans_dt": log.plans.dt,
        "vehicle": asdict(log.trace.vehicle),
        "steps": [{**asdict(step), "timing_ms": dict(step.timing_ms)} for step in log.steps],
    }
    content = io.BytesIO()  # a zip file that a full disk breaks off would complain by itself once more
    np.savez_compressed(content, **arrays)
    path.unlink(missing_ok=True)  # an episode of the same name is over: its .json must never lie beside the new .npz
    with replacing(folder / f"{name}.npz") as temporary:
        temporary.write_bytes(content.getvalue())
    write_text(path, json.dumps(text, indent=1, default=_plain))
    return path


def load_episode(path: Path, dataroot: str | None = None, allow: Collection[Any] = ()) -> EpisodeLog:
    """Reads a stored episode with the map and route of its scene; ``dataroot`` replaces the place it was recorded from; allow:
    each "module:Class" that the file may name as the reader of its data set.

    Raises DataError naming the file if it is missing, broken or of another format.
    """
    try:
        text = read_text(path)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        scene = _scene_of(path, text, dataroot, allow)
        return _assemble(text, arrays, scene)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; an episode log is a .json and a .npz side by side") from error
    except (*BROKEN, OSError) as error:
        raise DataError(f"{path}: not a whole episode log ({shown_error(error)}); run the episode again") from error


def _scene_of(path: Path, text: Mapping[str, Any], dataroot: str | None, allow: Collection[Any]) -> Scene:
    """The scene that an episode was driven in. Raises DataError naming the episode."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.registry import DATASETS

    place, reader = dataroot or text["dataroot"], text["settings"].get("dataset")
    if reader is None and not os.path.isdir(place):
        raise DataError(
            f"{path}: its data set {shown(place)} is no folder here; give the folder that holds it now with --dataroot"
        )
    try:
        DATASETS.check_named_by_file(reader, allow)
        return open_dataset(place, text["version"], dataset=reader).load(text["scene"], require_map=False)
    except DiST4DError as error:
        raise DataError(f"{path}: its scene cannot be opened: {error}") from error


BROKEN = (ValueError, KeyError, TypeError, OverflowError, EOFError, NotImplementedError, RuntimeError, MemoryError, SyntaxError,
          zipfile.BadZipFile, zlib.error)  # fmt: skip
"""What Python, numpy and zip files raise for contents that are broken."""


def shown_error(error: BaseException) -> str:
    """What went wrong, short."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def read_text(path: Path) -> dict[str, Any]:
    """What an episode log's .json holds. Raises DataError for another format, and ValueError, KeyError or TypeError for what is
    none."""
    text = read_json(path)
    if text["format"] != FORMAT:
        raise DataError(f"{path}: an episode log of format {text['format']!r:.40}, not {FORMAT}; run the episode again")
    text = {"fingerprint": {}, **text}
    for key, kind in FIELDS.items():
        if not isinstance(text[key], kind) or isinstance(text[key], bool):
            raise TypeError(f"{key} is {text[key]!r:.60}")
    check_record(text["scenario"])
    horizon = text["scenario"].get("horizon") or text["settings"]["horizon"]
    for name, number in {"horizon": horizon, "decision_dt": text["decision_dt"], "plans_dt": text["plans_dt"]}.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= LONGEST:
            raise TypeError(f"{name} is {number!r:.60}, not a positive number of seconds")
    return text


def check_record(record: Mapping[str, Any]) -> None:
    """Raises TypeError for the record of a scenario whose names are no texts or that begins at no time."""
    for key in ("name", "family", "difficulty", "traffic"):
        if not isinstance(record.get(key, ""), str):
            raise TypeError(f"a scenario's {key} is {shown(record[key])}")
    start = record.get("start", 0.0)
    if isinstance(start, bool) or not isinstance(start, int | float) or abs(start) > LONGEST:
        raise TypeError(f"a scenario's start is {shown(start)}")


def read_json(path: Path) -> Any:
    """What a file of JSON holds. Raises ValueError for what no other file could hold: NaN, and halves of characters."""
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    json.dumps(content, ensure_ascii=False).encode()
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _assemble(text: dict[str, Any], arrays: dict[str, np.ndarray], scene: Scene) -> EpisodeLog:
    step, poses, count = arrays["plans/step"], arrays["plans/poses"], len(arrays["trace/time"])
    require_shapes("its plans", {"step": step, "poses": poses}, step=step.shape[:1], poses=(len(step), *poses.shape[1:2], 3))
    if step.dtype.kind not in "iu" or not (np.diff(step) > 0).all() or not ((step >= 0) & (step < count)).all():
        raise ValueError("plans/step are no rising ticks of the trace")
    apart = arrays.get(APART)
    if apart is not None and (apart.shape != step.shape or apart.dtype.kind != "f" or (apart < 0).any()):
        raise ValueError(f"plans/apart is {apart.dtype} {apart.shape}, not metres of {len(step)} plans")
    trace = EpisodeTrace(
        **{key: arrays[f"trace/{key}"] for key in TRACE_ARRAYS},
        map=scene.map,
        route=scene.route,
        vehicle=VehicleParameters(**text["vehicle"]),
        lights=_lights(arrays.get(LIGHT_STATES), scene, count),
    ).at_ticks()
    return EpisodeLog(
        **{key: text[key] for key in PLAIN_FIELDS},
        dataroot=scene.dataroot,
        steps=tuple(map(_step, text["steps"])),
        plans=Plans(arrays["plans/step"], arrays["plans/poses"], text["plans_dt"]),
        trace=trace,
        apart=apart,
    )


def _lights(state: np.ndarray | None, scene: Scene, rows: int) -> TrafficLights:
    """The traffic lights of a scene as an episode of so many rows saw them; without stored states it had none."""
    if state is None:
        return NO_LIGHTS
    if len(state) != len(scene.lights):
        raise ValueError(f"{len(state)} traffic lights, but {scene.name} has {len(scene.lights)}: the data set has changed")
    if state.shape != (len(scene.lights), rows) or state.dtype.kind != "i" or not np.isin(state, range(len(STATES))).all():
        raise ValueError(f"the states of traffic lights are {state.dtype} {state.shape}")
    return replace(scene.lights, state=state)


def _step(values: dict[str, Any]) -> Step:
    """A stored step. Raises TypeError or KeyError for values of other kinds."""
    if not all(isinstance(values[key], dict) for key in ("metrics", "reward_terms", "timing_ms")):
        raise TypeError("a step's metrics, reward_terms and timing_ms are no dicts")
    numbers = {key: values[key] for key in ("time", "reward", "deviation_m", "trust")}
    for key in ("metrics", "reward_terms", "timing_ms"):
        numbers |= {f"{key}/{name}": value for name, value in values[key].items()}
    for name, value in numbers.items():
        if not isinstance(value, int | float) or abs(value) > BEYOND:
            raise TypeError(f"{name} of a step is {value!r:.60}")
    if not all(isinstance(name, str) for name in values["source"]):
        raise TypeError(f"source of a step is {values['source']!r:.60}")
    return Step(**{**values, "source": tuple(values["source"])})


def forward_cameras(rig: CameraRig) -> list[int]:
    """Indices of the cameras that look ahead, in the rig's order; the first one where none does."""
    ahead = np.flatnonzero(rig.ego_from_camera[:, 0, 2] > 0.3)  # the optical axis is within 70 degrees of straight ahead
    return [int(index) for index in ahead] or [0]


def scenario_record(scenario: Scenario) -> dict[str, Any]:
    """A scenario as JSON keeps it: the values of its YAML file, what is as in the log left out."""
    record: dict[str, Any] = json.loads(json.dumps(scenario_dict(scenario)))
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | tuple | set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
