"""Two training runs of one seed in processes of their own: is everything the same, rollout by rollout?

    python -m benchmarks.rl_repeat --out benchmarks/results/rl_repeat.json

Of every rollout of PPO by Stable-Baselines3: a digest of observations, actions and rewards, and one of all weights after it;
of RLlib: the scores after every batch and the weights at the end. The two processes hash their strings with other salts.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.common import header, run, write_json
from dist4d_env.errors import DiST4DError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """Run the same training twice and compare."""

    steps: int = 10_000
    """Decisions of each run."""
    libraries: tuple[Literal["sb3", "rllib"], ...] = ("sb3", "rllib")
    """Which training scripts; rllib with two runners."""
    dataroot: Path | None = None
    """Data set of the training scenes; else $NUSCENES, else the built-in town."""
    scenes: str = "train"
    """Split to train on."""
    seed: int = 0
    """Of both runs."""
    quick: bool = False
    """A tenth of the decisions."""
    out: Path | None = None
    """Result file (JSON)."""
    digests: Path | None = None
    """Used by the runs themselves: train one policy in this folder and leave its digests there."""


def main(options: Options) -> dict[str, Any]:
    """Runs and compares; raises DiST4DError where two runs differ, naming the first rollout that does."""
    if options.digests is not None:
        digest_training(options, options.digests)
        return {}
    result = header("rl_repeat", options) | {"runs": {}}
    for library in options.libraries:
        with tempfile.TemporaryDirectory() as scratch:
            first, second = (train(options, library, Path(scratch, f"run-{salt}"), str(salt)) for salt in (1, 2))
        compare(library, first, second)
        result["runs"][library] = {"same": True, "decisions": first[-1]["decisions"], "points": first}
        print(f"{library}: two runs of seed {options.seed} are the same over {first[-1]['decisions']} decisions")
    if options.out:
        write_json(options.out, result)
    return result


def train(options: Options, library: str, folder: Path, salt: str) -> list[dict[str, Any]]:
    """The digests of one run, in a process of its own."""
    steps = options.steps // 10 if options.quick else options.steps
    words = ["--digests", str(folder), "--libraries", library, "--steps", str(steps), "--scenes", options.scenes]
    words += ["--seed", str(options.seed)] + ([] if options.dataroot is None else ["--dataroot", str(options.dataroot)])
    environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rl_repeat", *words], env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise DiST4DError(f"a training run of {library} failed: {done.stderr.strip()[-1000:]}")
    points: list[dict[str, Any]] = json.loads((folder / "digests.json").read_text())
    return points


def compare(library: str, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Raises DiST4DError for the first difference."""
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        other = [name for name in one if one[name] != two[name]]
        if other:
            raise DiST4DError(f"{library}: two runs of one seed differ in {', '.join(other)} of rollout {index}")


def digest_training(options: Options, folder: Path) -> None:
    """Trains and leaves ``digests.json``, a list of one dict per rollout (sb3) or batch (rllib)."""
    shared: dict[str, Any] = {
        "out": folder, "dataroot": options.dataroot, "val_dataroot": options.dataroot, "val_scenes": options.scenes,
        "steps": options.steps, "seed": options.seed, "eval_episodes": 4,
    }  # fmt: skip
    points = _sb3(shared, options) if options.libraries == ("sb3",) else _rllib(shared, options)
    (folder / "digests.json").write_text(json.dumps(points))


def _sb3(shared: dict[str, Any], options: Options) -> list[dict[str, Any]]:
    from agents import train_sb3

    points: list[dict[str, Any]] = []

    class Digesting(train_sb3.Keeper):
        """Looks at every rollout before it is learned from."""

        def _on_rollout_end(self) -> None:
            buffer: Any = self.model.rollout_buffer  # type: ignore[attr-defined]
            observed = [buffer.observations[key] for key in sorted(buffer.observations)]
            points.append({
                "decisions": int(self.num_timesteps), "observations": digest(observed), "actions": digest([buffer.actions]),
                "rewards": digest([buffer.rewards]), "weights": digest(self.model.policy.state_dict().values()),
            })  # fmt: skip

    train_sb3.Keeper = Digesting  # type: ignore[misc]
    train_sb3.main(train_sb3.Options(**shared, scenes=(options.scenes,), rollout=16, eval_every=10**9, device="cpu", video=False))
    return points


def _rllib(shared: dict[str, Any], options: Options) -> list[dict[str, Any]]:
    from safetensors.torch import load_file

    from agents import train_rllib

    folder = train_rllib.main(train_rllib.Options(**shared, scenes=(options.scenes,), runners=2, eval_every=1))
    points = [
        {"decisions": int(point["steps"]), "scores": digest([np.array([point[name] for name in sorted(point)])])}
        for point in json.loads((folder / "curve.json").read_text())
    ]
    weights = load_file(folder / "last" / "policy.safetensors")
    points[-1]["weights"] = digest([weights[name] for name in sorted(weights)])
    return points


def digest(arrays: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of arrays or tensors, bit for bit."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    run(main, Options)
