"""Reads YAML text into documents of nodes.

Decides which YAML is accepted: everything the parser takes but tags, aliases of values that contain
themselves, and expansions beyond the limit of nodes. Promises to resolve no scalar (`no` and `2024`
stay texts) and not to recurse, however deep or long the text is. Does not know DAGs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from mainspring.definition.nodes import MAX_DEPTH, MAX_NODES, Mapping, Node, Null, Scalar, Sequence
from mainspring.definition.problems import SourceError

# The parser of libyaml is ten times faster; the other one is always there.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What YAML takes in no place, not even in a comment.
_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAB_HINT = "indent with spaces: YAML allows no tabs there"


def yaml_documents(text: str, *, max_nodes: int = MAX_NODES) -> Iterator[Node]:
    """Yields the documents of a text; documents without content are left out.

    Raises `SourceError` at the first place that is not acceptable YAML; what came before is valid.
    """
    found = _FORBIDDEN.search(text)
    if found is not None:
        code = f"U+{ord(found.group()):04X}"
        raise SourceError(found.start(), f"control character {code} is not allowed")
    try:
        yield from _Builder(max_nodes).documents(_LOADER(text))
    except yaml.MarkedYAMLError as error:
        raise _source_error(text, error) from None


def _source_error(text: str, error: yaml.MarkedYAMLError) -> SourceError:
    mark = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    hint = _TAB_HINT if text[offset : offset + 1] == "\t" else ""
    return SourceError(offset, f"not valid YAML: {error.problem}", hint)


class _Builder:
    """Assembles nodes from events with a stack of its own."""

    def __init__(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        # Values so far, those that aliases stand for included.
        self._count = 0
        # Anchored values with the number of nodes in them; None while one is still open.
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        # Children of the innermost open collection; outside of all, those of the document.
        self._children: list[Node] = []
        # Open collections: children of the one around it, offset, anchor, count before it.
        self._open: list[tuple[list[Node], int, str | None, int]] = []
        self._take = {
            yaml.ScalarEvent: self._odd_scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end_mapping,
            yaml.SequenceEndEvent: self._end_sequence,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start_document,
        }

    def documents(self, parser: Any) -> Iterator[Node]:
        """Yields a node for each document; most events are scalars, which are taken right here."""
        next_event = parser.get_event
        while (event := next_event()) is not None:
            kind = type(event)
            if kind is yaml.ScalarEvent and event.tag is None and event.anchor is None:
                self._children.append(self._scalar(event))
            elif kind is yaml.DocumentEndEvent:
                node = self._children.pop()
                if not isinstance(node, Null):
                    yield node
            elif kind in self._take:
                self._take[kind](event)

    def _start_document(self, _event: Any) -> None:
        self._anchors.clear()

    def _scalar(self, event: Any) -> Node:
        self._count += 1
        if self._count > self._max_nodes:
            raise self._too_many(event)
        offset = event.start_mark.index
        text = event.value
        plain = not event.style
        return Scalar(offset, text, plain) if text or not plain else Null(offset)

    def _odd_scalar(self, event: Any) -> None:
        _refuse_tag(event)
        node = self._scalar(event)
        self._anchors[event.anchor] = (node, 1)
        self._children.append(node)

    def _start(self, event: Any) -> None:
        _refuse_tag(event)
        offset = event.start_mark.index
        if len(self._open) >= MAX_DEPTH:
            raise SourceError(offset, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append((self._children, offset, event.anchor, self._count))
        self._children = []
        self._count += 1

    def _end_mapping(self, event: Any) -> None:
        each = iter(self._children)
        self._end(event, Mapping(0, list(zip(each, each, strict=True))))

    def _end_sequence(self, event: Any) -> None:
        self._end(event, Sequence(0, self._children))

    def _end(self, event: Any, node: Node) -> None:
        self._children, node.offset, anchor, before = self._open.pop()
        if anchor is not None:
            self._anchors[anchor] = (node, self._count - before)
        if self._count > self._max_nodes:
            raise self._too_many(event)
        self._children.append(node)

    def _alias(self, event: Any) -> None:
        offset = event.start_mark.index
        if event.anchor not in self._anchors:
            raise SourceError(offset, f"alias *{event.anchor} has no anchor before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise SourceError(offset, f"alias *{event.anchor} stands inside its own value")
        node, size = anchored
        self._count += size
        if self._count > self._max_nodes:
            raise self._too_many(event)
        self._children.append(node)

    def _too_many(self, event: Any) -> SourceError:
        message = f"more than {self._max_nodes:,} values, aliases written out"
        hint = "split the file, or use fewer aliases"
        return SourceError(event.start_mark.index, message, hint)


def _refuse_tag(event: Any) -> None:
    if event.tag is not None:
        message = f"tag {event.tag} is not supported"
        raise SourceError(event.start_mark.index, message, "write the value without a tag")
