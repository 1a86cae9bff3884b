"""One registry for everything that can be named: built-in names, module paths, objects, entry points."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import dist4d_env.registry as registry
from dist4d_env.errors import ConfigError
from dist4d_env.registry import DATASETS, PLANNERS, SENSORS, TRAFFIC, WORLDS, Registry


class Thing:
    """Made with what it names."""

    def __init__(self, size: int = 1) -> None:
        self.size = size


class Needy:
    def __init__(self, colour: str) -> None:
        self.colour = colour


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of its own, and an installed package that declares one more name."""
    module = SimpleNamespace(Thing=Thing, Needy=Needy, nested=SimpleNamespace(Thing=Thing))
    monkeypatch.setitem(sys.modules, "outside", module)
    declared = {
        "a.group": [EntryPoint("declared", "outside:nested.Thing", "a.group"), EntryPoint("own", "outside:Needy", "a.group")]
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: declared.get(group, []))
    return Registry("thing", "a.group", {"own": "outside:Thing"})


def test_four_ways_to_name_a_thing(things: Registry) -> None:
    assert things.names() == ("own", "declared")
    for value in ("own", "declared", "outside:Thing", "outside:nested.Thing", Thing):
        assert things.check(value) is value
        assert things.make(value, ("size",), size=3, colour="red").size == 3
    mine = Thing(7)
    assert things.make(mine, ("size",), size=3) is mine


def test_errors_say_what_there_is(things: Registry) -> None:
    for value, said in (
        ("owm", r"thing 'owm' is unknown: did you mean 'own'\?.*'declared'.*'module:Class'.*entry point of the group 'a\.group'"),
        ("outside:Nothing", "cannot be imported.*Nothing.*spelled right"),
        ("nowhere:Thing", "cannot be imported.*PYTHONPATH"),
        ("outside:Needy", "needs colour, but is called with only size"),
        (None, "None"),
    ):
        with pytest.raises(ConfigError, match=said):
            things.check(value)
            things.make(value, size=3)
    with pytest.raises(ConfigError, match=r"has no weight: docs/extending\.md"):
        things.make("own", ("size", "weight"))


@pytest.mark.parametrize("each", [WORLDS, TRAFFIC, DATASETS, SENSORS, PLANNERS], ids=lambda each: each.kind)
def test_built_in_names_lead_somewhere(each: Registry) -> None:
    for name in each.built_in:
        if "learning" not in each.built_in[name]:  # extras
            assert each.find(name) is not None


@pytest.mark.parametrize("each", [WORLDS, TRAFFIC, DATASETS, SENSORS, PLANNERS], ids=lambda each: each.kind)
def test_unknown_names_are_one_short_sentence(each: Registry) -> None:
    with pytest.raises(ConfigError) as error:
        each.check("nobody")
    message = str(error.value)
    assert len(message) <= 320 and each.names()[0] in message and each.names()[-1].partition("_")[0] in message
