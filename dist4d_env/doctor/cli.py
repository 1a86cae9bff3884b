"""``python -m dist4d_env doctor``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import dist4d_env
from dist4d_env import json_output
from dist4d_env.doctor import installation, machine
from dist4d_env.doctor.check import Check, looked

WIDTH = 17


@dataclass(frozen=True)
class Options:
    """Look at this installation and this machine: Python, packages, pins and extras, device, cache, data, weights, display, and
    how fast a step is. Put what it says at the top of a bug report.

    Exit status 1 where something essential is broken; what is missing for an extra, or slow, is a note.
    """

    dataroot: Path | None = None
    """Data set to look at; else $NUSCENES, else the built-in town."""
    weights: str = "tiny"
    """Weights to load: a shipped preset or a folder."""
    speed: bool = True
    """Measure steps in a small scene that is made for it, some twenty seconds, more where kernels are compiled first."""


def run(options: Options) -> int:
    """Looks, prints a paragraph for each thing, and returns 1 where one is broken."""
    found = []
    for check in checks(options):
        print(shown(check), flush=True)
        found.append(check)
    broken, notes = ([check.name for check in found if check.state == state] for state in ("broken", "note"))
    print(f"\nbroken: {', '.join(broken)}" if broken else "\nnothing essential is broken", end="")
    print(f"; to note: {', '.join(notes)}" if notes else "")
    values = {"version": dist4d_env.__version__, "sound": not broken, "checks": [asdict(check) for check in found]}
    json_output.result(values)
    return int(bool(broken))


def checks(options: Options) -> Iterator[Check]:
    """What was found, as it is found."""
    looks: dict[str, Callable[[], Check]] = {
        "python": installation.python,
        "packages": installation.packages,
        "pins": installation.pins,
        "extras": installation.extras,
        "variables": machine.variables,
        "machine": machine.machine,
        "device": machine.device,
        "cache": machine.cache,
        "kernels": machine.kernels,
        "data": functools.partial(machine.data, options.dataroot),
        "weights": functools.partial(machine.weights, options.weights),
        "display": machine.display,
    }
    for name, look in looks.items():
        yield looked(name, look)
    if options.speed:
        yield from speeds(options.weights)


def speeds(weights: str) -> Iterator[Check]:
    """How fast worlds are. What cannot even be made is the town's fault, not a world's."""
    try:
        from dist4d_env.doctor import speed

        with speed.small_scene() as dataroot:
            for world in speed.WORLDS:
                yield looked(f"speed of {world}", functools.partial(speed.speed, world, dataroot, weights))
    except Exception as error:
        yield Check("town", "broken", f"no scene can be made: {type(error).__name__}: {str(error)[:400]}")


def shown(check: Check) -> str:
    """A check for people: its state, its name and its words, one under the other."""
    first, *others = check.words.splitlines() or [""]
    lines = [f"{check.state:<7}{check.name:<{WIDTH}}{first}", *(f"{'':<{7 + WIDTH}}{line}" for line in others)]
    return "\n".join(lines)
