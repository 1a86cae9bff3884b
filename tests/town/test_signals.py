"""Traffic lights of the town: where they stand, how they change, and what a written town says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.ops import unary_union

from dist4d_env.data.nuscenes import NuScenesDataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.transforms import invert
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.town.generate import generate_scene, scene_outline
from dist4d_env.town.model import TownScene
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.sensors import camera_pose, town_rig
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


@pytest.mark.medium
@pytest.mark.parametrize("looks", ["plain", "wild"])
def test_the_lamp_of_the_state_is_lit(looks: str, request: pytest.FixtureRequest) -> None:
    """At 224 x 400, seen from where a driver sees the head across the junction, in colours that can be told apart."""
    if looks == "plain":
        renderer = request.getfixturevalue("renderer")
    else:
        renderer = TownRenderer(generate_scene("val", 0, looks="wild"))
    head, rig = renderer.scene.layout.signals[0].heads[1], town_rig(224, 400)
    front = replace(rig, names=("CAM_FRONT",), intrinsics=rig.intrinsics[1:2], ego_from_camera=rig.ego_from_camera[1:2])
    x, y, z = head.middle
    place = (x + 14 * np.cos(head.facing), y + 14 * np.sin(head.facing), 1.6)
    pose = camera_pose(*place, head.facing + np.pi)[None]
    column, row, depth = (invert(pose[0]) @ (x, y, z, 1))[:3] @ front.intrinsics[0].T
    column, row = int(column / depth), int(row / depth)
    shown = {}
    for state in (RED, AMBER, GREEN, UNKNOWN):
        states = np.full(len(renderer.scene.layout.signals), state, np.int8)
        shown[state] = renderer.render(front, pose, None, 0.0, states)
    box = slice(row - 16, row + 17), slice(column - 6, column + 7)
    for place, state in enumerate((RED, AMBER, GREEN)):
        more = shown[state].rgb[0][box].astype(int) - shown[UNKNOWN].rgb[0][box]
        lit = more.max(-1) > 80
        assert lit.sum() > 15
        height = np.argwhere(lit)[:, 0].mean() - 16
        assert abs(height - 8.2 * (place - 1)) < 2.5
        red, green, blue = shown[state].rgb[0][box][lit].mean(0)
        assert {RED: red > 1.8 * max(green, blue), AMBER: red > green > 1.3 * blue, GREEN: green > 1.5 * red}[state]
    assert all(np.array_equal(images.depth, shown[RED].depth) for images in shown.values())


def test_recorded_pictures_show_the_state_of_their_time(renderer: TownRenderer, scene: TownScene) -> None:
    states, rig = states_of(scene, len(scene.time)), town_rig(24, 40)
    poses = scene.ego_pose[50] @ rig.ego_from_camera
    change = int(np.flatnonzero((np.diff(states) != 0).any(0))[0])
    for time, row in ((change * 0.1 + 0.099, change), (change * 0.1 + 0.1, change + 1), (-0.04, 0)):
        shown = renderer.render(rig, poses, None, time)
        assert np.array_equal(shown.rgb, renderer.render(rig, poses, None, time, states[:, row]).rgb)
    with pytest.raises(DataError, match="12 traffic lights, but states of 3"):
        renderer.render(rig, poses, None, 0.0, states[:3, 0])
