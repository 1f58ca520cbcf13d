"""The tree of values that every source format is read into, before any of them has a type.

Decides only the shape: texts, lists, mappings and the absence of a value, each with its offset in
the source. A plain text (`2024`, `no`) stays text; the kind that the format expects decides what it
means. Does not know YAML, JSON or DAGs.
"""

from __future__ import annotations

from dataclasses import dataclass

# A value can be no deeper than this; the format itself needs six levels.
MAX_DEPTH = 64
# Values of a file with every alias written out: room for 100,000 tasks with ten parents each.
MAX_NODES = 4_000_000


@dataclass(slots=True)
class Node:
    """A value and the offset of its first character."""

    offset: int


@dataclass(slots=True)
class Null(Node):
    """A key without a value, or `null` in JSON."""


@dataclass(slots=True)
class Scalar(Node):
    """A text; `plain` when it stood without quotes, so that it may also be a number."""

    text: str
    plain: bool


@dataclass(slots=True)
class Sequence(Node):
    items: list[Node]


@dataclass(slots=True)
class Mapping(Node):
    """Pairs in the order of the file; duplicate keys are still there."""

    pairs: list[tuple[Node, Node]]


def described(node: Node) -> str:
    """What a value is, in the words of a message."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar(plain=False):
            return "a quoted text"
        case Scalar(text=text):
            return repr(text) if len(text) <= 40 else "a text"
        case _:
            return "no value"
