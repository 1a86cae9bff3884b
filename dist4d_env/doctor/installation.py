"""Python, the packages that are needed, the versions that a fresh installation takes, and the extras."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import dist4d_env
from dist4d_env.doctor.check import Check

PACKAGE = "dist4d_env"
MODULES = {"nuscenes-devkit": "nuscenes", "opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
"""What packages are imported as, where that is not their name."""
PURPOSES = {
    "train": "train, adapt",
    "sb3": "policies of Stable-Baselines3",
    "rllib": "policies of RLlib, Ray, the world as a service",
    "video": "Gymnasium's RecordVideo",
    "play": "play",
    "py123d": "data sets in 123D's format",
    "docs": "make docs",
    "test": "make test",
}
"""What extras are for."""
CONSTRAINTS = Path(dist4d_env.__file__).resolve().parents[1] / "constraints.txt"
"""Of a checkout: the versions that a fresh installation takes."""


def python() -> Check:
    """The interpreter, and whether it is one that the package is made for."""
    wanted = _metadata("Requires-Python") or ">=3.11,<3.13"
    found = platform.python_version()
    values = {"python": found, "executable": sys.executable, "platform": platform.platform(), "package": dist4d_env.__version__}
    words = f"{found} on {values['platform']}, dist4d_env {dist4d_env.__version__}"
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Check("python", "broken", f"{words}: Python {wanted} is needed", values)
    return Check("python", "ok", words, values)


def packages() -> Check:
    """Whether every package that is needed is there, in a version that is asked for, and can be imported."""
    needed = requirements()
    if needed is None:
        return Check(
            "packages", "note", "dist4d_env runs from a folder and is not installed: pip install -e . checks what it needs"
        )
    faults = [fault for requirement in needed if (fault := fault_of(requirement))]
    for requirement in needed:
        if installed(requirement.name) is None:
            continue  # which has been said
        try:
            importlib.import_module(MODULES.get(requirement.name.lower(), requirement.name.replace("-", "_")))
        except Exception as error:  # its files are gone, or a library that it links to
            faults.append(f"{requirement.name} cannot be imported: {str(error)[:200]}")
    found = {requirement.name: installed(requirement.name) for requirement in needed}
    shown = ", ".join(f"{name} {found[name]}" for name in ("torch", "diffusers", "gymnasium", "numpy", "numba") if name in found)
    if faults:
        remedy = "pip install --force-reinstall the packages named, or install anew with the project's constraints.txt"
        return Check("packages", "broken", "\n".join([*faults, remedy]), {"versions": found, "faults": faults})
    return Check("packages", "ok", f"all {len(needed)} that are needed: {shown}", {"versions": found, "faults": []})


def pins(path: Path = CONSTRAINTS) -> Check:
    """Whether what is installed is what a fresh installation would take. path: a file of constraints for pip."""
    if not path.is_file():
        return Check("pins", "ok", "no checkout: constraints.txt is not here, versions are held to their ranges alone")
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    pinned = [Requirement(line) for line in lines if line]
    faults = [fault for requirement in pinned if installed(requirement.name) and (fault := fault_of(requirement))]
    if faults:
        return Check("pins", "note", "\n".join([*faults, "pip install -c constraints.txt -e . takes these"]), {"faults": faults})
    return Check("pins", "ok", f"as the {len(pinned)} lines of constraints.txt say", {"faults": []})


def extras() -> Check:
    """Which extras are installed, and what the others would be for."""
    missing = {}
    for extra in _all_metadata("Provides-Extra"):
        faults = [fault for requirement in requirements(extra) or () if (fault := fault_of(requirement))]
        if faults:
            missing[extra] = faults
    there = [extra for extra in _all_metadata("Provides-Extra") if extra not in missing]
    lines = [f"installed: {', '.join(there) or 'none'}"]
    for extra, faults in missing.items():
        lines.append(f"{extra} is not, for {PURPOSES.get(extra, extra)} ({'; '.join(faults)}): pip install 'dist4d_env[{extra}]'")
    return Check("extras", "ok", "\n".join(lines), {"installed": there, "missing": missing})


def requirements(extra: str = "") -> list[Requirement] | None:
    """What the package needs here, or what an extra adds to that; None where the package is not installed."""
    try:
        every = [Requirement(text) for text in distribution(PACKAGE).requires or ()]
    except PackageNotFoundError:
        return None
    applies: Callable[[Requirement, str], bool] = lambda one, name: one.marker is None or one.marker.evaluate({"extra": name})  # noqa: E731
    return [one for one in every if applies(one, extra) and not (extra and applies(one, ""))]


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fault_of(requirement: Requirement) -> str | None:
    """What is wrong with a package, or with what its own extras add; None where it is as required."""
    found = installed(requirement.name)
    if found is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} is {found}, {requirement.name}{requirement.specifier} is needed"
    for extra in requirement.extras:
        for text in distribution(requirement.name).requires or ():
            own = Requirement(text)
            marked = own.marker is not None and own.marker.evaluate({"extra": extra}) and not own.marker.evaluate({"extra": ""})
            if marked and installed(own.name) is None:
                return f"{own.name} is missing, of {requirement.name}[{extra}]"
    return None


def _metadata(key: str) -> str | None:
    return next(iter(_all_metadata(key)), None)


def _all_metadata(key: str) -> Sequence[str]:
    try:
        return distribution(PACKAGE).metadata.get_all(key) or ()
    except PackageNotFoundError:
        return ()
