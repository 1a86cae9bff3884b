"""A newcomer's path by the stopwatch: install, first generated frame, demo, play, first trained policy.

A checkout of the last commit, an environment of its own and an empty cache folder are made; every step is a command that the
documentation names, begun in a fresh process. With ``--work``, a folder that stays, a stopped run goes on with its next step.

    python -m benchmarks.first_contact --out benchmarks/results/first_contact.json

Seconds are those of the clock, so the machine has to be quiet; beside them stand the processor's own, which tell how much of
that was waiting for others.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import FinishedUnits, header, run, write_json
from dist4d_env.errors import ConfigError
from dist4d_env.progress import each

ROOT = Path(__file__).resolve().parents[1]
FRAME = """
import gymnasium as gym, dist4d_env
env = gym.make("DiST4D-nuScenes-v0", scenes="val", world="dist4d", action="controls")
env.reset(seed=0)
info = env.step(env.action_space.sample())[-1]
assert set(info["world"]["source"]) <= {"dist_t", "dist_s"}, info["world"]["source"]
"""
"""The README's ten lines up to the first frame that is generated."""
PICTURE = """
import sys
from websockets.sync.client import connect
with connect("ws" + sys.argv[1].removeprefix("http") + "drive", max_size=None) as socket:
    while not isinstance(socket.recv(timeout=600), bytes):
        pass
"""
"""Waits for the first picture on the page of ``play``."""


@dataclass(frozen=True)
class Options:
    """A newcomer's path by the stopwatch."""

    steps: tuple[str, ...] = ("install", "frame", "again", "demo", "play", "policy")
    """What is measured, in this order; later steps need the installation."""
    python: str = sys.executable
    """The interpreter that the environment is made with."""
    decisions: int = 300_000
    """Decisions that the policy learns from."""
    threads: int = 2
    """Processor cores that everything may use."""
    work: Path | None = None
    """Folder to work in, some 4 GB, which stays; else a temporary one."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        for name in self.steps:
            if name not in STEPS:
                raise ConfigError(f"there is no step {name!r}: choose among {', '.join(STEPS)}")


@dataclass
class Newcomer:
    """Where everything is: a checkout, its environment, and a home without any cache."""

    place: Path
    options: Options
    variables: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DIST4D", "NUSCENES", "NUMBA"))}
        self.variables = kept | {"XDG_CACHE_HOME": str(self.place / "cache"), "OMP_NUM_THREADS": str(self.options.threads)}

    @property
    def checkout(self) -> Path:
        """The folder of the checkout."""
        return self.place / "dist4d_env"

    @property
    def interpreter(self) -> str:
        """Of the environment."""
        return str(self.checkout / ".venv" / "bin" / "python")

    def call(self, *words: str) -> str:
        """Runs a command in the checkout; what it says on stderr, where beginnings say where their time went."""
        done = subprocess.run(words, cwd=self.checkout, env=self.variables, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)[:200]} ended with {done.returncode}: {done.stderr[-1000:]}")
        return done.stderr


def install(newcomer: Newcomer) -> dict[str, Any]:
    """An environment, and what ``make play`` and the extra for Stable-Baselines3 install into it."""
    newcomer.call(newcomer.options.python, "-m", "venv", "--without-pip", ".venv")
    pip = (newcomer.options.python, "-m", "pip", "--disable-pip-version-check", "--python", newcomer.interpreter)
    newcomer.call(*pip, "install", "--progress-bar", "off", "-c", "constraints.txt", "-e", ".[play,sb3]")
    return {"command": "pip install -c constraints.txt -e '.[play,sb3]'"}


def frame(newcomer: Newcomer) -> dict[str, Any]:
    """The first generated frame: nothing is compiled, made or drawn yet."""
    said = newcomer.call(newcomer.interpreter, "-c", FRAME)
    return {"command": "the ten lines of README.md, one step", "spent": [line for line in said.splitlines() if "took" in line]}


def demo(newcomer: Newcomer) -> dict[str, Any]:
    """Film and report of the demo, of larger pictures."""
    newcomer.call(newcomer.interpreter, "-m", "dist4d_env", "demo", "--out", str(newcomer.place / "demo"))
    return {"command": "python -m dist4d_env demo"}


def play(newcomer: Newcomer) -> dict[str, Any]:
    """From the command to the first picture on the page."""
    words = [newcomer.interpreter, "-m", "dist4d_env", "play", "--port", "0", "--json", "--out", str(newcomer.place / "drives")]
    server = subprocess.Popen(words, cwd=newcomer.checkout, env=newcomer.variables, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        newcomer.call(newcomer.interpreter, "-c", PICTURE, json.loads(server.stdout.readline())["address"])
    finally:
        server.terminate()
        server.wait()
    return {"command": "python -m dist4d_env play"}


def policy(newcomer: Newcomer) -> dict[str, Any]:
    """A policy by Stable-Baselines3 from vectors, validated on streets that it has not seen."""
    out, decisions = newcomer.place / "ppo", newcomer.options.decisions
    asked = ["--out", str(out), "--steps", str(decisions), "--no-video", "--threads", str(newcomer.options.threads)]
    newcomer.call(newcomer.interpreter, "-m", "agents.train_sb3", *asked)
    best = max(json.loads((out / "curve.json").read_text()), key=lambda point: point["pdms"])
    return {"command": f"python -m agents.train_sb3 --steps {decisions}", "pdms": best["pdms"], "collision": best["collision"]}


STEPS: Mapping[str, tuple[str, Callable[[Newcomer], dict[str, Any]]]] = {
    "install": ("installed", install),
    "frame": ("first generated frame", frame),
    "again": ("the same in the next process", frame),
    "demo": ("demo: film and report, ten seconds at 224 x 400", demo),
    "play": ("play: first picture on the page", play),
    "policy": ("first trained policy", policy),
}
"""Name to what it is called in tables, and what does it."""


def main(options: Options) -> None:
    """Measures step by step, prints and writes the table."""
    finished = FinishedUnits(None if options.work is None else options.out, vars(options))
    with _place(options) as place:
        newcomer = Newcomer(place, options)
        if not newcomer.checkout.is_dir():
            subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(newcomer.checkout)], check=True)
        for name in each(options.steps, "measuring", "step", lambda name: STEPS[name][0]):
            if name not in finished.done:
                finished.add(name, timed(name, newcomer))
    rows = {name: finished.done[name] for name in options.steps}
    if options.out:
        write_json(options.out, header("first_contact", options) | {"results": rows})
        finished.finish()
    for row in rows.values():
        print(f"{row['what']:<50}{row['seconds']:8.1f} s, {row['cpu_seconds']:8.1f} CPU s   {row['command']}")


def timed(name: str, newcomer: Newcomer) -> dict[str, Any]:
    """A step, its seconds, those of the processor, and how many processes waited for it when it began."""
    what, step = STEPS[name]
    load, before, began = os.getloadavg()[0], _cpu(), time.perf_counter()
    found = step(newcomer)
    return {"what": what, "seconds": time.perf_counter() - began, "cpu_seconds": _cpu() - before, "load_before": load, **found}


def _cpu() -> float:
    """Seconds of the processor that ended child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _place(options: Options) -> Iterator[Path]:
    """The folder to work in."""
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        yield options.work.resolve()
        return
    place = Path(tempfile.mkdtemp(prefix="first-contact-"))
    try:
        yield place.resolve()
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    run(main, Options)
