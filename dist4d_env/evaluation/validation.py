"""``python -m dist4d_env validate``: what a data set holds, and with ``--worlds`` which weights suit it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dist4d_env import json_output
from dist4d_env.data import validate
from dist4d_env.data.contract import Dataset
from dist4d_env.errors import ConfigError
from dist4d_env.progress import Progress, noun

if TYPE_CHECKING:
    from dist4d_env.worlds.dist4d import GenerativeWorld


@dataclass(frozen=True)
class Options(validate.Options):
    """Check a data set and say what in it can be used; with --worlds also with which weights.

    Reads every row of the tables and every scene's log, tracks, map and files; prints a line per scene and per fault. Exit status
    1 if there is one.
    """

    worlds: bool = False
    """Hide keyframes, draw them from others with the weights and with the splat, which needs no weights, and say for each memory
    which to use."""
    weights: str = "tiny"
    """With --worlds: a shipped preset or a folder."""
    keyframes: int = 16
    """With --worlds: how many keyframes are hidden, evenly spread over those at which the car moves."""
    size: str = "64x112"
    """With --worlds: height x width of the images."""


def run(options: Options) -> int:
    """Checks the data set, compares worlds if asked to, and prints what was found. Returns 1 if something is broken."""
    for name in () if options.worlds else ("weights", "keyframes", "size"):
        if getattr(options, name) != getattr(Options, name):
            raise ConfigError(f"--{name} {getattr(options, name)} says how worlds are compared: give --worlds, too")
    chosen = contender(options) if options.worlds else None
    found = validate.examine(options)
    values = found.as_json()
    if chosen is not None:
        values["worlds"] = compare_worlds(options, found.dataset, found.checks, *chosen)
    json_output.result(values)
    return int(not found.sound)


def contender(options: Options) -> tuple[GenerativeWorld, tuple[int, int]]:
    """The world with the weights, and the height and width it is to draw. Raises ConfigError or WeightsError."""
    from dist4d_env.envs.config import EnvConfig
    from dist4d_env.geometry.cameras import parse_size
    from dist4d_env.worlds.dist4d import GenerativeWorld

    if options.weights == "splat":
        raise ConfigError('weights="splat" is what others are compared with: give a preset or a folder')
    if options.keyframes < 1:
        raise ConfigError(f"--keyframes {options.keyframes}: at least one must be hidden")
    wanted = EnvConfig(size=parse_size(options.size), weights=options.weights)
    world = GenerativeWorld.from_pretrained(options.weights)
    return world, wanted.image_size(world.image_size, world.size_multiple)


def compare_worlds(
    options: Options, dataset: Dataset, checks: list[validate.SceneCheck], world: GenerativeWorld, size: tuple[int, int]
) -> dict[str, Any]:
    """Prints, for each memory, scores of the world and of the splat on hidden keyframes, and which weights to use; returns them
    as plain values.

    Raises DataError where there is nothing to compare on.
    """
    from dist4d_env.evaluation.held_out import advice, compare_on, hidden_keyframes, summary, table

    began = time.monotonic()
    hidden = hidden_keyframes(dataset, checks, options.keyframes, size)
    with Progress("comparing worlds", "frame", 2 * len(hidden)) as progress:
        found = compare_on(hidden, world, size, progress.update)
    scenes, seconds = len({scene.name for scene, _, _ in hidden}), time.monotonic() - began
    of = f"{len(hidden)} {noun(len(hidden), 'keyframe')} of {scenes} {noun(scenes, 'scene')}"
    print(f"\n{of} hidden and drawn at {size[0]}x{size[1]}, {seconds:.0f} s; [95 % intervals]")
    for memory, scores in found.items():
        drawn_from = {"log": "all other keyframes", "history": "the keyframes before"}[memory]
        print(f'\nmemory="{memory}": drawn from {drawn_from}\n{table(scores)}')
    print()
    advised = {memory: advice(memory, scores, options.weights) for memory, scores in found.items()}
    print("\n".join(advised.values()))
    return {memory: summary(scores) | {"advice": advised[memory]} for memory, scores in found.items()}
