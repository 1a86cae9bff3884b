"""Processor, device, cache, data, weights, display and what is set for the package in the environment."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dist4d_env.doctor.check import Check, State
from dist4d_env.processes import cores

VARIABLES = (
    "NUSCENES", "DIST4D_DEPTH", "DIST4D_SHARED", "DIST4D_FRAME_CACHE_MB", "DIST4D_SERVICE_TIMEOUT", "DIST4D_PLANNER_PORT",
    "DIST4D_PLANNER_URL", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
)  # fmt: skip
"""Environment variables that change what happens here."""
FOLDERS = ("DIST4D_DEPTH", "DIST4D_SHARED")
"""Those that have to name a folder, apart from the data set's, which is opened."""
LITTLE = 2e9
"""Bytes of free disk below which something is said: a town's scene takes 30 to 300 MB."""
BUSY = 0.5
"""Processes that wait for each core, beyond which speeds are not the machine's own."""


def machine() -> Check:
    """Processor, cores, memory, and whether others keep them busy."""
    cpuinfo, model = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    total, free = _memory()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    values = {"cpu": model, "cores": cores(), "memory_bytes": total, "memory_free_bytes": free, "load": round(load, 2)}
    known = "" if total is None or free is None else f", {total / 1e9:.1f} GB memory ({free / 1e9:.1f} GB free)"
    words = f"{model}, {cores()} cores{known}, load {load:.1f}"
    if load > BUSY * cores():
        return Check("machine", "note", f"{words}: others are busy on it, so speeds below are lower than on a quiet one", values)
    return Check("machine", "ok", words, values)


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory, all and free; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return None, None


def device() -> Check:
    """What the models run on."""
    import torch

    threads, power = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    values: dict[str, Any] = {"torch": torch.__version__, "threads": threads, "cpu_capability": power, "gpus": []}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name, bfloat16 = torch.cuda.get_device_name(index), torch.cuda.is_bf16_supported()
            values["gpus"].append({"name": name, "memory_bytes": total, "memory_free_bytes": free, "bfloat16": bfloat16})
        shown = ", ".join(f"{gpu['name']} ({gpu['memory_free_bytes'] / 1e9:.0f} GB free)" for gpu in values["gpus"])
        return Check("device", "ok", f"{shown}; torch {torch.__version__}, {threads} threads beside it", values)
    words = f"CPU ({power}), {threads} threads, torch {torch.__version__}"
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        reason = "was built for CPUs alone" if torch.version.cuda is None else "finds no driver for it"
        return Check("device", "note", f"{words}: there is an NVIDIA GPU, but this torch {reason}", values)
    return Check("device", "ok", f"{words}; no GPU, and none is needed for the shipped weights", values)


def cache() -> Check:
    """The user's cache folder: whether it can be written to, what it holds, and how much room is left."""
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("dist4d_env"))
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
        writable = True
    except OSError:
        writable = False
    free, held = shutil.disk_usage(existing).free, _size(folder)
    values = {"folder": folder, "writable": writable, "bytes": held, "free_bytes": free}
    words = f"{folder}: {held / 1e6:,.0f} MB, {free / 1e9:.1f} GB free"
    if not writable:
        state: State = "note" if os.environ.get("NUSCENES") else "broken"
        remedy = "the built-in town and depth go there: make it writable, or set XDG_CACHE_HOME to a folder that is"
        return Check("cache", state, f"{words}, cannot be written to: {remedy}", values)
    if free < LITTLE:
        return Check(
            "cache", "note", f"{words}: little; a scene of the town takes 30 to 300 MB, by the size of its pictures", values
        )
    return Check("cache", "ok", words, values)


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; what goes away meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def kernels() -> Check:
    """Where compiled kernels are kept."""
    from dist4d_env.simulation.kernels import wrap

    place = getattr(getattr(wrap, "stats", None), "cache_path", None)
    if place is None:
        words = "no folder for compiled kernels can be written to: every start compiles for some 15 s; set NUMBA_CACHE_DIR to one"
        return Check("kernels", "note", words, {"folder": None, "compiled": False})
    compiled = any(Path(place).glob("kernels.wrap-*.nbi"))
    words = f"compiled, in {place}" if compiled else f"not compiled yet: the first episode does that, for some 15 s, in {place}"
    return Check("kernels", "ok", words, {"folder": place, "compiled": compiled})


def data(dataroot: Path | None = None) -> Check:
    """The data set that is driven in where none is named: whether it can be opened, and what its first scene has."""
    wrong = [f"${name} is {os.environ[name]}, which is no folder" for name in FOLDERS if _names_nothing(name)]
    given = dataroot or os.environ.get("NUSCENES")
    if not given:
        return _town(wrong)
    from dist4d_env.data.open import open_dataset
    from dist4d_env.data.validate import check_scene

    dataset = open_dataset(dataroot)
    names = dataset.names()
    first = check_scene(dataset, names[0])
    values = {"dataroot": dataset.dataroot, "version": dataset.version, "scenes": len(names), "first": first, "faults": wrong}
    origin = "" if dataroot else " ($NUSCENES)"
    words = [f"{dataset.dataroot}{origin}, {dataset.version}: {len(names)} scenes; {first.name} is for {first.use}"]
    words += [text for text in (*first.broken, first.remedy) if text]
    state: State = "broken" if first.broken else "note" if first.remedy or wrong else "ok"
    return Check("data", state, "\n".join([*words, *wrong]), values)


def _town(wrong: list[str]) -> Check:
    from dist4d_env.town.cache import town_folder
    from dist4d_env.town.dataset import ON_DEMAND

    folder = town_folder()
    drawn = len(list((folder / ON_DEMAND).glob("town-*")))
    made = f"made, scenes with pictures so far: {drawn}" if folder.is_dir() else "not made yet: the first start does that"
    words = [f"the built-in town ($NUSCENES is not set): {made}", *wrong]
    values = {"dataroot": folder, "made": folder.is_dir(), "drawn": drawn, "faults": wrong}
    return Check("data", "note" if wrong else "ok", "\n".join(words), values)


def _names_nothing(variable: str) -> bool:
    return bool(os.environ.get(variable)) and not Path(os.environ[variable]).is_dir()


def weights(name: str) -> Check:
    """Whether weights can be loaded. Raises WeightsError."""
    from dist4d_env.models.pretrained import resolve_weights
    from dist4d_env.worlds.dist4d import GenerativeWorld

    folder = resolve_weights(name)
    height, width = GenerativeWorld.from_pretrained(name).image_size
    return Check("weights", "ok", f"{name}, for {height} x {width} and larger, in {folder}", {"folder": folder})


def variables() -> Check:
    """What is set."""
    found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    words = " ".join(f"{name}={value}" for name, value in found.items()) or "none of those that matter is set"
    return Check("variables", "ok", words, found)


def display() -> Check:
    """Windows for render_mode="human", and what videos are written with."""
    import av

    from dist4d_env.envs.window import has_display

    window, ffmpeg = has_display(), shutil.which("ffmpeg")
    try:
        import tkinter  # noqa: F401

        drawn = True
    except ImportError:
        drawn = False
    encodes = "libx264" in av.codecs_available
    lines = ["a display for render_mode='human'" if window else "no display: render_mode='human' cannot be had, 'rgb_array' can"]
    if window and not drawn:
        lines = ["a display, but no tkinter, which render_mode='human' needs: install Python's (Debian: python3-tk)"]
    videos = (
        f"PyAV {av.__version__} writes videos" if encodes else f"PyAV {av.__version__} has no libx264: demo and reports need it"
    )
    lines.append(f"{videos}; ffmpeg {'is' if ffmpeg else 'is not'} on the path, and is not needed")
    values = {"display": window, "tkinter": drawn, "pyav": av.__version__, "libx264": encodes, "ffmpeg": ffmpeg}
    return Check("display", "ok" if encodes and (drawn or not window) else "note", "\n".join(lines), values)
