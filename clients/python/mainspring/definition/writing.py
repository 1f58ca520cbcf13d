"""Writes a `DagSpec` as a readable YAML file.

Decides the layout: keys in the order of the tables, short lists on one line, scripts of several
lines as blocks and told once, quotes only where some reader of YAML could take a text for something
else. Promises that `load` reads the same definition back from every definition it accepts. Does not
check the definition.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mainspring.definition.quantities import NANOS_PER_SECOND, format_duration, format_size
from mainspring.definition.tables import (
    DAG,
    Choice,
    Flag,
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
_TAKEN = frozenset(
    ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity"],
)
# What JSON leaves as it is although some reader of YAML takes it for a line end or refuses it.
_RISKY = re.compile("[\x7f-\x9f\u00ad\u2028\u2029\ufeff\ufff0-\uffff\ud800-\udfff]")
# A block may hold this: plain lines, of which the first and the last are not blank or indented.
_BLOCK = re.compile(r"[!-~](?:[\t\n -~]*[!-~])?\n?")


def dump_yaml(spec: DagSpec) -> str:
    """The definition as one YAML document."""
    page = _Page(_anchor_names(spec))
    _section(page, DAG, spec, "")
    return "\n".join(page.lines) + "\n"


@dataclass(slots=True)
class _Page:
    """The lines so far; names of the texts that stand once, and those of them already there."""

    anchor_names: dict[str, str]
    lines: list[str] = field(default_factory=list)
    anchored: set[str] = field(default_factory=set)


def _anchor_names(spec: DagSpec) -> dict[str, str]:
    """Scripts that several tasks run: the file tells them once and refers to them."""
    scripts = (text for task in spec.tasks for text in task.process.argv if "\n" in text)
    repeated = (text for text, count in Counter(scripts).items() if count > 1)
    return {text: f"script{number}" for number, text in enumerate(repeated, start=1)}


def _section(page: _Page, section: Section, message: Message, indent: str) -> None:
    for name, head, has_presence, write, kind in _steps(section, message.DESCRIPTOR):
        value = getattr(message, name)
        if message.HasField(name) if has_presence else value:
            write(page, kind, indent + head, value, indent)


@cache
def _steps(
    section: Section, descriptor: Descriptor
) -> tuple[tuple[str, str, bool, Callable[..., None], Kind], ...]:
    """How each key of a section is written: field, head of the line, presence, by what, as what."""
    fields = descriptor.fields_by_name
    return tuple(
        (
            key.api_field,
            f"{key.name}:",
            fields[key.api_field].has_presence,
            _WRITERS[type(key.kind)],
            key.kind,
        )
        for key in section.keys
    )


def _text(page: _Page, _kind: Text, head: str, value: str, indent: str) -> None:
    if value in page.anchored:
        page.lines.append(f"{head} *{page.anchor_names[value]}")
        return
    if value in page.anchor_names:
        page.anchored.add(value)
        head += f" &{page.anchor_names[value]}"
    if "\n" in value and _BLOCK.fullmatch(value):
        _block(page, head, value, indent)
    else:
        page.lines.append(f"{head} {quoted(value)}")


def _block(page: _Page, head: str, value: str, indent: str) -> None:
    page.lines.append(f"{head} |" if value.endswith("\n") else f"{head} |-")
    body = value.removesuffix("\n").split("\n")
    page.lines.extend(f"{indent}  {line}" if line else "" for line in body)


def quoted(text: str) -> str:
    """The text as a YAML scalar on one line, in quotes unless it is safe without."""
    safe = len(text) <= _LINE_CHARACTERS and _SAFE.fullmatch(text)
    if safe and text.lstrip("-+.").rstrip(".").lower() not in _TAKEN:
        return text
    return _RISKY.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _whole(page: _Page, _kind: Whole, head: str, value: int, _indent: str) -> None:
    page.lines.append(f"{head} {value}")


def _real(page: _Page, _kind: Real, head: str, value: float, _indent: str) -> None:
    page.lines.append(f"{head} {int(value) if value == int(value) else repr(value)}")


def _span(page: _Page, _kind: Span, head: str, value: Any, _indent: str) -> None:
    nanos = value.seconds * NANOS_PER_SECOND + value.nanos
    page.lines.append(f"{head} {format_duration(nanos)}")


def _size(page: _Page, _kind: Size, head: str, value: int, _indent: str) -> None:
    page.lines.append(f"{head} {format_size(value)}")


def _choice(page: _Page, kind: Choice, head: str, value: int, _indent: str) -> None:
    word = next(word for word, number in kind.values.items() if number == value)
    page.lines.append(f"{head} {word}")


def _flag(page: _Page, _kind: Flag, head: str, value: bool, _indent: str) -> None:
    page.lines.append(f"{head} {'true' if value else 'false'}")


def _text_map(page: _Page, kind: TextMap, head: str, value: Any, indent: str) -> None:
    page.lines.append(head)
    for key in sorted(value):
        _text(page, kind.value, f"{indent}  {quoted(key)}:", value[key], f"{indent}  ")


def _list(page: _Page, kind: ListOf, head: str, value: Any, indent: str) -> None:
    if isinstance(kind.item, Section):
        page.lines.append(head)
        for message in value:
            _item(page, kind.item, message, indent)
        return
    if not _one_line(page, head, value):
        page.lines.append(head)
        for text in value:
            _text(page, kind.item, f"{indent}  -", text, f"{indent}  ")


def _item(page: _Page, section: Section, message: Message, indent: str) -> None:
    """A section as an element: its first key stands behind the dash."""
    start = len(page.lines)
    _section(page, section, message, f"{indent}    ")
    if len(page.lines) == start:
        page.lines.append(f"{indent}  - {{}}")
    else:
        page.lines[start] = f"{indent}  - {page.lines[start].lstrip()}"


def _one_line(page: _Page, head: str, texts: Iterable[str]) -> bool:
    """Writes a short list on one line, if it is short."""
    parts = []
    room = _LINE_CHARACTERS - len(head)
    for text in texts:
        known = text in page.anchored
        part = f"*{page.anchor_names[text]}" if known else quoted(text)
        room -= len(part) + 2
        if room < 0 or ("\n" in text and not known):
            return False
        parts.append(part)
    page.lines.append(f"{head} [{', '.join(parts)}]")
    return True


def _subsection(page: _Page, kind: Section, head: str, value: Message, indent: str) -> None:
    start = len(page.lines)
    page.lines.append(head)
    _section(page, kind, value, f"{indent}  ")
    if len(page.lines) == start + 1:
        page.lines[start] = f"{head} {{}}"


_WRITERS: dict[type[Kind], Callable[..., None]] = {
    Text: _text,
    Whole: _whole,
    Real: _real,
    Span: _span,
    Size: _size,
    Choice: _choice,
    Flag: _flag,
    TextMap: _text_map,
    ListOf: _list,
    Section: _subsection,
}
