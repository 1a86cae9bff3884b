"""The same episode, bit for bit, in every world: in other processes, on one thread and two, alone, among others and restored."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)

from .worlds import WORLDS, actions_of, info_of, name_of

SEED, DECISIONS = 5, 3
ROOT = Path(__file__).resolve().parents[2]


def digest(outcomes: list[Any]) -> str:
    """Of observations, rewards, ends and infos, all but how long they took."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(value[key]) for key in sorted(value) if key != "timing_ms"}
        if isinstance(value, np.ndarray):
            return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    return hashlib.sha256(json.dumps(plain(outcomes)).encode()).hexdigest()[:16]


def episode_of(env: gym.Env, actions: list[np.ndarray], snapshot_after: int | None = None) -> tuple[list[Any], Any]:
    """Every outcome of the seed's episode, and a snapshot of it on the way."""
    outcomes, kept = [env.reset(seed=SEED)], None
    for index, action in enumerate(actions):
        kept = env.unwrapped.snapshot() if index == snapshot_after else kept
        outcomes.append(env.step(action))
    return outcomes, kept


def digests(dataroot: str, world: dict[str, str]) -> dict[str, str]:
    """How the episode went alone, as the second of two rows, and from a snapshot in an environment that played something else."""
    groups = ("ego", "agents") if world["world"] == "none" else ("cameras", "depth", "ego")
    settings = {"dataroot": dataroot, "scenes": "val", "horizon": 1.5, "observation": groups, "traffic": "idm", **world}
    alone, other = (gym.make("DiST4D-nuScenes-v0", **settings) for _ in range(2))
    actions = actions_of(alone, DECISIONS)
    outcomes, kept = episode_of(alone, actions, snapshot_after=1)
    other.reset(seed=SEED + 1)
    other.unwrapped.restore(kept)
    restored = outcomes[:2] + [other.step(action) for action in actions[1:]]
    pair = gym.make_vec("DiST4D-nuScenes-v0", 2, "vector_entry_point", **settings)

    def row(observations: Any, *rest: Any) -> tuple[Any, ...]:
        *numbers, infos = rest
        second = [number[1].item() for number in numbers]
        return {key: value[1] for key, value in observations.items()}, *second, info_of(infos, 1)

    among = [row(*pair.reset(seed=SEED - 1)), *(row(*pair.step(np.stack([action, action]))) for action in actions)]
    for env in (alone, other, pair):
        env.close()
    return {"alone": digest(outcomes), "restored": digest(restored), "among": digest(among)}


@pytest.mark.medium
def test_processes_and_threads_play_the_same_bits(town_dataroot: Path) -> None:
    found = []
    for threads in (1, 2):
        # Threads that wait sleep: a second one that spins would keep the other tests' core from them.
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)}
        command = [sys.executable, "-m", "tests.envs.test_across_processes", str(town_dataroot), str(threads)]
        played = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert played.returncode == 0, played.stderr[-2000:]
        found.append(json.loads(played.stdout.splitlines()[-1]))
    assert found[0] == found[1]
    assert set(found[0]) == {name_of(world) for world in WORLDS}
    for world, ways in found[0].items():
        assert len(set(ways.values())) == 1, (world, ways)
    assert len({ways["alone"] for ways in found[0].values()}) == len(WORLDS)  # the digest sees what the worlds show


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps({name_of(world): digests(sys.argv[1], world) for world in WORLDS}))
