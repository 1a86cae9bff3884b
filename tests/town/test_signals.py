"""Traffic lights of the town: where they stand, how they change, and what a written town says of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.ops import unary_union

from dist4d_env.data.nuscenes import NuScenesDataset
from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.town.generate import scene_outline
from dist4d_env.town.signals import states_of

LIT = (("val", 0), ("val", 1), ("val", 3), ("val", 6), ("test", 3), ("train", 0))


@pytest.mark.parametrize(("split", "index"), LIT)
def test_lights_stand_beside_the_road_and_face_those_who_come(split: str, index: int) -> None:
    layout = scene_outline(split, index).layout
    road, lanes = unary_union([*layout.road, *layout.intersections]), layout.lanes
    assert layout.signals and len(layout.signals) % 4 == 0
    incoming = {}
    for i, lane in enumerate(lanes):
        for j in lane.successors:
            incoming[j] = i
    for signal in layout.signals:
        line = shapely.linestrings(signal.line)
        assert {incoming[i] for i in signal.connectors} and not any(not lanes[i].is_connector for i in signal.connectors)
        (x, y), across = signal.line.mean(0), signal.line[1] - signal.line[0]
        heading = np.arctan2(across[0], -across[1])  # of those who come
        for i in signal.connectors:
            path = lanes[i].centerline
            assert shapely.linestrings(path[:2, :2]).buffer(0.2).intersects(line)
            assert np.cos(path[0, 2] - heading) > 0.99
        assert layout.crossings[signal.crossing].distance(shapely.points(x, y)) < 6
        for head in signal.heads:
            assert np.cos(head.facing - heading) < -0.9
            assert 0.3 < shapely.points(head.pole).distance(road) < 1.5
        beside, far = (np.array(head.middle[:2]) - (x, y) for head in signal.heads)
        forward, right = np.array([np.cos(heading), np.sin(heading)]), np.array([np.sin(heading), -np.cos(heading)])
        assert abs(beside @ forward) < 2 and beside @ right > 1
        assert 12 < far @ forward < 60


@pytest.mark.parametrize("looks", ["plain", "wild"])
def test_crossing_traffic_never_has_green_together(looks: str) -> None:
    scene = scene_outline("val", 0, looks=looks)
    states, signals = states_of(scene, 601), scene.layout.signals
    assert (states[:, :201] == states_of(scene, 201)).all()
    assert set(np.unique(states)) == {GREEN, AMBER, RED}
    moving = states != RED
    for i, one in enumerate(signals):
        for j, other in enumerate(signals):
            if one.node == other.node:
                alike = one.phase == other.phase
                assert (states[i] == states[j]).all() if alike else not (moving[i] & moving[j]).any()
        changes = np.flatnonzero(np.diff(states[i]))
        order = states[i][changes].tolist()
        assert all((a, b) in {(GREEN, AMBER), (AMBER, RED), (RED, GREEN)} for a, b in pairwise(order))


def test_scenes_of_one_layout_have_lights_of_their_own() -> None:
    first, second = scene_outline("train", 0), scene_outline("train", 1)
    assert first.layout is second.layout and (states_of(first, 201) != states_of(second, 201)).any()
    assert (states_of(first, 201) == states_of(scene_outline("train", 0), 201)).all()


def test_a_written_town_carries_its_lights(written: Path) -> None:
    scene = NuScenesDataset(str(written)).load("town-val-0000")
    outline = scene_outline("val", 0)
    lights, signals = scene.lights, outline.layout.signals
    assert len(lights) == len(signals) == 12 and scene.map is not None
    assert (lights.state == states_of(outline, len(scene.ego.time))).all()
    for row, signal in enumerate(signals):
        np.testing.assert_allclose(lights.stop_line[row], signal.line, atol=1e-3)
        for token, index in zip(lights.lanes[row], signal.connectors, strict=True):
            if token in scene.map.lanes:
                np.testing.assert_allclose(
                    scene.map.lanes[token].centerline[0], outline.layout.lanes[index].centerline[0], atol=0.01
                )
    assert (scene.light_states(0.7) == lights.state[:, 7]).all() and (scene.light_states(0.79) == lights.state[:, 7]).all()


def test_the_map_says_which_stop_lines_have_lights(written: Path) -> None:
    tables = json.loads((written / "maps" / "expansion" / "singapore-onenorth.json").read_text())
    lights = {record["token"]: record for record in tables["traffic_light"]}
    named = [token for line in tables["stop_line"] for token in line["traffic_light_tokens"]]
    assert sorted(named) == sorted(lights) and len(lights) == 12
    for line in tables["stop_line"]:
        assert line["stop_line_type"] == ("TRAFFIC_LIGHT" if line["traffic_light_tokens"] else "STOP_SIGN")
    blocks = {record["token"] for record in tables["road_block"]}
    lines = {record["token"] for record in tables["line"]}
    for light in lights.values():
        assert light["from_road_block_token"] in blocks and light["line_token"] in lines
        assert [item["color"] for item in light["items"]] == ["RED", "YELLOW", "GREEN"]
