"""Rows of a regression model whose weights are gone: taken over from an earlier result of the same pictures, and of no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.temporal import alike, take_over
from dist4d_env.errors import ConfigError


def results(splat: float, **rows: float) -> dict[str, Any]:
    cell = {"splat": {"psnr": splat}} | {name: {"psnr": value} for name, value in rows.items()}
    return {"closed_loop_history": {"mean": {"all": cell}, "appearance": {"2-4s": cell}, "share_of_steps": {"dist_t": 1.0}}}


def test_rows_are_taken_over_where_the_splats_agree(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps({"results": results(24.1, dist4d=26.0, regression=26.3)}))
    mine = json.loads(json.dumps(results(24.1 * (1 + 1e-8), dist4d=27.0)))  # another kind of processor
    take_over(mine, earlier)
    for mark, region in (("mean", "all"), ("appearance", "2-4s")):
        row = mine["closed_loop_history"][mark][region]
        assert row["regression"] == {"psnr": 26.3} and row["dist4d"] == {"psnr": 27.0}


def test_numbers_that_are_none_are_alike_in_json_too() -> None:
    assert alike({"std": None, "n": 0}, {"std": float("nan"), "n": 0})
    assert not alike({"std": None}, {"std": 0.1}) and not alike({"std": 0.1}, {"std": float("nan")})
    assert not alike({"n": 1}, {"n": 1, "std": 0.0}) and not alike(None, {"n": 1})


@pytest.mark.parametrize(
    ("earlier", "message"),
    [(results(24.2, regression=26.3), "scored other pictures"), (results(24.1), "no rows of a regression model")],
)
def test_other_pictures_and_missing_rows_are_refused(earlier: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "earlier.json").write_text(json.dumps({"results": earlier}))
    with pytest.raises(ConfigError, match=message):
        take_over(results(24.1), tmp_path / "earlier.json")
