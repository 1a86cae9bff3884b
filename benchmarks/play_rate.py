"""How fast one drives on the page of ``play``, as a share of the environment's own rate on the same machine in the same minutes.

The same drive, a decision every 0.1 s, once by ``env.step`` in this process and once over the page's socket to a server in its
own process, at the pace "every picture"; in turn, for a machine is faster at one time than at another.

    python -m benchmarks.play_rate --out benchmarks/results/play_rate.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from benchmarks.common import result_file, run
from dist4d_env.geometry.cameras import parse_size

SCENE = "town-val-0000"
PEDAL = 0.05
WARM = 5
"""Ticks that are not counted at each beginning."""


@dataclass(frozen=True)
class Options:
    """Pictures per second on the page of play beside the environment's own steps per second."""

    world: str = "dist4d"
    """The world that is driven in."""
    size: tuple[str, ...] = ("64x112",)
    """Heights x widths."""
    rounds: int = 3
    """Times that each is measured, in turn."""
    ticks: int = 60
    """Ticks of a measurement."""
    dataroot: Path | None = None
    """A data set with this scene; the built-in town when there is none."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> None:
    """Measures and prints."""
    rows = [measure(options, size) for size in options.size]
    for row in rows:
        print(
            f"{row['size']}: {row['page']:.2f} pictures/s on the page, {row['env']:.2f} steps/s of the environment, "
            f"{100 * row['share']:.0f} %"
        )
    result_file("play_rate", options, {"rows": rows})


def measure(options: Options, size: str) -> dict[str, Any]:
    """One size: medians over the rounds, and of the rounds' ratios."""
    same: dict[str, Any] = {"world": options.world, "scenes": SCENE, "dataroot": options.dataroot, "traffic": "idm"}
    env = gym.make("DiST4D-nuScenes-v0", size=parse_size(size), decision_dt=0.1, horizon=1000.0, **same)
    command = [
        sys.executable,
        "-m",
        "dist4d_env",
        "play",
        "--port",
        "0",
        "--scenes",
        SCENE,
        "--world",
        options.world,
        "--size",
        size,
    ]
    command += [] if options.dataroot is None else ["--dataroot", str(options.dataroot)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://(\S+)", server.stdout.readline())
        assert found is not None, "the server did not start"
        rates = [(env_rate(env, options.ticks), page_rate(found[1], options.ticks)) for _ in range(options.rounds)]
    finally:
        server.terminate()
        server.wait()
        env.close()
    own, page = np.array(rates).T
    share = np.median(page / own)
    return {"size": size, "env": float(np.median(own)), "page": float(np.median(page)), "share": float(share), "rounds": rates}


def env_rate(env: gym.Env, ticks: int) -> float:
    """Steps per second of the environment."""
    env.reset(seed=0, options={"scene": SCENE, "start": 0.0})
    action = np.array([PEDAL, 0.0], np.float32)
    for _ in range(WARM):
        env.step(action)
    began = time.perf_counter()
    for _ in range(ticks):
        env.step(action)
    return ticks / (time.perf_counter() - began)


def page_rate(place: str, ticks: int) -> float:
    """Pictures per second that come over the socket."""
    from websockets.sync.client import connect

    with connect(f"ws://{place}drive", max_size=None) as socket:

        def say(name: str, **fields: Any) -> None:
            socket.send(json.dumps({"do": name, **fields}))

        def wait(tick: int) -> None:
            while True:
                message = socket.recv(timeout=300)
                if isinstance(message, bytes):
                    length = int.from_bytes(message[:4], "little")
                    if json.loads(message[4 : 4 + length])["tick"] >= tick:
                        return

        wait(0)
        say("control", pedal=PEDAL, wheel=0)
        say("pace", pace=0)
        say("run", on=True)
        wait(WARM)
        began = time.perf_counter()
        wait(WARM + ticks)
        return ticks / (time.perf_counter() - began)


if __name__ == "__main__":
    run(main, Options)
