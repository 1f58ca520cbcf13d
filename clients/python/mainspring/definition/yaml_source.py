"""Reads YAML text into documents of nodes.

Decides which YAML is accepted: everything the parser takes but tags, aliases of values that contain
themselves, and expansions beyond the limit of nodes. Promises to resolve no scalar (`no` and `2024`
stay texts) and not to recurse, however deep or long the text is. Does not know DAGs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from mainspring.definition.nodes import MAX_DEPTH, MAX_NODES, Mapping, Node, Null, Scalar, Sequence
from mainspring.definition.problems import SourceError

# The parser of libyaml is ten times faster; the other one is always there.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PLAIN_STYLES = (None, "")
_TAB_HINT = "indent with spaces: YAML allows no tabs there"


def yaml_documents(text: str, *, max_nodes: int = MAX_NODES) -> Iterator[Node]:
    """Yields the documents of a text; documents without content are left out.

    Raises `SourceError` at the first place that is not acceptable YAML; what came before is valid.
    """
    builder = _Builder(max_nodes)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
            if builder.finished:
                yield builder.finished.pop()
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
        self.finished: list[Node] = []
        self._max_nodes = max_nodes
        self._count = 0
        # Anchored values with the number of nodes under them; None while one is still open.
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        # Open collections: children so far, offset, anchor, count of nodes before it.
        self._open: list[tuple[list[Node], int, str | None, int]] = []
        self._take = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end_mapping,
            yaml.SequenceEndEvent: self._end_sequence,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start_document,
        }

    def take(self, event: Any) -> None:
        handle = self._take.get(type(event))
        if handle is not None:
            handle(event)

    def _start_document(self, _event: Any) -> None:
        self._anchors.clear()

    def _scalar(self, event: Any) -> None:
        offset = event.start_mark.index
        if event.tag is not None:
            raise _tagged(event)
        plain = event.style in _PLAIN_STYLES
        empty = plain and not event.value
        node = Null(offset) if empty else Scalar(offset, event.value, plain)
        self._grow(1, offset)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1)
        self._add(node)

    def _start(self, event: Any) -> None:
        offset = event.start_mark.index
        if event.tag is not None:
            raise _tagged(event)
        if len(self._open) >= MAX_DEPTH:
            raise SourceError(offset, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(([], offset, event.anchor, self._count))
        self._grow(1, offset)

    def _end_mapping(self, _event: Any) -> None:
        children, offset, anchor, before = self._open.pop()
        each = iter(children)
        self._end(Mapping(offset, list(zip(each, each, strict=True))), anchor, before)

    def _end_sequence(self, _event: Any) -> None:
        children, offset, anchor, before = self._open.pop()
        self._end(Sequence(offset, children), anchor, before)

    def _end(self, node: Node, anchor: str | None, before: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, self._count - before)
        self._add(node)

    def _alias(self, event: Any) -> None:
        offset = event.start_mark.index
        if event.anchor not in self._anchors:
            raise SourceError(offset, f"alias *{event.anchor} has no anchor before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise SourceError(offset, f"alias *{event.anchor} stands inside its own value")
        node, size = anchored
        self._grow(size, offset)
        self._add(node)

    def _grow(self, nodes: int, offset: int) -> None:
        self._count += nodes
        if self._count > self._max_nodes:
            message = f"more than {self._max_nodes:,} values, aliases written out"
            raise SourceError(offset, message, "split the file, or use fewer aliases")

    def _add(self, node: Node) -> None:
        if self._open:
            self._open[-1][0].append(node)
        elif not isinstance(node, Null):
            self.finished.append(node)


def _tagged(event: Any) -> SourceError:
    message = f"tag {event.tag} is not supported"
    return SourceError(event.start_mark.index, message, "write the value without a tag")
