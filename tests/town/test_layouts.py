"""Streets: what occurs, and that no split knows the streets of another."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from shapely.ops import unary_union

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.town.generate import PER_LAYOUT, generate_scene, layout_number, scene_outline
from dist4d_env.town.layout import CELL, cell_origin, make_town
from dist4d_env.town.light import light_of
from dist4d_env.town.model import DEFAULT_COUNT, SPLITS, Layout
from dist4d_env.town.plans import SPLIT_FAMILIES, Plan, make_plan

NUMBERS = {split: range(DEFAULT_COUNT[split] // PER_LAYOUT[split]) for split in SPLITS}


def plan_of(split: str, number: int) -> Plan:
    """The street plan of a default layout, by the path that ``make_town`` takes."""
    seed = int(np.random.SeedSequence((0, SPLITS.index(split), number, 0)).generate_state(1)[0])
    west, south = cell_origin(number)
    families = SPLIT_FAMILIES[split]
    middle = (west + CELL / 2, south + CELL / 2)
    return make_plan(families[number % len(families)], np.random.default_rng(seed), middle)


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, int], Plan]:
    return {(split, number): plan_of(split, number) for split in SPLITS for number in NUMBERS[split]}


@pytest.fixture(scope="module")
def layout() -> Layout:
    return scene_outline("val", 0).layout


def test_no_two_layouts_have_the_same_streets(plans: dict[tuple[str, int], Plan]) -> None:
    """Neither between splits nor within one, wherever on the canvas they lie."""
    shapes = Counter(
        tuple(sorted((round(length, 3), round(bend, 6)) for road in plan.roads for length, bend in road.path.pieces))
        for plan in plans.values()
    )
    assert len(shapes) == len(plans) == 28 and max(shapes.values()) == 1
    assert {scene_outline(split, 0).layout.name for split in SPLITS} == {
        "boston-seaport", "singapore-onenorth", "singapore-hollandvillage"
    }  # fmt: skip


def test_every_split_has_straights_curves_and_junctions_of_both_kinds(plans: dict[tuple[str, int], Plan]) -> None:
    for split in SPLITS:
        mine = [plan for (name, _), plan in plans.items() if name == split]
        arms = Counter(
            sum((road.begin == node) + (road.end == node) for road in plan.roads)
            for plan in mine for node in range(len(plan.nodes))
        )  # fmt: skip
        assert arms[3] > 0 and arms[4] > 0 and set(arms) <= {3, 4}
        pieces = [piece for plan in mine for road in plan.roads for piece in road.path.pieces]
        assert any(bend == 0 and length > 60 for length, bend in pieces)
        assert any(abs(bend) > 1 / 130 and length > 10 for length, bend in pieces)


def test_one_to_three_lanes_a_direction(plans: dict[tuple[str, int], Plan]) -> None:
    counts = Counter(lanes for plan in plans.values() for road in plan.roads for lanes in (road.forward, road.backward))
    assert set(counts) == {1, 2, 3} and min(counts.values()) > 5


def test_lanes_lie_on_the_road_and_houses_and_trees_do_not(layout: Layout) -> None:
    road = unary_union(layout.road)
    assert all(road.buffer(0.1).covers(lane.polygon) for lane in layout.lanes)
    assert not any(building.footprint.intersects(road) for building in layout.buildings) and len(layout.buildings) > 20
    kinds = Counter(prop.kind for prop in layout.props)
    assert {"tree", "lamp", "pole", "sign"} <= set(kinds)
    assert all(crossing.buffer(-0.1).intersects(road) for crossing in layout.crossings)
    assert not any(walkway.buffer(-0.1).intersects(road) for walkway in layout.walkways)


def test_the_same_arguments_give_the_same_layout_and_others_do_not(layout: Layout) -> None:
    again = make_town("val", 0, layout.seed).layout
    assert all(a.polygon.equals_exact(b.polygon, 0) for a, b in zip(layout.lanes, again.lanes, strict=True))
    assert [b.footprint.wkb for b in layout.buildings] == [b.footprint.wkb for b in again.buildings]
    assert layout.props == again.props
    other = make_town("val", 0, layout.seed + 1).layout
    assert [b.footprint.wkb for b in layout.buildings] != [b.footprint.wkb for b in other.buildings]


def test_scenes_of_a_split_show_every_light() -> None:
    assert {scene_outline("val", index).light for index in range(8)} == {"day", "dusk", "night", "overcast", "wet"}
    bright = {name: float(light_of(name, 0).sky.sum() + light_of(name, 0).sun.sum()) for name in ("day", "dusk", "night")}
    assert bright["day"] > bright["dusk"] > 5 * bright["night"] > 0
    assert light_of("wet", 0).wet > 0 and light_of("night", 0).lamps > 0
    with pytest.raises(DataError, match=r"unknown light 'fog'.*day"):
        light_of("fog", 0)


def test_scenes_that_share_a_layout_come_in_train_only() -> None:
    assert [layout_number("train", index) for index in (0, 3, 4)] == [0, 0, 1]
    assert [layout_number("val", index) for index in (0, 1)] == [0, 1]


@pytest.mark.parametrize(
    ("split", "index", "said"), [("mini", 0, "no split 'mini'.*train, val, test"), ("val", 128, "0 to 127, not 128")]
)
def test_unknown_scenes_are_refused(split: str, index: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        generate_scene(split, index)
