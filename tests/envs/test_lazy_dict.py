"""A dict that is filled late is a dict."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from dist4d_env.envs.lazy_dict import LazyDict

PLAIN = {"a": 1.0, "b": {"valid": True}}


@pytest.fixture
def late():
    calls = []
    made = LazyDict(lambda: (calls.append(1), dict(PLAIN))[1])
    yield made
    assert len(calls) <= 1, "it is made once"


LOOKS = [
    dict,
    len,
    list,
    repr,
    sorted,
    bool,
    copy.copy,
    copy.deepcopy,
    json.dumps,
    lambda d: d["a"],
    lambda d: "a" in d,
    lambda d: d.get("a"),
    lambda d: d.get("c", 3),
    lambda d: d == PLAIN,
    lambda d: d != PLAIN,
    lambda d: PLAIN == d,
    lambda d: list(d.items()),
    lambda d: list(d.values()),
    lambda d: list(d.keys()),
    lambda d: list(reversed(d)),
    lambda d: d.copy(),
    lambda d: {**d},
    lambda d: {"c": 1} | d,
    lambda d: d | {"c": 1},
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.setdefault("a", 2),
    lambda d: pickle.loads(pickle.dumps(d)),
]


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_first_sees_it_filled(late, look):
    assert look(late) == look(dict(PLAIN))


def test_it_can_be_changed(late):
    late["c"] = 2
    del late["a"]
    late.update(d=3)
    late |= {"e": 4}
    assert late == {"b": {"valid": True}, "c": 2, "d": 3, "e": 4}
    late.clear()
    assert late == {}


def test_nobody_looks_nothing_is_made():
    def fail():
        raise AssertionError("made though nobody looked")

    info = {"final": LazyDict(fail)}
    assert isinstance(info["final"], dict)


def test_pickled_it_is_plain(late):
    assert type(pickle.loads(pickle.dumps(late))) is dict
