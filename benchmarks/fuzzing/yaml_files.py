"""Files of scenarios and suites: whole, nearly right, cut, crossed, and filled with absurd values."""

from __future__ import annotations

import random
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from dist4d_env.errors import LONGEST, ConfigError
from dist4d_env.scenes.edits import EDITS, MOST
from dist4d_env.scenes.scenario import LONGEST_NAME, Scenario, read_scenario, write_scenario
from dist4d_env.scenes.suites import Suite, read_suite, write_suite

ABSURD = (
    "", "~", "null", "true", "maybe", "yes", "0", "-1", "010", "0o17", "0x1F", "1_000", "1:30", "1:30.5", "1e3", "1e999",
    "-1.0e+300",
    "1.0e+300", ".nan", ".inf", "-.inf", "9" * 18, "9" * 400, "0." + "1" * 400, "2024-01-01", "2024-01-01T00:00:00Z", "=", "<<",
    "*a",
    "&a 1", "!!int ''", '!!int ""', "!!bool maybe", "!!timestamp x", "!!float x", "!!null x", "!!str 1", "!!binary x",
    "!!set {a}",
    "!!omap [a: 1]", "!!python/object/apply:os.getcwd []", "!a b", "!<tag:yaml.org,2002:int> x", "[]", "[[]]", "[1, 2, 3]", "[1]",
    "[0, 1e3]", "[[0, 1], [1, 2]]", "[[0.0, " + "9" * 400 + "]]", "{}", "{a: 1}", "{a: {b: [c]}}", "{[a]: b}", "{{a: 1}: b}",
    "[" * 30 + "]" * 30, "[" * 5000, "{a: " * 5000, "x" * 400, "'x\ty'", '"a\\nb"', '"\\0"', '"\\ud800"', '"\\U0001F600"',
    "é" * 101,
    "'", '"', "|", ">", "%", "@", "`", "- a", "? a", ": ", "#", "a: b", "..", "../../etc", "CON", "lead", "nearest car",
    "nearest x", "all",
    "car", "left", "idm", "os:system", "town-val-0000", "\x07", "\x85", "\ufeff", "\ufffe", "\u2028",
)  # fmt: skip
"""Values as they stand in the text."""
FIELDS = tuple(field.name for field in fields(Scenario) if field.name != "edits")
EDIT_FIELDS = tuple((kind, field.name) for kind, edit in EDITS.items() for field in fields(edit))


class Case(NamedTuple):
    """kind: "scenario" or "suite"; text: of the file, as bytes."""

    kind: str
    text: bytes


def document(values: dict[str, str], edits: list[tuple[str, dict[str, str]]], suite: bool) -> Case:
    """A file of one scenario with these values, as text, and edits of a field each."""
    lines = [f"{key}: {value}" for key, value in values.items()]
    lines += ["edits:"] * bool(edits)
    lines += ["  - " + kind + ": {" + ", ".join(f"{k}: {v}" for k, v in one.items()) + "}" for kind, one in edits]
    if suite:
        lines = ["name: made", "scenarios:", "  - " + lines[0], *("    " + line for line in lines[1:])]
    return Case("suite" if suite else "scenario", ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))


def mutated(case: Case, seed: int, count: int) -> Case:
    """The file with bytes lost, doubled, changed or put in, or lines crossed."""
    chance, text = random.Random(seed), bytearray(case.text)
    for _ in range(count):
        at, way = chance.randrange(len(text) + 1), chance.randrange(5)
        if way == 0:
            del text[at : at + chance.randrange(1, 12)]
        elif way == 1:
            text[at:at] = text[at : at + chance.randrange(1, 30)]
        elif way == 2:
            text[at : at + 1] = bytes([chance.randrange(256)])
        elif way == 3:
            text[at:at] = chance.choice(ABSURD).encode("utf-8", "surrogatepass")[:60]
        else:
            lines = bytes(text).split(b"\n")
            chance.shuffle(lines)
            text = bytearray(b"\n".join(lines))
    return case._replace(text=bytes(text))


_NUMBERS = st.floats(-12000, 12000).map(lambda x: f"{x:.3f}") | st.integers(-20, 100).map(str)
_PLAIN = {
    "scene": st.just("town-val-0000"), "name": st.sampled_from(["a", "cut-in 1", "x" * 100]), "start": st.sampled_from(["0",
    "1.5", "2.0"]),
    "horizon": st.sampled_from(["5.0", "0.1"]), "traffic": st.sampled_from(["idm", "replay"]),
    "ego_speed": st.sampled_from(["0", "6.5"]),
    "ego_offset": st.sampled_from(["-0.5", "2"]), "ego_ahead": st.sampled_from(["-3", "0.5"]),
    "difficulty": st.sampled_from(["easy", "extreme"]),
}  # fmt: skip
_VALUES = st.fixed_dictionaries({"scene": _PLAIN["scene"], "name": _PLAIN["name"]}, optional={
    name: _PLAIN[name] for name in _PLAIN if name not in ("scene", "name")
})  # fmt: skip
_EDIT = st.sampled_from(EDIT_FIELDS).flatmap(lambda where: st.tuples(
    st.just(where[0]), st.dictionaries(st.just(where[1]), st.sampled_from(ABSURD) | _NUMBERS, max_size=1)
))  # fmt: skip
_GOOD_EDITS: st.SearchStrategy[tuple[str, dict[str, str]]] = st.sampled_from([
    ("stop", {"target": "lead", "at": "1.0"}), ("insert", {"category": "car", "ahead": "30.0", "profile": "[[0, 1], [2, 3.0]]"}),
    ("jaywalk", {}), ("remove", {"target": "all"}), ("door", {"size": "[4.0, 2.0, 1.5]"}), ("cross", {"side": "left"}),
])  # fmt: skip
_GOOD = st.builds(document, _VALUES, st.lists(_GOOD_EDITS, max_size=3), st.booleans())
_ABSURD_FIELD = st.builds(
    lambda values, field, value, suite: document({**values, field: value}, [], suite),
    _VALUES, st.sampled_from(FIELDS), st.sampled_from(ABSURD) | _NUMBERS, st.booleans(),
)  # fmt: skip
CASES: st.SearchStrategy[Case] = st.one_of(
    _GOOD, _ABSURD_FIELD, _ABSURD_FIELD, st.builds(document, _VALUES, st.lists(_EDIT, min_size=1, max_size=2), st.booleans()),
    st.builds(mutated, _GOOD, st.integers(0, 2**32), st.integers(1, 4)),
    st.builds(Case, st.sampled_from(["scenario", "suite"]), st.sampled_from(ABSURD).map(lambda t: t.encode("utf-8",
    "surrogatepass"))),
    st.builds(Case, st.sampled_from(["scenario", "suite"]), st.binary(max_size=60)),
)  # fmt: skip


def attempt(case: Case, folder: Path) -> str:
    """Writes the file, reads it, and what was read writes and reads again."""
    path = folder / "case.yaml"
    path.write_bytes(case.text)
    try:
        read: Scenario | Suite = read_scenario(path) if case.kind == "scenario" else read_suite(path)
    except ConfigError as error:
        assert len(str(error)) <= LONGEST, f"unclear: {len(str(error))} characters"
        assert re.search(r"case\.yaml, line [1-9]\d*: .", str(error)), f"unclear: {error}"
        assert int(re.findall(r"line (\d+)", str(error))[0]) <= case.text.count(b"\n") + case.text.count(b"\r") + 9
        return "refused"
    again = folder / "again.yaml"
    if isinstance(read, Scenario):
        write_scenario(again, read)
        assert read_scenario(again) == read, f"silent: {read} is another once it is written"
    else:
        write_suite(again, read)
        assert read_suite(again) == read, "silent: the suite is another once it is written"
    for scenario in (read,) if isinstance(read, Scenario) else read.scenarios:
        _is_sane(scenario, case.text)
    return "accepted"


def _is_sane(scenario: Scenario, text: bytes) -> None:
    assert len(scenario.name) <= LONGEST_NAME and scenario.name.isprintable(), f"silent: name {scenario.name!r}"
    for number in _numbers(scenario):
        assert -MOST <= number <= MOST, f"silent: {number}"
        plain = f"{number:g}".encode()
        read_as_written = plain in text or any(abs(float(n) - number) < 1e-6 * max(1.0, abs(number)) for n in _written(text))
        assert read_as_written, f"silent: {number} stands nowhere in the file"


def _written(text: bytes) -> list[str]:
    """The decimal numbers in a file. 010 and 1:30 have none that YAML 1.1 would make of them."""
    return re.findall(r"(?<![\w.:])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w:])", text.decode(errors="replace"))


def _numbers(value: Any) -> list[float]:
    """The numbers of a scenario or edit that are not at their defaults."""
    found: list[float] = []
    for field in fields(value):
        held = getattr(value, field.name)
        if held == field.default:
            continue
        for one in held if isinstance(held, tuple) else (held,):
            if hasattr(one, "__dataclass_fields__"):
                found += _numbers(one)
            elif isinstance(one, tuple):
                found += [float(x) for x in one]
            elif isinstance(one, int | float) and not isinstance(one, bool):
                found.append(float(one))
    return found
