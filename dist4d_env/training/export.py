"""``python -m dist4d_env.training.export``: finished runs to one folder of weights that every ``weights=`` takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from dist4d_env.errors import DiST4DError


@dataclass(frozen=True)
class Options:
    """Gather a DiST-T run (with its codec) and a DiST-S run into one folder, at half precision."""

    dist_t: Path
    """Run folder of train dist-t."""
    dist_s: Path
    """Run folder of train dist-s."""
    out: Path
    """Folder to write codec/, dist_t/, composer/ and dist_s/ into."""


def run(options: Options) -> int:
    """Write the weights as float16 safetensors; 0 when done. Raises ``WeightsError`` where a run has none."""
    import torch

    from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline

    dist_t = DiSTTPipeline.from_pretrained(options.dist_t / "weights")
    dist_s = DiSTSPipeline.from_pretrained(options.dist_s / "weights")
    dist_t.save_pretrained(options.out, torch.float16)
    dist_s.save_pretrained(options.out, torch.float16)
    size = sum(file.stat().st_size for file in options.out.rglob("*.safetensors"))
    print(f"{options.out}: {size / 1e6:.1f} MB of weights")
    return 0


if __name__ == "__main__":
    import tyro

    try:
        sys.exit(run(tyro.cli(Options, prog="python -m dist4d_env.training.export")))
    except DiST4DError as error:
        sys.exit(f"export: {error}")
