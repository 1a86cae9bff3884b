"""Checks of what a world's ``reset`` and ``step`` return: worlds may come from outside the package."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from dist4d_env.envs.ending import BROKEN
from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.worlds.contract import WorldInfo, WorldState


def one_for_each(asked: Sized, answers: Any, method: str) -> Sequence[Any]:
    """The answers of a world's ``reset`` or ``step``. Raises ConfigError if there is not one for each episode."""
    if not isinstance(answers, list | tuple) or len(answers) != len(asked):
        given = f"{len(answers)} answers" if isinstance(answers, list | tuple) else f"a {type(answers).__name__}"
        raise ConfigError(f"the world's {method} gave {given} for {len(asked)} episodes: it returns a list, an answer for each")
    return answers


def checked_answer(answer: Any, expected: tuple[int, int, int] | None) -> tuple[WorldState, RGBDFrame | None, WorldInfo]:
    """A world's answer to one episode. expected: cameras, height and width of its pictures, None without. Raises ConfigError.

    What isn't finite ends the episode (``truncation_cause``): its last frame is shown as far as it is known, the rest at FAR.
    """
    shaped = isinstance(answer, tuple | list) and len(answer) == 3
    if not shaped or not isinstance(answer[1], RGBDFrame | None) or not isinstance(answer[2], WorldInfo):
        raise ConfigError(
            f"the world's step answers each episode with (state, RGBDFrame or None, WorldInfo), not {shown(answer)}"
        )
    state, frame, info = answer
    if expected is not None and (frame is None or frame.depth.shape != expected):
        given = "None" if frame is None else f"one of {frame.depth.shape}"
        raise ConfigError(f"the world shows a frame of (cameras, height, width) {expected}, but its step gave {given}")
    trust, deviation = _checked_numbers(info)
    _check_source(info, None if expected is None else expected[0])
    known = np.True_ if frame is None else np.isfinite(frame.depth)
    if not (known.all() and math.isfinite(trust) and (frame is None or _is_placed(frame))):
        frame = None if frame is None else replace(frame, depth=np.where(known, frame.depth, np.float32(FAR)))
        trust, info = 0.0, replace(info, source=(BROKEN,) * max(len(info.source), 1), trust=0.0)
    if not (0 <= deviation < math.inf and 0 <= trust <= 1 and 0 <= info.held_back <= 1):
        raise ConfigError(
            f"the world's info has deviation_m={shown(info.deviation_m)}, trust={shown(info.trust)} and "
            f"held_back={shown(info.held_back)}: a distance and two shares"
        )
    return state, frame, info


def _checked_numbers(info: WorldInfo) -> tuple[float, float]:
    """Trust and deviation. Raises ConfigError if they, or the times that it took, are no numbers."""
    numbers, stages = (info.trust, info.deviation_m, info.held_back), info.timing_ms
    if isinstance(stages, Mapping) and all(isinstance(value, Real) for value in (*numbers, *stages.values())):
        with contextlib.suppress(OverflowError):  # of whole numbers
            trust, deviation, *others = map(float, (*numbers, *stages.values()))
            if all(isinstance(stage, str) for stage in stages) and all(map(math.isfinite, others)):
                return trust, deviation
    raise ConfigError(
        f"the world's info has trust={shown(info.trust)}, deviation_m={shown(info.deviation_m)}, "
        f"held_back={shown(info.held_back)} and timing_ms={shown(info.timing_ms)}: numbers, and a dict of numbers by stage"
    )


def _check_source(info: WorldInfo, cameras: int | None) -> None:
    """Raises ConfigError for a source that does not say of every camera what made its picture."""
    source = info.source
    named = isinstance(source, tuple | list) and all(isinstance(name, str) for name in source)
    if not named or (cameras is not None and len(source) != cameras):
        many = "" if cameras is None else f" of {cameras} names"
        raise ConfigError(f"the world's info has source={shown(source)}: it must be a tuple{many}, one for each camera")


def _is_placed(frame: RGBDFrame) -> bool:
    """Whether it is known where the cameras of a frame are and how they see."""
    return bool(np.isfinite(frame.intrinsics).all() and np.isfinite(frame.global_from_camera).all())
