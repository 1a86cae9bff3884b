"""One driven episode as a value, and as a pair of files: arrays in .npz, everything else in .json."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.trace import EpisodeTrace, Plans
from dist4d_env.scenes.files import replacing, write_text
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.scenario import Scenario, scenario_dict
from dist4d_env.scenes.scene import Scene

FORMAT = 2
TRACE_ARRAYS = ("time", "ego", "position", "yaw", "velocity", "valid", "size", "category", "expert")
LIGHT_STATES = "trace/light_state"
PLAIN_FIELDS = ("scene", "version", "planner", "seed", "decision_dt", "outcome", "error", "settings", "scenario", "fingerprint")
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
    the planner that drove it, where it was driven by name.
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
    if len(log.trace.lights):
        arrays[LIGHT_STATES] = log.trace.lights.state
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
    with replacing(folder / f"{name}.npz") as temporary:
        temporary.write_bytes(content.getvalue())
    path = folder / f"{name}.json"
    write_text(path, json.dumps(text, indent=1, default=_plain))
    return path


def load_episode(path: Path, dataroot: str | None = None) -> EpisodeLog:
    """Reads a stored episode with the map and route of its scene; ``dataroot`` replaces the place it was recorded from.

    Raises DataError naming the file if it is missing, broken or of another format.
    """
    from dist4d_env.data.open import open_dataset

    try:
        text = {"fingerprint": {}, **json.loads(path.read_text(encoding="utf-8"))}
        if text["format"] != FORMAT:
            raise DataError(f"{path}: an episode log of format {text['format']}, not {FORMAT}; run the episode again")
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        reader = text["settings"].get("dataset")
        scene = open_dataset(dataroot or text["dataroot"], text["version"], dataset=reader).load(text["scene"], require_map=False)
        return _assemble(text, arrays, scene)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; an episode log is a .json and a .npz side by side") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{path}: not a whole episode log ({type(error).__name__}: {error}); run the episode again") from error


def _assemble(text: dict[str, Any], arrays: dict[str, np.ndarray], scene: Scene) -> EpisodeLog:
    trace = EpisodeTrace(
        **{key: arrays[f"trace/{key}"] for key in TRACE_ARRAYS},
        map=scene.map,
        route=scene.route,
        vehicle=VehicleParameters(**text["vehicle"]),
        lights=_lights(arrays.get(LIGHT_STATES), scene),
    )
    return EpisodeLog(
        **{key: text[key] for key in PLAIN_FIELDS},
        dataroot=scene.dataroot,
        steps=tuple(Step(**{**step, "source": tuple(step["source"])}) for step in text["steps"]),
        plans=Plans(arrays["plans/step"], arrays["plans/poses"], text["plans_dt"]),
        trace=trace,
    )


def _lights(state: np.ndarray | None, scene: Scene) -> TrafficLights:
    """The traffic lights of a scene as an episode saw them; without stored states it had none."""
    if state is None:
        return NO_LIGHTS
    if len(state) != len(scene.lights):
        raise ValueError(f"{len(state)} traffic lights, but {scene.name} has {len(scene.lights)}: the data set has changed")
    return replace(scene.lights, state=state)


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
