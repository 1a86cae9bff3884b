"""The registries of worlds, traffic models, data sets, sensors and planners.

Each is found by a built-in name, by ``"module:attribute"``, by a name that another installed package declares as an entry point,
or is given as an object. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from numbers import Number
from typing import Any

from dist4d_env.errors import ConfigError, shown


class Registry:
    """The things of one kind that can be named.

    kind: what they are called in messages; group: the entry-point group by which other packages add theirs; built_in: name to
    ``"module:attribute"``.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self.group, self.built_in = kind, group, dict(built_in)

    def names(self) -> tuple[str, ...]:
        """Every name: built-in ones first, then those of other installed packages."""
        return (*self.built_in, *(name for name in sorted(self._entry_points()) if name not in self.built_in))

    def check(self, value: Any) -> Any:
        """``value`` if it can stand for one of this kind; a string is checked without importing anything. Raises ConfigError."""
        if isinstance(value, str) and value not in self.built_in and not _is_path(value) and value not in self._entry_points():
            raise ConfigError(self._unknown(value))
        if value is None or isinstance(value, bytes | Number):
            raise ConfigError(f"{self.kind} {shown(value)} is neither a name nor an object: there are {self._listed()}")
        return value

    def check_named_by_file(self, value: Any, allow: Collection[Any] = ()) -> None:
        """Raises ConfigError where a file, which may be a stranger's, names ``"module:attribute"`` that is none of ``allow``: to
        import a module is to run it. Names that are built in or declared by installed packages may stand in any file."""
        if isinstance(value, str) and value not in allow and _is_path(value) and value not in self.names():
            raise ConfigError(
                f"{self.kind} {shown(value)} is a module's, which no file has imported by itself: if you trust it, give its name "
                "to --allow, too (in Python to allow=)"
            )

    def find(self, value: Any) -> Any:
        """What a name or ``"module:attribute"`` stands for; anything but a string is returned as it is. Raises ConfigError."""
        if not isinstance(value, str):
            return value
        path = self.built_in.get(value)
        if path is None:
            declared = self._entry_points().get(value)
            path = declared.value if declared is not None else value
        if not _is_path(path):
            raise ConfigError(self._unknown(value))
        try:
            return import_path(path)
        except AttributeError as error:
            raise ConfigError(f"{self.kind} {value!r} cannot be imported ({error}); is it spelled right?") from error
        except ImportError as error:
            raise ConfigError(
                f"{self.kind} {value!r} cannot be imported ({error}); is its package installed, or its folder on PYTHONPATH?"
            ) from error

    def make(self, value: Any, contract: tuple[str, ...] = (), **available: Any) -> Any:
        """One of this kind: classes and functions are called with those of the ``available`` keywords that they name, objects
        are taken as they are. contract: attributes that it must have. Raises ConfigError."""
        found = self.find(value)
        made = found
        if inspect.isclass(found) or inspect.isroutine(found) or isinstance(found, partial):
            made = self._call(value, found, available)
        missing = [name for name in contract if not hasattr(made, name)]
        if missing:
            raise ConfigError(
                f"{self.kind} {shown(value)} has no {', '.join(missing)}: docs/extending.md has an example of what is needed"
            )
        return made

    def _call(self, value: Any, factory: Callable[..., Any], available: Mapping[str, Any]) -> Any:
        try:
            parameters = tuple(inspect.signature(factory).parameters.values())
        except ValueError:  # some classes written in C have no signature
            return factory()
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        named = {parameter.name for parameter in parameters}
        needed = [
            parameter.name
            for parameter in parameters
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and parameter.name not in available
        ]
        if needed:
            given = f"only {', '.join(available)}" if available else "nothing"
            raise ConfigError(f"{self.kind} {value!r} cannot be made: it needs {', '.join(needed)}, but is called with {given}")
        return factory(**{name: item for name, item in available.items() if takes_all or name in named})

    def _entry_points(self) -> dict[str, EntryPoint]:
        return _declared(entry_points, self.group, _places())

    def _unknown(self, value: str) -> str:
        near = difflib.get_close_matches(value[:80], self.names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return (
            f"{self.kind} {shown(value)} is unknown: {hint}there are {self._listed()}; your own is given as 'module:Class', as "
            f"an object, or by an entry point of the group {self.group!r} (docs/extending.md)"
        )

    def _listed(self) -> str:
        """The names for messages; of many that begin alike, such as ``expert_...``, what they begin with."""
        begin = {name: name.partition("_")[0] for name in self.names()}
        alike = Counter(begin.values())
        return ", ".join(dict.fromkeys(repr(name if alike[first] < 4 else f"{first}_...") for name, first in begin.items()))


@lru_cache(maxsize=64)
def _declared(find: Callable[..., Iterable[EntryPoint]], group: str, places: tuple[Any, ...]) -> dict[str, EntryPoint]:
    """The entry points of a group by name. places: where packages are installed; going through all of them takes long enough."""
    return {entry.name: entry for entry in find(group=group)}


def _places() -> tuple[Any, ...]:
    """Folders that modules are found in, and dates that change when a package comes or goes."""
    return tuple((place, _date(place)) for place in sys.path)


def _date(place: str) -> int:
    try:
        return os.stat(place or os.getcwd()).st_mtime_ns
    except OSError:
        return 0


def import_path(path: str) -> Any:
    """The attribute that ``"module:attribute"`` names; its module is imported. Raises ImportError or AttributeError."""
    module, _, attribute = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _is_path(value: str) -> bool:
    module, colon, attribute = value.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


WORLDS = Registry(
    "world",
    "dist4d_env.worlds",
    {
        "dist4d": "dist4d_env.worlds.factory:make_dist4d",
        "splat": "dist4d_env.worlds.replay:SplatWorld",
        "replay": "dist4d_env.worlds.replay:ReplayWorld",
        "oracle": "dist4d_env.worlds.oracle:OracleWorld",
        "none": "dist4d_env.worlds.none:NoneWorld",
    },
)
"""Called with those of ``weights``, ``memory`` and ``device`` that they name."""

TRAFFIC = Registry(
    "traffic",
    "dist4d_env.traffic",
    {
        "replay": "dist4d_env.simulation.replay:ReplayTraffic",
        "idm": "dist4d_env.simulation.idm:IdmTraffic",
        "lanes": "dist4d_env.simulation.lanes:LaneTraffic",
    },
)
"""Called with ``vehicle`` where they name it."""

DATASETS = Registry(
    "dataset",
    "dist4d_env.datasets",
    {
        "town": "dist4d_env.town.dataset:TownDataset",
        "nuscenes": "dist4d_env.data.nuscenes:NuScenesDataset",
        "py123d": "dist4d_env.data.py123d.dataset:Py123dDataset",
    },
)
"""Called with ``dataroot`` and ``version`` where they are given. A class with ``recognises`` is found by its folder; the first
that recognises it is taken."""

DEFAULT_DATAROOT = "dist4d_env.town.cache:default_dataroot"
"""Makes the folder of the data set where none is named; called with the scenes that are wanted and
the size (height, width) that images will be shown at, None for any."""

SENSORS = Registry(
    "sensor",
    "dist4d_env.sensors",
    {
        "cameras": "dist4d_env.envs.sensors.cameras:Cameras",
        "depth": "dist4d_env.envs.sensors.cameras:Depth",
        "ego": "dist4d_env.envs.sensors.ego:Ego",
        "route": "dist4d_env.envs.sensors.route:RouteAhead",
        "agents": "dist4d_env.envs.sensors.agents:Agents",
        "bev": "dist4d_env.envs.sensors.bev:BirdsEye",
        "lidar": "dist4d_env.envs.sensors.lidar:Lidar",
    },
)
"""Observation groups; called without arguments."""

EXPERT_ERRORS: Mapping[str, tuple[float, ...]] = {
    "bias": (0.5, 0.75, 1.0, 1.5, 2.0),
    "delay": (0.5, 1.0, 2.0, 3.0, 4.0),
    "noise": (1.0, 2.0, 3.0, 4.0, 5.0),
    "late": (1.0, 2.0, 3.0, 4.0, 5.0),
}
"""The experts with errors that have names: kind of error and its strengths, mild to gross (m, s, m, s).

Noise begins at a metre: the tracker smooths less of it away, and PDMS cannot tell the ride from the faultless one."""

MEASURING = ("idm", "front", "late", "noisy", "coarse")
"""Variants of the planner that measures (``planners.measuring.VARIANTS``)."""

END_TO_END = ("front", "late", "noisy", "coarse")
"""Variants of the end-to-end planner (``learning.end_to_end.VARIANTS``)."""

PLANNERS = Registry(
    "planner",
    "dist4d_env.planners",
    {
        "constant_velocity": "dist4d_env.planners.constant_velocity:ConstantVelocity",
        "lane_keeping": "dist4d_env.planners.lane_keeping:LaneKeeping",
        "log": "dist4d_env.planners.log_follower:LogFollower",
        "lane": "dist4d_env.planners.lane_follower:LaneFollower",
        "idm": "dist4d_env.planners.idm:IdmPlanner",
        "pdm_closed": "dist4d_env.planners.pdm_closed:PdmClosed",
        "mpc": "dist4d_env.planners.mpc:SamplingMPC",
        "imagine": "dist4d_env.planners.imagine:ImaginingPlanner",
        "measuring": "dist4d_env.planners.measuring:MeasuringPlanner",
        **{f"measuring_{variant}": f"dist4d_env.planners.measuring:{variant}" for variant in MEASURING},
        "end_to_end": "dist4d_env.learning.end_to_end:EndToEndPlanner",
        **{f"end_to_end_{variant}": f"dist4d_env.learning.end_to_end:{variant}" for variant in END_TO_END},
        "ppo": "dist4d_env.learning.policy_planner:ShippedPolicy",
        **{
            f"expert_{kind}_{strength:g}": "dist4d_env.planners.experts:" + f"{kind}_{strength:g}".replace(".", "_")
            for kind, strengths in EXPERT_ERRORS.items()
            for strength in strengths
        },
    },
)
"""Called without arguments."""
