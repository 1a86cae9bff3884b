"""The verbs of the command line, their options, and what all of them have in common: ``--json``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from types import ModuleType
from typing import Annotated, Any, Union, get_args, get_origin

VERBS = {
    "demo": ("dist4d_env.demo", "drive ten seconds through a generated world; writes a video and a report"),
    "play": ("dist4d_env.play.cli", "drive yourself, in a browser on this machine"),
    "doctor": ("dist4d_env.doctor.cli", "look at this installation and machine: what works, what is missing, and for what"),
    "town": ("dist4d_env.town.cli", "make the built-in data set: streets, traffic, cameras, LiDAR, in nuScenes format"),
    "prepare": ("dist4d_env.curation.cli", "make metric depth for the images of a nuScenes-format data set"),
    "train": ("dist4d_env.training.cli", "train a network of the world model, such as DiST-T, or of depth"),
    "adapt": ("dist4d_env.evaluation.adaptation", "fine-tune weights on your own scenes, and keep what is better there"),
    "validate": ("dist4d_env.evaluation.validation", "check a data set; say which weights suit it"),
    "evaluate": ("dist4d_env.evaluation.cli", "drive a planner through episodes, or score stored episodes again"),
    "leaderboard": ("dist4d_env.evaluation.site", "rank the planners of many campaigns on one static page"),
    "completion": ("dist4d_env.shell_completion", "print what makes a shell complete verbs and options"),
}
"""Verb to (module with ``Options`` and ``run(options) -> int``, one line of help)."""


def module_of(verb: str) -> ModuleType:
    """The module of a verb."""
    return importlib.import_module(VERBS[verb][0])


def parse(verb: str, arguments: Sequence[str], program: str) -> tuple[Any, bool]:
    """The options of a verb, and whether ``--json`` is among them. SystemExit for --help and for options that there are not."""
    import tyro

    parsed = tyro.cli(with_json(module_of(verb).Options), prog=f"{program} {verb}", args=arguments)
    own = type(parsed).__bases__[0]
    return own(**{field.name: getattr(parsed, field.name) for field in fields(own)}), parsed.json


def with_json(kind: Any) -> Any:
    """The type of a verb's options, a dataclass or an annotated union of them, with ``--json`` as the last one."""
    import tyro

    if isinstance(kind, type) and is_dataclass(kind):
        words = "Print the result as one JSON object; all else goes to stderr."
        flag = Annotated[bool, tyro.conf.arg(help=words, help_behavior_hint=""), tyro.conf.FlagCreatePairsOff]
        about = {"__doc__": kind.__doc__, "__module__": kind.__module__}
        return make_dataclass(kind.__name__, [("json", flag, False)], bases=(kind,), namespace=about, frozen=True)
    inner, *marks = get_args(kind)
    if get_origin(kind) is Annotated:
        return Annotated[(with_json(inner), *marks)]
    return Union[tuple(map(with_json, get_args(kind)))]  # noqa: UP007 (of types that are known only now)
