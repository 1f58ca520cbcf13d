"""Writes a `DagSpec` as a readable YAML file.

Decides the layout: keys in the order of the tables, short lists on one line, scripts of several
lines as blocks, quotes only where some reader of YAML could take a text for something else.
Promises that `load` reads the same definition back from every definition it accepts. Does not check
the definition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from google.protobuf.message import Message

from mainspring.definition.quantities import NANOS_PER_SECOND, format_duration, format_size
from mainspring.definition.tables import (
    DAG,
    Choice,
    Kind,
    ListOf,
    Real,
    Section,
    Size,
    Span,
    Text,
    TextMap,
    Whole,
)
from mainspring.v1.dag_pb2 import DagSpec

_LINE_CHARACTERS = 88

_SAFE = re.compile(r"-{0,2}[A-Za-z_/][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*\.?")
# Words that YAML 1.1 or 1.2 take for something other than a text.
_TAKEN = frozenset("y n yes no on off true false null none nan inf infinity".split())
# What JSON leaves as it is although some reader of YAML takes it for a line end or refuses it.
_RISKY = re.compile("[\x7f-\x9f\u00ad\u2028\u2029\ufeff\ufff0-\uffff\ud800-\udfff]")
# A block may hold this: plain lines, of which the first and the last are not blank or indented.
_BLOCK = re.compile(r"[!-~](?:[\t\n -~]*[!-~])?\n?")


def dump_yaml(spec: DagSpec) -> str:
    """The definition as one YAML document."""
    lines: list[str] = []
    _section(lines, DAG, spec, "")
    return "\n".join(lines) + "\n"


def _section(lines: list[str], section: Section, message: Message, indent: str) -> None:
    for key in section.keys:
        field = key.api_field
        value = getattr(message, field)
        present = message.HasField(field) if _has_presence(message.DESCRIPTOR, field) else value
        if present:
            _WRITERS[type(key.kind)](lines, key.kind, f"{indent}{key.name}:", value, indent)


@lru_cache(maxsize=256)
def _has_presence(descriptor: Any, field: str) -> bool:
    return bool(descriptor.fields_by_name[field].has_presence)


def _text(lines: list[str], _kind: Text, head: str, value: str, indent: str) -> None:
    if "\n" in value and _BLOCK.fullmatch(value):
        _block(lines, head, value, indent)
    else:
        lines.append(f"{head} {quoted(value)}")


def _block(lines: list[str], head: str, value: str, indent: str) -> None:
    lines.append(f"{head} |" if value.endswith("\n") else f"{head} |-")
    body = value.removesuffix("\n").split("\n")
    lines.extend(f"{indent}  {line}" if line else "" for line in body)


def quoted(text: str) -> str:
    """The text as a YAML scalar on one line, in quotes unless it is safe without."""
    if len(text) <= _LINE_CHARACTERS and _SAFE.fullmatch(text):
        if text.lstrip("-+.").rstrip(".").lower() not in _TAKEN:
            return text
    return _RISKY.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _whole(lines: list[str], _kind: Whole, head: str, value: int, _indent: str) -> None:
    lines.append(f"{head} {value}")


def _real(lines: list[str], _kind: Real, head: str, value: float, _indent: str) -> None:
    lines.append(f"{head} {int(value) if value == int(value) else repr(value)}")


def _span(lines: list[str], _kind: Span, head: str, value: Any, _indent: str) -> None:
    nanos = value.seconds * NANOS_PER_SECOND + value.nanos
    lines.append(f"{head} {format_duration(nanos)}")


def _size(lines: list[str], _kind: Size, head: str, value: int, _indent: str) -> None:
    lines.append(f"{head} {format_size(value)}")


def _choice(lines: list[str], kind: Choice, head: str, value: int, _indent: str) -> None:
    word = next(word for word, number in kind.values.items() if number == value)
    lines.append(f"{head} {word}")


def _text_map(lines: list[str], kind: TextMap, head: str, value: Any, indent: str) -> None:
    lines.append(head)
    for key in sorted(value):
        _text(lines, kind.value, f"{indent}  {quoted(key)}:", value[key], f"{indent}  ")


def _list(lines: list[str], kind: ListOf, head: str, value: Any, indent: str) -> None:
    if isinstance(kind.item, Section):
        lines.append(head)
        for message in value:
            _item(lines, kind.item, message, indent)
        return
    if not _one_line(lines, head, value):
        lines.append(head)
        for text in value:
            _text(lines, kind.item, f"{indent}  -", text, f"{indent}  ")


def _item(lines: list[str], section: Section, message: Message, indent: str) -> None:
    """A section as an element: its first key stands behind the dash."""
    start = len(lines)
    _section(lines, section, message, f"{indent}    ")
    if len(lines) == start:
        lines.append(f"{indent}  - {{}}")
    else:
        lines[start] = f"{indent}  - {lines[start].lstrip()}"


def _one_line(lines: list[str], head: str, texts: Iterable[str]) -> bool:
    """Writes a short list on one line, if it is short."""
    parts = []
    room = _LINE_CHARACTERS - len(head)
    for text in texts:
        room -= len(text) + 2
        if room < 0 or "\n" in text:
            return False
        parts.append(quoted(text))
    lines.append(f"{head} [{', '.join(parts)}]")
    return True


def _subsection(lines: list[str], kind: Section, head: str, value: Message, indent: str) -> None:
    start = len(lines)
    lines.append(head)
    _section(lines, kind, value, f"{indent}  ")
    if len(lines) == start + 1:
        lines[start] = f"{head} {{}}"


_WRITERS: dict[type[Kind], Callable[..., None]] = {
    Text: _text,
    Whole: _whole,
    Real: _real,
    Span: _span,
    Size: _size,
    Choice: _choice,
    TextMap: _text_map,
    ListOf: _list,
    Section: _subsection,
}
