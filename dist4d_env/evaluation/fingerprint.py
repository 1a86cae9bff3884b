"""Fingerprints of what drove an episode: the package's files, the world's and traffic's own, and the planner's."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dist4d_env.registry import TRAFFIC, WORLDS

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
