"""The JSON Schema (draft 2020-12) of DAG files, made from the tables of the format.

Decides how each kind of value looks to an editor, which sees `2024` as a number where the loader,
by the key, reads a text. Promises to know every key that the loader knows. Run as a program it
writes `dag.schema.json` next to this module. Does not validate anything itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from mainspring.definition.quantities import DURATION_PATTERN, SIZE_PATTERN
from mainspring.definition.tables import (
    DAG,
    Choice,
    Flag,
    Key,
    Kind,
    ListOf,
    Pairing,
    Real,
    Section,
    Size,
    Span,
    Text,
    TextMap,
    Whole,
)

SCHEMA_PATH = Path(__file__).with_name("dag.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema: TypeAlias = dict[str, Any]


def dag_schema() -> Schema:
    """The schema of one document of a DAG file."""
    head = {"$schema": _DIALECT, "title": "Mainspring DAG"}
    return head | _section(DAG)


def schema_text() -> str:
    """The schema as it is stored."""
    return json.dumps(dag_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(section: Section) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {key.name: _described(key) for key in section.keys},
        "additionalProperties": False,
    }
    if section.required:
        schema["required"] = list(section.required)
    if section.exactly_one:
        schema["oneOf"] = [{"required": [name]} for name in section.exactly_one]
    if section.pairings:
        schema["allOf"] = [_pairing(section, each) for each in section.pairings]
    return schema


def _pairing(section: Section, pairing: Pairing) -> Schema:
    given: Schema = {"required": [pairing.key]}
    if pairing.word:
        given["properties"] = {pairing.key: {"const": pairing.word}}
    flag = isinstance(section.by_name[pairing.other].kind, Flag)
    values = [word == "true" for word in pairing.words] if flag else list(pairing.words)
    wanted: Schema = {"properties": {pairing.other: {"enum": values}}}
    if not pairing.optional:
        wanted["required"] = [pairing.other]
    return {"if": given, "then": wanted}


def _described(key: Key) -> Schema:
    return {"description": key.description} | _schema(key.kind)


def _text(kind: Text) -> Schema:
    schema: Schema = {"type": "string", "maxLength": kind.maximum}
    if kind.minimum:
        schema["minLength"] = kind.minimum
    if kind.pattern:
        schema["pattern"] = f"^{kind.pattern}$"
    return schema


def _whole(kind: Whole) -> Schema:
    return {"type": "integer", "minimum": kind.minimum, "maximum": kind.maximum}


def _real(kind: Real) -> Schema:
    return {"type": "number", "minimum": kind.minimum, "maximum": kind.maximum}


def _span(_kind: Span) -> Schema:
    return {"type": ["string", "number"], "pattern": f"^{DURATION_PATTERN}$", "minimum": 0}


def _size(kind: Size) -> Schema:
    limits = {"minimum": 0, "maximum": kind.maximum}
    return {"type": ["string", "integer"], "pattern": f"^{SIZE_PATTERN}$"} | limits


def _choice(kind: Choice) -> Schema:
    return {"enum": list(kind.values)}


def _flag(_kind: Flag) -> Schema:
    return {"type": "boolean"}


def _text_map(kind: TextMap) -> Schema:
    return {
        "type": "object",
        "propertyNames": _text(kind.key),
        "additionalProperties": _text(kind.value),
        "maxProperties": kind.maximum,
    }


def _list(kind: ListOf) -> Schema:
    schema: Schema = {"type": "array", "items": _schema(kind.item), "maxItems": kind.maximum}
    if kind.minimum:
        schema["minItems"] = kind.minimum
    return schema


def _schema(kind: Kind) -> Schema:
    return _SCHEMAS[type(kind)](kind)


_SCHEMAS: dict[type[Kind], Callable[[Any], Schema]] = {
    Text: _text,
    Whole: _whole,
    Real: _real,
    Span: _span,
    Size: _size,
    Choice: _choice,
    Flag: _flag,
    TextMap: _text_map,
    ListOf: _list,
    Section: _section,
}


def main() -> None:
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
