"""Reads a document of nodes into a `DagSpec` by the tables of the format.

Decides the type of every value from the key it belongs to, so `task: no` is a task called "no".
Promises every problem of a document at once, and a message built from all that is valid: a list
keeps the index of a broken element, a value of the right type that breaks a rule is kept. Does not
know source formats, nor the rules that need the whole DAG.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any

from google.protobuf.message import Message

from mainspring.definition.nodes import Mapping, Node, Null, Scalar, Sequence, described
from mainspring.definition.problems import Path, Report, shown
from mainspring.definition.quantities import (
    NANOS_PER_SECOND,
    QuantityError,
    format_duration,
    format_size,
    parse_duration,
    parse_number,
    parse_size,
    parse_whole,
)
from mainspring.definition.tables import (
    DAG,
    Choice,
    Flag,
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
from mainspring.v1.dag_pb2 import DagSpec

# Tab, line feed and carriage return are text; the other control characters, the delete character
# and halves of surrogate pairs are not.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LONGEST_GUESS = 60


def read_dag(node: Node, report: Report) -> DagSpec:
    """The definition that a document holds; its problems go to `report`."""
    spec = DagSpec()
    _section(report, DAG, node, spec, None)
    return spec


def _section(report: Report, section: Section, node: Node, message: Message, path: Path) -> None:
    if not isinstance(node, Mapping):
        report.add(path, node.offset, f"{section.what} must be a mapping, found {described(node)}")
        return
    steps = _steps(section)
    present: dict[str, Node] = {}
    for key_node, value in node.pairs:
        name = _key_name(report, key_node, path)
        if name is None:
            continue
        step = steps.get(name)
        if step is None:
            _unknown_key(report, name, steps, key_node.offset, path)
            continue
        read, kind, field = step
        if name in present:
            report.add((path, field), key_node.offset, f"key {name!r} is given twice")
        else:
            present[name] = value
            read(report, kind, value, message, field, (path, field))
    _check_presence(report, section, node, present, path)
    for pairing in section.pairings:
        _check_pairing(report, section, pairing, present, path)


@cache
def _steps(section: Section) -> dict[str, tuple[Callable[..., None], Kind, str]]:
    """How each key of a section is read: by what, as what, into which field."""
    return {key.name: (_READERS[type(key.kind)], key.kind, key.api_field) for key in section.keys}


def _check_presence(
    report: Report, section: Section, node: Mapping, present: Container[str], path: Path
) -> None:
    for name in section.required:
        if name not in present:
            field = section.by_name[name].api_field
            report.add((path, field), node.offset, f"missing: {section.what} needs {name!r}")
    chosen = [name for name in section.exactly_one if name in present]
    if section.exactly_one and len(chosen) != 1:
        names = " or ".join(repr(name) for name in section.exactly_one)
        message = f"{section.what} has exactly one of {names}"
        report.add(path, node.offset, message, "both are given" if chosen else "none is given")


def _check_pairing(
    report: Report, section: Section, pairing: Pairing, present: dict[str, Node], path: Path
) -> None:
    given = present.get(pairing.key)
    if given is None or (pairing.word and _word(given) != pairing.word):
        return
    other = present.get(pairing.other)
    if other is None and pairing.optional:
        return
    # What is none of the known words has its own problem.
    kind = section.by_name[pairing.other].kind
    known = kind.values if isinstance(kind, Choice) else _FLAG_WORDS
    if other is None or (_word(other) in known and _word(other) not in pairing.words):
        field = section.by_name[pairing.key].api_field
        report.add((path, field), given.offset, pairing.message, pairing.hint)


def _word(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _key_name(report: Report, node: Node, path: Path) -> str | None:
    if isinstance(node, Scalar):
        return node.text
    report.add(path, node.offset, f"a key must be a text, found {described(node)}")
    return None


# What other schedulers call these things; spelling alone would not lead to our names.
_OTHER_NAMES = {
    "every": "interval",
    "cmd": "argv",
    "command": "argv",
    "dependencies": "depends_on",
    "needs": "depends_on",
}


def _unknown_key(report: Report, name: str, known: Iterable[str], offset: int, path: Path) -> None:
    if report.full:
        return
    field: Path = (path, name[:_LONGEST_GUESS])
    if name == "<<":
        hint = "an alias works as a whole value: `env: *shared`"
        report.add(path, offset, "merge keys are not supported", hint)
        return
    names = tuple(known)
    meant = _OTHER_NAMES.get(name.lower(), "")
    close = get_close_matches(name.lower()[:_LONGEST_GUESS], names, n=1)
    if meant in names:
        close = [meant]
    hint = f"did you mean {close[0]!r}?" if close else "known keys: " + ", ".join(names)
    report.add(field, offset, f"unknown key {shown(name)}", hint)


def _wrong_type(report: Report, path: Path, node: Node, expected: str, hint: str = "") -> None:
    report.add(path, node.offset, f"expected {expected}, found {described(node)}", hint)


def _read_text(report: Report, kind: Text, node: Node, path: Path) -> str | None:
    """The text of a value, also when it breaks a rule; None when it is no text at all."""
    if not isinstance(node, Scalar):
        hint = 'write "" for an empty text' if isinstance(node, Null) else ""
        report.add(path, node.offset, f"expected a text, found {described(node)}", hint)
        return None
    text = node.text
    if not node.plain:
        found = _FORBIDDEN.search(text)
        if found is not None:
            code = f"U+{ord(found.group()):04X}"
            report.add(path, node.offset, f"control character {code} is not allowed")
            return None
    fault = _text_fault(kind, text)
    if fault:
        report.add(path, node.offset, *fault)
    return text


def _text_fault(kind: Text, text: str) -> tuple[str, ...]:
    length = len(text)
    if length > kind.maximum:
        return (f"{length:,} characters, at most {kind.maximum:,} are allowed",)
    if length < kind.minimum:
        return ("must not be empty",)
    if kind.pattern and not _compiled(kind.pattern).fullmatch(text):
        return (f"{shown(text)} is not allowed here", f"use {kind.rule}")
    return ()


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _text(report: Report, kind: Text, node: Node, message: Message, field: str, path: Path) -> None:
    text = _read_text(report, kind, node, path)
    if text is not None:
        setattr(message, field, text)


def _read_quantity(
    report: Report, parse: Callable[[str], Any], node: Node, path: Path, expected: str
) -> Any:
    """The parsed value of a plain or quoted text; None when it is not such a quantity."""
    if not isinstance(node, Scalar):
        _wrong_type(report, path, node, expected)
        return None
    try:
        return parse(node.text)
    except QuantityError as error:
        report.add(path, node.offset, error.message, error.hint)
        return None


def _number(
    report: Report, kind: Whole | Real, node: Node, message: Message, field: str, path: Path
) -> None:
    expected = "a whole number" if isinstance(kind, Whole) else "a number"
    if isinstance(node, Scalar) and not node.plain:
        hint = "remove the quotes"
        report.add(path, node.offset, f"expected {expected}, found a quoted text", hint)
        return
    parse = parse_whole if isinstance(kind, Whole) else parse_number
    value = _read_quantity(report, parse, node, path, expected)
    if value is None:
        return
    if not kind.minimum <= value <= kind.maximum:
        found = f"must be {kind.minimum:,} to {kind.maximum:,}, found {value:,}"
        report.add(path, node.offset, found.removesuffix(".0"))
    _set_number(message, field, value)


def _set_number(message: Message, field: str, value: float) -> None:
    """Keeps a number out of range for further checks, as far as the field can hold it."""
    try:
        setattr(message, field, value)
    except ValueError:
        return


def _span(report: Report, kind: Span, node: Node, message: Message, field: str, path: Path) -> None:
    nanos = _read_quantity(report, parse_duration, node, path, "a duration")
    if nanos is None:
        return
    if nanos < kind.minimum_ns:
        text = f"must be at least {format_duration(kind.minimum_ns)}"
        report.add(path, node.offset, f"{text}, found {format_duration(nanos)}")
    elif nanos > kind.maximum_ns:
        text = f"must be at most {format_duration(kind.maximum_ns)}"
        report.add(path, node.offset, f"{text}, found {format_duration(nanos)}")
    duration = getattr(message, field)
    duration.SetInParent()
    duration.seconds, duration.nanos = divmod(nanos, NANOS_PER_SECOND)


def _size(report: Report, kind: Size, node: Node, message: Message, field: str, path: Path) -> None:
    size = _read_quantity(report, parse_size, node, path, "an amount of memory")
    if size is None:
        return
    if size > kind.maximum:
        report.add(path, node.offset, f"must be at most {format_size(kind.maximum)}")
    else:
        setattr(message, field, size)


def _choice(
    report: Report, kind: Choice, node: Node, message: Message, field: str, path: Path
) -> None:
    names = " or ".join(kind.values)
    if not isinstance(node, Scalar):
        _wrong_type(report, path, node, names)
    elif node.text not in kind.values:
        close = get_close_matches(node.text[:_LONGEST_GUESS].lower(), kind.values, n=1)
        hint = f"did you mean {close[0]!r}?" if close else ""
        report.add(path, node.offset, f"expected {names}, found {shown(node.text)}", hint)
    else:
        setattr(message, field, kind.values[node.text])


_FLAG_WORDS = {"true": True, "false": False}
_OTHER_FLAG_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def _flag(
    report: Report, _kind: Flag, node: Node, message: Message, field: str, path: Path
) -> None:
    if not isinstance(node, Scalar):
        _wrong_type(report, path, node, "true or false")
        return
    known = node.text in _FLAG_WORDS
    if known and node.plain:
        setattr(message, field, _FLAG_WORDS[node.text])
        return
    word = node.text.lower()
    meant = _OTHER_FLAG_WORDS.get(word, word)
    hint = f"write {meant}" if meant in _FLAG_WORDS else ""
    _wrong_type(report, path, node, "true or false", "remove the quotes" if known else hint)


def _text_map(
    report: Report, kind: TextMap, node: Node, message: Message, field: str, path: Path
) -> None:
    if not isinstance(node, Mapping):
        _wrong_type(report, path, node, "a mapping of texts")
        return
    if len(node.pairs) > kind.maximum:
        report.add(path, node.offset, f"{len(node.pairs):,} entries, at most {kind.maximum:,}")
    entries = getattr(message, field)
    for key_node, value_node in node.pairs:
        name = _key_name(report, key_node, path)
        if name is None:
            continue
        place: Path = (path, f"[{shown(name)}]")
        key = _read_text(report, kind.key, key_node, place)
        if key in entries:
            report.add(place, key_node.offset, f"key {shown(name)} is given twice")
        elif key is not None:
            entries[key] = _read_text(report, kind.value, value_node, place) or ""


def _list(
    report: Report, kind: ListOf, node: Node, message: Message, field: str, path: Path
) -> None:
    if not isinstance(node, Sequence):
        _wrong_type(report, path, node, "a list")
        return
    count = len(node.items)
    if count > kind.maximum:
        report.add(path, node.offset, f"{count:,} entries, at most {kind.maximum:,} are allowed")
    elif count < kind.minimum:
        report.add(path, node.offset, "must not be empty")
    elements = getattr(message, field)
    item = kind.item
    if isinstance(item, Section):
        for index, child in enumerate(node.items):
            _section(report, item, child, elements.add(), (path, index))
    else:
        for index, child in enumerate(node.items):
            elements.append(_element(report, item, child, path, index))


def _element(report: Report, kind: Text, node: Node, path: Path, index: int) -> str:
    """A text of a list; the short way is for the most common value of a large file."""
    if isinstance(node, Scalar) and node.plain and not kind.pattern:
        text = node.text
        if kind.minimum <= len(text) <= kind.maximum:
            return text
    return _read_text(report, kind, node, (path, index)) or ""


def _subsection(
    report: Report, kind: Section, node: Node, message: Message, field: str, path: Path
) -> None:
    child = getattr(message, field)
    child.SetInParent()
    _section(report, kind, node, child, path)


_READERS: dict[type[Kind], Callable[..., None]] = {
    Text: _text,
    Whole: _number,
    Real: _number,
    Span: _span,
    Size: _size,
    Choice: _choice,
    Flag: _flag,
    TextMap: _text_map,
    ListOf: _list,
    Section: _subsection,
}
