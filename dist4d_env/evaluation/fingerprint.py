"""Fingerprints of what drove an episode: the package's files, the world's and traffic's own, the planner's, and the scene's."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from dist4d_env.registry import TRAFFIC, WORLDS
from dist4d_env.scenes.scene import Scene

PACKAGE = Path(__file__).parents[1]
_REPORT = PACKAGE / "evaluation" / "report"  # pages change nothing that is driven


class OpenedFiles:
    """Remembers every file that Python opens for reading from now on, until ``stop``: among them a planner's weights."""

    def __init__(self) -> None:
        self.paths: set[str] | None = set()
        sys.addaudithook(self._notice)

    def stop(self) -> set[str]:
        """The files since the beginning."""
        found, self.paths = self.paths or set(), None
        return found

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is None or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.paths.add(os.path.abspath(os.fsdecode(arguments[0])))


@cache
def package_fingerprint() -> str:
    """Of this package, its shipped weights included."""
    return _digest(set(_below(PACKAGE)) - set(_below(_REPORT)))


def code_fingerprint(world: str, weights: str, traffic: str) -> str:
    """Of this package, of a world or traffic model from outside, and of a folder of weights."""
    files: set[Path] = set()
    for registry, name in ((WORLDS, world), (TRAFFIC, traffic)):
        files |= _sources(getattr(registry.find(name), "__module__", ""))
    if Path(weights).is_dir():
        files |= set(_below(Path(weights)))
    return _digest(files, package_fingerprint())


def files_fingerprint(folder: Path) -> str:
    """Of all files in a folder, wherever it lies."""
    return _digest(_below(folder))


def planner_fingerprint(planner: Any, opened: Iterable[str] = ()) -> str:
    """Of a planner just made in a process of its own: its package's files, every module and file from outside the Python
    installation that making it has loaded, the ``files`` that it declares, its config and needs."""
    files = _sources(type(planner).__module__)
    modules = [module for name, module in list(sys.modules.items()) if name not in ("__main__", "__mp_main__")]
    loaded = [getattr(module, "__file__", None) for module in modules]
    files |= {path for path in (Path(name) for name in (*loaded, *opened) if name) if _own(path)}
    for path in map(Path, getattr(planner, "files", ())):
        files |= set(_below(path)) if path.is_dir() else {path}
    config = getattr(planner, "config", None)
    settings = repr((planner.requires, config if is_dataclass(config) else None))
    return _digest(files, re.sub(r" at 0x[0-9a-f]+", "", settings))


def scene_fingerprint(scene: Scene, pictures: bool = False) -> str:
    """Of what a scene holds, wherever its data set lies. pictures: and of the sizes and dates of its sensor files, where its
    sensors tell them (``FileSensorLog.stamps``)."""
    digest = hashlib.sha256()
    for part in _parts(replace(scene, dataroot="", version="", dataset=None)):
        digest.update(part + b"\0")
    if pictures:
        digest.update(repr(list(getattr(scene.sensors, "stamps", tuple)())).encode())
    return digest.hexdigest()[:16]


def _parts(value: Any) -> Iterator[bytes]:
    """The plain values that a value is made of, in order; of other objects, such as search trees and open files, none."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str} {value.shape}".encode()
        yield repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    elif is_dataclass(value):
        yield from (part for field in fields(value) for part in (field.name.encode(), *_parts(getattr(value, field.name))))
    elif isinstance(value, shapely.Geometry):
        yield shapely.to_wkb(value)
    elif isinstance(value, Mapping):
        yield from (part for key in value for part in (str(key).encode(), *_parts(value[key])))
    elif isinstance(value, list | tuple | frozenset):
        yield str(len(value)).encode()
        yield from (part for one in (sorted(value) if isinstance(value, frozenset) else value) for part in _parts(one))
    elif value is None or isinstance(value, str | int | float | np.generic):
        yield repr(value).encode()


def _sources(module: str) -> set[Path]:
    """The files of a module's package, or of the module alone where it is in none; this package's are left out."""
    top = module.partition(".")[0]
    path = getattr(sys.modules.get(top), "__file__", None)
    if path is None or top in (__package__.partition(".")[0], "builtins"):
        return set()
    return set(_below(Path(path).parent)) if Path(path).name == "__init__.py" else {Path(path)}


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _own(path: Path) -> bool:
    """Whether a file is neither Python's, an installed package's, this package's, the system's nor compiled from another."""
    installed = (
        *sysconfig.get_paths().values(),
        sys.prefix,
        sys.base_prefix,
        str(PACKAGE),
        "/proc",
        "/sys",
        "/dev",
        "/etc",
        "/usr",
    )
    compiled = "__pycache__" in path.parts or path.suffix in (".pyc", ".nbi", ".nbc")
    return path.is_file() and not compiled and not any(path.is_relative_to(place) for place in installed)


def _digest(files: Iterable[Path], more: str = "") -> str:
    """Of contents and names, wherever the files lie."""
    found = []
    for path in files:
        with path.open("rb") as file:
            found.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join([*sorted(found), more]).encode()).hexdigest()[:16]
