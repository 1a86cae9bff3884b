"""Draw the validation curves of training runs: python docs/make_training_curve.py OUT.png RUN [RUN ...]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(out: Path, runs: list[Path]) -> None:
    """One panel a run: validation PSNR over optimiser steps of everything the run logs in dB, beside its splat baseline."""
    figure, panels = plt.subplots(1, len(runs), figsize=(4.2 * len(runs), 3.2), squeeze=False, layout="constrained")
    for panel, run in zip(panels[0], runs, strict=True):
        entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        validations = [entry for entry in entries if "validation" in entry]
        steps = [entry["step"] for entry in validations]
        for name in validations[0]["validation"]:
            if name.split("@")[0] in ("psnr", "splat", "decoded", "composed"):
                values = [entry["validation"][name] for entry in validations]
                panel.plot(steps, values, "--" if name.startswith("splat") else "-", marker=".", label=name)
        panel.set(title=run.name, xlabel="optimiser step", ylabel="validation PSNR (dB)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]])
