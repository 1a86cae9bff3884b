"""What the study of decision fidelity needs of a stored episode, kept beside it while neither it nor the metrics change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.fidelity import SHADOWS
from benchmarks.fidelity_drives import SCORES, Drive
from dist4d_env.evaluation.campaign import stored
from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog, forward_cameras, load_episode
from dist4d_env.evaluation.fingerprint import package_fingerprint
from dist4d_env.evaluation.scores import end_time, reacts, recorded_human, recorded_scene
from dist4d_env.evaluation.second_opinion import between
from dist4d_env.json_output import plain
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.recording import logged_progress
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import write_text

NEAR, MOVES = 20.0, 0.5
"""Metres within which, and m/s from which on, something that moves is near."""
MEASURED = "measured"
FORMAT = 1


def read_drives(folder: Path) -> list[Drive]:
    """The whole episodes of a world's folder; a run that is adding to it does not disturb."""
    paths = [path for path in stored(folder) if path.with_suffix(".npz").is_file()]
    drives = []
    with Progress("measuring", "episode", len(paths)) as progress:
        for path in paths:
            drives.append(_kept(path) or _measured(path))
            progress.update()
    return drives


def _place(path: Path) -> Path:
    return path.parents[1] / MEASURED / path.name


def _shadow(path: Path) -> Path:
    return path.parents[1] / SHADOWS / f"{path.stem}.npz"


def _key(path: Path) -> str:
    digest = hashlib.sha256(f"{FORMAT} {package_fingerprint()}".encode())
    digest.update(path.read_bytes())
    digest.update(path.with_suffix(".npz").read_bytes())
    if (shadow := _shadow(path)).is_file():
        digest.update(shadow.read_bytes())
    return digest.hexdigest()


def _kept(path: Path) -> Drive | None:
    try:
        text = json.loads(_place(path).read_text(encoding="utf-8"))
        return Drive(**text["drive"]) if text["key"] == _key(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measured(path: Path) -> Drive:
    true_plans = None
    if (shadow := _shadow(path)).is_file():
        with np.load(shadow, allow_pickle=False) as arrays:
            true_plans = arrays["poses"]
    drive = drive_of(load_episode(path), true_plans)
    write_text(_place(path), json.dumps({"key": _key(path), "drive": plain(asdict(drive))}))
    return drive


def drive_of(log: EpisodeLog, true_plans: np.ndarray | None) -> Drive:
    """What is needed of an episode; true_plans: (D, 8, 3) on the true pictures of the same states."""
    decisions = len(log.plans.step)
    trace, steps = log.trace, log.steps[:decisions]
    front = forward_cameras(recorded_scene(log).rig)[0]
    rows = log.plans.step
    ego = trace.ego[rows, :2]
    away = np.hypot(*np.moveaxis(trace.position[rows, :, :2] - ego[:, None], -1, 0))
    moving = np.hypot(*np.moveaxis(trace.velocity[rows], -1, 0)) > MOVES
    logged = recorded_scene(log).ego.global_from_ego[:, :2, 3]
    return Drive(
        planner=log.planner,
        scenario=str(log.scenario.get("name", "")),
        seed=log.seed,
        scene=log.scene,
        family=str(log.scenario.get("family", "")),
        outcome=log.outcome,
        code=log.fingerprint.get("code", ""),
        scores=scores_of(log),
        path=[(float(x), float(y)) for x, y in trace.ego[:, :2]],
        source=[step.source[front] for step in steps],
        trust=[step.trust for step in steps],
        from_log=[float(np.hypot(*(logged - place).T).min()) for place in ego],
        near=((away < NEAR) & moving & trace.valid[rows]).any(1).tolist(),
        apart=[None] * decisions if true_plans is None else plans_apart(log.plans.poses, true_plans),
    )


def scores_of(log: EpisodeLog) -> dict[str, float | None]:
    """PDMS, EPDMS and CLS of the whole episode in their corrected form; 0 where the planner failed, as in rankings."""
    if log.outcome == PLANNER_ERROR:
        return dict.fromkeys(SCORES, 0.0)
    scene = recorded_scene(log)
    human = recorded_human(log, scene)
    reference = logged_progress(scene, log.trace.vehicle, float(log.trace.time[0]), end_time(log, scene))
    results = {
        "PDMS": pdms_v1(log.trace, reference),
        "EPDMS": epdms_v2(log.trace, log.plans, human),
        "CLS": nuplan_cls(log.trace, human, reacts(log), "corrected"),
    }
    return {name: float(result.value) if result.valid else None for name, result in results.items()}


def plans_apart(plans: np.ndarray, others: np.ndarray) -> list[float | None]:
    """Metres between plans (D, 8, 3) and others of the same states; None where there is no other."""
    shared = min(len(plans), len(others))
    found = [float(value) if np.isfinite(value) else None for value in between(plans[:shared], others[:shared])]
    return found + [None] * (len(plans) - shared)


def parted_after(first: Drive, second: Drive, metres: float = 0.5, tick: float = 0.1) -> float | None:
    """Seconds until two drives of one episode are ``metres`` apart, or one of them ends before the other; None if they never
    are."""
    shared = min(len(first.path), len(second.path))
    apart = np.hypot(*(np.array(first.path[:shared]) - np.array(second.path[:shared])).T)
    far = np.flatnonzero(apart > metres)
    if len(far):
        return float(far[0] * tick)
    return None if len(first.path) == len(second.path) else float(shared * tick)
