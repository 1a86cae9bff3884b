"""Result tables for the terminal."""

from __future__ import annotations

from typing import Any

COLUMNS = ("psnr", "ssim", "abs_rel", "delta1", "specks")
APPEARANCE = ("miou", "share_of_truth", "sharpness", "frechet")


def print_table(results: dict[str, Any]) -> None:
    """One block per protocol, mark and region; methods as rows."""
    for protocol, marks in results.items():
        print(f"\n{protocol}")
        for mark, by_region in marks.items():
            if mark == "share_of_steps":
                print("  share of steps shown by", ", ".join(f"{k} {v:.2f}" for k, v in by_region.items()))
                continue
            if mark == "appearance":
                print_appearance(by_region)
                continue
            for region, methods in by_region.items():
                first = next(iter(methods.values()))
                share, columns = first["share"]["mean"], [c for c in COLUMNS if c in first]
                print(f"  {mark:>6} {region:<12} ({share:6.1%} of pixels)" + "".join(f"{c:>16}" for c in columns))
                for method, cell in methods.items():
                    cells = "".join(f"{cell[c]['mean']:>9.3f} ±{cell[c]['std']:5.3f}" for c in columns)
                    print(f"         {method:<28}{cells}")


def print_appearance(windows: dict[str, Any]) -> None:
    """One block per window of layout agreement, sharpness and Frechet distance, and the IoU of every class."""
    for window, methods in windows.items():
        classes = list(next(iter(methods.values()))["iou"])
        heading = "".join(f"{c:>16}" for c in APPEARANCE) + "   IoU of " + ", ".join(classes)
        print(f"  {window:>6} appearance" + " " * 21 + heading)
        for method, cell in methods.items():
            cells = "".join(f"{cell[c]['mean']:>9.3f} ±{cell[c]['std']:5.3f}" for c in APPEARANCE)
            print(f"         {method:<28}{cells}   " + " ".join(f"{cell['iou'][c]:.3f}" for c in classes))
