"""Which weights suit a data set: its keyframes are hidden, generated from others, and compared with the recorded pictures.

Of each hidden keyframe the truth is its picture, and the depth of the LiDAR points that its cameras see; where it has no LiDAR,
its prepared depth. Memory "log" holds all other keyframes of the scene, "history" those before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dist4d_env.curation.prepare import lidar_depth
from dist4d_env.data.contract import Dataset
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.data.validate import SceneCheck
from dist4d_env.errors import DataError
from dist4d_env.evaluation.statistics import FEWEST, Comparison, Estimate, compare
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.images.regional import score
from dist4d_env.models.composition import Gains
from dist4d_env.models.pipelines import noise_of
from dist4d_env.progress import noun
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.chunk import PolicyConfig
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.hidden import HiddenFrame, held_back, judged, latest_before, moving_frames, spread
from dist4d_env.worlds.memory import LoggedFrame, Memory, MemoryFrame, MemoryPolicy

Hidden = tuple[Scene, Memory, int]
"""A keyframe to hide: its scene, the scene's memory, and its place there."""
Key = tuple[str, int]
"""A scene's name and one of its keyframes."""
Scores = dict[str, dict[str, dict[str, float]]]
"""Of one hidden keyframe: method -> region -> metric -> value."""
COPY, SPLAT, DIST_T, DIST_S = "copy of nearest", "splat", "DiST-T", "DiST-S"
NEIGHBOURS = 2
"""Keyframes of a scene that are never hidden: its first and its last, which have neighbours on one side alone."""
COLUMNS = {
    "PSNR": ("all", "psnr"),
    "SSIM": ("all", "ssim"),
    "PSNR holes": ("holes", "psnr"),
    "SSIM holes": ("holes", "ssim"),
    "AbsRel": ("all", "abs_rel"),
    "delta1": ("all", "delta1"),
}
"""Of the table: region and metric."""


def hidden_keyframes(
    dataset: Dataset,
    checks: Sequence[SceneCheck],
    count: int,
    size: tuple[int, int],
    first: Mapping[str, int] | None = None,
) -> list[Hidden]:
    """Up to ``count`` keyframes to hide, evenly spread, in the scene's whole memory at (height, width). Only where the ego moves:
    where it stands, others show the same picture.

    first: the scenes to take them from and in each the first keyframe that may be hidden (None: any). Raises DataError where no
    scene has enough of them.
    """
    asked = [c for c in checks if not c.broken and (first is None or c.name in first)]
    places = [c.name for c in asked for _ in range(c.depth - NEIGHBOURS)]
    if not places:
        raise DataError(f"{dataset.dataroot}: nothing to compare on: {_missing(checks)}")
    hidden = []
    for name, wanted in Counter(places[index] for index in spread(len(places), count)).items():
        scene = dataset.load(name)
        memory = Memory.from_log(scene, scene.rig.at_size(*size), 0.0, "log")
        moving = [place for place in moving_frames(memory) if keyframe_at(memory, place) >= (first or {}).get(name, 0)]
        hidden += [(scene, memory, moving[index]) for index in spread(len(moving), wanted)]
    if not hidden:
        raise DataError(f"{dataset.dataroot}: nothing to compare on: the car stands still; choose other --scenes")
    return hidden


def keyframe_at(memory: Memory, place: int) -> int:
    """The scene's keyframe that a place in the memory of its log holds."""
    frame = memory.frames[place]
    assert isinstance(frame, LoggedFrame)
    return frame.keyframe


def _missing(checks: Sequence[SceneCheck]) -> str:
    if not any(c.images for c in checks):
        return "no keyframe of these scenes has images; fetch the camera files"
    least, most = NEIGHBOURS + 1, max(c.images for c in checks)
    if most < least:  # depth would be of no use
        return f"no scene has {least} keyframes with images, at most {most}; choose longer scenes, or fetch more camera files"
    remedy = "make it with `python -m dist4d_env prepare`" if any(c.lidar for c in checks) else "nor LiDAR to make it from"
    if not any(c.depth for c in checks):
        return f"the images of these scenes have no depth, {remedy}"
    return f"no scene has {least} keyframes whose images have depth, {remedy}"


def hidden_frames(
    hidden: Iterable[Hidden], size: tuple[int, int], count: int = PolicyConfig.count
) -> Iterator[tuple[MemoryPolicy, Key, HiddenFrame]]:
    """Each keyframe as it is to be drawn from either memory; DiST-T starts from the last frame before it. count: real frames in a
    splat."""
    for scene, memory, place in hidden:
        rig, frame = scene.rig.at_size(*size), memory.frames[place]
        assert isinstance(frame, LoggedFrame)
        truth = true_frame(scene, rig, frame)
        before, after = memory.frames[:place], memory.frames[place + 1 :]
        remembered: dict[MemoryPolicy, tuple[MemoryFrame, ...]] = {"log": before + after, "history": before}
        for policy, frames in remembered.items():
            known = replace(memory, frames=frames)
            reference = latest_before(known, truth, frame.time)
            assert reference is not None  # a scene's first keyframe is never hidden
            drawn = HiddenFrame.of(scene, rig, frame.time, truth, known, reference, policy, count)
            yield policy, (scene.name, frame.keyframe), drawn


def compare_on(
    hidden: Sequence[Hidden], world: GenerativeWorld, size: tuple[int, int], progress: Callable[[], None]
) -> dict[MemoryPolicy, dict[Key, Scores]]:
    """Scores of copy, splat, DiST-T and DiST-S by memory and keyframe; ``progress`` is called after each of both."""
    found: dict[MemoryPolicy, dict[Key, Scores]] = {"log": {}, "history": {}}
    for policy, key, frame in hidden_frames(hidden, size, world.policy.count):
        rest = held_back(frame.scene, frame.rig, frame.memory, policy, world.policy)
        gains = judged(rest, policy, world.dist_t, world.dist_s, world.policy)
        found[policy][key] = _scores(frame, key, world, gains)
        progress()
    return found


def true_frame(scene: Scene, rig: CameraRig, frame: LoggedFrame) -> RGBDFrame:
    """A keyframe's picture with the depth that it is judged by."""
    real = frame.source().frame
    measured = isinstance(scene.sensors, FileSensorLog) and scene.sensors.has_lidar(frame.keyframe)
    return replace(real, depth=lidar_depth(scene, rig, frame.keyframe)) if measured else real


def _scores(hidden: HiddenFrame, key: Key, world: GenerativeWorld, gains: tuple[Gains, Gains]) -> Scores:
    """Of every method, over all pixels but the car's own body, and over those of them that the splat doesn't reach."""
    (nearest,) = hidden.memory.select(hidden.truth.global_from_camera, hidden.time, 1)
    copied = hidden.showing(nearest.source().frame.rgb, nearest.source().frame.depth)
    made_t = hidden.by_dist_t(world.dist_t, world.policy.steps_t, noise_of(key[1], 0), gains[0])
    made_s = hidden.by_dist_s(world.dist_s, world.policy.steps_s, noise_of(key[1], 1), gains[1])
    methods = {COPY: copied, SPLAT: hidden.showing(*hidden.splat.filled()), DIST_T: made_t, DIST_S: made_s}
    masks = {"all": hidden.street, "holes": hidden.street & ~hidden.splat.valid}
    return {method: score(made, hidden.truth, masks) for method, made in methods.items()}


def _values(scores: Mapping[Key, Scores], method: str, region: str, metric: str) -> dict[Key, float | None]:
    return {key: row[method].get(region, {}).get(metric) for key, row in scores.items()}


def psnr_of(scores: Mapping[Key, Scores], method: str) -> dict[Key, float | None]:
    """PSNR of all pixels by keyframe."""
    return _values(scores, method, "all", "psnr")


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def difference(scores: Mapping[Key, Scores], method: str, region: str, metric: str) -> Comparison:
    """A method minus the splat, keyframe by keyframe, with its interval over scenes and keyframes."""
    return compare((method, _values(scores, method, region, metric)), (SPLAT, _values(scores, SPLAT, region, metric)))


def summary(scores: Mapping[Key, Scores]) -> dict[str, Any]:
    """What ``table`` shows, as plain values: by metric the means of the methods and what the networks gain on the splat."""
    values: dict[str, Any] = {"keyframes": len(scores)}
    for head, column in COLUMNS.items():
        means = {method: _mean(_values(scores, method, *column).values()) for method in (COPY, SPLAT, DIST_T, DIST_S)}
        gains = {method: asdict(difference(scores, method, *column).difference) for method in (DIST_T, DIST_S)}
        values[head] = {"means": means, "gains_on_splat": gains}
    return values


def table(scores: Mapping[Key, Scores]) -> str:
    """A line per metric: the mean of every method, and what the networks gain on the splat with its 95 % interval."""
    networks = "".join(f"{method:>10}{'- splat':^28}" for method in (DIST_T, DIST_S))
    lines = [f"{'':<12}{COPY:>16}{SPLAT:>10}{networks}".rstrip()]
    for head, column in COLUMNS.items():
        means = {method: _mean(_values(scores, method, *column).values()) for method in (COPY, SPLAT, DIST_T, DIST_S)}
        line = f"{head:<12}{_cell(means[COPY]):>16}{_cell(means[SPLAT]):>10}"
        for method in (DIST_T, DIST_S):
            gain = difference(scores, method, *column).difference
            line += f"{_cell(means[method]):>10}{_gained(gain, 3):^28}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _gained(gain: Estimate, digits: int, unit: str = "") -> str:
    """A gain with its interval, which a single value has not; a dash where there is none."""
    mean, low, high = (f"{value:+.{digits}f}" for value in (gain.mean, gain.low, gain.high))
    return "-" if not gain.count else f"{mean}{unit}" if gain.count == 1 else f"{mean}{unit} [{low}, {high}]"


def _cell(value: float) -> str:
    """A mean, or a dash where there is nothing to take it over, such as holes where the splat has none."""
    return f"{value:.3f}" if np.isfinite(value) else "-"


def advice(memory: str, scores: Mapping[Key, Scores], weights: str) -> str:
    """Which weights to use, in a sentence.

    The world shows frames of either network. Weights must be clearly better than the splat in PSNR with one and clearly worse
    with none (95 % interval). Of depth that is clearly worse (delta1) a warning is given. Fewer than ``FEWEST`` keyframes decide
    nothing.
    """
    gains = {method: difference(scores, method, "all", "psnr") for method in (DIST_T, DIST_S)}
    shown = ", ".join(f"{method} {_gained(gain.difference, 2, ' dB')}" for method, gain in gains.items())
    clear = {method: gain.difference.mean for method, gain in gains.items() if gain.clear}
    if any(gain < 0 for gain in clear.values()):
        worst = min(clear, key=lambda method: clear[method])
        return f'memory="{memory}": use weights="splat": {weights} is {-clear[worst]:.2f} dB worse with {worst} ({shown})'
    if (count := len(scores)) < FEWEST:
        return f'memory="{memory}": {count} hidden {noun(count, "keyframe")} cannot decide, it takes {FEWEST} ({shown})'
    if not clear:
        return f'memory="{memory}": use weights="splat": {weights} is not clearly better ({shown}) and takes longer'
    worse = [
        f"{method} {gain.difference.mean:+.3f}"
        for method in (DIST_T, DIST_S)
        if (gain := difference(scores, method, "all", "delta1")).clear and gain.difference.mean < 0
    ]
    but = f"; its depth is worse: delta1 {', '.join(worse)}" if worse else ""
    return f'memory="{memory}": use weights="{weights}": it is better than the splat ({shown}){but}'
