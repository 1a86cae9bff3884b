"""JSON Schemas of scenarios and suites, for editors and for programs that write such files.

``python -m dist4d_env.scenes.schema suite > suite.schema.json`` (or ``scenario``). A schema knows fields, types, defaults and
choices; constraints over several fields, and those that depend on the scene, are checked on reading.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

from dist4d_env.registry import TRAFFIC
from dist4d_env.scenes.edits import EDITS
from dist4d_env.scenes.scenario import DIFFICULTIES, LONGEST_NAME, Scenario

_DRAFT = "http://json-schema.org/draft-07/schema#"
_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "str | None": {"type": ["string", "null"]},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "float | None": {"type": ["number", "null"]},
    "Size | None": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
    "tuple[tuple[float, float], ...]": {"type": "array", "items": _PAIR},
}
_PATH = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"}  # module:Class
_SPECIAL: dict[str, dict[str, Any]] = {
    "traffic": {"anyOf": [{"enum": [*TRAFFIC.names(), None]}, _PATH]},
    "difficulty": {"enum": ["", *DIFFICULTIES]},
    "name": {"type": "string", "maxLength": LONGEST_NAME},
    "family": {"type": "string", "maxLength": LONGEST_NAME},
}


def scenario_schema() -> dict[str, Any]:
    """Of a scenario's YAML file."""
    return {"$schema": _DRAFT, "title": "scenario", **_scenario(), "definitions": _edits()}


def suite_schema() -> dict[str, Any]:
    """Of a suite's YAML file: scenarios with names of their own, and perhaps the data set that they are for."""
    one = _scenario()
    one["required"] = ["name", "scene"]
    fields = {"name": _SPECIAL["name"], "dataroot": _TYPES["str | None"], "version": _TYPES["str | None"]}
    scenarios = {"type": "array", "items": one, "minItems": 1}
    return {
        "$schema": _DRAFT, "title": "suite", "type": "object", "required": ["scenarios"], "additionalProperties": False,
        "properties": {**fields, "scenarios": scenarios}, "definitions": _edits(),
    }  # fmt: skip


def _scenario() -> dict[str, Any]:
    kinds = [
        {"type": "object", "required": [kind], "additionalProperties": False,
         "properties": {kind: {"$ref": f"#/definitions/{kind}"}}}
        for kind in EDITS
    ]  # fmt: skip
    listed = _object(Scenario, skipped="edits")
    listed["properties"]["edits"] = {"type": "array", "items": {"oneOf": kinds}}
    return listed | {"required": ["scene"]}


def _edits() -> dict[str, Any]:
    """Each kind of edit by its name in YAML."""
    return {kind: _object(edit) for kind, edit in EDITS.items()}


def _object(kind: Any, skipped: str = "") -> dict[str, Any]:
    """The fields of a dataclass; its docstring's first line describes it."""
    choices = {name: {"enum": list(allowed)} for name, allowed in getattr(kind, "choices", {}).items()}
    shapes = {**_SPECIAL, **choices}
    fields = {field.name: _field(field, shapes) for field in dataclasses.fields(kind) if field.name != skipped}
    about = (kind.__doc__ or "").splitlines()[0]
    return {"type": "object", "description": about, "additionalProperties": False, "properties": fields}


def _field(field: dataclasses.Field[Any], shapes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    shape = shapes.get(field.name) or _TYPES[str(field.type)]
    if field.default in (dataclasses.MISSING, None, "", ()):
        return dict(shape)
    return {**shape, "default": field.default}


if __name__ == "__main__":
    SCHEMAS = {"scenario": scenario_schema, "suite": suite_schema}
    if len(sys.argv) != 2 or sys.argv[1] not in SCHEMAS:
        sys.exit("usage: python -m dist4d_env.scenes.schema scenario|suite")
    print(json.dumps(SCHEMAS[sys.argv[1]](), indent=1))
