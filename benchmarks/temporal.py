"""DiST-T against geometry on town scenes it was never trained on: one step, and eight seconds in closed loop.

Four protocols, each scored against the oracle's render of the same instant:

- ``one_step_history``: 0.5 s ahead on the recorded drive, from several instants, remembering only images before that instant;
- ``one_step_log``: 0.25 s ahead, halfway between two keyframes, remembering the whole log;
- ``closed_loop_history``: 8 s on the recorded drive, remembering only images before they began, with the world's
  own frames fed back;
- ``closed_loop_log``: 8 s beside the recorded drive (a lateral swerve), at instants between the keyframes, remembering the
  whole log: what the simulator does by default. DiST-S takes part here.

Rows: the codec applied to the truth (ceiling), copy of the last real frame (with the log in memory: of the nearest one), the
parameter-free splat with its best fill, and the weights. In closed loops with ``history`` the splat has two rows: of the real
frames alone, never updated, and growing, its own filled pixels entering the memory as a model's do. ``--weights splat`` leaves
out the row that needs weights. Closed loops are also measured for appearance, see ``layout_agreement.py``.

What noise cannot change is run once, weights once per seed.

    python -m benchmarks.temporal --out benchmarks/results/temporal.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import FinishedUnits, TownOptions, images_of, result_file, run
from benchmarks.layout_agreement import appearance
from benchmarks.protocols import STEP, SceneEvaluation, summarise
from benchmarks.rollouts import codec_of
from benchmarks.tables import print_table
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.models.segmenter import load_segmenter, segmenter_for
from dist4d_env.progress import each
from dist4d_env.worlds.contract import World
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import MemoryPolicy

MEMORIES: tuple[MemoryPolicy, ...] = ("history", "log")
BASELINES = "baselines"
"""The unit of a scene that holds the rows without weights."""


@dataclass(frozen=True)
class Options(TownOptions):
    """Scores of DiST-T beside copy-last, best splat and codec ceiling."""

    segmenter: Path | None = None
    """Folder of the town segmenter for appearance; where none is given, the one that ships for pictures of about this size."""
    starts: int = 6
    """Instants of each scene from which one step is predicted."""
    duration: float = 8.0
    """Seconds in closed loop; scenes must be two seconds longer."""
    seeds: int = 3
    """How many noise seeds."""
    quick: bool = False
    """Two scenes, two instants, two seconds, one seed, to see that it runs."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a drive without a step, too."""
        super().__post_init__()
        if not STEP <= self.duration < float("inf"):
            raise ConfigError(f"--duration {self.duration:g} must be at least a step of {STEP} s")


def main(options: Options) -> dict[str, Any]:
    codec, size = codec_of(options.weights), parse_size(options.size)
    judge = options.segmenter or segmenter_for(size)
    segmenter = load_segmenter(judge)
    worlds: dict[MemoryPolicy, World] = {}
    if options.weights != "splat":
        worlds = {memory: make_world("dist4d", weights=options.weights, memory=memory) for memory in MEMORIES}
    dataset = open_dataset(options.dataroot, scenes=options.split, size=size)
    names = dataset.scene_names(options.split)[: 2 if options.quick else options.scenes]
    duration, starts, seeds = (2.0, 2, 1) if options.quick else (options.duration, options.starts, options.seeds)
    key: dict[str, Any] = {"weights": options.weights, "segmenter": options.segmenter or judge.name, "size": options.size}
    key |= {"format": 6, "duration": duration, "starts": starts, "town": dataset.dataroot}
    finished = FinishedUnits(options.out, key)
    units = [(name, unit) for name in names for unit in (BASELINES, *(range(seeds) if worlds else ()))]
    evaluation: SceneEvaluation | None = None
    for name, unit in each(units, "measuring", "run"):
        if f"{name}/{unit}" in finished.done:
            continue
        if evaluation is None or evaluation.scene.name != name:
            evaluation = SceneEvaluation(dataset.load(name), segmenter, duration, starts, size)
        found = evaluation.model(worlds, unit) if isinstance(unit, int) else evaluation.baselines(codec)
        finished.add(f"{name}/{unit}", found)
    done = [(name, finished.done[f"{name}/{unit}"]) for name, unit in units]
    results = summarise([unit["scores"] for _, unit in done])
    for protocol in done[0][1]["looks"]:
        runs = [(name, unit["looks"][protocol]) for name, unit in done if protocol in unit["looks"]]
        results[protocol]["appearance"] = appearance(runs, STEP)
    content = {"scenes": names, "seeds": seeds, "images": images_of(dataset.load(names[0]), size)}
    content |= {"segmenter": judge.name, "results": results}
    result = result_file("temporal", options, content, finished)
    print_table(results)
    return result


if __name__ == "__main__":
    run(main, Options)
