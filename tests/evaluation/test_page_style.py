"""The style sheets of reports and play, by a CSS parser: sound, no colour undefined or unused, no rule for what is not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import tinycss2


def assets(place: Any) -> dict[str, str]:
    """The text files of a folder by name."""
    return {file.name: file.read_text(encoding="utf-8") for file in place.iterdir() if file.is_file()}


REPORT, PLAY = assets(files("dist4d_env.evaluation.report")), assets(files("dist4d_env.play").joinpath("page"))
STYLES = {"report": REPORT["page.css"], "play": PLAY["play.css"]}
SHOWN = {
    "report": "".join(text for name, text in REPORT.items() if name.endswith((".py", ".js"))),
    "play": "".join(text for name, text in PLAY.items() if not name.endswith(".css")) + REPORT["drawing.js"],
}
PAGES = pytest.mark.parametrize("page", STYLES)


def rules(content: Any) -> Iterator[tuple[str, list[Any]]]:
    """Selector and declarations of every rule, those in media queries too; raises ValueError where something is no CSS."""
    for rule in tinycss2.parse_rule_list(content, skip_comments=True, skip_whitespace=True):
        if rule.type == "at-rule" and rule.at_keyword == "media":
            yield from rules(rule.content)
            continue
        found = tinycss2.parse_blocks_contents(getattr(rule, "content", []), skip_comments=True, skip_whitespace=True)
        for one in (rule, *found):
            if one.type == "error" or not tinycss2.serialize(one.value if one.type == "declaration" else one.content).strip():
                raise ValueError(f"line {one.source_line}: {one}")
        yield tinycss2.serialize(rule.prelude).strip(), found


@PAGES
def test_every_rule_can_be_read_and_sets_nothing_twice(page: str) -> None:
    seen, style = list(rules(STYLES[page])), STYLES[page]
    assert len(seen) > 80 and style.count("{") == style.count("}")
    for selector, found in seen:
        names = [one.name for one in found]
        assert names and len(names) == len(set(names)), selector


@pytest.mark.parametrize("broken", ["a { color red }", "a { color: }", "a }", "@media print { a { b } }"])
def test_what_is_no_css_is_found(broken: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(rules(broken))


@PAGES
def test_colours_are_defined_and_used(page: str) -> None:
    defined = {one.name for _, found in rules(STYLES[page]) for one in found if one.name.startswith("--")}
    used = set(re.findall(r"[(\"](--[\w-]+)", STYLES[page] + SHOWN[page]))
    assert defined == used - {"--cameras"}  # which the script sets


@PAGES
def test_rules_are_for_what_pages_show(page: str) -> None:
    named = {name for selector, _ in rules(STYLES[page]) for name in re.findall(r"[.#]([a-z][\w-]*)", selector)}
    assert {"report": {"player", "shot", "tile", "charts"}, "play": {"stage", "pane", "map", "pad"}}[page] <= named
    assert not [name for name in sorted(named) if not re.search(rf"\b{name}\b", SHOWN[page])]
