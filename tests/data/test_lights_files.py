"""Files of traffic lights: read as they were written, broken ones named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist4d_env.data.lights import light_record, lights_file, read_lights
from dist4d_env.errors import DataError
from dist4d_env.scenes.lights import NO_LIGHTS

TIME = np.arange(5) * 0.1
LINE, HEADS = np.array([[1.0, 2.0], [1.0, -2.0]]), np.array([[1.0, -3.0, 2.9, 3.0], [20.0, -3.0, 5.4, 3.0]])


def written(root: Path, content: Any) -> Path:
    path = lights_file(root, "here")
    path.parent.mkdir()
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = np.array([[1, 1, 2, 3, 3], [3, 3, 3, 3, 1]], np.int8)
    rows = [light_record(token, LINE, [f"{token}1"], HEADS[: row + 1], state[row]) for row, token in enumerate("ab")]
    assert rows[0]["states"] == [[0.0, "green"], [0.2, "amber"], [0.3, "red"]]
    lights = read_lights(written(tmp_path, rows), "here", TIME)
    assert lights.token == ("a", "b") and lights.lanes == (("a1",), ("b1",))
    assert (lights.state == state).all() and lights.state.dtype == np.int8
    assert (lights.stop_line == LINE).all() and lights.head_light.tolist() == [0, 1, 1]
    assert lights.heads.tolist() == [HEADS[0].tolist(), *HEADS.tolist()]


def test_before_the_first_change_nothing_is_known(tmp_path: Path) -> None:
    row = light_record("a", LINE, [], HEADS, np.ones(5, np.int8)) | {"states": [[0.15, "red"]]}
    assert read_lights(written(tmp_path, [row]), "here", TIME).state.tolist() == [[0, 0, 3, 3, 3]]


def test_a_scene_without_a_file_has_none(tmp_path: Path) -> None:
    assert read_lights(tmp_path, "here", TIME) is NO_LIGHTS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token": ""}, 'token "" is not a token'),
        ({"stop_line": [[1, 2]]}, "stop_line .* is not two points"),
        ({"stop_line": [[1, 2], [1, float("nan")]]}, "stop_line"),
        ({"stop_line": [[1, 2], [1, 2]]}, "stop_line"),
        ({"lanes": "a1"}, "lanes"),
        ({"heads": [[1, 2, 3]]}, "heads"),
        ({"states": [[0, "blue"]]}, "states"),
        ({"states": [[1, "red"], [0, "green"]]}, "states .* in order of time"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    row = light_record("a", LINE, ["a1"], HEADS, np.ones(5, np.int8)) | change
    with pytest.raises(DataError, match=f"here.json, row 0: {words}.*mend it"):
        read_lights(written(tmp_path, [row]), "here", TIME)


@pytest.mark.parametrize(
    ("content", "words"), [("{}", "list of traffic lights"), ("[1]", "no traffic light"), ("[", "not valid JSON")]
)
def test_no_list_of_lights(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_lights(written(tmp_path, content), "here", TIME)
