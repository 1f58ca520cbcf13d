"""Reads JSON text into documents of nodes, with offsets.

Decides which JSON is accepted: that of RFC 8259; the file holds one object or an array of objects,
each a document. Promises offsets for every value, which the standard library does not give, and
that numbers and words stay texts, as in YAML. Does not know DAGs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mainspring.definition.nodes import MAX_DEPTH, MAX_NODES, Mapping, Node, Null, Scalar, Sequence
from mainspring.definition.problems import SourceError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def json_documents(text: str, *, max_nodes: int = MAX_NODES) -> Iterator[Node]:
    """Yields the documents of a text. Raises `SourceError` where it is not valid JSON."""
    scanner = _Scanner(text, max_nodes)
    node, end = scanner.value(scanner.skip(0), 0)
    end = scanner.skip(end)
    if end < len(text):
        raise SourceError(end, "not valid JSON: more text after the end of the value")
    if isinstance(node, Sequence):
        yield from node.items
    else:
        yield node


class _Scanner:
    """Recursive descent; the limit on depth bounds the recursion."""

    def __init__(self, text: str, max_nodes: int) -> None:
        self._text = text
        self._max_nodes = max_nodes
        self._count = 0

    def skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        assert match is not None
        return match.end()

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """The value that begins at `at`, and the offset after it."""
        self._count += 1
        if self._count > self._max_nodes:
            raise SourceError(at, f"more than {self._max_nodes:,} values", "split the file")
        if depth > MAX_DEPTH:
            raise SourceError(at, f"nested deeper than {MAX_DEPTH} levels")
        match self._text[at : at + 1]:
            case '"':
                return self._string(at)
            case "{":
                return self._object(at, depth)
            case "[":
                return self._array(at, depth)
            case _:
                return self._word(at)

    def _string(self, at: int) -> tuple[Scalar, int]:
        try:
            text, end = _DECODER.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            reason = error.msg[:1].lower() + error.msg[1:].rstrip(":")
            raise SourceError(error.pos, f"not valid JSON: {reason}") from None
        return Scalar(at, text, plain=False), end

    def _word(self, at: int) -> tuple[Node, int]:
        match = _WORD.match(self._text, at)
        word = match.group() if match else ""
        if word == "null":
            return Null(at), at + 4
        if word in {"true", "false"} or _NUMBER.fullmatch(word):
            return Scalar(at, word, plain=True), at + len(word)
        found = repr(word[:40] or self._text[at : at + 1])
        if at >= len(self._text):
            found = "the end of the text"
        raise SourceError(at, f"not valid JSON: expected a value, found {found}")

    def _array(self, at: int, depth: int) -> tuple[Sequence, int]:
        items: list[Node] = []
        end = self.skip(at + 1)
        if self._text.startswith("]", end):
            return Sequence(at, items), end + 1
        while True:
            item, end = self.value(end, depth + 1)
            items.append(item)
            end, more = self._after(end, "]")
            if not more:
                return Sequence(at, items), end

    def _object(self, at: int, depth: int) -> tuple[Mapping, int]:
        pairs: list[tuple[Node, Node]] = []
        end = self.skip(at + 1)
        if self._text.startswith("}", end):
            return Mapping(at, pairs), end + 1
        while True:
            if not self._text.startswith('"', end):
                raise SourceError(end, "not valid JSON: expected a key in double quotes")
            key, end = self._string(end)
            end = self.skip(end)
            if not self._text.startswith(":", end):
                raise SourceError(end, "not valid JSON: expected ':' after the key")
            value, end = self.value(self.skip(end + 1), depth + 1)
            pairs.append((key, value))
            end, more = self._after(end, "}")
            if not more:
                return Mapping(at, pairs), end

    def _after(self, at: int, closing: str) -> tuple[int, bool]:
        """The offset of what follows a member, and whether it is another member."""
        at = self.skip(at)
        found = self._text[at : at + 1]
        if found not in {",", closing}:
            raise SourceError(at, f"not valid JSON: expected ',' or '{closing}'")
        return (self.skip(at + 1), True) if found == "," else (at + 1, False)
